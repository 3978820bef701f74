"""Acknowledging many deliveries at once: never one that is still at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.acknowledging import Acknowledgements

_ROOM = 100


def of(delivered: int) -> Acknowledgements:
    acknowledgements = Acknowledgements()
    for tag in range(1, delivered + 1):
        acknowledgements.begun(tag)
    return acknowledgements


def test_those_before_which_none_is_at_work_are_one_frame() -> None:
    acknowledgements = of(5)
    assert [acknowledgements.done(tag, _ROOM) for tag in (2, 1, 3)] == [False] * 3
    assert acknowledgements.due() == [(3, True)]
    assert acknowledgements.due() == []


def test_those_behind_one_at_work_are_acknowledged_each_by_itself() -> None:
    acknowledgements = of(5)
    for tag in (1, 3, 5):
        acknowledgements.done(tag, _ROOM)
    assert acknowledgements.due() == [(1, True), (3, False), (5, False)]
    for tag in (2, 4):
        acknowledgements.done(tag, _ROOM)
    assert acknowledgements.due() == [(4, True)]


def test_what_the_broker_was_told_of_holds_up_none() -> None:
    acknowledgements = of(3)
    acknowledgements.settled(1)
    acknowledgements.done(3, _ROOM)
    acknowledgements.done(2, _ROOM)
    assert acknowledgements.due() == [(3, True)]


@pytest.mark.parametrize(
    ("at_work", "room", "held"),
    [(0, 0, 0), (0, 3, 0), (0, 4, 1), (0, 64, 16), (40, 64, 6), (60, 64, 1), (61, 64, 0), (80, 64, 0)],
)
def test_a_quarter_of_the_room_that_those_at_work_leave_is_held_back(at_work: int, room: int, held: int) -> None:
    acknowledgements = of(at_work)
    for tag in range(at_work + 1, at_work + held + 2):
        acknowledgements.begun(tag)
        assert acknowledgements.done(tag, room) == (tag > at_work + held)


@given(st.permutations(range(1, 13)), st.sets(st.integers(1, 12)), st.sets(st.integers(0, 11)))
def test_each_is_acknowledged_once_and_none_at_work(order: list[int], slow: set[int], pauses: set[int]) -> None:
    acknowledgements = of(12)
    settled: set[int] = set()
    finished = set()
    for place, tag in enumerate(order):
        if tag not in slow:
            acknowledgements.done(tag, _ROOM)
            finished.add(tag)
        if place in pauses or place == len(order) - 1:
            for told, before_as_well in acknowledgements.due():
                assert told not in settled
                of_it = set(range(1, told + 1)) - settled if before_as_well else {told}
                assert of_it <= finished
                settled |= of_it
    assert settled == finished
