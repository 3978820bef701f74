"""The checker as a real process, killed at random, with the store going away: every file gets its verdict (R-ATT-7)."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import requests

from deploy.local.processes import start_time
from deploy.local.servers.clamd import EICAR, Clamd
from deploy.local.stack import Stack
from shared.contracts.attachments import State
from shared.security.caller import Caller
from tests.integration.attachments_support import PDF, PNG, World
from tests.stack.rooms import Broker
from tests.unit.attachments import corpus, crafted

_PATIENCE_SECONDS = 90.0


@contextmanager
def checker(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.attachments.worker"], env=environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def environment(
    servers: Stack, broker_vhost: Broker, attachments_place: tuple[str, SimpleNamespace], tmp_path: Path
) -> dict[str, str]:
    url, store = attachments_place
    (tmp_path / "work").mkdir()
    own = {
        "AMQP_URL": broker_vhost.url,
        "DATABASE_URL": url,
        "HEALTH_PORT": "0",
        "S3_UPLOAD_BUCKET": store.upload_bucket,
        "S3_BUCKET": store.bucket,
        "WORK_FOLDER": str(tmp_path / "work"),
        "LEASE_SECONDS": "1",
    }
    told = servers.system.environment("attachments_worker")
    return {"PATH": os.environ["PATH"], **told, **own}


def wait_for(world: World, files: int) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        [(done,)] = world.rows("SELECT count(*) FROM attachments WHERE state IN ('usable', 'refused')")
        if done == files:
            return
        assert time.monotonic() < end, f"{done} of {files} after {_PATIENCE_SECONDS} s"
        time.sleep(0.05)


def wait_for_objects(world: World, attachment: UUID, kept: list[tuple[str, str]]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while (found := world.objects(attachment)) != kept:
        assert time.monotonic() < end, (found, kept)
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("files", "kills", "seed"),
    [(20, 5, 1), pytest.param(600, 100, 2, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_killed_checkers_leave_nothing_unchecked_and_nothing_twice_r_att_7_r_sys_5(
    world: World, environment: dict[str, str], tmp_path: Path, files: int, kills: int, seed: int
) -> None:
    chance = random.Random(seed)
    expected: dict[Any, tuple[Caller, State, bytes]] = {}
    for number in range(files):
        data, fit = crafted.png(number), State.USABLE
        if number % 3 == 2:
            data, fit = crafted.cut(data), State.REFUSED
        caller = world.resident()  # one may have a hundred
        expected[world.put(caller, data, PNG)] = (caller, fit, data)
    for _ in range(kills):
        with checker(environment, tmp_path / "log") as process:
            time.sleep(chance.uniform(0.8, 2.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert os.listdir(tmp_path / "work") == []
    # as if the minute were over that one of the killed may have had for tidying up after a file
    world.rows("UPDATE attachments SET sweep_at = now() WHERE sweep_at > now()")
    with checker(environment, tmp_path / "log") as process:
        wait_for(world, files)
        for attachment, (caller, state, data) in expected.items():
            assert world.show(caller, attachment).state is state
            kept = world.kept(attachment) if state is State.USABLE else []
            wait_for_objects(world, attachment, kept)
            if kept:
                assert requests.get(world.preview(caller, attachment).url, timeout=10).content == data
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_checker_told_to_stop_finishes_what_it_has_begun(
    world: World, environment: dict[str, str], tmp_path: Path
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.pdf_bomb(10, streams=30), PDF)
    world.make_due()
    with checker(environment, tmp_path / "log") as process:
        end = time.monotonic() + 30
        while world.show(caller, attachment).state is State.WAITING:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert world.show(caller, attachment).state is State.USABLE


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found += [int(one) for one in (task / "children").read_text().split()]
    return found


def test_a_killed_checker_leaves_no_child_behind(world: World, environment: dict[str, str], tmp_path: Path) -> None:
    world.put(world.resident(), crafted.pdf_bomb(10, streams=1_500), PDF)
    world.make_due()
    with checker(environment, tmp_path / "log") as process:
        end = time.monotonic() + 30
        while not (born := children(process.pid)):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(1.0)  # it decodes
        assert children(process.pid) == born
        process.kill()
        process.wait()
    while any(start_time(child) for child in born):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_checker_scans_where_that_is_configured_and_says_that_its_scanner_is_missing_r_att_7(
    world: World, environment: dict[str, str], tmp_path: Path, clamd: Clamd
) -> None:
    caller = world.resident()
    fit = world.put(caller, crafted.png(), PNG)
    infected = world.put(caller, corpus.with_chunk(b"prVt", EICAR), PNG)
    port = environment["HEALTH_PORT"] = str(free_port())
    clamd.kill()
    try:
        with checker(environment | {"CLAMD": clamd.address}, tmp_path / "log"):
            end = time.monotonic() + 30
            while "check_put_off" not in (tmp_path / "log").read_text():
                assert time.monotonic() < end
                time.sleep(0.05)
            ready = requests.get(f"http://127.0.0.1:{port}/ready", timeout=5)
            assert ready.status_code == 503
            assert "scanner" in ready.text
            assert world.rows("SELECT 1 FROM attachments WHERE state NOT IN ('waiting', 'checking')") == []
            clamd.start()
            clamd.wait()
            wait_for(world, 2)
    finally:
        clamd.start()
        clamd.wait()
    assert world.show(caller, fit).state is State.USABLE
    assert world.show(caller, infected).refusal_reason == "infected"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_long_check_keeps_its_turn(world: World, environment: dict[str, str], tmp_path: Path) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.pdf_bomb(10, streams=60), PDF)
    world.make_due()
    with checker(environment, tmp_path / "log"):
        wait_for(world, 1)
    assert world.row(attachment, "takeovers") == (0,)


def test_a_store_that_restarts_delays_and_nothing_else_r_att_7(
    servers: Stack, world: World, environment: dict[str, str], tmp_path: Path
) -> None:
    caller = world.resident()
    for number in range(6):
        world.put(caller, crafted.png(number), PNG)
    store = servers.servers["seaweedfs"]
    store.kill()
    try:
        with checker(environment, tmp_path / "log"):
            time.sleep(4)
            assert world.rows("SELECT 1 FROM attachments WHERE state NOT IN ('waiting', 'checking')") == []
            store.start()
            store.wait()
            wait_for(world, 6)
    finally:
        if not store.alive:
            store.start()
            store.wait()
    assert world.rows("SELECT DISTINCT state FROM attachments") == [("usable",)]


def test_a_database_that_restarts_leaves_no_file_to_the_end_of_a_lease_r_att_7_r_sys_5(
    servers: Stack, world: World, environment: dict[str, str], tmp_path: Path
) -> None:
    """The lease lasts longer than this test may: whoever waits for its end is late."""
    caller = world.resident()
    for number in range(8):
        world.put(
            caller, crafted.pdf_bomb(10, streams=15) if number % 2 else crafted.png(number), (PNG, PDF)[number % 2]
        )
    database = servers.servers["postgres"]
    with checker(environment | {"LEASE_SECONDS": "600"}, tmp_path / "log"):
        end = time.monotonic() + 30
        while not world.rows("SELECT 1 FROM attachments WHERE state = 'checking'"):
            assert time.monotonic() < end
            time.sleep(0.01)
        database.kill()
        time.sleep(1.5)  # what was being checked then is done by now
        database.start()
        database.wait()
        wait_for(world, 8)
    assert world.rows("SELECT DISTINCT state, takeovers FROM attachments") == [("usable", 0)]


def test_no_name_and_no_owner_stands_in_the_log_r_sys_3(
    world: World, environment: dict[str, str], tmp_path: Path
) -> None:
    caller = world.staff()
    world.put(caller, crafted.png(), PNG, name="Anna Testsson remiss.png")
    world.put(caller, crafted.cut(crafted.png()), PNG, name="Anna Testsson remiss.png")
    with checker(environment, tmp_path / "log") as process:
        wait_for(world, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    log = (tmp_path / "log").read_text()
    assert "attachment_usable" in log
    assert "attachment_refused" in log
    for secret in ("Testsson", caller.subject, "[withheld]"):
        assert secret not in log
