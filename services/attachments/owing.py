"""Writes that outlive the database being away: what a checker owes is written first when it is back (R-ATT-7).

What was taken under a lease when the database went is given back, a verdict that was reached is written down: no file
waits for the end of a lease because of that, and none is checked twice without need.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from shared.database.transaction import Transaction
from shared.messaging.errors import Unavailable

T = TypeVar("T")
Transactions = Callable[[], AbstractContextManager[Transaction]]


class Writes:
    """The transactions of one worker's rounds. For one thread."""

    def __init__(self, transaction: Transactions) -> None:
        self._transaction = transaction
        self._owed: list[Callable[[Transaction], object]] = []

    def write(self, work: Callable[[Transaction], T], otherwise: Callable[[Transaction], object] | None = None) -> T:
        """Runs `work` in a transaction of its own.

        Raises `Unavailable` if the database is away: it may have been committed or not. Before anything else
        `otherwise` is then run, or `work` once more; either must do no harm if the first time stands.
        """
        try:
            with self._transaction() as tx:
                return work(tx)
        except Unavailable:
            self._owed.append(otherwise or work)
            raise

    def catch_up(self) -> None:
        """Writes what is owed. Raises `Unavailable` while the database is away."""
        while self._owed:
            with self._transaction() as tx:
                self._owed[0](tx)
            del self._owed[0]
