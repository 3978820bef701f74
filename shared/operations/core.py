"""What every process has, whether nameko runs it or it is a plain program: put together, started and stopped here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from shared.contracts.base import Call, Contract
from shared.contracts.identity import CURRENT_RIGHTS, PUBLIC_KEYS, CurrentRights, PublicKeys, RightsNow
from shared.database.engine import translated
from shared.database.transaction import Database
from shared.messaging.announcing import Listener
from shared.messaging.client import STANDARD_TIMEOUT_SECONDS, RpcClient
from shared.messaging.errors import Refused
from shared.messaging.relay import Relay
from shared.operations import clock, logs
from shared.operations.health import Check, HealthServer, Metrics
from shared.operations.logs import log
from shared.operations.settings import ProcessSettings, ServiceSettings
from shared.operations.together import Together
from shared.security.caller import Caller, Rights
from shared.security.rights import RightsCopy
from shared.security.sealing import Sealer
from shared.security.tokens import Signer, Verifier

KeysSource = Callable[[Connection], Sequence[str]]
RightsSource = Callable[[Connection, Caller], Rights | None]
_ASK_RIGHTS_SECONDS = 0.75  # an answer that took longer might be older than R-ID-10 allows
_ASK_KEYS_SECONDS = 2.0
_CHECK_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 0.05
_MOST_TOGETHER = 50
_PATIENCE_SECONDS = 1.0

Answer = TypeVar("Answer", bound=Any)


class DatabaseCore:
    """The parts of a process that uses its service's database and nothing else. `sealer`: none for one that has no
    business with what is sealed."""

    def __init__(
        self, settings: ProcessSettings, service: str, process: str, *, sealer: Sealer | None, connections: int
    ) -> None:
        logs.configure(service, process)
        clock.use(str(settings.clock_file) if settings.clock_file else None)
        self._health_at = settings.health_host, settings.health_port
        self.metrics = Metrics()
        self.database = Database(
            settings.database_url,
            service=service,
            sealer=sealer,
            settings=settings,
            process=process,
            pool_size=connections,
        )
        self._database_seen: tuple[float, bool] = (0.0, False)
        self.health: HealthServer | None = None
        self.needs: dict[str, Check] = {"database": self._database_there}

    def start(self) -> None:
        """Begins to tell of itself; nothing waits for anything here: `/ready` tells when all is there."""
        self.health = HealthServer(*self._health_at, self.metrics, self.needs)
        self.health.start()
        log.info("process_started", port=self.health.port)

    def stop(self) -> None:
        """Stops what `start` began."""
        if self.health is not None:
            self.health.stop()
        self.database.dispose()
        log.info("process_stopped")

    def _database_there(self) -> bool:
        seen, there = self._database_seen
        if time.monotonic() - seen > _CHECK_AGAIN_SECONDS:
            try:
                self.database.check()
                there = True
            except Exception as error:  # its password, its name: whatever it is, it is not there for us
                there = False
                if not isinstance(error, Refused):
                    log.warning("database_not_usable", exc_info=error)
            self._database_seen = (time.monotonic(), there)
        return there


class Core(DatabaseCore):
    """The parts of one process that speaks for its service by the broker. `rights_source` and `keys_source` only for
    identity, which keeps the rights and the keys of tokens itself."""

    def __init__(
        self,
        settings: ServiceSettings,
        contract: Contract,
        process: str,
        *,
        rights_source: RightsSource | None = None,
        keys_source: KeysSource | None = None,
        connections: int,
    ) -> None:
        name = contract.name
        self.sealer = Sealer.from_file(settings.data_keys_file)
        super().__init__(settings, name, process, sealer=self.sealer, connections=connections)
        self.ca_file = ca_file = str(settings.amqp_ca_file) if settings.amqp_ca_file else None
        self.settings = settings
        self.contract = contract
        self.signer = Signer.from_file(
            settings.signing_key_file, "identity" if name == "identity" else f"service:{name}"
        )
        self._keys_source = keys_source
        self.verifier = Verifier(settings.trusted_keys_file, self._signing_keys)
        self.client = RpcClient(settings.amqp_url, f"{name}.{process}", ca_file=ca_file)
        self.relay = Relay(self.database, settings.amqp_url, contract, self.metrics, ca_file=ca_file)
        self.database.on_published.append(self.relay.wake)
        self._rights_source = rights_source
        self._rights = RightsCopy(self._ask_rights)
        self.rights_freshness = None if rights_source else self._rights.freshness
        """None for identity, which has the rights themselves and no copy."""
        self._listener = Listener(settings.amqp_url, name, self._rights.freshness, ca_file)
        self._together: dict[str, Together[Any, Any]] = {}
        self.needs |= {"broker": lambda: self.client.connected, "relay": lambda: self.relay.connected}
        if rights_source is None:
            self.needs["rights clock"] = lambda: self._listener.connected

    def start(self) -> None:
        """Begins to connect to everything; nothing waits for anything here: `/ready` tells when all is there."""
        super().start()
        self.client.start()
        self.relay.start()
        if self._rights_source is None:
            self._listener.start()

    def wait_able(self, seconds: float, stopping: threading.Event) -> None:
        """Returns when calls can be answered: database, broker and the rights are there; or when the time is over."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not stopping.wait(_LOOK_SECONDS):
            heard = self._rights_source is not None or self._rights.freshness.heard
            if heard and self.client.connected and self._database_there():
                return

    def stop(self) -> None:
        """Stops what `start` began. Events not yet published stay in the outbox for another process."""
        self.relay.stop()
        self._listener.stop()
        self.client.stop()
        super().stop()

    def together(self, what: str, work: Callable[[Database, Sequence[Any]], Sequence[Any]]) -> Together[Any, Any]:
        """Where calls meet that ask the database for the same thing at the same moment, by `work(database, calls)`."""
        if what not in self._together:
            self._together[what] = Together(
                what, partial(work, self.database), at_once=1, most=_MOST_TOGETHER, patience=_PATIENCE_SECONDS
            )
        return self._together[what]

    def with_rights(self, caller: Caller) -> Caller:
        """The caller with the rights that they have now.

        Raises `NotAuthenticated` if the session has ended, `Unavailable` if that can't be known (R-ID-10).
        """
        source = self._rights_source or self._rights.of
        try:
            with self.database.engine.connect() as connection:
                found = source(connection, caller)
        except Refused:
            raise
        except Exception as error:
            raise translated(error) or error from error
        # Asked without holding a connection: identity may be slow, and the pool is for those who can go on.
        return replace(caller, rights=self._rights.asked(caller) if found is None else found)

    def _signing_keys(self) -> Sequence[str]:
        """The keys that identity signs tokens with now, each endorsed by the one in everybody's file."""
        if self._keys_source is None:
            return self.ask(PUBLIC_KEYS, PublicKeys(), timeout=_ASK_KEYS_SECONDS).keys
        try:
            with self.database.engine.connect() as connection:
                return self._keys_source(connection)
        except Exception as error:
            raise translated(error) or error from error

    def _ask_rights(self, question: CurrentRights) -> RightsNow:
        return self.ask(CURRENT_RIGHTS, question, timeout=_ASK_RIGHTS_SECONDS)

    def ask(self, call: Call[Any, Answer], request: Any, timeout: float = STANDARD_TIMEOUT_SECONDS) -> Answer:
        """Asks another service as this one, outside any caller's call."""
        return self.client.ask(call, request, token=self.signer.own_token(), timeout=timeout)
