"""KiV's JSON feed: records of attributes, keys in any letter case, values as texts or lists of texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Record:
    """One object of the directory, as the feed has it."""

    dn: str
    attributes: Mapping[str, Any]

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, value in self.attributes.items():
            values = value if isinstance(value, list) else [value]
            found.setdefault(key.casefold(), []).extend(str(one).strip() for one in values)
        return found

    def all(self, key: str) -> list[str]:
        """The attribute's values, trimmed, empty ones and lone dashes left out."""
        return [value for value in self._by_key.get(key.casefold(), []) if value not in ("", "-", ".")]

    def first(self, key: str) -> str | None:
        """The attribute's first value, or None."""
        return next(iter(self.all(key)), None)

    def has_class(self, name: str) -> bool:
        """Whether the object is of that object class."""
        return name.casefold() in {one.casefold() for one in self.all("objectclass")}

    @property
    def hsa_id(self) -> str:
        """Upper-case, as comparisons want it; empty if there is none."""
        return (self.first("hsaIdentity") or "").upper()


def read(file: Path, key: str) -> tuple[Record, ...]:
    """The records under this key of a feed. Raises OSError or ValueError."""
    feed = json.loads(file.read_text())
    return tuple(Record(one.get("dn", ""), one["attributes"]) for one in feed[key])
