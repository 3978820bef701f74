"""Cases in a database with a million of them, against one with ten thousand, and against bare psycopg.

The service's own methods on the database, with neighbours that answer from memory: what is measured is what this
service itself adds to a call. Bare psycopg runs the very statements of a reply, as they were recorded from one, with
the same values but other ids, on as many threads, in turns.
"""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.parts import cases_load
from bench.parts.report import Figure, ratio
from bench.parts.servers import Servers
from shared.contracts import cases
from shared.contracts.base import Role
from tests.integration.cases_support import SEALER, World

CLINICS, FEW_CLINICS = 500, 5
LIST_BAR, REPLIES_BAR = 1.5, 0.5
_CALLS = 300
_REPLIES = 40_000
_ROUNDS = 5
_SECONDS = 1.5
_THREADS = 4
_PAGE, _PAGES = 20, 100

Times = dict[str, list[float]]


def measure(servers: Servers) -> list[Figure]:
    """The figures of this benchmark."""
    with TemporaryDirectory() as folder:
        with _loaded(servers, Path(folder), FEW_CLINICS) as (few, _):
            small = _latencies(few)
        with _loaded(servers, Path(folder), CLINICS) as (many, busy):
            large = _latencies(many)
            ours, bare = _throughput(many, busy)
    figures = []
    for name, times in large.items():
        figures += [_quantile(f"{name}, p50", times, 0.5), _quantile(f"{name}, p99", times, 0.99)]
    for name in ("first page", "hundredth page"):
        slower = [_at(large[name], 0.99)], [_at(small[name], 0.99)]
        figures.append(ratio(f"{name}, p99, against 10 000 cases", *slower, LIST_BAR, at_most=True))
    return [*figures, ratio("replies a second, against the same statements by psycopg", ours, bare, REPLIES_BAR)]


@contextmanager
def _loaded(servers: Servers, folder: Path, clinics: int) -> Iterator[tuple[World, list[UUID]]]:
    """A world on so much data, and cases of its handler's that wait for a reply."""
    with cases_load.database(servers.admin_url) as url:
        for world in World.made(url, folder):
            cases_load.fill(url, clinics - 1, world.case_type)
            of_handler = (world.case_type, world.handler.subject)
            cases_load.add_clinic(url, world.clinic, *of_handler, cases_load.OF_A_CLINIC, sealer=SEALER)
            elsewhere = world.new_clinic()
            world.handler = world.give(world.handler.subject, Role.CASE_HANDLER, clinic=elsewhere)
            waiting = cases_load.add_clinic(url, elsewhere, *of_handler, _REPLIES, sealer=None)
            for number in range(cases_load.RESIDENTS):
                world.set_resident(UUID(int=number + 1))
            cases_load.settled(url)
            print(f"  {clinics * cases_load.OF_A_CLINIC} cases are there", file=sys.stderr, flush=True)
            yield world, waiting


# --- one after the other --------------------------------------------------------------------------------------------


def _latencies(world: World) -> Times:
    page = cases.ListClinicCases(clinic=world.clinic, limit=_PAGE)
    after, ids = None, []
    for _ in range(_PAGES - 1):
        shown = world.call(cases.LIST_CLINIC_CASES, page.model_copy(update={"after": after}), world.receiver)
        ids += [one.case for one in shown.cases]
        after = shown.after
    last = page.model_copy(update={"after": after})
    assert world.call(cases.LIST_CLINIC_CASES, last, world.receiver).cases
    case = itertools.cycle(ids)
    what: dict[str, Callable[[], object]] = {
        "start a case": lambda: world.start(),
        "reply": lambda: _reply(world, next(case)),
        "first page": lambda: world.call(cases.LIST_CLINIC_CASES, page, world.receiver),
        "hundredth page": lambda: world.call(cases.LIST_CLINIC_CASES, last, world.receiver),
        "read a case": lambda: world.get(next(case), world.receiver),
    }
    return {name: _timed(action) for name, action in what.items()}


