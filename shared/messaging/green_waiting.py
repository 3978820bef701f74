"""The waits of green threads, asked of eventlet's hub directly.

Its `select` and its locks do the same by way of listeners, timers and exceptions that are made and thrown away each
time, and a call that comes alone pays for them with cold caches.
"""

from __future__ import annotations

from typing import Any

from eventlet.hubs import get_hub
from greenlet import getcurrent

from shared.messaging.transport import LONGEST_WAIT_SECONDS


def nobody_else_can_run() -> bool:
    """Whether no other green thread is ready to run. Bytes that the hub has not looked for yet are not seen."""
    hub = get_hub()
    now = hub.clock()
    soonest = hub.timers[0][0] if hub.timers else now + 1
    return soonest > now and all(when > now for when, _ in hub.next_timers)


class GreenArrivals:
    """`Arrivals` that stays in the hub's list from one wait to the next."""

    def __init__(self) -> None:
        self._waiting: Any = None
        self._woken = False
        self._listener: Any = None
        self._timer: Any = None

    def wait(self, sock: Any) -> None:
        if self._woken:
            self._woken = False
            return
        hub = get_hub()
        if not self._is_heard(hub):
            self._listener = hub.add(hub.READ, sock.fileno(), self._readable, self._nothing, self._recycled)
        if self._timer is None:
            self._timer = hub.schedule_call_global(LONGEST_WAIT_SECONDS, self._late)
        self._waiting = getcurrent()
        try:
            hub.switch()
        finally:
            self._waiting = None

    def _is_heard(self, hub: Any) -> bool:
        """Whether the hub has our listener: it drops those of a descriptor when one of their threads raises."""
        listener = self._listener
        return listener is not None and hub.listeners[hub.READ].get(listener.fileno) is listener

    def _go_on(self) -> bool:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return False
        waiting.switch()
        return True

    def _readable(self, *_: object) -> None:
        if not self._go_on():  # it is at work elsewhere: the hub would call us again and again meanwhile
            self.let_go()

    def _late(self) -> None:
        self._timer = None
        self._go_on()

    def _recycled(self) -> None:
        # On the thread of whoever opened the descriptor anew, which would be left for good if we switched from here.
        self._listener = None
        get_hub().schedule_call_global(0, self._go_on)

    def _nothing(self, *_: object) -> None:
        """What the hub would throw into our thread after `_recycled`."""

    def wake(self) -> None:
        if self._waiting is None:
            self._woken = True
        else:
            get_hub().schedule_call_global(0, self._go_on)

    def let_go(self) -> None:
        hub = get_hub()
        heard, listener, self._listener = self._is_heard(hub), self._listener, None
        if heard:
            hub.remove(listener)

    def close(self) -> None:
        self.let_go()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class GreenGate:
    """`Gate` for a green thread."""

    def __init__(self) -> None:
        self._opened = False
        self._waiting: Any = None

    def open(self) -> None:
        self._opened = True
        if self._waiting is not None:
            get_hub().schedule_call_global(0, self._go_on)

    def _go_on(self) -> None:
        # Looked at only now: it may have been killed, or its time have run out, and wait for something else.
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.switch()

    def wait(self, seconds: float) -> None:
        if self._opened:
            return
        hub = get_hub()
        timer = hub.schedule_call_global(max(seconds, 0.0), self._go_on)
        self._waiting = getcurrent()
        try:
            hub.switch()
        finally:
            self._waiting = None
            timer.cancel()
