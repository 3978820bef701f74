"""Broker, databases and object store: as processes from the system's packages, or as containers.

Every module here has a class with the methods of `Server`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deploy.local.keys import Keys
from deploy.local.ports import Ports

ADMINISTRATOR = "vardarende_admin"


@dataclass(frozen=True)
class Place:
    """Where a server has its data, ports and passwords. `passing`: gone after the tests, so it need not be durable."""

    folder: Path
    ports: Ports
    keys: Keys
    passing: bool = False
    label: str = field(default="")


class Server(Protocol):
    """A server of the stack."""

    name: str
    title: str
    host: str
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Begins to start it, or does nothing if it runs."""

    def wait(self) -> None:
        """Returns when it answers; raises `Problem` with the end of its log if it does not."""

    def stop(self) -> None:
        """Stops it in its orderly way; its data stay."""

    def kill(self) -> None:
        """As a power cut would."""

    def pause(self) -> None:
        """It hangs, until `resume`."""

    def resume(self) -> None:
        """Lets it go on."""

    def remove(self) -> None:
        """Stops it and takes away what it left outside the data folder."""
