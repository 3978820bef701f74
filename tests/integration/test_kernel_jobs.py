"""Jobs run once per due time however many replicas there are, and not less than that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from shared.messaging.errors import Conflict
from shared.operations import clock
from shared.operations.health import Metrics
from shared.operations.jobs import Job, JobRunner, TurnLost
from tests.integration.kernel_broker import eventually
from tests.integration.kernel_support import bump

ROOT = Path(__file__).resolve().parents[2]
HOURLY = Job("hourly", every=timedelta(hours=1))


class MovedClock:
    """The real time, moved; tests move it on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0.0
        # begins in the middle of an hour, so that no test meets the next one by itself
        into = datetime.now(UTC).timestamp() % 3600
        self.move(timedelta(seconds=1800 - into))

    def move(self, by: timedelta) -> None:
        self._offset += by.total_seconds()
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"offset_seconds": self._offset}))
        fresh.replace(self._path)


@pytest.fixture
def moved_clock(tmp_path):
    moved = MovedClock(tmp_path / "clock.json")
    clock.use(str(tmp_path / "clock.json"))
    yield moved
    clock.use(None)


@pytest.fixture
def runners(kernel_db, moved_clock):
    """`runners(job, work)` starts one replica."""
    running = []

    def start(work, job=HOURLY) -> JobRunner:
        database = kernel_db.open()
        core = SimpleNamespace(database=database, metrics=Metrics(), settings=None, ask=None, rights_freshness=None)

        def spawn(run) -> None:
            threading.Thread(target=run, args=(work,), daemon=True).start()

        runner = JobRunner(core, {job: spawn})
        runner.start()
        running.append((runner, database))
        return runner

    yield start
    for runner, _ in running:
        runner.stop()
    for _, database in running:
        database.dispose()


def job_row(kernel_db, name="hourly"):
    rows = kernel_db.rows("SELECT last_due, outcome, failures FROM jobs WHERE name = %s", name)
    return rows[0] if rows else (None, None, None)


def test_many_replicas_run_it_once_per_due_time(kernel_db, runners, moved_clock):
    runs: list[datetime] = []
    for _ in range(5):
        runners(lambda run: runs.append(run.now))
    eventually(lambda: runs)
    time.sleep(1.5)
    assert len(runs) == 1
    moved_clock.move(timedelta(hours=1))
    begun = time.monotonic()
    eventually(lambda: len(runs) == 2)
    assert time.monotonic() - begun < 2, "a moved clock is seen soon"
    time.sleep(1.5)
    moved_clock.move(timedelta(hours=30))  # what was missed meanwhile is one sweep, not thirty
    eventually(lambda: len(runs) == 3)
    time.sleep(1.5)
    assert len(runs) == 3
    last_due, outcome, failures = job_row(kernel_db)
    assert last_due == HOURLY.due(clock.now())
    assert (outcome, failures) == ("done", 0)


def test_one_that_fails_is_tried_again_and_counts_as_done_only_then(kernel_db, runners):
    tries = []

    def work(run) -> None:
        tries.append(1)
        if len(tries) < 3:
            with run.transaction() as tx:
                bump(tx, UUID(int=1))
                raise ValueError("19900101-2385")

    runners(work)
    eventually(lambda: len(tries) == 1)
    assert eventually(lambda: job_row(kernel_db)[1] == "ValueError")
    assert job_row(kernel_db)[0] is None
    eventually(lambda: job_row(kernel_db)[1] == "done")
    assert len(tries) == 3
    assert kernel_db.one("SELECT count(*) FROM effects") == 0


def test_one_replica_at_a_time(kernel_db, runners, moved_clock):
    inside, most = [], []

    def work(run) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.3)
        inside.pop()
        raise ValueError

    for _ in range(4):
        runners(work)
    eventually(lambda: len(most) >= 6, 40)
    assert max(most) == 1


def test_run_by_hand(kernel_db, runners):
    runs = []
    first = runners(lambda run: runs.append(run.now))
    eventually(lambda: job_row(kernel_db)[1] == "done" and not first._watched["hourly"].running)
    first.run_now("hourly")
    first.run_now("hourly")
    assert len(runs) == 3


