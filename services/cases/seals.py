"""The seals of the access log: what was changed, removed or slipped in afterwards does not fit the chain (R-CASE-18).

A seal covers a number of committed rows, in the order of its own list, and the seal before it, by a SHA-256 digest.
The proof is the digest sealed with this service's keys, which are not in the database: whoever can only write there
can't make one.
Readers never wait for a seal; a job makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, insert, select, text

from services.cases.tables import Row, access_log, access_log_seals, access_log_unsealed
from shared.database.transaction import Transaction
from shared.operations.logs import log
from shared.security.sealing import SealBroken

AT_ONCE = 1000
SEALS_AT_ONCE = 20
_FIRST = hashlib.sha256(b"access log of cases").digest()


def seal_all(run: Any) -> int:
    """Seals every row that is committed, a lot at a time, each in a transaction of its own; says how many."""
    total = 0
    while True:
        with run.transaction() as tx:
            made = seal_some(tx)
        if made is None:
            return total
        # Kept elsewhere than the database, so that seals cut off at the end of the chain are missed.
        log.info("access_log_sealed", number=made.number, count=made.count, digest=made.digest.hex())
        total += made.count
        if made.count < AT_ONCE:
            return total


@dataclass(frozen=True)
class Made:
    """A seal that was just made, and how many rows it covers."""

    number: int
    count: int
    digest: bytes


def seal_some(tx: Transaction) -> Made | None:
    """Makes one seal of up to `AT_ONCE` rows, if any wait for one."""
    # One at a time: each seal builds on the one before.
    tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("seals of the access log", 0))))
    waiting = select(access_log_unsealed.c.entry).order_by(access_log_unsealed.c.entry).limit(AT_ONCE)
    entries = sorted(tx.execute(waiting).scalars())
    if not entries:
        return None
    last = tx.execute(
        select(access_log_seals.c.seal, access_log_seals.c.digest).order_by(access_log_seals.c.seal.desc()).limit(1)
    ).one_or_none()
    seal = 1 if last is None else last.seal + 1
    digest = _digest(_FIRST if last is None else bytes(last.digest), seal, entries, _rows(tx, entries))
    tx.execute(
        insert(access_log_seals).values(
            seal=seal,
            sealed_at=tx.now,
            entries=entries,
            lowest=entries[0],
            highest=entries[-1],
            digest=digest,
            proof=tx.sealer.seal(digest, context(seal)),
        )
    )
    tx.execute(delete(access_log_unsealed).where(access_log_unsealed.c.entry.in_(entries)))
    return Made(seal, len(entries), digest)


def _rows(tx: Transaction, entries: Sequence[int]) -> dict[int, Row]:
    found = tx.execute(select(access_log).where(access_log.c.entry.in_(entries))).mappings()
    return {row["entry"]: row for row in found}


def _digest(previous: bytes, seal: int, entries: Sequence[int], rows: dict[int, Row]) -> bytes:
    """A row that is gone counts as such: the chain goes on, and the check tells of it."""
    digest = hashlib.sha256(previous)
    digest.update(seal.to_bytes(8, "big"))
    for entry in entries:
        row = rows.get(entry)
        values = [entry, "gone"] if row is None else [*(_plain(row[column.name]) for column in access_log.columns)]
        digest.update(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return digest.digest()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def context(seal: int) -> bytes:
    """What the proof of a seal is bound to."""
    return f"access log seal {seal}".encode()


# --- the check ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that does not fit. `what`: seal_missing, proof_broken, rows_changed, row_gone, row_uncovered."""

    what: str
    seal: int | None = None
    entry: int | None = None


@dataclass(frozen=True)
class Place:
    """How far a check has come: the last seal looked at, and its digest."""

    seal: int = 0
    digest: bytes = _FIRST
    at_end: bool = False


def verify_some(tx: Transaction, place: Place) -> tuple[list[Fault], Place]:
    """Checks the next few seals after the place."""
    faults: list[Fault] = []
    seals = tx.execute(
        select(access_log_seals)
        .where(access_log_seals.c.seal > place.seal)
        .order_by(access_log_seals.c.seal)
        .limit(SEALS_AT_ONCE)
    ).all()
    number, digest = place.seal, place.digest
    for row in seals:
        faults += [Fault("seal_missing", seal=missing) for missing in range(number + 1, row.seal)]
        rows = _rows(tx, row.entries)
        faults += [Fault("row_gone", seal=row.seal, entry=entry) for entry in row.entries if entry not in rows]
        if _digest(digest, row.seal, row.entries, rows) != bytes(row.digest):
            faults.append(Fault("rows_changed", seal=row.seal))
        try:
            proven = tx.sealer.open(bytes(row.proof), context(row.seal)) == bytes(row.digest)
        except SealBroken:
            proven = False
        if not proven:
            faults.append(Fault("proof_broken", seal=row.seal))
        # Each seal is judged by what the one before says, so that one fault does not make all that follow look broken.
        number, digest = row.seal, bytes(row.digest)
    return faults, Place(number, digest, at_end=len(seals) < SEALS_AT_ONCE)


def uncovered_some(tx: Transaction, after: int) -> tuple[list[Fault], int | None]:
    """Rows that no seal covers and that do not wait for one, put in behind the log's back: among the next few after
    that entry. Also gives the last entry looked at; none: there are no more."""
    rows = select(access_log.c.entry).where(access_log.c.entry > after).order_by(access_log.c.entry).limit(AT_ONCE)
    entries = list(tx.execute(rows).scalars())
    if not entries:
        return [], None
    low, high = entries[0], entries[-1]
    # What waits is read before the seals: a row that is sealed in between is then seen twice, not never.
    unsealed = select(access_log_unsealed.c.entry).where(access_log_unsealed.c.entry.between(low, high))
    accounted = set(tx.execute(unsealed).scalars())
    for covered in tx.execute(overlapping(low, high)).scalars():
        accounted.update(covered)
    return [Fault("row_uncovered", entry=entry) for entry in entries if entry not in accounted], high


def overlapping(low: int, high: int) -> Select[Any]:
    """The entries of each seal that may have some of these in it; found by the index on the seals' ranges."""
    ranges = func.int8range(access_log_seals.c.lowest, access_log_seals.c.highest, text("'[]'"))
    return select(access_log_seals.c.entries).where(ranges.op("&&")(func.int8range(low, high, text("'[]'"))))


def check_all(run: Any) -> list[Fault]:
    """Checks the whole chain, and that every row is in it or waits to be, a little in each transaction.

    What does not fit is an error in the log. No faults: an empty list.
    """
    faults: list[Fault] = []
    place = Place()
    while not place.at_end:
        with run.transaction() as tx:
            found, place = verify_some(tx, place)
        faults += found
    entry: int | None = 0
    while entry is not None:
        with run.transaction() as tx:
            found, entry = uncovered_some(tx, entry)
        faults += found
    if faults:
        log.error("access_log_does_not_fit", count=len(faults), reason=faults[0].what, number=faults[0].seal)
    return faults
