# ruff: noqa: E402 - eventlet comes before all else
"""Writes events into an outbox and relays them, on green threads as a service does: `teller`."""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import os
import random
import threading
import time
from uuid import uuid4

from bench.parts.events import PADDING, TOLD, Told, contract
from bench.parts.programs import serve, wait_until
from shared.database.transaction import Database
from shared.messaging.relay import Relay
from shared.operations.health import Metrics
from shared.security.sealing import Sealer


class _Counting(Metrics):
    """Tells when so many events are in the broker."""

    def __init__(self) -> None:
        super().__init__()
        self.missing = 0
        self.there = threading.Event()

    def relayed(self, count: int) -> None:
        super().relayed(count)
        self.missing -= count
        if self.missing <= 0:
            self.there.set()


metrics = _Counting()
database = Database(os.environ["DATABASE_URL"], service="cases", sealer=Sealer("bench", {"bench": b"k" * 32}))
relay = Relay(database, os.environ["AMQP_URL"], contract, metrics)
database.on_published.append(relay.wake)

_FILL = b"""INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, at)
SELECT gen_random_uuid(), 'cases', aggregate, 'case_started', %s, '{}', now()
FROM unnest(%s::text[]) WITH ORDINALITY AS given (aggregate, place) ORDER BY place"""


def relay_many(count: int, each: int, mixed: bool) -> float:
    """Events a second from the table to the queue, confirmed and removed, beginning when they are committed.

    `each`: so many for an aggregate, one after the other or (`mixed`) anywhere among the others'.
    """
    aggregates = [str(uuid4()) for _ in range(count // each)]
    order = [one for one in aggregates for _ in range(each)]
    if mixed:
        random.shuffle(order)
    metrics.missing = len(order)
    metrics.there.clear()
    payload = Told(number=0, sent=0.0, padding=PADDING).model_dump_json()
    with database.transaction() as tx:
        tx.ask(_FILL, (payload, order))
    began = time.monotonic()
    relay.wake()
    assert metrics.there.wait(50.0), "the relay did not get through"
    while _waiting():
        time.sleep(0.001)
    return len(order) / (time.monotonic() - began)


def _waiting() -> int:
    with database.transaction() as tx:
        [(count,)] = tx.ask(b"SELECT count(*) FROM outbox")
    return int(count)


def tell(count: int, pause: float) -> list[float]:
    """Commits one event after the other, with pauses; the moments when each commit was done (monotonic)."""
    moments = []
    for number in range(count):
        with database.transaction() as tx:
            tx.publish(TOLD, Told(number=number, sent=0.0, padding=PADDING), uuid4())
        moments.append(time.monotonic())
        time.sleep(pause * random.uniform(0.5, 1.5))
    return moments


if __name__ == "__main__":
    relay.start()
    wait_until(lambda: relay.connected, "the relay's connection")
    serve({"relay_many": relay_many, "tell": tell})
