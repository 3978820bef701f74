"""Processes that outlive the command that started them: known by pid and start time, so a stale pid harms nobody."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.folder import write_private
from deploy.local.problems import Problem

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
TAIL_LINES = 15
LARGEST_LOG_BYTES = 50 * 1024 * 1024


@dataclass(frozen=True)
class Program:
    """What to run. `user`: whom to become, when root."""

    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 20.0


def start_time(pid: int) -> str | None:
    """When the process began, in ticks; None if it is gone, or dead and not yet collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Process:
    """A program as a process: its record is `run/<name>.json`, its output `logs/<name>.log` in the folder."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program, self.name = program, program.name
        self.log = folder / "logs" / f"{self.name}.log"
        self.record = folder / "run" / f"{self.name}.json"
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        if self._child is not None:
            self._child.poll()
        try:
            known = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return None
        pid = int(known["pid"])
        return pid if start_time(pid) == known["start_time"] else None

    @property
    def alive(self) -> bool:
        """Whether it runs (a stopped one, SIGSTOP, does too)."""
        return self.pid is not None

    def start(self) -> None:
        """Starts it, unless it lives, in a session of its own."""
        if self.alive:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.record.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        env = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(self.program.env)
        identity: dict[str, object] = {}
        if self.program.user and os.geteuid() == 0:
            account = pwd.getpwnam(self.program.user)
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            env["HOME"] = account.pw_dir
        try:
            with open(self.log, "ab") as log:
                self._log_start = log.tell()
                self._child = subprocess.Popen(
                    list(self.program.argv),
                    cwd=self.program.cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    **identity,  # type: ignore[call-overload]
                )
        except OSError as error:
            raise Problem(f"{self.name} can't be started: {error.strerror}: {error.filename}") from None
        write_private(self.record, json.dumps({"pid": self._child.pid, "start_time": start_time(self._child.pid)}))

    def signal(self, number: int) -> None:
        """Sends a signal to the process, if it lives."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def stop(self) -> None:
        """Asks it to stop, waits, kills what is left."""
        if self.alive:
            self.signal(self.program.stop_signal)
            self.signal(signal.SIGCONT)
            if not self._gone_within(self.program.stop_seconds):
                self.kill()
        self.record.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL to the process and those of its session's group; returns when it is gone."""
        pid = self.pid
        if pid is None:
            return
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.signal(signal.SIGKILL)
        if not self._gone_within(10.0):
            raise Problem(f"{self.name} (pid {pid}) does not die")

    def _gone_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def wait_for_end(self, seconds: float) -> int:
        """The exit status of a process that this program started. Raises `Problem` if it takes longer."""
        assert self._child is not None
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Problem(
                f"{self.name} took more than {seconds:.0f} s; the end of {self.log}:\n{self.tail()}"
            ) from None

    def output(self) -> str:
        """What it has written since it was last started by this program."""
        try:
            with open(self.log, "rb") as log:
                log.seek(self._log_start)
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The end of its log."""
        return "\n".join(f"    {line}" for line in self.output().splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Waits for it to be ready. Raises `Problem` with the end of its log if it dies or takes too long."""
        end = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise Problem(f"{self.name} died while starting; the end of {self.log}:\n{self.tail()}")
            if time.monotonic() > end:
                raise Problem(
                    f"{self.name} was not ready within {seconds:.0f} s; the end of {self.log}:\n{self.tail()}"
                )
            time.sleep(0.05)
