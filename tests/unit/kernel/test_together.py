"""Work of one moment is shared, and nobody fails or waits for another's sake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from shared.operations.together import Together


class Desk:
    """Doubles numbers. The first turn is held up until `open`, so that those who come meanwhile meet."""

    def __init__(self, *, patience: float = 5.0, most: int = 100) -> None:
        self.turns: list[list[int]] = []
        self.alone: list[int] = []
        self.fails: Callable[[Sequence[int]], bool] = lambda items: False
        self.first_may_go = threading.Event()
        self.shared_may_go = threading.Event()
        self.shared_may_go.set()
        self.together = Together("numbers", self._many, at_once=1, most=most, patience=patience)

    def _many(self, items: Sequence[int]) -> list[int]:
        self.shared_may_go.wait(10)
        self.turns.append(list(items))
        if self.fails(items):
            raise ValueError
        return [2 * item for item in items]

    def _one(self, item: int) -> int:
        self.alone.append(item)
        if item == 0:
            self.first_may_go.wait(10)
        if item < 0:
            raise KeyError(item)
        return 2 * item

    def do(self, item: int) -> int:
        return self.together.do(item, lambda: self._one(item))

    def waiting(self, count: int) -> None:
        """Returns when so many wait."""
        ends = time.monotonic() + 5
        while len(self.together._queue) < count:
            assert time.monotonic() < ends
            time.sleep(0.001)


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def met(desk: Desk, pool: ThreadPoolExecutor, items: Sequence[int]) -> list[Future[int]]:
    """All these wait while the first, 0, is at work; then it may go on."""
    first = pool.submit(desk.do, 0)
    while not desk.alone:
        time.sleep(0.001)
    found = []
    for place, item in enumerate(items):
        found.append(pool.submit(desk.do, item))
        desk.waiting(place + 1)
    desk.first_may_go.set()
    assert first.result(5) == 0
    return found


def test_who_comes_first_does_not_wait_and_who_comes_meanwhile_shares_a_turn(pool: ThreadPoolExecutor) -> None:
    desk = Desk()
    assert [one.result(5) for one in met(desk, pool, range(1, 9))] == list(range(2, 18, 2))
    assert desk.turns == [list(range(1, 9))]
    assert desk.alone == [0]
    assert desk.do(9) == 18
    assert desk.alone == [0, 9]


def test_a_turn_takes_no_more_than_it_may(pool: ThreadPoolExecutor) -> None:
    desk = Desk(most=3)
    assert [one.result(5) for one in met(desk, pool, range(1, 9))] == list(range(2, 18, 2))
    assert [len(turn) for turn in desk.turns] == [3, 3, 2]


def test_where_it_fails_together_each_does_it_alone_with_errors_of_their_own(pool: ThreadPoolExecutor) -> None:
    desk = Desk()
    desk.fails = lambda items: any(item < 0 for item in items)
    good, bad, better = met(desk, pool, [1, -1, 2])
    assert (good.result(5), better.result(5)) == (2, 4)
    with pytest.raises(KeyError):
        bad.result(5)
    assert sorted(desk.alone) == [-1, 0, 1, 2]
    assert desk.together._under_way == 0


def test_an_error_of_who_is_alone_holds_up_nobody(pool: ThreadPoolExecutor) -> None:
    desk = Desk()
    for _ in range(2):
        with pytest.raises(KeyError):
            desk.do(-1)
    assert desk.do(1) == 2
    assert desk.together._under_way == 0


def test_out_of_patience_one_does_it_alone_while_the_turn_before_goes_on(pool: ThreadPoolExecutor) -> None:
    desk = Desk(patience=0.2)
    first = pool.submit(desk.do, 0)
    while not desk.alone:
        time.sleep(0.001)
    assert [pool.submit(desk.do, item).result(5) for item in (1, 2)] == [2, 4]
    assert not first.done()
    assert not desk.together._queue
    desk.first_may_go.set()
    assert first.result(5) == 0
    assert desk.together._under_way == 0


def test_out_of_patience_with_a_turn_under_way_one_does_it_alone(pool: ThreadPoolExecutor) -> None:
    desk = Desk(patience=1.0)
    desk.shared_may_go.clear()
    leads, *others = met(desk, pool, [1, 2, 3])
    assert [one.result(5) for one in others] == [4, 6]
    assert sorted(desk.alone) == [0, 2, 3]
    desk.shared_may_go.set()
    assert leads.result(5) == 2
    assert desk.together._under_way == 0


def test_a_turn_given_to_someone_who_is_killed_goes_to_the_next(pool: ThreadPoolExecutor) -> None:
    """As nameko kills workers: the turn would be lost, and all who come later would wait in vain."""

    class Killed(BaseException):
        pass

    desk = Desk()
    first = pool.submit(desk.do, 0)
    while not desk.alone:
        time.sleep(0.001)

    def killed() -> None:
        from shared.operations import together as module

        place = module._Place(1)
        gate = place.gate

        class Gate:
            def acquire(self, timeout: float) -> None:
                gate.acquire(timeout=timeout)
                raise Killed

            release = gate.release

        place.gate = Gate()  # type: ignore[assignment]
        with desk.together._guard:
            desk.together._queue.append(place)
        with pytest.raises(Killed):
            desk.together._has_the_turn(place)

    victim = pool.submit(killed)
    desk.waiting(1)
    others = [pool.submit(desk.do, item) for item in (2, 3)]
    desk.waiting(3)
    desk.first_may_go.set()
    assert first.result(5) == 0
    victim.result(5)
    assert [one.result(5) for one in others] == [4, 6]
    assert desk.together._under_way == 0


def test_many_threads_at_once_each_get_their_own_answer(pool: ThreadPoolExecutor) -> None:
    desk = Desk(most=5)
    desk.fails = lambda items: len(items) % 2 == 0
    assert list(pool.map(desk.do, range(1, 500))) == list(range(2, 1000, 2))
    assert desk.together._under_way == 0
    assert not desk.together._queue


def test_a_shared_turn_that_does_not_answer_for_everyone_answers_for_none_and_the_turn_goes_on() -> None:
    together: Together[int, int] = Together("numbers", lambda items: [0], at_once=1, most=100, patience=5.0)
    first_is_at_it, first_may_go = threading.Event(), threading.Event()

    def first() -> int:
        first_is_at_it.set()
        first_may_go.wait(10)
        return 1

    with ThreadPoolExecutor(3) as threads:
        begun = threads.submit(together.do, 1, first)
        assert first_is_at_it.wait(5)
        others = [threads.submit(together.do, number, lambda number=number: number) for number in (2, 3)]
        while len(together._queue) < 2:
            time.sleep(0.001)
        first_may_go.set()
        assert begun.result(5) == 1
        assert [one.result(5) for one in others] == [2, 3]
    assert together._under_way == 0
