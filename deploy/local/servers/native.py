"""What the native servers have in common."""

from __future__ import annotations

import signal
from pathlib import Path

from deploy.local import ports
from deploy.local.processes import Process, Program
from deploy.local.servers import Place


class NativeServer:
    """A server that is one process on this machine."""

    name = title = ""
    host = "127.0.0.1"
    used_ports: tuple[str, ...] = ()

    def __init__(self, place: Place) -> None:
        self.place = place
        self.process = Process(self.program(), place.folder)
        self.log: Path = self.process.log

    def program(self) -> Program:
        """What to run."""
        raise AssertionError("each server says so itself")

    def prepare(self) -> None:
        """What it needs before it starts: files, an initialised data folder."""

    def answers(self) -> bool:
        """Whether it takes requests."""
        raise AssertionError("each server says so itself")

    start_seconds = 60.0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.alive

    def start(self) -> None:
        """Starts it, unless it runs. Raises `Problem` if a port is taken."""
        if self.alive:
            return
        ports.require_free(self.place.ports, list(self.used_ports), self.title)
        self.prepare()
        self.process.start()

    def wait(self) -> None:
        """Returns when it answers."""
        self.process.wait_until(self.answers, self.start_seconds)

    def stop(self) -> None:
        """Stops it in its orderly way."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)

    def remove(self) -> None:
        """Everything lies in the data folder, so stopping is enough."""
        self.stop()
