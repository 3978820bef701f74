"""Green threads that wait for bytes and answers by the hub itself: woken by what they wait for, and nothing else."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import eventlet
import pytest
from eventlet.green import socket as green_socket

from shared.messaging.green_waiting import GreenArrivals, GreenGate, nobody_else_can_run
from shared.messaging.transport import LONGEST_WAIT_SECONDS


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection."""
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        yield reading, writing


def test_a_gate_lets_its_thread_go_on_when_it_is_opened() -> None:
    gate = GreenGate()
    eventlet.spawn_after(0.02, gate.open)
    began = time.monotonic()
    gate.wait(5)
    assert 0.01 < time.monotonic() - began < 1


def test_a_gate_that_is_open_keeps_nobody_and_one_that_stays_shut_keeps_nobody_for_longer_than_asked() -> None:
    gate = GreenGate()
    began = time.monotonic()
    gate.wait(0.03)
    assert time.monotonic() - began >= 0.03
    gate.open()
    gate.wait(5)
    gate.open()
    gate.wait(5)
    assert time.monotonic() - began < 1


def test_a_gate_opened_as_its_thread_gives_up_does_not_wake_it_from_its_next_wait() -> None:
    gate = GreenGate()

    def give_up() -> float:
        with eventlet.Timeout(0.02, False):
            gate.wait(5)
        began = time.monotonic()
        eventlet.sleep(0.1)
        return time.monotonic() - began

    thread = eventlet.spawn(give_up)
    eventlet.spawn_after(0.01, lambda: (time.sleep(0.03), gate.open()))  # both are due by now, the time-out first
    assert thread.wait() >= 0.1


def test_bytes_wake_the_reading_thread_each_time(ends: tuple[socket.socket, socket.socket]) -> None:
    reading, writing = ends
    arrivals = GreenArrivals()
    for _ in range(3):
        eventlet.spawn_after(0.01, writing.send, b"x")
        began = time.monotonic()
        arrivals.wait(reading)
        assert time.monotonic() - began < LONGEST_WAIT_SECONDS / 2
        assert reading.recv(10) == b"x"
    arrivals.close()


def test_bytes_that_come_while_the_reading_thread_is_at_work_elsewhere_wake_nothing_and_are_found_afterwards(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    reading, writing = ends
    arrivals = GreenArrivals()
    arrivals.wake()
    arrivals.wait(reading)  # it was woken before it waited
    eventlet.spawn_after(0.01, writing.send, b"x")
    arrivals.wait(reading)
    began = time.monotonic()
    eventlet.sleep(0.05)  # the bytes are there all the time
    assert time.monotonic() - began >= 0.05
    arrivals.wait(reading)
    assert time.monotonic() - began < LONGEST_WAIT_SECONDS / 2
    arrivals.close()


def test_without_bytes_the_reading_thread_looks_around_now_and_then(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.messaging.green_waiting.LONGEST_WAIT_SECONDS", 0.05)
    arrivals = GreenArrivals()
    began = time.monotonic()
    for _ in range(3):
        arrivals.wait(ends[0])
    assert 0.1 < time.monotonic() - began < 1
    arrivals.close()


def test_the_reading_thread_is_woken_when_asked_for(ends: tuple[socket.socket, socket.socket]) -> None:
    arrivals = GreenArrivals()
    eventlet.spawn_after(0.01, arrivals.wake)
    began = time.monotonic()
    arrivals.wait(ends[0])
    assert time.monotonic() - began < LONGEST_WAIT_SECONDS / 2
    arrivals.close()


def test_a_socket_that_was_let_go_may_be_read_by_others(ends: tuple[socket.socket, socket.socket]) -> None:
    reading, writing = ends
    arrivals = GreenArrivals()
    eventlet.spawn_after(0.01, writing.send, b"x")
    arrivals.wait(reading)
    arrivals.let_go()
    eventlet.hubs.trampoline(reading.fileno(), read=True, timeout=1)  # eventlet forbids two readers of one socket
    arrivals.close()


def test_who_opens_a_descriptor_anew_that_was_read_before_goes_on_and_so_does_its_reader() -> None:
    reading, writing = socket.socketpair()
    arrivals = GreenArrivals()
    reader = eventlet.spawn(arrivals.wait, reading)
    eventlet.sleep(0.01)

    def open_it_anew() -> bool:
        descriptor = reading.detach()
        os.close(descriptor)
        with green_socket.socket() as another:
            return bool(another.fileno() == descriptor)

    other = eventlet.spawn(open_it_anew)
    with writing, eventlet.Timeout(LONGEST_WAIT_SECONDS / 2):
        assert other.wait(), "the test wants the same number"
        reader.wait()
    arrivals.close()


def drop(descriptor: int) -> None:
    """The hub drops all who wait for a descriptor when a thread that waited for it raises."""

    def write() -> None:
        eventlet.hubs.trampoline(descriptor, write=True)
        raise RuntimeError

    eventlet.spawn_n(write)


def test_a_thread_that_ends_badly_while_it_writes_does_not_make_the_reading_one_deaf_for_good(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shared.messaging.green_waiting.LONGEST_WAIT_SECONDS", 0.2)
    reading, writing = ends
    arrivals = GreenArrivals()
    drop(reading.fileno())
    arrivals.wait(reading)
    assert "Removing descriptor" in capsys.readouterr().err
    arrivals.wait(reading)
    for _ in range(3):
        eventlet.spawn_after(0.01, writing.send, b"x")
        began = time.monotonic()
        arrivals.wait(reading)
        assert reading.recv(10) == b"x"
        assert time.monotonic() - began < 0.1
    arrivals.close()


def test_a_reading_thread_that_the_hub_has_dropped_can_let_go(ends: tuple[socket.socket, socket.socket]) -> None:
    reading, _ = ends
    arrivals = GreenArrivals()
    eventlet.spawn_after(0.05, arrivals.wake)
    drop(reading.fileno())
    arrivals.wait(reading)
    arrivals.wait(reading)
    arrivals.close()


def test_it_is_seen_whether_another_thread_could_run_now() -> None:
    eventlet.sleep(0)
    assert nobody_else_can_run()
    other = eventlet.spawn(lambda: None)
    assert not nobody_else_can_run()
    other.wait()
    later = eventlet.spawn_after(30, lambda: None)
    assert nobody_else_can_run()
    later.cancel()
