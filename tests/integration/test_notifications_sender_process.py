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
from services.notifications import clinic_settings, listing
from services.notifications.addresses import read_key
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import DeliveryState, ListDeliveries, ResendDelivery, SetClinicSettings
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from tests.integration.notifications_support import World
from tests.integration.scripted_smtp import HANG_UP, Scripted, serving
from tests.stack.rooms import Broker, Rooms

SENDERS = 4


REFUSALS = (("RCPT", "450 later"), ("DATA", "451 later"), ("MAIL", HANG_UP), ("MAIL", "421 busy"))


class Flaky(Scripted):
    """Fails one attempt in five: says no at one of the steps, or hangs up before it has the mail.

    `loses`: so many of the answers to a mail that it has taken get lost besides; nobody can know then.
    """

    def __init__(self, seed: int, loses: float) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.loses = loses
        self.lost_answers = 0

    def answer(self, step: str) -> str:
        chance = self.random.random()
        for refused, said in REFUSALS:
            if step == refused and (chance := chance - 0.2 / len(REFUSALS)) < 0:
                return said
        if step == "." and self.random.random() < self.loses:
            self.lost_answers += 1
            return HANG_UP
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
    # By the real time, as the test's own deliveries are: other tests move the system's forward.
    del told["SMTP_USER"], told["SMTP_PASSWORD_FILE"], told["CLOCK_FILE"]
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
    ("events", "kills", "seed", "loses"),
    [(20, 3, 1, 0.1), pytest.param(1000, 30, 2, 0.0, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_killed_senders_double_nothing_and_lose_nothing(
    rooms: Rooms, environment: dict[str, str], tmp_path: Path, events: int, kills: int, seed: int, loses: float
) -> None:
    """R-NOT-7: every delivery is accepted once, or listed as uncertain: at most one for each connection and kill, and
    for each answer that was lost. One that is uncertain can be sent again by hand."""
    database = rooms.database("notifications")
    ring, key = Path(environment["DATA_KEYS_FILE"]), Path(environment["ADDRESS_KEY_FILE"])
    world = World(database.url, Sealer.from_file(ring), SimpleNamespace(address_key=read_key(key)))
    server, chance = Flaky(seed, loses), random.Random(seed)
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
    neither = world.rows(
        "SELECT state, reason, attempts, provider FROM deliveries WHERE state NOT IN ('sent', 'uncertain')"
    )
    uncertain = [delivery for delivery, state in states.items() if state == "uncertain"]
    with world.database.transaction(Caller("operator")) as tx:
        listed = listing.list_deliveries(tx, ListDeliveries(state=DeliveryState.UNCERTAIN, limit=200)).deliveries
        for one in listed[:1]:
            listing.resend(tx, ResendDelivery(request_id=uuid4(), delivery=one.delivery))
    print(f"{len(received)} accepted, {len(uncertain)} uncertain, {server.lost_answers} answers lost")  # shown by -s
    world.database.dispose()
    database.drop()

    assert len(states) == queued
    assert neither == []
    assert max(received.values()) == 1
    assert {delivery for delivery, state in states.items() if state == "sent"} <= set(received)
    assert len(uncertain) <= SENDERS * kills + server.lost_answers
    assert {str(one.delivery) for one in listed} <= set(uncertain)
    assert len(listed) == min(len(uncertain), 200)
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
