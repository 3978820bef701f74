"""nameko's workers, which wait for their next call instead of being made anew: in a real container."""

from __future__ import annotations

import ast
import weakref
from pathlib import Path

import eventlet
import pytest
from eventlet.event import Event
from nameko.containers import ServiceContainer

from shared.messaging.entrypoints import Kept
from shared.messaging.workers import Workers

_ROOM = 3
_SERVICES = Path(__file__).parents[3] / "services"


class Service:
    """Says by whom a call was made."""

    name = "cases"

    def method(self, work):
        work(self)


@pytest.fixture
def container():
    container = ServiceContainer(Service, config={"max_workers": _ROOM})
    yield container
    container.kill()


@pytest.fixture
def workers(container):
    return Workers(container)


@pytest.fixture
def do(workers):
    entrypoint = Kept(None, Service.method)
    entrypoint.method_name = "method"
    return lambda work: workers.do(entrypoint, work)


def _turn():
    for _ in range(3):
        eventlet.sleep(0)


def test_a_worker_that_is_done_takes_the_next_call(container, do):
    by = []
    for _ in range(5):
        do(by.append)
        _turn()
    assert len(by) == 5
    assert len(set(map(id, by))) == 1
    assert container._worker_pool.running() == 1


def test_calls_at_the_same_time_have_a_worker_each(container, do):
    gate, by = Event(), []

    def wait(service):
        by.append(service)
        gate.wait()

    for _ in range(_ROOM):
        do(wait)
    _turn()
    assert len(set(map(id, by))) == _ROOM
    gate.send()
    _turn()
    do(by.append)
    _turn()
    assert by[-1] in by[:_ROOM]
    assert container._worker_pool.running() == _ROOM


def test_what_finds_no_worker_is_done_by_the_first_that_has_done_with_something_else(container, do):
    gates, done = [Event() for _ in range(_ROOM)], []
    for gate in gates:
        do(lambda _, gate=gate: gate.wait())
    _turn()
    assert not container._worker_pool.free()
    for number in range(2 * _ROOM):
        do(lambda _, number=number: done.append(number))
    _turn()
    assert not done
    gates[0].send()
    _turn()
    assert done == list(range(2 * _ROOM))
    for gate in gates[1:]:
        gate.send()


def test_a_worker_that_waits_takes_work_though_the_pool_is_full(container, do):
    gates, done = [Event() for _ in range(_ROOM)], []
    for gate in gates:
        do(lambda _, gate=gate: gate.wait())
    _turn()
    gates[0].send()
    _turn()
    assert not container._worker_pool.free()
    do(done.append)
    _turn()
    assert done
    for gate in gates[1:]:
        gate.send()


def test_closed_workers_end_and_those_at_work_end_after_it(workers, container, do):
    gate, done = Event(), []

    def slow(service):
        gate.wait()
        done.append(service)

    do(slow)
    do(done.append)
    _turn()
    workers.close()
    _turn()
    assert container._worker_pool.running() == 1
    gate.send()
    _turn()
    assert len(done) == 2
    assert container._worker_pool.running() == 0


def test_a_wave_of_calls_leaves_only_so_many_workers_behind(monkeypatch, container, do):
    monkeypatch.setattr("shared.messaging.workers._WAITING_AT_MOST", 1)
    for _ in range(_ROOM):
        do(lambda _: eventlet.sleep(0))
    _turn()
    _turn()
    assert container._worker_pool.running() == 1


def test_a_worker_that_was_killed_is_given_nothing(workers, container, do):
    by = []
    do(by.append)
    _turn()
    for thread in list(container._worker_threads.values()):
        thread.kill()
    _turn()
    do(by.append)
    _turn()
    assert len(by) == 2
    assert by[0] is not by[1]


def test_what_a_worker_was_given_is_let_go_of_while_it_waits(do):
    class Written:
        pass

    written = Written()
    known = weakref.ref(written)
    do(lambda _, written=written: None)
    _turn()
    del written
    assert known() is None


@pytest.mark.parametrize("module", sorted(_SERVICES.glob("*/service.py")), ids=lambda path: path.parent.name)
def test_services_keep_nothing_on_the_instance_that_many_calls_share(module):
    kept = [
        node.lineno
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]
    assert not kept
