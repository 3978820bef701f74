"""The fixtures that every test may use; see README.md here."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local import leftovers
from deploy.local.folder import data_folder
from deploy.local.problems import Problem
from deploy.local.stack import Stack
from tests.stack import privacy
from tests.stack.rooms import Broker, Database, Rooms
from tests.stack.system import System

SOAK = "soak"


def pytest_configure(config: pytest.Config) -> None:
    """Being told to stop ends the run as Ctrl-C does: what it started is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if _half() == "":
        shutil.rmtree(_kept_logs(), ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves soak tests out, unless they are asked for by `-m`."""
    if SOAK in (config.option.markexpr or ""):
        return
    chosen = [item for item in items if item.get_closest_marker(SOAK) is None]
    if len(chosen) != len(items):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker(SOAK) is not None])
        items[:] = chosen


@pytest.fixture(scope="session")
def progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells the person who waits, past pytest's capturing."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    began = time.monotonic()

    def say(text: str) -> None:
        line = f"\n{time.monotonic() - began:6.1f} s  {text}"
        if capture is None:
            print(line, file=sys.stderr, end="", flush=True)
        else:
            with capture.global_and_fixture_disabled():
                print(line, file=sys.stderr, end="", flush=True)

    return say


@pytest.fixture(scope="session")
def servers(progress: Callable[[str], None], request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Broker, databases and object store of this run: containers where an engine answers, else native, else failure."""
    home = data_folder() / "tests"
    leftovers.sweep(home)
    folder = home / str(os.getpid())
    try:
        stack = Stack(folder, passing=True, say=progress)
    except Problem as problem:
        pytest.fail(f"the tests' servers can't be started: {problem}", pytrace=False)
    try:
        try:
            stack.start_servers()
        except Problem as problem:
            pytest.fail(f"the tests' servers did not start: {problem}", pytrace=False)
        yield stack
    finally:
        _keep_logs(folder)
        stack.destroy()


def _half() -> str:
    """Which part of a run in parts this process is; empty for one that is whole, or keeps the parts together."""
    return os.environ.get("PYTEST_XDIST_WORKER", "")


def _kept_logs() -> Path:
    return data_folder() / "test-logs"


def _keep_logs(folder: Path) -> None:
    _kept_logs().mkdir(parents=True, exist_ok=True)
    for log in folder.glob("logs/*.log"):
        shutil.copy(log, _kept_logs() / (f"{_half()}-{log.name}" if _half() else log.name))


@pytest.fixture(scope="session")
def running_system(servers: Stack, progress: Callable[[str], None]) -> Iterator[System]:
    """All services and workers as processes on databases and a virtual host of this run, and the counterparts."""
    try:
        servers.start_system()
    except Problem as problem:
        pytest.fail(f"the system did not start: {problem}", pytrace=False)
    with System(servers) as system:
        system.prepare()
        yield system
    told = privacy.leaks(servers.folder / "logs")
    assert not told, f"logs tell about persons (R-SYS-3): {', '.join(told[:20])}; see ./dev logs --of-tests"


@pytest.fixture
def system(running_system: System) -> Iterator[System]:
    """The running system, shared by all tests; what a test stopped, hung or made misbehave is put right after it."""
    yield running_system
    running_system.put_right()


@pytest.fixture(scope="session")
def rooms(servers: Stack) -> Rooms:
    """Makes databases and virtual hosts on the tests' servers."""
    return Rooms(servers)


@pytest.fixture
def fresh_database(rooms: Rooms) -> Iterator[Callable[..., Database]]:
    """Makes databases: `fresh_database()` with the kernel's tables alone, `fresh_database("cases")` migrated for cases.

    They are removed after the test.
    """
    made: list[Database] = []

    def make(service: str | None = None) -> Database:
        made.append(rooms.database(service))
        return made[-1]

    yield make
    for database in made:
        database.drop()


@pytest.fixture
def broker_vhost(rooms: Rooms) -> Iterator[Broker]:
    """A virtual host of the test's own, with a user who may do everything in it."""
    broker = rooms.broker(f"test-{secrets.token_hex(4)}")
    yield broker
    broker.drop()
