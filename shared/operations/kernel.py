"""The kernel of a nameko service: one attribute of the service class, which drives all its entrypoints.

    class CasesService:
        name = "cases"
        kernel = Kernel(CasesSettings, contract=cases)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from nameko.extensions import DependencyProvider
from sqlalchemy import Connection

from shared.contracts.base import Call, Contract, ContractError, Done, Event, RunJob
from shared.contracts.identity import RIGHTS_CHANGED, RightsChanged
from shared.database.transaction import Transaction
from shared.messaging.announcing import Announcer
from shared.messaging.entrypoints import Kept
from shared.messaging.errors import NotFound
from shared.messaging.events import EventConsumer
from shared.messaging.server import OngoingCall, RpcServer
from shared.operations.core import Core, RightsSource
from shared.operations.jobs import Job, JobRunner
from shared.operations.settings import ServiceSettings, read_or_exit
from shared.security import rights

_EVENTS_AT_ONCE = 16


class Kernel(DependencyProvider):  # type: ignore[misc]
    """See the module. `rights_source` and `latest_number` only for identity."""

    def __init__(
        self,
        settings: type[ServiceSettings],
        contract: Contract,
        *,
        rights_source: RightsSource | None = None,
        latest_number: Callable[[Connection], int] | None = None,
    ) -> None:
        self._settings_type = settings
        self.contract = contract
        self._rights_source = rights_source
        self._latest_number = latest_number
        super().__init__(settings, contract, rights_source=rights_source, latest_number=latest_number)

    def bind(self, container: Any, attr_name: str) -> Any:
        bound = super().bind(container, attr_name)
        # Here and not in `setup`, because only here can the process still end with a plain message and status.
        bound.settings = read_or_exit(bound._settings_type)
        return bound

    def setup(self) -> None:
        """Puts the parts together and checks that the service keeps its contract."""
        logging.getLogger("nameko").setLevel(logging.CRITICAL)  # it logs arguments and texts of exceptions
        self.core = Core(
            self.settings,
            self.contract,
            "service",
            rights_source=self._rights_source,
            connections=self.settings.max_workers,
        )
        kept = [entrypoint for entrypoint in self.container.entrypoints if isinstance(entrypoint, Kept)]
        self._methods = {one.purpose.name: one for one in kept if isinstance(one.purpose, Call)}
        self._jobs = {one.purpose.name: one for one in kept if isinstance(one.purpose, Job)}
        hearing = {one.purpose: one for one in kept if isinstance(one.purpose, Event)}
        self._check(hearing)

        self.server = RpcServer(self.core, self.contract, lambda name, work: self._methods[name].spawn(work))
        self._announcer: Announcer | None = None
        handlers: dict[Event[Any], Callable[[Callable[..., Any]], Any]] = {
            event: entrypoint.spawn for event, entrypoint in hearing.items()
        }
        if self._latest_number is not None:
            self._announcer = Announcer(self.settings.amqp_url, self._latest, self.core.ca_file)
        self.consumer = EventConsumer(self.core, self._hearers(handlers))
        self.jobs = JobRunner(self.core, {name: (one.purpose, one.spawn) for name, one in self._jobs.items()})
        self.core.needs["calls"] = lambda: self.server.connected
        self.core.needs["events"] = lambda: self.consumer.connected

    def _hearers(self, handlers: dict[Event[Any], Any]) -> dict[Event[Any], Any]:
        raise RuntimeError

    def _check(self, hearing: dict[Event[Any], Kept]) -> None:
        name = self.contract.name
        calls = set(self.contract.calls)
        if calls - set(self._methods):
            raise ContractError(f"{name} has no method for {sorted(calls - set(self._methods))}")
        for method in self._methods.values():
            if method.purpose is not self.contract.calls.get(method.purpose.name):
                raise ContractError(f"{name}.{method.method_name} answers a call that is not in the contract")

    def _latest(self) -> int:
        assert self._latest_number is not None
        with self.core.database.connection() as connection:
            return self._latest_number(connection)

    def start(self) -> None:
        self.core.start()
        if self._announcer is not None:
            self._announcer.start()
        self.server.start()
        self.consumer.start()
        self.jobs.start()


def take_rights(tx: Transaction, change: RightsChanged) -> None:
    """Every service but identity takes changes of rights into its copy before its own handler sees them."""
    rights.apply(tx.connection, change)


__all__ = ["Kernel", "OngoingCall", "Done", "NotFound", "RunJob", "RIGHTS_CHANGED"]
