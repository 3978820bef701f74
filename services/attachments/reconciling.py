"""Comparing store and database: what one has and the other does not know of is found and reported (R-ATT-8, R-ATT-9).

    python -m services.attachments.reconciling        # by hand, with the checker's settings; status 1 if they differ

Both are read once, side by side, in the order of the files' ids. Nothing is removed on the strength of a comparison: an
object without a row may be all that is left of a file after a database was restored from a backup. What the rows say
is to go is swept, and so is whatever was put over a checked file: the version that was checked is the one to stay.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update

from services.attachments.cleaning import kept_objects
from services.attachments.owing import Transactions
from services.attachments.settings import CheckerSettings
from services.attachments.store import Store, Stored
from services.attachments.tables import attachments
from shared.contracts.attachments import State
from shared.contracts.attachments import attachments as contract
from shared.operations.logs import log
from shared.operations.process import Process

FILES_AT_ONCE = 500


class Difference:
    """What may be found; the words are those of logs and metrics."""

    OBJECT_WITHOUT_ROW = "object_without_row"
    ROW_WITHOUT_OBJECT = "row_without_object"
    OVERWRITTEN = "overwritten"

    ALL = (OBJECT_WITHOUT_ROW, ROW_WITHOUT_OBJECT, OVERWRITTEN)


@dataclass(frozen=True)
class _File:
    """All that a bucket has of one file."""

    attachment: UUID
    stored: list[Stored]


class Reconciler:
    """One comparison. `stopping`: ends it early, between two batches."""

    def __init__(
        self,
        transaction: Transactions,
        store: Store,
        *,
        stopping: Callable[[], bool] = lambda: False,
        at_once: int = FILES_AT_ONCE,
    ) -> None:
        self._transaction, self._store = transaction, store
        self._stopping, self._at_once = stopping, at_once
        self._found: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        """Compares all. Answers how many differences there are of each kind. Raises `StoreDown`, `Unavailable`."""
        for bucket in self._store.buckets:
            before: UUID | None = None
            for batch in self._batches(bucket):
                if self._stopping():
                    return self._found
                last = batch[-1].attachment
                self._compare(bucket, batch, before, last)
                before = last
            self._compare(bucket, [], before, None)
        return self._found

    def _batches(self, bucket: str) -> Iterator[list[_File]]:
        batch: list[_File] = []
        for name, stored in groupby(self._store.listing(bucket), lambda one: one.key.partition("/")[0]):
            try:
                batch.append(_File(UUID(name), list(stored)))
            except ValueError:
                self._tell(Difference.OBJECT_WITHOUT_ROW, None)
                continue
            if len(batch) >= self._at_once:
                yield batch
                batch = []
        if batch:
            yield batch

    def _compare(self, bucket: str, batch: list[_File], after: UUID | None, last: UUID | None) -> None:
        """The files of a batch, and the rows from behind the batch before up to its last file."""
        with self._transaction() as tx:
            known = select(attachments).where(attachments.c.attachment.in_([one.attachment for one in batch]))
            rows = {row.attachment: row for row in tx.execute(known)}
            to_be_there = select(attachments).where(attachments.c.state == State.USABLE)
            if after is not None:
                to_be_there = to_be_there.where(attachments.c.attachment > after)
            if last is not None:
                to_be_there = to_be_there.where(attachments.c.attachment <= last)
            usable = list(tx.execute(to_be_there)) if bucket == self._store.bucket else []
        there = {(one.key, one.version) for file in batch for one in file.stored if not one.marker}
        for row in usable:
            if not kept_objects(row) <= there:
                self._look_for_objects(row)
        for file in batch:
            if file.attachment in rows:
                self._look_at_surplus(bucket, file, rows[file.attachment])
            else:
                self._look_for_row(bucket, file)

    def _look_for_objects(self, seen: Row[Any]) -> None:
        """The listing did not have them: looked at again, one by one, as it may have been put there since."""
        with self._transaction() as tx:
            row = tx.execute(select(attachments).where(attachments.c.attachment == seen.attachment)).first()
        if row is not None and not all(self._store.has(key, version) for key, version in kept_objects(row)):
            self._tell(Difference.ROW_WITHOUT_OBJECT, row.attachment, sent=row.sent_at is not None)

    def _look_for_row(self, bucket: str, file: _File) -> None:
        """A row goes only after its objects: if it is still not there now, and they are, nobody knows of them."""
        with self._transaction() as tx:
            if tx.execute(select(attachments.c.attachment).where(attachments.c.attachment == file.attachment)).first():
                return
        if self._store.versions(bucket, str(file.attachment)):
            self._tell(Difference.OBJECT_WITHOUT_ROW, file.attachment)

    def _look_at_surplus(self, bucket: str, file: _File, row: Row[Any]) -> None:
        if row.state in (State.WAITING, State.CHECKING):
            return
        kept = kept_objects(row)
        surplus = [one for one in file.stored if (one.key, one.version) not in kept]
        if not surplus:
            return
        keys = {key for key, _ in kept}
        if bucket == self._store.bucket and any(one.key in keys for one in surplus):
            self._tell(Difference.OVERWRITTEN, row.attachment, sent=row.sent_at is not None)
        with self._transaction() as tx:
            this = (attachments.c.attachment == row.attachment) & attachments.c.sweep_at.is_(None)
            tx.execute(update(attachments).where(this).values(sweep_at=tx.now))

    def _tell(self, kind: str, attachment: UUID | None, *, sent: bool = False) -> None:
        self._found[kind] += 1
        log.error(
            "store_and_database_differ",
            kind=kind,
            attachment=None if attachment is None else str(attachment),
            state="sent" if sent else None,
        )


def main() -> None:
    """Compares once, and ends."""
    process = Process("attachments", "reconciler", CheckerSettings, contract=contract)
    found = Reconciler(process.transaction, Store(process.settings)).run()
    log.info("store_and_database_compared", count=found.total())
    sys.exit(1 if found.total() else 0)


if __name__ == "__main__":
    main()
