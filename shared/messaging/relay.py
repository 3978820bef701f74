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
from shared.messaging.errors import Refused
from shared.messaging.link import Link, LinkDown, Outcome, OutgoingMessage
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
_MOST_HELD = 2000
_COUNT_EVERY_SECONDS = 10.0
_TURN = 0x6F757462
"""Key of the advisory lock by which the relays of one database take turns."""

_TAKE = b"""SET LOCAL lock_timeout = '3s'; SELECT pg_advisory_xact_lock(%s);
SELECT seq, id, aggregatetype, aggregateid, type, payload::text, headers, at FROM outbox
WHERE aggregateid <> ALL(%s) ORDER BY seq LIMIT %s"""
_REMOVE = b"DELETE FROM outbox WHERE seq = ANY(%s)"
_COUNT = b"SELECT count(*) FROM (SELECT FROM outbox LIMIT 100000) AS waiting"


class Row(NamedTuple):
    """An event as read from the outbox."""

    seq: int
    id: UUID
    source: str
    aggregate: str
    kind: str
    payload: str
    headers: dict[str, Any]
    at: datetime


@dataclass
class _Hold:
    until: float
    tries: int


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
        while self._holding() < _MOST_HELD and self.publish_batch() == BATCH:
            if self._stopping.is_set():
                ends = ends or time.monotonic() + _LAST_SECONDS
                if time.monotonic() > ends:
                    break

    def _count(self) -> None:
        if time.monotonic() - self._counted > _COUNT_EVERY_SECONDS:
            self._counted = time.monotonic()
            with self._database.transaction() as tx:
                [(waiting,)] = tx.ask(_COUNT)
            self._metrics.outbox(waiting)

    def _holding(self) -> int:
        """How many aggregates are held now; those whose time is long over (another process published them) are
        forgotten.
        """
        now = time.monotonic()
        for aggregate in [one for one, hold in self._held.items() if hold.until + _LONGEST_HOLD_SECONDS < now]:
            del self._held[aggregate]
        return sum(hold.until > now for hold in self._held.values())

    def publish_batch(self) -> int:
        """Takes its turn, publishes a batch and removes what the broker confirmed. Answers how many rows it found.

        Raises `LinkDown` or `Unavailable`; what was confirmed before that is removed, or published again.
        """
        now = time.monotonic()
        held = [aggregate for aggregate, hold in self._held.items() if hold.until > now]
        trouble: LinkDown | None = None
        with self._database.transaction() as tx:
            rows = [Row(*values) for values in tx.ask(_TAKE, (_TURN, held, BATCH))]
            if rows:
                trouble = self._publish(tx, rows)
        if trouble is not None:
            raise trouble
        return len(rows)

    def _publish(self, tx: Transaction, rows: list[Row]) -> LinkDown | None:
        """In waves of one row per aggregate: the next goes out only when the broker has the one before."""
        queues: dict[str, deque[Row]] = {}
        for row in rows:
            queues.setdefault(row.aggregate, deque()).append(row)
        confirmed: list[int] = []
        trouble: LinkDown | None = None
        returned = 0
        ends = time.monotonic() + _TURN_SECONDS
        while queues and trouble is None and time.monotonic() < ends:
            wave = [queue[0] for queue in queues.values()]
            try:
                outcomes = self._link.publish_all([self._message(row) for row in wave], _CONFIRM_SECONDS)
            except LinkDown as error:
                trouble = error
                break
            for row, outcome in zip(wave, outcomes, strict=True):
                if outcome is Outcome.CONFIRMED:
                    confirmed.append(row.seq)
                    self._held.pop(row.aggregate, None)
                    queues[row.aggregate].popleft()
                    if not queues[row.aggregate]:
                        del queues[row.aggregate]
                    continue
                del queues[row.aggregate]
                if outcome is Outcome.UNKNOWN:
                    trouble = LinkDown("confirms")
                    continue
                self._hold(row.aggregate)
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

    def _hold(self, aggregate: str) -> None:
        """Leaves the aggregate's events alone for a while, so that the others get past them."""
        hold = self._held.setdefault(aggregate, _Hold(0.0, 0))
        hold.tries += 1
        hold.until = time.monotonic() + min(_LONGEST_HOLD_SECONDS, 0.5 * 2 ** min(hold.tries, 10))

    def _message(self, row: Row) -> OutgoingMessage:
        event = self._contract.events.get(row.kind)
        return outbox.message(
            event_id=row.id,
            source=row.source,
            aggregate=row.aggregate,
            kind=row.kind,
            payload=row.payload,
            headers=row.headers,
            at=row.at,
            heard=event is not None and bool(event.heard_by),
        )