def _reply(world: World, case: UUID) -> None:
    read, text = cases_load.MESSAGES, "Hur länge har du haft det?"
    reply = cases.WriteReply(request_id=uuid4(), case=case, version=read, kind="partial_reply", text=text)
    world.call(cases.REPLY, reply, world.handler)


def _timed(action: Callable[[], object]) -> list[float]:
    for _ in range(20):
        action()
    found = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        action()
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)


def _at(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def _quantile(name: str, times: list[float], share: float) -> Figure:
    return Figure(name, _at(times, share), "ms", times[0], times[-1], len(times))


# --- as many as possible --------------------------------------------------------------------------------------------


def _throughput(world: World, waiting: list[UUID]) -> tuple[list[float], list[float]]:
    case = iter(waiting)
    recorded = _recorded(world, next(case))
    url = world.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    bare = [psycopg.connect(url, autocommit=True) for _ in range(_THREADS)]
    lock = threading.Lock()

    def following() -> UUID:
        with lock:
            return next(case)

    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(_rate([lambda: _reply(world, following())] * _THREADS))
        theirs.append(_rate([lambda one=one: recorded.again(one, following()) for one in bare]))  # type: ignore[misc]
    for connection in bare:
        connection.close()
    return ours, theirs


def _rate(actions: list[Callable[[], object]]) -> float:
    """Each on a thread of its own for a while: how often a second, all together."""

    def run(action: Callable[[], object]) -> int:
        done = 0
        while time.monotonic() < ends:
            action()
            done += 1
        return done

    began = time.monotonic()
    ends = began + _SECONDS
    with ThreadPoolExecutor(len(actions)) as pool:
        return sum(pool.map(run, actions)) / (time.monotonic() - began)


_AN_ID = re.compile(r"(?<![0-9a-f])([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9a-f])")


class _Recorded:
    """The statements of one reply, in order, as the driver got them: with values, or with these in the text already,
    which then is cut at each id."""

    def __init__(self, case: UUID, kept: set[UUID]) -> None:
        self._case = case
        self._kept = kept
        self.statements: list[tuple[type, Any, Any]] = []

    def note(self, kind: type, statement: Any, values: Any) -> None:
        """Another one."""
        if isinstance(statement, bytes) and values is None:
            statement = _AN_ID.split(statement.decode())
        self.statements.append((kind, statement, values))

    def again(self, connection: psycopg.Connection[Any], case: UUID) -> None:
        """Runs them for another case; every other id of the first is a new one."""
        ids: dict[UUID, UUID] = {self._case: case}

        def other(value: Any) -> Any:
            if isinstance(value, UUID) and value not in self._kept:
                return ids.setdefault(value, uuid4())
            return str(case) if value == str(self._case) else value

        def other_in_text(part: str) -> str:
            new = other(UUID(part))
            return str(new) if "-" in part else str(new.hex)

        for kind, statement, values in self.statements:
            if isinstance(statement, list):
                parts = [other_in_text(part) if place % 2 else part for place, part in enumerate(statement)]
                statement = "".join(parts).encode()
            if isinstance(values, dict):
                values = {name: other(value) for name, value in values.items()}
            elif values is not None:
                values = [other(value) for value in values]
            cursor = kind(connection)
            cursor.execute(statement, values)
            while cursor.nextset():
                pass
            if cursor.description:
                cursor.fetchall()


def _recorded(world: World, case: UUID) -> _Recorded:
    """What one reply has the database do, from asking what it needs to its commit."""
    recorded = _Recorded(case, {UUID(int=1), world.case_type})
    execute = psycopg.Cursor.execute

    def noting(cursor: Any, query: Any, params: Any = None, **named: Any) -> Any:
        kind = psycopg.ClientCursor if isinstance(cursor, psycopg.ClientCursor) else psycopg.Cursor
        recorded.note(kind, query, params)
        return execute(cursor, query, params, **named)

    psycopg.Cursor.execute = noting  # type: ignore[method-assign]
    try:
        _reply(world, case)
    finally:
        psycopg.Cursor.execute = execute  # type: ignore[method-assign]
    assert any("COMMIT" in statement[-1] for _, statement, _ in recorded.statements if isinstance(statement, list))
    return recorded
