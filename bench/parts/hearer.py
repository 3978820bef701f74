# ruff: noqa: E402 - eventlet comes before all else
"""Hears events on green threads, each in a transaction with its inbox row, as a service does: `hearer`."""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bench.parts.events import TOLD, Told, hearing
from bench.parts.programs import serve, wait_until
from shared.database.transaction import Database
from shared.messaging.events import EventConsumer
from shared.operations.health import Metrics
from shared.security.sealing import Sealer

heard: dict[int, float] = {}


def handle(_tx: Any, event: Told) -> None:
    """Notes the moment (monotonic)."""
    heard.setdefault(event.number, time.monotonic())


def spawn(work: Callable[[Any], None]) -> None:
    """On a thread of its own."""
    threading.Thread(target=work, args=(handle,), daemon=True).start()


def moments(count: int) -> list[float]:
    """When each of the `count` events was handled; waits for them, and forgets them."""
    wait_until(lambda: len(heard) >= count, "hearing all events")
    told = [heard[number] for number in range(count)]
    heard.clear()
    return told


if __name__ == "__main__":
    core = SimpleNamespace(
        settings=SimpleNamespace(amqp_url=os.environ["AMQP_URL"]),
        ca_file=None,
        contract=hearing,
        database=Database(
            os.environ["DATABASE_URL"], service="notifications", sealer=Sealer("bench", {"bench": b"k" * 32})
        ),
        metrics=Metrics(),
    )
    consumer = EventConsumer(core, {TOLD: spawn})
    consumer.start()
    wait_until(lambda: consumer.connected, "the hearer's connection")
    serve({"moments": moments})