def test_by_hand_while_it_runs_is_refused_and_a_failure_is_told(kernel_db, runners):
    going, release = threading.Event(), threading.Event()

    def work(run) -> None:
        going.set()
        release.wait(20)
        raise LookupError

    first, second = runners(work), runners(work)
    assert going.wait(10)
    for runner in (first, second):
        with pytest.raises(Conflict) as refused:
            runner.run_now("hourly")
        assert refused.value.reason == "job_running"
    release.set()
    time.sleep(0.5)
    with pytest.raises((LookupError, Conflict)):
        first.run_now("hourly")


def test_a_runner_that_lost_its_turn_can_do_no_more(kernel_db, runners):
    """Its connection was cut and another took over: its next transaction is refused, whatever it thinks."""
    outcomes: list[str] = []
    going, taken_over = threading.Event(), threading.Event()

    def slow(run) -> None:
        with run.transaction() as tx:
            bump(tx, uuid4())
        going.set()
        taken_over.wait(20)
        try:
            with run.transaction() as tx:
                bump(tx, uuid4())
            outcomes.append("effect")
        except TurnLost:
            outcomes.append("lost")
            raise

    runners(slow)
    assert going.wait(10)
    runners(lambda run: taken_over.set())
    kernel_db.cut_connections()
    eventually(lambda: outcomes)
    assert outcomes == ["lost"]
    assert kernel_db.one("SELECT count(*) FROM effects") == 1
    eventually(lambda: job_row(kernel_db)[1] == "done")


def test_a_job_whose_process_is_killed_is_run_by_another(kernel_db, runners, tmp_path):
    program = textwrap.dedent(
        """
        import sys, threading, time
        from datetime import timedelta
        from types import SimpleNamespace
        from shared.operations import clock
        from shared.operations.health import Metrics
        from shared.operations.jobs import Job, JobRunner
        from tests.integration.kernel_support import KernelDatabase, bump
        from uuid import UUID
        clock.use(sys.argv[2])
        def work(run):
            with run.transaction() as tx:
                bump(tx, UUID(int=1))
            time.sleep(60)
        database = KernelDatabase(sys.argv[1]).open()
        core = SimpleNamespace(database=database, metrics=Metrics(), settings=None, rights_freshness=None)
        spawn = lambda run: threading.Thread(target=run, args=(work,), daemon=True).start()
        JobRunner(core, {Job("hourly", every=timedelta(hours=1)): spawn}).start()
        time.sleep(60)
        """
    )
    command = [sys.executable, "-W", "ignore", "-c", program, kernel_db.url, str(tmp_path / "clock.json")]
    victim = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        eventually(lambda: kernel_db.one("SELECT count(*) FROM effects") == 1, 40)
        runs = []
        runners(lambda run: runs.append(run.now))
        time.sleep(1.5)
        assert runs == []
        victim.send_signal(signal.SIGKILL)
        eventually(lambda: len(runs) == 1)
        eventually(lambda: job_row(kernel_db)[1] == "done")
    finally:
        victim.kill()
        victim.wait()


def test_old_rows_of_the_kernel_are_forgotten(kernel_db, runners, moved_clock):
    database = kernel_db.open()
    request = uuid4()
    database.write_once(
        request, clock_caller(), "m", b"f", lambda tx: "r", dump=lambda r: r.encode(), load=lambda b: b.decode()
    )
    kernel_db.rows(
        "INSERT INTO requests (request_id, caller, method, fingerprint, at)"
        " SELECT gen_random_uuid(), 'anyone:', 'm', 'f', %s - age FROM unnest('{3h,1h}'::interval[]) AS age",
        clock.now(),
    )
    database.hear(uuid4(), lambda tx: None)
    kernel_db.rows("INSERT INTO ended_sessions VALUES (gen_random_uuid(), %s)", clock.now() + timedelta(minutes=5))
    runner = runners(lambda run: None)

    def left() -> list[int]:
        return [kernel_db.one(f"SELECT count(*) FROM {table}") for table in ("requests", "inbox", "ended_sessions")]

    eventually(lambda: job_row(kernel_db, "forget_old_kernel_rows")[1] == "done")
    assert left() == [2, 1, 1], "a stranger's request of three hours ago is gone, that of one hour ago is not"
    for days, expected in ((6, [1, 1, 0]), (2, [0, 1, 0]), (23, [0, 0, 0])):
        moved_clock.move(timedelta(days=days))
        eventually(lambda expected=expected: left() == expected)
    assert runner.names == {"hourly", "forget_old_kernel_rows"}
    database.dispose()


def clock_caller():
    from shared.security.caller import Caller

    return Caller("system", "clock")
