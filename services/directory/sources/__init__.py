"""Where units and staff come from: one small interface, whatever the source.

A source reads its whole catalogue to a folder first (`units`, `staff`), and gives its records one by one afterwards, so
that nothing half-read ever meets the database and memory stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.directory.records import Raw

HSA = "hsa"
NAMES = ("kiv", "kiv_ldap", HSA, "hsa_file", "file")
"""Every source that there is, configured here or not. Of two that have the same unit or person, the one that stands
first is believed, unless the settings give another order."""


def believed_before(name: str, order: Sequence[str]) -> list[str]:
    """The sources that are believed before this one."""
    return list(order[: order.index(name)])


class SourceError(Exception):
    """The source can't be used: nothing is changed, and the run says why. `reason` is a stable snake_case word."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Catalogue:
    """A whole catalogue, read to the end. `state` is what the source wants back the next time, as JSON.

    `records` may be gone through more than once. An item that is no record at all comes as None. With `present`,
    `records` are only those that may have changed since `state` was given, and `present` has the HSA-ids of all.
    `answers`: they are answers to a question about each, so that a few that are not there are as believable as with any
    direct question, and none at all is no broken catalogue.
    """

    state: dict[str, Any]
    records: Callable[[], Iterator[Raw | None]]
    present: Sequence[str] | None = None
    answers: bool = False


class Source(Protocol):
    """One of the care directories."""

    @property
    def name(self) -> str: ...

    def units(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """All units. None: the same as when it gave `state`. Raises `SourceError`."""
        ...

    def staff(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """All staff, likewise."""
        ...

    @property
    def has_units(self) -> bool: ...

    @property
    def has_staff(self) -> bool: ...
