"""How a thread waits for bytes, and for an answer: the two waits of every call. For green threads: `green_waiting`."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from shared.database import eventlet_is_in_charge
from shared.messaging.transport import LONGEST_WAIT_SECONDS

_ALARM_BYTES = 4096


class Arrivals(Protocol):
    """Where the one thread that reads a connection waits for bytes."""

    def wait(self, sock: Any) -> None:
        """Returns when the socket may be read, when `wake` was called, or after `LONGEST_WAIT_SECONDS`."""

    def wake(self) -> None:
        """Ends the wait of now, or else the next one. For any thread."""

    def let_go(self) -> None:
        """For the reading thread, before the socket is read by other means, or closed."""

    def close(self) -> None:
        """Lets go of what is its own."""


class Gate(Protocol):
    """Closed until someone opens it, once; one thread waits for that."""

    def open(self) -> None:
        """Lets the waiting thread go on. For any thread, any number of times."""

    def wait(self, seconds: float) -> None:
        """Returns when it is open, at the latest after so many seconds."""


def kinds() -> tuple[type[Arrivals], type[Gate]]:
    """Those that fit this process."""
    if not eventlet_is_in_charge():
        return ThreadArrivals, ThreadGate
    from shared.messaging.green_waiting import GreenArrivals, GreenGate

    return GreenArrivals, GreenGate


def nobody_else_can_run() -> Callable[[], bool]:
    """A question for whoever would wait for others' work to do it together with theirs: is there any at this moment?

    Operating system threads wait for nobody.
    """
    if not eventlet_is_in_charge():
        return lambda: True
    from shared.messaging.green_waiting import nobody_else_can_run

    return nobody_else_can_run


class ThreadArrivals:
    """`Arrivals` of the operating system's threads: whoever wakes sends a byte."""

    def __init__(self) -> None:
        self._alarm = socket.socketpair()
        for end in self._alarm:
            end.setblocking(False)

    def wait(self, sock: Any) -> None:
        ready, _, _ = select.select([sock, self._alarm[0]], [], [], LONGEST_WAIT_SECONDS)
        if self._alarm[0] in ready:
            with contextlib.suppress(OSError):
                self._alarm[0].recv(_ALARM_BYTES)

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it needs nothing any more
            self._alarm[1].send(b"!")

    def let_go(self) -> None:
        pass

    def close(self) -> None:
        for end in self._alarm:
            end.close()


class ThreadGate:
    """`Gate` of the operating system's threads: a lock is the quickest thing to wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is open
            self._lock.release()

    def wait(self, seconds: float) -> None:
        if self._lock.acquire(timeout=max(seconds, 0.0)):
            self.open()
