"""What the broker says of messages that are published with confirms."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import Enum


class Outcome(Enum):
    """What became of a message published with confirms."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    NACKED = "nacked"
    UNKNOWN = "unknown"


class Confirms:
    """The messages of one connection that were published together last. For one thread at a time.

    The broker counts what it is given, and speaks of each by its number. One that no queue takes it returns, and
    confirms it after that.
    """

    def __init__(self) -> None:
        self.complete = threading.Event()
        """Set when it has spoken of all, and when nothing more can come. Any thread may wait for it."""
        self._next = 1
        self._awaited: dict[int, int] = {}
        self._outcomes: list[Outcome] = []
        self._returned: set[str] = set()

    def begin(self, count: int) -> None:
        """So many follow."""
        self.complete.clear()
        self._returned = set()
        self._outcomes = [Outcome.UNKNOWN] * count
        self._awaited = {self._next + place: place for place in range(count)}

    def sent(self) -> None:
        """The next of them is on its way."""
        self._next += 1

    def acked(self, number: int, multiple: bool) -> None:
        """The broker has it, and all before it (`multiple`)."""
        self._settle(number, multiple, Outcome.CONFIRMED)

    def nacked(self, number: int, multiple: bool, *_: object) -> None:
        """The broker could not take it, or them."""
        self._settle(number, multiple, Outcome.NACKED)

    def returned(self, message_id: str) -> None:
        """No queue takes the one with this id."""
        self._returned.add(message_id)

    def _settle(self, number: int, multiple: bool, outcome: Outcome) -> None:
        for one in [one for one in self._awaited if one <= number] if multiple else [number]:
            place = self._awaited.pop(one, None)
            if place is not None:
                self._outcomes[place] = outcome
        if not self._awaited:
            self.complete.set()

    def end(self, message_ids: Sequence[str | None]) -> list[Outcome]:
        """What became of each, as far as the broker has spoken; nothing more is awaited. Their ids, in their order."""
        self._awaited = {}
        return [
            Outcome.RETURNED if known in self._returned else outcome
            for known, outcome in zip(message_ids, self._outcomes, strict=True)
        ]
