"""Work by the clock: once per due time, however many replicas there are.

Whoever runs a job holds an advisory lock for as long, which ends with its connection: if it dies, another takes over.
The due time counts as done only when the job has succeeded. A runner that has lost its lock without knowing (its
connection was cut) can do no more: each of its transactions first looks whether the run is still its own.

Jobs are sweeps: they look for what is to be done now and do it in small transactions, so that one that is run twice,
late or by hand does no harm.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import text

from shared.contracts.base import Call, ContractError
from shared.database.engine import translated
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Refused
from shared.operations import clock
from shared.operations.logs import log
from shared.security import rights_comparing

if TYPE_CHECKING:
    from shared.operations.core import Core

TICK_SECONDS = 0.5
_LOCKS = 0x6A6F62
"""First key of the advisory locks of jobs; the second is a hash of the job's name."""
_LONGEST_PAUSE_SECONDS = 60.0
_DRAIN_SECONDS = 25.0
_SET_BACK = timedelta(minutes=1)
"""A due time so far ahead is from before the clock was set back; less is another machine's clock."""
_KEEP_REQUESTS = timedelta(days=7)
_KEEP_STRANGERS_REQUESTS = timedelta(hours=2)
"""Those that anyone may make without a token, to log in and to renew: as many as somebody likes, and no use later."""
_KEEP_INBOX = timedelta(days=30)
_AT_A_TIME = 5000

_BEGIN = b"""INSERT INTO jobs AS job (name, run, last_started) VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE SET run = excluded.run, last_started = excluded.last_started
WHERE %s OR job.last_due IS NULL OR job.last_due < %s OR job.last_due > %s RETURNING 1"""
_MINE = b"SELECT 1 FROM jobs WHERE name = %s AND run = %s FOR SHARE"
_SUCCEEDED = b"""UPDATE jobs SET last_due = %s, last_finished = %s, outcome = 'done',
failures = 0 WHERE name = %s AND run = %s"""
_FAILED = b"UPDATE jobs SET outcome = %s, failures = failures + 1 WHERE name = %s AND run = %s"

Answer = TypeVar("Answer", bound=Any)
Work = Callable[["Run"], object]
Spawn = Callable[[Callable[[Work], None]], None]


class TurnLost(Exception):
    """Another process runs the job now."""


@dataclass(frozen=True)
class Job:
    """What is run when: every so often (counted from the epoch, so that all replicas agree), or daily, Swedish time."""

    name: str
    every: timedelta | None = None
    daily_at: str | None = None

    def __post_init__(self) -> None:
        if (self.every is None) == (self.daily_at is None):
            raise ContractError(f"job {self.name} needs either `every` or `daily_at`")
        if self.every is not None and self.every < timedelta(seconds=1):
            raise ContractError(f"job {self.name} is run too often")
        if self.daily_at is not None:
            time_of_day.fromisoformat(self.daily_at)

    def due(self, now: datetime) -> datetime:
        """The latest due time that is not after `now`."""
        if self.every is not None:
            seconds = self.every.total_seconds()
            return datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
        assert self.daily_at is not None
        local, at = now.astimezone(clock.SWEDEN), time_of_day.fromisoformat(self.daily_at)
        today = datetime.combine(local.date(), at, clock.SWEDEN).astimezone(UTC)
        if today <= now:
            return today
        return datetime.combine(local.date() - timedelta(days=1), at, clock.SWEDEN).astimezone(UTC)


@dataclass(frozen=True)
class Run:
    """One run of a job, as the job sees it."""

    core: Core
    job: str
    run: UUID
    now: datetime
    stopping: threading.Event

    @property
    def settings(self) -> Any:
        return self.core.settings

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction. Raises `TurnLost` if another process has taken the job over."""
        with self.core.database.transaction(origin=f"job.{self.job}", fence=self._still_mine) as tx:
            yield tx

    def _still_mine(self, tx: Transaction) -> None:
        if not tx.ask(_MINE, (self.job, self.run)):
            raise TurnLost

    def ask(self, call: Call[Any, Answer], request: Any, timeout: float = 10.0) -> Answer:
        """Asks another service; not inside a transaction."""
        return self.core.ask(call, request, timeout)


@dataclass
class _Watched:
    job: Job
    spawn: Spawn
    done: datetime | None = None
    running: bool = False
    not_before: float = 0.0
    failures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Whether nobody in this process runs it; if so, the caller does from now on."""
        with self.lock:
            if self.running:
                return False
            self.running = True
            return True


