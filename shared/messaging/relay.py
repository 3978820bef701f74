"""The relay: takes events from the outbox to the broker, in the order of their commits per aggregate.

One runs in every process that commits. They take turns by an advisory lock that ends with the transaction, so that only
one at a time publishes for a service. A row is removed in the transaction that read it, after the broker has confirmed
its message: whatever dies in between, the row is still there and is published again, and hearers know its id.

Rows are claimed by reading what is there, never by "greater than the last": sequence numbers commit out of order.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import amqp

from shared.contracts.base import Contract
from shared.database.transaction import Database, Transaction
from shared.messaging import outbox, topology
from shared.messaging.confirming import Outcome
from shared.messaging.errors import Refused
from shared.messaging.link import Link, LinkDown, OutgoingMessage
from shared.operations.health import Metrics
from shared.operations.logs import log

BATCH = 500
IDLE_SECONDS = 1.0
"""So often it looks by itself: for what a process that died has left, and what the broker did not take."""
_CONFIRM_SECONDS = 10.0
_TURN_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_HOLD_SECONDS = 30.0
_LAST_SECONDS = 3.0
_TOO_MANY_HELD = 10
"""So many aggregates held for one kind of event: it is the kind that the broker does not take, as by a full queue."""
_COUNT_EVERY_SECONDS = 10.0
_TURN = 0x6F757462
"""Key of the advisory lock by which the relays of one database take turns."""

_TAKE = b"""SET LOCAL lock_timeout = '3s'; SELECT pg_advisory_xact_lock(%s);
SELECT seq, id, aggregateid, type, payload::text, headers, CASE WHEN isfinite(at) THEN at END FROM outbox
WHERE aggregateid <> ALL(%s) ORDER BY seq LIMIT %s"""
_TAKE_OTHERS = b"""SET LOCAL lock_timeout = '3s'; SELECT pg_advisory_xact_lock(%s);
WITH full_kinds AS (SELECT aggregateid, min(seq) AS since FROM outbox WHERE type = ANY(%s) GROUP BY aggregateid)
SELECT seq, id, outbox.aggregateid, type, payload::text, headers, CASE WHEN isfinite(at) THEN at END
FROM outbox LEFT JOIN full_kinds ON full_kinds.aggregateid = outbox.aggregateid
WHERE outbox.aggregateid <> ALL(%s) AND (since IS NULL OR seq < since) ORDER BY seq LIMIT %s"""
"""Past the kinds that are held, and what follows them in their aggregates: reads the whole outbox, for a bad time."""
_REMOVE = b"DELETE FROM outbox WHERE seq = ANY(%s)"
_COUNT = b"""SELECT count(*), coalesce(extract(epoch FROM now() - min(at) FILTER (WHERE isfinite(at))), 0)
FROM (SELECT at FROM outbox ORDER BY seq LIMIT 100000) AS waiting"""


_NO_EVENT = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class Row(NamedTuple):
    """An event as read from the outbox."""

    seq: int
    id: UUID
    aggregate: str
    kind: str
    payload: str
    headers: dict[str, Any]
    at: datetime


@dataclass
class _Hold:
    """Something that the broker did not take is left alone for a while, longer each time, so that others get past."""

    kind: str
    tries: int = 0
    until: float = 0.0

    def again(self) -> None:
        """For a while from now."""
        self.tries += 1
        self.until = time.monotonic() + min(_LONGEST_HOLD_SECONDS, 0.5 * 2 ** min(self.tries, 10))

    @property
    def lasts(self) -> bool:
        return self.until > time.monotonic()


class Relay:
    """See the module."""

    def __init__(
        self, database: Database, url: str, contract: Contract, metrics: Metrics, *, ca_file: str | None = None
    ) -> None:
        self._database = database
        self._contract = contract
        self._metrics = metrics
        self._link = Link(url, f"{contract.name} relay", self._ready, confirm=True, ca_file=ca_file)
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._held: dict[str, _Hold] = {}
        """By aggregate: the broker took another of the kind, as far as is known."""
        self._full: dict[str, _Hold] = {}
        """By kind: a full queue takes none, whatever the aggregate."""
        self._counted = 0.0

    @property
    def connected(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        """Begins to connect, and publishes what is there and what comes."""
        self._link.start()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something in the outbox. Returns at once."""
        self._woken.set()

    def stop(self) -> None:
        """Publishes what is left, for a few seconds; the rest stays for another process."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=_LAST_SECONDS + _CONFIRM_SECONDS)
        self._link.stop()

    @staticmethod
    def _ready(channel: amqp.Channel) -> None:
        topology.declare(channel)

    def _run(self) -> None:
        failures, last = 0, False
        while not last:
            last = self._stopping.is_set()  # once more after it was told to stop: what was committed just before
            if not last:
                self._woken.wait(IDLE_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            connected = self._link.wait_connected(IDLE_SECONDS)
            try:
                self._count()
                if connected:
                    self._woken.clear()
                    self._publish_all()
                failures = 0
            except Exception as error:
                failures = min(failures + 1, 10)
                known = isinstance(error, Refused | LinkDown)
                reason = error.reason if isinstance(error, Refused) else None
                log.warning("relay_paused", reason=reason, attempt=failures, exc_info=None if known else error)
                self._stopping.wait(min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**failures))

    def _publish_all(self) -> None:
        ends: float | None = None
        while self.publish_batch() == BATCH:
            if self._stopping.is_set():
                ends = ends or time.monotonic() + _LAST_SECONDS
                if time.monotonic() > ends:
                    break

    def _count(self) -> None:
        if time.monotonic() - self._counted > _COUNT_EVERY_SECONDS:
            self._counted = time.monotonic()
            with self._database.transaction() as tx:
                [(waiting, oldest)] = tx.ask(_COUNT)
            self._metrics.outbox(waiting, float(oldest))

    def publish_batch(self) -> int:
        """Takes its turn, publishes a batch and removes what the broker confirmed. Answers how many rows it found.

        Raises `LinkDown` or `Unavailable`; what was confirmed before that is removed, or published again.
        """
        self._forget()
        held = [aggregate for aggregate, hold in self._held.items() if hold.lasts]
        full = [kind for kind, hold in self._full.items() if hold.lasts]
        trouble: LinkDown | None = None
        with self._database.transaction() as tx:
            found = tx.ask(_TAKE_OTHERS, (_TURN, full, held, BATCH)) if full else tx.ask(_TAKE, (_TURN, held, BATCH))
            rows = [Row(*values) for values in found]
            if rows:
                trouble = self._publish(tx, rows)
        if trouble is not None:
            raise trouble
        return len(rows)

    def _forget(self) -> None:
        """What was held long ago: another process published it."""
        long_ago = time.monotonic() - _LONGEST_HOLD_SECONDS
        for holds in (self._held, self._full):
            for name in [name for name, hold in holds.items() if hold.until < long_ago]:
                del holds[name]

    def _publish(self, tx: Transaction, rows: list[Row]) -> LinkDown | None:
        """In waves of one row per aggregate: the next goes out only when the broker has the one before."""
        queues: dict[str, deque[Row]] = {}
        for row in rows:
            queues.setdefault(row.aggregate, deque()).append(row)
        confirmed: list[int] = []
        trouble: LinkDown | None = None
        returned = 0
        ends = time.monotonic() + _TURN_SECONDS
        while trouble is None and time.monotonic() < ends and (wave := self._wave(queues)):
            try:
                outcomes = self._link.publish_all([message for _, message in wave], _CONFIRM_SECONDS)
            except LinkDown as error:
                trouble = error
                break
            for (row, _), outcome in zip(wave, outcomes, strict=True):
                if outcome is Outcome.CONFIRMED:
                    confirmed.append(row.seq)
                    self._held.pop(row.aggregate, None)
                    self._full.pop(row.kind, None)
                    queues[row.aggregate].popleft()
                    if not queues[row.aggregate]:
                        del queues[row.aggregate]
                    continue
                del queues[row.aggregate]
                if outcome is Outcome.UNKNOWN:
                    trouble = LinkDown("confirms")
                    continue
                self._hold(row)
                returned += outcome is Outcome.RETURNED
                log.error("event_not_taken", event_type=row.kind, event_id=str(row.id), outcome=outcome.value)
        if confirmed:
            tx.last(_REMOVE, (confirmed,))
            self._metrics.relayed(len(confirmed))
        if returned:
            self._metrics.unroutable(returned)
            with contextlib.suppress(LinkDown):
                self._link.run(topology.declare)  # someone removed a queue or a binding
        return trouble

    def _wave(self, queues: dict[str, deque[Row]]) -> list[tuple[Row, OutgoingMessage]]:
        """What may go out now: the first of each aggregate, none of a kind that is held, and one, to try it, of a kind
        that was. Each hearer gets what is tried, also those that have it already: not more than one."""
        wave, tried = [], set()
        for aggregate, queue in list(queues.items()):
            first = queue[0]
            full = self._full.get(first.kind)
            if full is not None and full.lasts:
                del queues[aggregate]
                continue
            if full is not None and first.kind in tried:
                continue
            tried.add(first.kind)
            try:
                wave.append((first, self._message(first)))
            except _NO_EVENT as error:
                # Raised from here it would stop all that are behind it, for ever.
                del queues[aggregate]
                self._held.setdefault(aggregate, _Hold("")).again()
                log.error("event_unsendable", seq=first.seq, error_type=type(error).__name__)
        return wave

    def _hold(self, row: Row) -> None:
        """Leaves the aggregate's events alone for a while; or all of the kind, where the broker takes none of it."""
        if row.kind in self._full:
            if not self._full[row.kind].lasts:
                self._full[row.kind].again()
            return
        self._held.setdefault(row.aggregate, _Hold(row.kind)).again()
        of_its_kind = [aggregate for aggregate, hold in self._held.items() if hold.kind == row.kind]
        if len(of_its_kind) >= _TOO_MANY_HELD:
            for aggregate in of_its_kind:
                del self._held[aggregate]
            self._full[row.kind] = _Hold(row.kind)
            self._full[row.kind].again()

    def _message(self, row: Row) -> OutgoingMessage:
        """The event as it leaves. Raises `_NO_EVENT` for a row that is none of this service's: the broker would end the
        connection, and the row be there again."""
        event = self._contract.events[row.kind]
        return outbox.message(
            event_id=row.id,
            source=event.service,
            aggregate=row.aggregate,
            kind=event.name,
            payload=row.payload,
            headers=row.headers,
            at=row.at,
            heard=bool(event.heard_by),
        )
