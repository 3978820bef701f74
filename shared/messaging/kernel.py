"""The kernel of a nameko service: one attribute of the service class, which drives all its entrypoints.

class CasesService:
    name = "cases"
    kernel = Kernel(CasesSettings, contract=cases)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from nameko.extensions import DependencyProvider
from sqlalchemy import Connection

from shared.contracts.base import Call, Contract, ContractError, Done, Event
from shared.contracts.identity import RIGHTS_CHANGED, RightsChanged
from shared.database.transaction import Transaction
from shared.messaging.announcing import Announcer
from shared.messaging.entrypoints import Kept
from shared.messaging.errors import NotFound
from shared.messaging.events import EventConsumer, Handler, Spawn
from shared.messaging.server import OngoingCall, RpcServer
from shared.messaging.workers import Workers
from shared.operations.core import Core, KeysSource, RightsSource
from shared.operations.jobs import Job, JobRunner
from shared.operations.logs import log
from shared.operations.settings import ServiceSettings, read_or_exit
from shared.security import rights

_EVENTS_AT_ONCE = 16
_FOR_THREADS = 4
_OPENING_SECONDS = 5.0


class Kernel(DependencyProvider):  # type: ignore[misc]
    """See the module. `rights_source`, `latest_number` and `keys_source` only for identity, which keeps the rights and
    the keys of all."""

    def __init__(
        self,
        settings: type[ServiceSettings],
        contract: Contract,
        *,
        rights_source: RightsSource | None = None,
        latest_number: Callable[[Connection], int] | None = None,
        keys_source: KeysSource | None = None,
    ) -> None:
        self._settings_type = settings
        self.contract = contract
        self._rights_source = rights_source
        self._latest_number = latest_number
        self._keys_source = keys_source
        self._draining = threading.Lock()
        self._closing = threading.Event()
        self._drained = False

    def bind(self, container: Any, attr_name: str) -> Any:
        bound = super().bind(container, attr_name)
        # Here and not in `setup`, because only here can the process still end with a plain message and status.
        bound.settings = read_or_exit(bound._settings_type)
        return bound

    def setup(self) -> None:
        """Puts the parts together, and checks that the service keeps its contract."""
        logging.getLogger("nameko").setLevel(logging.CRITICAL)  # it logs arguments and texts of exceptions
        kept = [one for one in self.container.entrypoints if isinstance(one, Kept)]
        methods = {one.purpose.name: one for one in kept if isinstance(one.purpose, Call)}
        self._check(methods)
        self.workers = Workers(self.container)
        for one in kept:
            one.kernel = self
        self.core = core = Core(
            self.settings,
            self.contract,
            "service",
            rights_source=self._rights_source,
            keys_source=self._keys_source,
            connections=self.settings.max_workers + _EVENTS_AT_ONCE + _FOR_THREADS,
        )
        self.jobs = JobRunner(core, {one.purpose: one.spawn for one in kept if isinstance(one.purpose, Job)})
        self.server = RpcServer(core, self.contract, self._spawning_calls(methods))
        self.consumer = EventConsumer(
            core,
            self._hearers({one.purpose: one.spawn for one in kept if isinstance(one.purpose, Event)}),
            at_once=_EVENTS_AT_ONCE,
        )
        self._announcer = (
            None if self._latest_number is None else Announcer(self.settings.amqp_url, self._latest, core.ca_file)
        )
        core.needs["calls"] = lambda: self.server.connected
        core.needs["events"] = lambda: self.consumer.connected

    def _check(self, methods: dict[str, Kept]) -> None:
        promised = {name: call for name, call in self.contract.calls.items() if call is not self.contract.run_job}
        for name in promised.keys() - methods.keys():
            raise ContractError(f"{self.contract.name} promises {name} and has no method for it")
        for name, entrypoint in methods.items():
            if entrypoint.purpose is not promised.get(name):
                raise ContractError(
                    f"{self.contract.name}.{entrypoint.method_name} answers a call that is not promised"
                )

    def _spawning_calls(self, methods: dict[str, Kept]) -> Callable[[str, Callable[..., None]], None]:
        def spawn(name: str, work: Callable[..., None]) -> None:
            if name in methods:
                methods[name].spawn(work)
            else:
                self._own_thread(lambda: work(self._run_job))

        return spawn

    def _own_thread(self, work: Callable[[], None]) -> None:
        self.container.spawn_managed_thread(work, identifier="kernel")

    def _run_job(self, call: OngoingCall[Any, Done]) -> Done:
        if call.request.job not in self.jobs.names:
            raise NotFound("Jobbet finns inte.", reason="unknown_job")
        self.jobs.run_now(call.request.job)
        return Done()

    def _hearers(self, own: dict[Event[Any], Spawn]) -> dict[Event[Any], Spawn]:
        """The service's own hearers; and its copy of the rights, which takes in a change before the service sees it."""
        if self._rights_source is not None:
            return own
        service = own.get(RIGHTS_CHANGED)

        def take(tx: Transaction, change: RightsChanged) -> None:
            rights.apply(tx.connection, change)

        def spawn(work: Callable[[Handler], None]) -> None:
            if service is None:
                self._own_thread(lambda: work(take))
                return

            def both(handler: Handler) -> Handler:
                def run(tx: Transaction, change: RightsChanged) -> None:
                    take(tx, change)
                    handler(tx, change)

                return run

            service(lambda handler: work(both(handler)))

        return {**own, RIGHTS_CHANGED: spawn}

    def _latest(self) -> int:
        assert self._latest_number is not None
        with self.core.database.engine.connect() as connection:
            return self._latest_number(connection)

    # --- life, as nameko drives it ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to answer; `/ready` tells when everything that is needed is there."""
        self.core.start()
        if self._announcer is not None:
            self._announcer.start()
        self.consumer.start()
        self.jobs.start()
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def _open(self) -> None:
        """Takes calls only when they can be answered: until then another process does it, or they wait in the queue.

        Not for ever: what needs no rights, or nothing that is missing, is answered all the same.
        """
        try:
            self.core.wait_able(_OPENING_SECONDS, self._closing)
        except Exception as error:  # whatever it is, a process that answers nobody would be worse
            log.error("opened_unsure", exc_info=error)
        with self._draining:
            if not self._drained:
                self.server.start()

    def drain(self) -> None:
        """Takes nothing more, finishes what was begun, gives back the rest. Asked for by each entrypoint; done once."""
        self._closing.set()
        with self._draining:
            if not self._drained:
                self._drained = True
                # Side by side: each takes nothing more from now on, and has as long as the others to finish.
                stopping = [
                    threading.Thread(target=part.stop, name="stopping", daemon=True)
                    for part in (self.server, self.consumer, self.jobs)
                ]
                for thread in stopping:
                    thread.start()
                for thread in stopping:
                    thread.join()
                self.workers.close()

    def stop(self) -> None:
        """Stops the parts, when nothing runs any more."""
        self.drain()
        if self._announcer is not None:
            self._announcer.stop()
        self.core.stop()
