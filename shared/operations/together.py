"""Work of one moment that is done together: many ask for the same kind of thing at once, and share what it costs.

Whoever comes first begins at once. Who comes meanwhile waits for the next turn, which takes all who wait. Nobody fails
for another's sake, nor waits long for it: if doing it together fails or is late, each does it alone, as if they had
never met.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Generic, TypeVar

from shared.operations.logs import log

Item = TypeVar("Item")
Result = TypeVar("Result")


class _State(Enum):
    WAITS = 0
    DONE = 1
    HAS_THE_TURN = 2
    ALONE = 3


class _Place(Generic[Item, Result]):
    """Someone's place in the queue. A lock is the quickest thing to wait for, for green threads and others."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.state = _State.WAITS
        self.result: Result | None = None
        self.gate = threading.Lock()
        self.gate.acquire()

    def settle(self, state: _State, result: Result | None = None) -> None:
        self.result, self.state = result, state
        with contextlib.suppress(RuntimeError):  # it was opened before, and nobody waited any more
            self.gate.release()


class Together(Generic[Item, Result]):
    """See the module; for any number of threads. `together` does it for several items, and returns their results in the
    order of the items; it raises, having done nothing, where that can't be done for all of them.

    `at_once`: so many turns are under way at most; `most`: so many items are in one; `patience`: after so many seconds
    one does not wait for the others any more.
    """

    def __init__(
        self,
        name: str,
        together: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        at_once: int,
        most: int,
        patience: float,
    ) -> None:
        self.name = name
        self._together = together
        self._at_once = at_once
        self._most = most
        self._patience = patience
        self._guard = threading.Lock()
        self._queue: deque[_Place[Item, Result]] = deque()
        self._under_way = 0

    def do(self, item: Item, alone: Callable[[], Result]) -> Result:
        """The result for this item: of doing it with others who wait, or of `alone`, whose errors it raises.

        `alone` may be called although the others' turn, out of patience with it, has its effect in the end.
        """
        mine: _Place[Item, Result] = _Place(item)
        with self._guard:
            first = self._under_way < self._at_once
            if first:
                self._under_way += 1
            else:
                self._queue.append(mine)
        if first or self._has_the_turn(mine):
            others = self._take_the_turn(mine)
            if not others:
                try:
                    return alone()
                finally:
                    self._pass_on()
            self._do_together([mine, *others])
        if mine.state is _State.DONE:
            return mine.result  # type: ignore[return-value]
        return alone()

    def _has_the_turn(self, mine: _Place[Item, Result]) -> bool:
        """Waits for others to do it, or for the turn; whether one has that."""
        try:
            mine.gate.acquire(timeout=self._patience)
        except BaseException:  # a green thread that is killed must not take the turn along
            if self._leave(mine):
                self._pass_on()
            raise
        return self._leave(mine)

    def _leave(self, mine: _Place[Item, Result]) -> bool:
        """Out of the queue, for lack of patience. Whether one has the turn, given perhaps at that very moment."""
        with self._guard:
            with contextlib.suppress(ValueError):
                self._queue.remove(mine)
            return mine.state is _State.HAS_THE_TURN

    def _take_the_turn(self, mine: _Place[Item, Result]) -> list[_Place[Item, Result]]:
        """Those who wait, oneself excepted."""
        try:
            time.sleep(0)  # those who are about to come as well: green threads that can run now do so here
        except BaseException:
            self._pass_on()
            raise
        with self._guard:
            return [self._queue.popleft() for _ in range(min(len(self._queue), self._most - 1))]

    def _do_together(self, places: Sequence[_Place[Item, Result]]) -> None:
        state = _State.ALONE
        results: Sequence[Result | None] = [None] * len(places)
        try:
            answers = self._together([one.item for one in places])
            if len(answers) != len(places):
                raise ValueError("not a result for each")
            results, state = answers, _State.DONE
        except Exception as error:
            log.info("not_done_together", what=self.name, items=len(places), error_type=type(error).__name__)
        finally:
            for one, result in zip(places, results, strict=True):
                one.settle(state, result)
            self._pass_on()

    def _pass_on(self) -> None:
        """The first who waits has the turn."""
        with self._guard:
            if self._queue:
                self._queue.popleft().settle(_State.HAS_THE_TURN)
            else:
                self._under_way -= 1
