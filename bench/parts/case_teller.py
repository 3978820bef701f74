"""Tells of new cases as the service cases does, by outbox and relay: `case_teller`."""

from __future__ import annotations

import os
import time
from uuid import UUID, uuid4

from bench.parts.programs import serve, wait_until
from shared.contracts.cases import CASE_STARTED, CaseStartedEvent, cases
from shared.database.transaction import Database
from shared.messaging.relay import Relay
from shared.operations.health import Metrics
from shared.security.sealing import Sealer

database = Database(os.environ["DATABASE_URL"], service="cases", sealer=Sealer("bench", {"bench": b"k" * 32}))
relay = Relay(database, os.environ["AMQP_URL"], cases, Metrics())
database.on_published.append(relay.wake)


def start_cases(clinic: str, count: int, per_second: float) -> dict[str, float]:
    """Commits so many, evenly spread; the moment (wall clock) when each was committed, by the id of its message."""
    committed: dict[str, float] = {}
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        event = CaseStartedEvent(case=uuid4(), clinic=clinic, resident=UUID(int=1), message=uuid4())
        with database.transaction() as tx:
            tx.publish(CASE_STARTED, event, event.case)
        committed[str(event.message)] = time.time()
    return committed


if __name__ == "__main__":
    relay.start()
    wait_until(lambda: relay.connected, "the relay's connection")
    serve({"start_cases": start_cases})