class JobRunner:
    """Looks what is due, in every process of a service. `jobs`: for each, how its method is run on a worker."""

    def __init__(self, core: Core, jobs: Mapping[Job, Spawn]) -> None:
        self._core = core
        own = {Job("forget_old_kernel_rows", every=timedelta(hours=1)): _on_a_thread(forget_old_kernel_rows)}
        if core.rights_freshness is not None:
            own[Job("mend_rights", every=timedelta(minutes=1))] = _on_a_thread(mend_rights)
            own[Job("compare_rights", daily_at="03:40")] = _on_a_thread(compare_rights)
        self._watched = {job.name: _Watched(job, spawn) for job, spawn in {**own, **jobs}.items()}
        if len(self._watched) != len(jobs) + len(own):
            raise ContractError("two jobs have the same name")
        self._stopping = threading.Event()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._watched)

    def start(self) -> None:
        threading.Thread(target=self._tick, name="jobs", daemon=True).start()

    def stop(self) -> None:
        """Begins no more; waits for those that run, which are told by `run.stopping`."""
        self._stopping.set()
        ends = time.monotonic() + _DRAIN_SECONDS
        while any(one.running for one in self._watched.values()) and time.monotonic() < ends:
            time.sleep(0.02)

    def _tick(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            now = clock.now()
            for watched in self._watched.values():
                due = watched.job.due(now)
                behind = watched.done != due
                if behind and time.monotonic() >= watched.not_before and watched.take():
                    watched.spawn(lambda work, watched=watched, due=due: self._run_due(watched, due, work))  # type: ignore[misc]

    def _run_due(self, watched: _Watched, due: datetime, work: Work) -> None:
        """Runs it if it is this process's turn. Never raises: a failure is logged, and tried again after a pause."""
        try:
            if self._in_turn(watched.job, due, work, by_hand=False) is not None:
                watched.done, watched.failures = due, 0
                return
            watched.not_before = time.monotonic() + 1.0  # another process has it; look again whether it came through
        except Exception as error:
            watched.failures = min(watched.failures + 1, 10)
            watched.not_before = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, 0.5 * 2**watched.failures)
            self._core.metrics.job(watched.job.name, "failed")
            reason = error.reason if isinstance(error, Refused) else None
            log.error("job_failed", job=watched.job.name, reason=reason, attempt=watched.failures, exc_info=error)
        finally:
            watched.running = False

    def run_now(self, name: str, timeout: float = 25.0) -> None:
        """Runs it by hand, due or not, and returns when it has succeeded. Raises what it raises, or `Conflict`."""
        watched = self._watched[name]
        if not watched.take():
            raise Conflict("Jobbet körs redan.", reason="job_running")
        finished = threading.Event()
        failed: list[Exception] = []

        def run(work: Work) -> None:
            try:
                if self._in_turn(watched.job, watched.job.due(clock.now()), work, by_hand=True) is None:
                    raise Conflict("Jobbet körs redan.", reason="job_running")
            except Exception as error:
                failed.append(error)
            finally:
                watched.running = False
                finished.set()

        watched.spawn(run)
        if not finished.wait(timeout):
            raise Conflict("Jobbet körs ännu.", reason="job_running")
        if failed:
            raise failed[0]

    def _in_turn(self, job: Job, due: datetime, work: Work, *, by_hand: bool) -> bool | None:
        """Runs the job under its lock.

        None: another process has the lock; False: it was done already; True: done now.
        """
        keys = {"locks": _LOCKS, "name": job.name}
        try:
            connection = self._core.database.engine.connect()
        except Exception as error:
            raise translated(error) or error from error
        with connection:
            if not connection.execute(text("SELECT pg_try_advisory_lock(:locks, hashtext(:name))"), keys).scalar_one():
                return None
            try:
                return self._run(job, due, work, by_hand=by_hand)
            finally:
                try:
                    connection.execute(text("SELECT pg_advisory_unlock(:locks, hashtext(:name))"), keys)
                except Exception:
                    connection.invalidate()  # the lock ends with the connection

    def _run(self, job: Job, due: datetime, work: Work, *, by_hand: bool) -> bool:
        run, began, now = uuid4(), time.monotonic(), clock.now()
        with self._core.database.transaction() as tx:
            if not tx.ask(_BEGIN, (job.name, run, now, by_hand, due, now + _SET_BACK)):
                return False
        try:
            work(Run(self._core, job.name, run, now, self._stopping))
        except Exception as error:
            with self._core.database.transaction() as tx:
                tx.ask(_FAILED, (type(error).__name__, job.name, run))
            raise
        with self._core.database.transaction() as tx:
            tx.ask(_SUCCEEDED, (due, clock.now(), job.name, run))
        self._core.metrics.job(job.name, "done")
        seconds = time.monotonic() - began
        if seconds > 1.0 or by_hand:
            log.info("job_done", job=job.name, seconds=round(seconds, 3))
        return True


def _on_a_thread(work: Work) -> Spawn:
    def spawn(run: Callable[[Work], None]) -> None:
        threading.Thread(target=run, args=(work,), name="job", daemon=True).start()

    return spawn


def mend_rights(run: Run) -> None:
    """Closes a gap in the service's copy of the rights that has been there for long (R-ID-10)."""
    freshness = run.core.rights_freshness
    assert freshness is not None
    rights_comparing.mend(run.transaction, run.ask, freshness)


def compare_rights(run: Run) -> None:
    """Compares the service's copy of the rights with what identity holds, gap or not (R-ID-10)."""
    rights_comparing.compare(run.transaction, run.ask)


def forget_old_kernel_rows(run: Run) -> None:
    """Removes answered requests, heard events and ended sessions that nobody can ask about any more."""
    for table, key, old, before in (
        ("requests", "request_id", "caller = 'anyone:' AND at", run.now - _KEEP_STRANGERS_REQUESTS),
        ("requests", "request_id", "at", run.now - _KEEP_REQUESTS),
        ("inbox", "event_id", "at", run.now - _KEEP_INBOX),
        ("ended_sessions", "session", "until", run.now),
    ):
        some = f"SELECT {key} FROM {table} WHERE {old} < %s LIMIT %s"  # noqa: S608 - the names above
        statement = f"DELETE FROM {table} WHERE {key} IN ({some}) RETURNING 1".encode()  # noqa: S608
        removed = _AT_A_TIME
        while removed == _AT_A_TIME and not run.stopping.is_set():
            with run.transaction() as tx:
                removed = len(tx.ask(statement, (before, _AT_A_TIME)))
