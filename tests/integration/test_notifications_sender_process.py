"""The sender as a real process, killed at random while the mail server misbehaves: nothing doubled, nothing lost."""

from __future__ import annotations

import email
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from deploy.local.stack import Stack
from services.notifications import clinic_settings
from services.notifications.addresses import read_key
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import SetClinicSettings
from shared.security.sealing import Sealer
from tests.integration.notifications_support import World
from tests.integration.scripted_smtp import HANG_UP, Scripted, serving
from tests.stack.rooms import Broker, Rooms

SENDERS = 4


class Flaky(Scripted):
    """Fails one attempt in five, before or after it has the mail."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.lost_answers = 0

    def answer(self, step: str) -> str:
        if step in ("RCPT", ".") and self.random.random() < 0.1:
            if step == ".":
                self.lost_answers += 1
            return HANG_UP if step == "." else "450 later"
        return super().answer(step)


@contextmanager
def sender(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.notifications.worker"], env=environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def environment(servers: Stack, broker_vhost: Broker) -> dict[str, str]:
    told = servers.system.environment("notifications_worker")
    del told["SMTP_USER"], told["SMTP_PASSWORD_FILE"]
    own = {
        "AMQP_URL": broker_vhost.url,
        "HEALTH_PORT": "0",
        "SMTP_TLS": "none",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_TIMEOUT_SECONDS": "5",
        "SENDERS": str(SENDERS),
        "SEND_BATCH": "5",
        "LEASE_SECONDS": "3",
        "IDLE_SECONDS": "0.05",
    }
    return {"PATH": os.environ["PATH"], **told, **own}


@pytest.mark.parametrize(
    ("events", "kills", "seed"),
    [(20, 4, 1), pytest.param(1000, 30, 2, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_killed_senders_double_nothing_and_lose_nothing(
    rooms: Rooms, environment: dict[str, str], tmp_path: Path, events: int, kills: int, seed: int
) -> None:
    """R-NOT-7: every delivery is accepted once, or listed as uncertain; of those there are few."""
    database = rooms.database("notifications")
    ring, key = Path(environment["DATA_KEYS_FILE"]), Path(environment["ADDRESS_KEY_FILE"])
    world = World(database.url, Sealer.from_file(ring), SimpleNamespace(address_key=read_key(key)))
    server, chance = Flaky(seed), random.Random(seed)
    queued = _queue(world, events)
    with serving(server):
        environment |= {"DATABASE_URL": database.url, "SMTP_PORT": str(server.port)}
        for _ in range(kills):
            with sender(environment, tmp_path / "log") as process:
                before = len(server.mails)
                _wait(lambda b=before: len(server.mails) > b or not _unfinished(world), 30)  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
            world.make_due()
        with sender(environment, tmp_path / "log") as process:
            _wait(lambda: not _unfinished(world, sweep=True), 60 + queued / 10, pause=0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    received = Counter(
        str(email.message_from_bytes(mail)["Message-ID"]).strip("<>").split("@")[0] for mail in server.mails
    )
    states = {str(delivery): state for delivery, state in world.rows("SELECT delivery, state FROM deliveries")}
    world.database.dispose()
    database.drop()

    assert len(states) == queued
    assert set(states.values()) <= {"sent", "uncertain"}
    assert max(received.values()) == 1
    assert {delivery for delivery, state in states.items() if state == "sent"} <= set(received)
    assert list(states.values()).count("uncertain") <= SENDERS * kills + server.lost_answers
    log = (tmp_path / "log").read_text()
    assert "vgregion.example" not in log


def _queue(world: World, events: int) -> int:
    """To clinic addresses, with a name that is kept: no neighbour needs to be asked. Returns how many deliveries."""
    entered = [f"brevlada{number}@vgregion.example" for number in range(10)]
    request = SetClinicSettings(request_id=uuid4(), clinic=world.clinic, new_case_addresses=entered)
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        clinic_settings.set_settings(tx, request)
    world.rows("INSERT INTO clinic_names VALUES (%s, 'Vårdcentralen', now())", world.clinic)
    for _ in range(events):
        world.hear(cases.CASE_STARTED, world.case_started())
    return events * len(entered)


def _unfinished(world: World, *, sweep: bool = False) -> int:
    if sweep:
        world.sweep()
        world.make_due()
    [(count,)] = world.rows("SELECT count(*) FROM deliveries WHERE state IN ('waiting', 'claimed', 'sending')")
    return int(count)


def _wait(until, seconds: float, pause: float = 0.05) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(pause)
