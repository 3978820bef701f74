"""PostgreSQL from the system's packages, on a port and in a folder of its own."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from deploy.local.folder import write_private
from deploy.local.problems import Problem
from deploy.local.processes import Program
from deploy.local.servers import ADMINISTRATOR
from deploy.local.servers.native import NativeServer

OLDEST = 15
_ORPHANED_SECONDS = 20.0
INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
SETTINGS = {
    "max_connections": "600",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "timezone": "UTC",
}
# Survives the death of every process, which is all that a test does to it; not that of the machine.
PASSING_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL here that is new enough."""
    found: list[tuple[int, Path]] = []
    for folder in Path("/usr/lib/postgresql").glob("*/bin"):
        if folder.parent.name.isdigit() and (folder / "initdb").exists():
            found.append((int(folder.parent.name), folder))
    on_path = shutil.which("initdb")
    if on_path:
        told = subprocess.run([on_path, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"(\d+)", told)
        if version:
            found.append((int(version[1]), Path(on_path).resolve().parent))
    return max((pair for pair in found if pair[0] >= OLDEST), default=(0, None))[1]


def account() -> str | None:
    """Whom PostgreSQL runs as when we are root, whom it refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Problem("PostgreSQL refuses to run as root, and there is no user postgres: run ./dev as an ordinary user")


class Postgres(NativeServer):
    """One cluster with a database and a role for each service."""

    name, title = "postgres", "PostgreSQL"
    used_ports = ("postgres",)

    @property
    def _data(self) -> Path:
        return self.place.folder / "postgres" / "data"

    def program(self) -> Program:
        """The postmaster; SIGINT is its fast, orderly stop."""
        found = binaries()
        if found is None:
            raise Problem(f"PostgreSQL {OLDEST} or later is not installed")
        settings = SETTINGS | (PASSING_SETTINGS if self.place.passing else {})
        argv = [str(found / "postgres"), "-D", str(self._data), "-p", str(self.place.ports["postgres"])]
        argv += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(self.name, argv, self.place.folder, user=account(), stop_signal=signal.SIGINT)

    def prepare(self) -> None:
        """Makes the cluster the first time; a half-made one is made anew."""
        if (self._data / "PG_VERSION").exists():
            self._require_same_version()
            self._wait_for_the_orphaned()
            return
        home, user = self._data.parent, account()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        password_file = home / "password"
        write_private(password_file, self.place.keys.password("postgres"))
        if user:
            shutil.chown(home, user)
            shutil.chown(password_file, user)
        half_made = home / "making"
        found = binaries()
        assert found is not None
        done = subprocess.run(
            [str(found / "initdb"), "-D", str(half_made), "-U", ADMINISTRATOR, f"--pwfile={password_file}", *INITDB],
            cwd=home,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        password_file.unlink()
        if done.returncode != 0:
            raise Problem(f"PostgreSQL's data folder {half_made} can't be made:\n{(done.stdout + done.stderr)[-1500:]}")
        half_made.rename(self._data)

    def _require_same_version(self) -> None:
        version, found = (self._data / "PG_VERSION").read_text().strip(), binaries()
        if found and found.parent.name.isdigit() and found.parent.name != version:
            raise Problem(
                f"the data in {self._data} are of PostgreSQL {version}, installed is {found.parent.name}: "
                "begin anew with `./dev down --delete-data`"
            )

    def _wait_for_the_orphaned(self) -> None:
        """Those whose postmaster was killed end when they notice it; as long as one is attached to the shared memory,
        none may start on the same data."""
        try:
            segment = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        except (OSError, IndexError):
            return
        ends = time.monotonic() + _ORPHANED_SECONDS
        while _attached_to(segment) and time.monotonic() < ends:
            time.sleep(0.05)

    def admin_url(self, database: str = "postgres") -> str:
        """The address by which everything may be done."""
        password = self.place.keys.password("postgres")
        return f"postgresql://{ADMINISTRATOR}:{password}@{self.host}:{self.place.ports['postgres']}/{database}"

    def answers(self) -> bool:
        """Whether one can log in."""
        return can_connect(self.admin_url())


def _attached_to(segment: str) -> int:
    """How many processes are attached to the segment of shared memory (System V) of this id."""
    try:
        segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    except OSError:
        return 0
    return next((int(columns[6]) for columns in segments if columns[1] == segment), 0)


def can_connect(url: str) -> bool:
    """Whether one can log in there."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
        return True
    except psycopg.OperationalError:
        return False
