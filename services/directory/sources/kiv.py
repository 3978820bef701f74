"""JSON feeds in KiV's shape, from files or by HTTPS with a client certificate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.directory.records import Raw
from services.directory.sources import Catalogue, feed, places
from services.directory.sources.places import Access

_UNIT_KEYS = ("units", "roles")
_STAFF_KEYS = ("persons",)


@dataclass(frozen=True)
class Kiv:
    """A directory that gives feeds. Each place is a file path or an https address; together they are one catalogue."""

    unit_places: tuple[str, ...]
    staff_places: tuple[str, ...]
    access: Access = places.PLAIN
    name: str = "kiv"

    @property
    def has_units(self) -> bool:
        return bool(self.unit_places)

    @property
    def has_staff(self) -> bool:
        return bool(self.staff_places)

    def units(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Units and functions. None: the same as last time. Raises `SourceError`."""
        return self._catalogue(self.unit_places, _UNIT_KEYS, folder, state)

    def staff(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Persons, likewise."""
        return self._catalogue(self.staff_places, _STAFF_KEYS, folder, state)

    def _catalogue(
        self, where: Sequence[str], keys: Collection[str], folder: Path, state: dict[str, Any] | None
    ) -> Catalogue | None:
        read = places.read_all(where, self.access, folder, state)
        if read is None:
            return None

        def records() -> Iterator[Raw | None]:
            for one in read:
                yield from feed.records(one.path, keys)

        return Catalogue(places.state_of(read), records)
