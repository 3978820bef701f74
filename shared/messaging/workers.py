"""nameko's workers, kept between calls: one that has done its work waits for the next, of whatever entrypoint.

nameko makes a service instance, a context and a green thread for each call, and a green thread's stack is mapped and
unmapped by the operating system each time: together a tenth of the time of a call that comes alone. What a worker is
given here is what nameko would give it; but its service instance serves many calls, so services keep nothing on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eventlet.hubs import get_hub
from greenlet import getcurrent

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.extensions import Entrypoint

Work = Callable[[Any], None]
"""What is to be done with an instance of the service. It raises nothing."""

_WAITING_AT_MOST = 64
"""More of them end when they have nothing to do: a wave of calls leaves no more behind."""


class Workers:
    """The workers of one service. For its green threads."""

    def __init__(self, container: ServiceContainer) -> None:
        self._container = container
        self._waiting: list[_Waiting] = []
        self._undone: deque[Work] = deque()
        self._closed = False

    def do(self, entrypoint: Entrypoint, work: Work) -> None:
        """Has the work done by the worker that has waited least, whose memory is warmest, or else by a new one; where
        nameko allows no more of them, by the first that is done with something else. Returns at once."""
        if self._waiting:
            self._waiting.pop().take(work)
        elif not self._container._worker_pool.free():
            self._undone.append(work)
        else:
            given = [work]
            self._container.spawn_worker(entrypoint, (lambda service: self._work(service, given),), {})

    def close(self) -> None:
        """Lets those go that wait; those at work end after it."""
        self._closed = True
        while self._waiting:
            self._waiting.pop().take()

    def _work(self, service: Any, given: list[Work]) -> None:
        while given:
            given.pop()(service)  # and holds it no longer: it has in it what somebody wrote
            given = self._next()

    def _next(self) -> list[Work]:
        """What there is to do next: nothing for a worker that is to end."""
        if self._undone:
            return [self._undone.popleft()]
        if self._closed or len(self._waiting) >= _WAITING_AT_MOST:
            return []
        waiting = _Waiting()
        self._waiting.append(waiting)
        try:
            return waiting.wait()
        except BaseException:  # nameko kills it
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise


class _Waiting:
    """A worker that waits; by the hub directly, as in `green_waiting`."""

    def __init__(self) -> None:
        self._thread = getcurrent()
        self._given: list[Work] = []

    def take(self, *work: Work) -> None:
        """Lets it go on with this work, or without any to its end; once, and only while it waits."""
        self._given.extend(work)
        get_hub().schedule_call_global(0, self._thread.switch)

    def wait(self) -> list[Work]:
        get_hub().switch()
        return self._given
