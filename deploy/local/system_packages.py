"""What must be installed from the system's packages. Runs before anything else is there: the standard library alone."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from deploy.local.problems import Problem

# Package -> whether it is there. The packages' own services are not used: ours run beside them.
SERVERS = ("rabbitmq-server", "postgresql")
Say = Callable[[str], None]

_PRESENT: dict[str, Callable[[], bool]] = {
    "rabbitmq-server": lambda: any(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")),
    "postgresql": lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb") is not None,
    "python3-venv": lambda: _has_venv(),
    "clamav-daemon": lambda: shutil.which("clamd") is not None or Path("/usr/sbin/clamd").exists(),
    "slapd": lambda: Path("/usr/sbin/slapd").exists(),
    "curl": lambda: shutil.which("curl") is not None,
    "ldap-utils": lambda: shutil.which("ldapsearch") is not None,
}
_LINES_KEPT = 12
_TELL_EVERY_SECONDS = 8.0
_POLICY = Path("/usr/sbin/policy-rc.d")
_CLUSTERS = Path("/etc/postgresql-common/createcluster.conf")
_CLUSTERS_SHIPPED = Path("/usr/share/postgresql-common/createcluster.conf")
_DPKG = Path("/var/lib/dpkg")
# Waits when the machine itself is at it, as a fresh one's nightly upgrade is.
_OPTIONS = ("Dpkg::Use-Pty=0", "Dpkg::Options::=--force-confold", "DPkg::Lock::Timeout=300")
_INSTALL = ["apt-get", "-q", "-y", *(word for option in _OPTIONS for word in ("-o", option)), "install"]


def _has_venv() -> bool:
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def missing(packages: Iterable[str]) -> list[str]:
    """Those of the packages that are not there."""
    return [package for package in packages if not _PRESENT[package]()]


def require(packages: Iterable[str], say: Say) -> None:
    """Installs what is missing, if it may. Raises `Problem` that names the packages and how to get them."""
    wanted = missing(packages)
    if not wanted:
        return
    become = _privilege()
    if become is None:
        raise Problem(_what_to_install(wanted))
    with _alone():
        wanted = missing(wanted)  # another may have installed them while we waited
        if wanted:
            _install(become, wanted, say)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process of ours on the machine at a time: the folder of installed packages is the lock that all can see."""
    folder = os.open(_DPKG, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _install(become: list[str], wanted: list[str], say: Say) -> None:
    say(f"installing {', '.join(wanted)} (apt-get; a minute or two)")
    with _NoServicesStarted(become, wanted):
        command = [*become, *_INSTALL, "--no-install-recommends", *wanted]
        well, _ = run_telling(command, say, "Setting up", "packages set up")
        if not well:  # the lists of packages may be missing, or old
            say("fetching the lists of packages (apt-get update)")
            run_telling([*become, "apt-get", "-q", "update"], say, "Get:", "lists fetched")
            well, told = run_telling(command, say, "Setting up", "packages set up")
            if not well:
                raise Problem(f"apt-get could not install {', '.join(wanted)}; the end of what it says:\n{told}")
    still = missing(wanted)
    if still:
        raise Problem(f"apt-get installed {', '.join(still)}, but not where they are looked for")
    say(f"installed {', '.join(wanted)}")


def _what_to_install(wanted: list[str]) -> str:
    """Names the servers too when they will be missing next: whoever may not install should have to ask only once."""
    servers = [package for package in missing(SERVERS) if package not in wanted]
    how = f"install with: sudo apt-get install --no-install-recommends {' '.join([*wanted, *servers])}"
    if not shutil.which("apt-get"):
        how = "install what your system calls them (RabbitMQ 3.10 or later, PostgreSQL 15 or later, Python's venv)"
    needed = ", ".join(wanted) + (f", and {', '.join(servers)} for the servers" if servers else "")
    engine = " (a container engine runs the servers instead, where there is one)" if missing(SERVERS) else ""
    return f"not installed: {needed}, and no right to install without a password; {how}{engine}"


def _privilege() -> list[str] | None:
    """What to put before a command to be root; None: we may not."""
    if not shutil.which("apt-get"):
        return None
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() == 0:
        return quiet
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n", *quiet]
    return None


def run_telling(command: list[str], say: Say, word: str, told: str) -> tuple[bool, str]:
    """Runs a command that takes long. Whether it went well, and the end of what it said.

    Every few seconds it tells how many of its lines began with `word` so far: `told` says what those are.
    """
    count, last, lines = 0, time.monotonic(), collections.deque[str](maxlen=_LINES_KEPT)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.rstrip())
            count += line.startswith(word)
            if time.monotonic() - last > _TELL_EVERY_SECONDS:
                say(f"  {count} {told}")
                last = time.monotonic()
    return child.returncode == 0, "\n".join(f"    {line}" for line in lines)


class _NoServicesStarted:
    """While it lasts, packages start no services and PostgreSQL's makes no cluster; what was there is put back."""

    def __init__(self, become: list[str], packages: list[str]) -> None:
        self._become, self._packages = become, packages
        self._had_policy = _POLICY.exists()
        self._had_clusters = _CLUSTERS.exists()

    def _write(self, path: Path, text: str, mode: str) -> None:
        script = 'mkdir -p "$(dirname "$1")" && printf "%s" "$2" > "$1" && chmod "$3" "$1"'
        subprocess.run([*self._become, "sh", "-c", script, "sh", str(path), text, mode], check=True)

    def __enter__(self) -> None:
        if not self._had_policy:
            self._write(_POLICY, "#!/bin/sh\nexit 101\n", "755")
        if not self._had_clusters and "postgresql" in self._packages:
            self._write(_CLUSTERS, "create_main_cluster = false\n", "644")

    def __exit__(self, *_: object) -> None:
        if not self._had_policy:
            subprocess.run([*self._become, "rm", "-f", str(_POLICY)], check=False)
        if not self._had_clusters and "postgresql" in self._packages:
            command = f'if [ -e "{_CLUSTERS_SHIPPED}" ]; then cp "{_CLUSTERS_SHIPPED}" "{_CLUSTERS}"; fi'
            subprocess.run([*self._become, "sh", "-c", command], check=False)
        if "rabbitmq-server" in self._packages and Path("/run/systemd/system").exists():
            # Else the system's own broker would start with the machine, on the port that everyone else expects free.
            subprocess.run(
                [*self._become, "systemctl", "disable", "rabbitmq-server.service"], capture_output=True, check=False
            )
