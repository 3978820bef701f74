"""The decorators by which a service says what it answers, hears and does by the clock.

    @rpc(START_CASE)                                      def start_case(self, call): ...
    @on(STAFF_CHANGED)                                    def staff_changed(self, tx, event): ...
    @job("close_expired", every=timedelta(minutes=1))     def close_expired(self, run): ...

They are nameko entrypoints: a service is started with `nameko run` and its methods run on nameko's workers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from typing import Any, TypeVar

from nameko.extensions import Entrypoint, register_entrypoint

from shared.contracts.base import Call, Event
from shared.messaging.workers import Work
from shared.operations.jobs import Job

Method = TypeVar("Method", bound=Callable[..., Any])


class Kept(Entrypoint):  # type: ignore[misc]
    """An entrypoint that the kernel drives: it knows what the method is for, the kernel does the rest."""

    def __init__(self, purpose: Call[Any, Any] | Event[Any] | Job, method: Callable[..., Any], **options: Any) -> None:
        self.purpose = purpose
        self.kernel: Any = None
        self._method = method
        super().__init__(**options)

    def stop(self) -> None:
        """nameko stops entrypoints first, and then waits until no worker runs: nothing new may come from here on."""
        self.kernel.drain()

    def spawn(self, work: Callable[..., Any]) -> None:
        """Runs `work(method)` on a worker, where `method` is the service's, bound to the worker's own instance.

        `work` never raises: nameko would log the exception's text (R-SYS-3).
        """
        self.kernel.workers.do(self, lambda service: work(partial(self._method, service)))


def _entrypoint(purpose: Call[Any, Any] | Event[Any] | Job) -> Callable[[Method], Method]:
    def decorate(method: Method) -> Method:
        @wraps(method)
        def run(service: Any, work: Work) -> None:
            work(service)

        register_entrypoint(run, Kept(purpose, method))
        return run  # type: ignore[return-value]

    return decorate


def rpc(call: Call[Any, Any]) -> Callable[[Method], Method]:
    """The method answers this call: `method(self, call: OngoingCall) -> Reply`."""
    return _entrypoint(call)


def on(event: Event[Any]) -> Callable[[Method], Method]:
    """The method hears this event: `method(self, tx, body)`, in the transaction that makes it happen once."""
    return _entrypoint(event)


def job(name: str, *, every: timedelta | None = None, daily_at: str | None = None) -> Callable[[Method], Method]:
    """The method is run when due, once however many replicas there are: `method(self, run)`."""
    return _entrypoint(Job(name, every=every, daily_at=daily_at))
