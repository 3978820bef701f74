"""Processes of the kernel are killed at every point that matters, and anywhere (R-SYS-5).

Nothing that was acknowledged is lost, and nothing takes effect twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.integration.kernel_broker import DEAD, QUEUE, KernelBroker, eventually
from tests.integration.kernel_support import KernelDatabase, fresh_database

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 40
MOST = 2000


class Program:
    """One process of `kernel_program`."""

    def __init__(self, role: str, database: KernelDatabase, broker: KernelBroker, point: str = "never") -> None:
        self.role = role
        self.done: set[UUID] = set()
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.kernel_program"]
        self.process = subprocess.Popen(
            [*command, role, database.url, broker.url, point],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if role == "teller" else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if role == "teller":
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("done "):
                self.done.add(UUID(line.split()[1]))

    def ask(self, requests: list[UUID]) -> None:
        assert self.process.stdin is not None
        try:
            for request in requests:
                self.process.stdin.write(f"{request}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has died: whoever asks asks the next one again

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def died_of_it(self, seconds: float = 40.0) -> None:
        assert self.process.wait(seconds) == -signal.SIGKILL


@pytest.fixture
def hearer_db(database_server: str) -> Iterator[KernelDatabase]:
    with fresh_database(database_server) as database:
        yield database


@contextmanager
def programs() -> Iterator[list[Program]]:
    running: list[Program] = []
    try:
        yield running
    finally:
        for program in running:
            program.kill()


def effects(database: KernelDatabase) -> dict[UUID, int]:
    return dict(database.rows("SELECT id, times FROM effects"))


def all_once(teller_db: KernelDatabase, hearer_db: KernelDatabase, broker: KernelBroker, told: list[UUID]) -> None:
    eventually(lambda: teller_db.one("SELECT count(*) FROM outbox") == 0, 60)
    eventually(lambda: len(effects(hearer_db)) >= len(told), 60)
    eventually(lambda: broker.messages(QUEUE) == 0, 60)
    assert effects(teller_db) == dict.fromkeys(told, 1)
    assert effects(hearer_db) == dict.fromkeys(told, 1)
    assert broker.messages(DEAD) == 0


@pytest.mark.parametrize("point", ["before_commit", "after_commit", "before_publish", "after_publish", "after_relay"])
def test_the_teller_dies_and_all_is_told_once_R_SYS_5(kernel_db, hearer_db, kernel_broker, point):
    kernel_broker.declare()
    requests: list[UUID] = []
    with programs() as running:
        running.append(Program("hearer", hearer_db, kernel_broker))
        victim = Program("teller", kernel_db, kernel_broker, point)
        while victim.process.poll() is None and len(requests) < MOST:
            requests.append(uuid4())
            victim.ask(requests[-1:])
            time.sleep(0.02)
        victim.died_of_it()
        assert victim.done <= set(effects(kernel_db)), "what was acknowledged is there"
        heir = Program("teller", kernel_db, kernel_broker)
        running.append(heir)
        heir.ask(requests)
        eventually(lambda: heir.done == set(requests), 60)
        all_once(kernel_db, hearer_db, kernel_broker, requests)


@pytest.mark.parametrize(
    "point", ["before_commit", "after_commit", "before_publish", "after_publish", "before_ack", "after_ack"]
)
def test_the_hearer_dies_and_all_takes_effect_once_R_SYS_5(kernel_db, hearer_db, kernel_broker, point):
    kernel_broker.declare()
    requests = [uuid4() for _ in range(EVENTS)]
    with programs() as running:
        teller = Program("teller", kernel_db, kernel_broker)
        running.append(teller)
        victim = Program("hearer", hearer_db, kernel_broker, point)
        teller.ask(requests)
        victim.died_of_it()
        running.append(Program("hearer", hearer_db, kernel_broker))
        eventually(lambda: teller.done == set(requests), 60)
        all_once(kernel_db, hearer_db, kernel_broker, requests)


def kill_at_random(kernel_db, hearer_db, kernel_broker, kills: int) -> int:
    """Two tellers and two hearers at work; now and then one of them is killed and another takes its place."""
    kernel_broker.declare()
    asked: list[UUID] = []
    answered: set[UUID] = set()
    with programs() as running:
        running += [Program(role, kernel_db if role == "teller" else hearer_db, kernel_broker)
                    for role in ("teller", "teller", "hearer", "hearer")]  # fmt: skip
        for _ in range(kills):
            fresh = [uuid4() for _ in range(10)]
            asked += fresh
            open_requests = [request for request in asked if request not in answered]
            for program in running:
                if program.role == "teller":
                    program.ask(open_requests)
            time.sleep(random.uniform(0.0, 0.8))
            place = random.randrange(len(running))
            victim = running[place]
            victim.kill()
            answered |= victim.done
            assert victim.done <= set(effects(kernel_db)), "what was acknowledged is there"
            database = kernel_db if victim.role == "teller" else hearer_db
            running[place] = Program(victim.role, database, kernel_broker)
        heir = next(program for program in running if program.role == "teller")
        heir.ask(asked)
        eventually(lambda: heir.done >= set(asked), 60)
        all_once(kernel_db, hearer_db, kernel_broker, asked)
    return len(asked)


@pytest.mark.timeout(300)
def test_fifty_random_kills_lose_nothing_R_SYS_5(kernel_db, hearer_db, kernel_broker):
    assert kill_at_random(kernel_db, hearer_db, kernel_broker, 50) == 500


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_random_kills_lose_nothing_R_SYS_5(kernel_db, hearer_db, kernel_broker):
    assert kill_at_random(kernel_db, hearer_db, kernel_broker, 1000) == 10_000
