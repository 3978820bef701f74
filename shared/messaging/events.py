"""Hearing events: each takes effect once, and none is lost.

An event that fails is tried again at once, then with growing pauses through the delay queues of the broker, and is put
with the service's dead letters after the last attempt. While the database is gone nothing is counted: events are held,
and the rest stays in the queue. A message is acknowledged only when its effect is committed, or another queue has it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid4

import amqp
from pydantic import ValidationError

from shared.contracts.base import Contract, Event, EventBody
from shared.database.transaction import Database, Transaction
from shared.messaging import outbox, topology
from shared.messaging.confirming import Outcome
from shared.messaging.errors import Unavailable
from shared.messaging.link import Delivery, Link, LinkDown, OutgoingMessage
from shared.operations import clock
from shared.operations.health import Metrics
from shared.operations.logs import log

AT_ONCE = 16
"""Events handled at the same time by one process."""
ATTEMPTS = 2 + len(topology.DELAYS_SECONDS)
"""Attempts at an event: the first, one at once, and one after each pause."""

ATTEMPTS_HEADER = "x-attempts"
ERROR_HEADER = "x-error"
DEAD_AT_HEADER = "x-dead-at"
_KEPT_HEADERS = (outbox.AGGREGATE_HEADER, outbox.ORIGIN_HEADER)
_KEPT_PROPERTIES = ("content_type", "content_encoding", "message_id", "type", "timestamp", "app_id")
_DEATHS_HEADER = "x-death"
_DEFAULT_EXCHANGE = ""
_EVENTS = topology.events_exchange("")
BY_A_DETOUR = "unknown"
"""The kind of a message that may be anybody's: no service hears it."""
_CONFIRM_SECONDS = 10.0
_GIVE_BACK_SECONDS = 1.0
_LONGEST_HOLD_SECONDS = 5.0
_GONE = ("database_gone", "database_full")

Handler = Callable[[Transaction, Any], object]
Spawn = Callable[[Callable[[Handler], None]], None]
"""`spawn(work)` runs `work(handler)` on a thread of the service."""


class NotUnderstood(Exception):
    """The message is no event that this service hears, or not as its contract says."""


class Understood(NamedTuple):
    """A message that is an event of the contract."""

    id: UUID
    body: EventBody


class Hearing(Protocol):
    """What a consumer needs of its process."""

    @property
    def settings(self) -> Any: ...
    @property
    def ca_file(self) -> str | None: ...
    @property
    def contract(self) -> Contract: ...
    @property
    def database(self) -> Database: ...
    @property
    def metrics(self) -> Metrics: ...


class EventConsumer:
    """Takes a service's events from the broker. `hearers`: for each event that it hears, how its handler is run."""

    def __init__(self, core: Hearing, hearers: Mapping[Event[Any], Spawn], *, at_once: int = AT_ONCE) -> None:
        self._service = core.contract.name
        self._database = core.database
        self._metrics = core.metrics
        self._hearers = {f"{event.service}.{event.name}": (event, spawn) for event, spawn in hearers.items()}
        self._at_once = at_once
        self._under_way = 0
        self._counting = threading.Lock()
        self._stopping = threading.Event()
        self._held_until = 0.0
        self._holds = 0
        self._link = Link(
            core.settings.amqp_url,
            f"{self._service} hears",
            self._take,
            confirm=True,
            ca_file=core.ca_file,
            on_delivery=self._arrived,
        )

    @property
    def connected(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        """Begins to take events."""
        self._link.start()

    def stop(self, timeout: float = 25.0) -> None:
        """Takes no more events, finishes those begun, gives back the rest."""
        self._stopping.set()
        with contextlib.suppress(LinkDown):
            self._link.run(lambda channel: channel.basic_cancel("events"))
        ends = time.monotonic() + timeout
        while self._under_way and time.monotonic() < ends:
            time.sleep(0.02)
        self._link.stop()

    # --- from the broker to the handler ---------------------------------------------------------------------------

    def _take(self, channel: amqp.Channel) -> None:
        topology.declare(channel)
        channel.basic_qos(0, self._at_once, False)
        channel.basic_consume(topology.events_queue(self._service), consumer_tag="events", callback=self._link.collect)

    def _arrived(self, delivery: Delivery) -> None:
        """On a thread of its own, since waiting for a free worker must not stop the connection's."""
        self._count(+1)
        threading.Thread(target=self._dispatch, args=(delivery,), name="event", daemon=True).start()

    def _dispatch(self, delivery: Delivery) -> None:
        while not self._stopping.is_set() and (pause := self._held_until - time.monotonic()) > 0:
            self._stopping.wait(pause)
        if self._stopping.is_set() or not self._link.is_current(delivery):
            self._count(-1)  # not begun: the broker gives it to another process, or here by another connection
            return
        kind = kind_of(delivery, self._service)
        if kind == BY_A_DETOUR:
            log.error("event_by_a_detour", exchange=delivery.exchange)
        if kind not in self._hearers or delivery.unreadable:
            self._finished(delivery, lambda: self._bury(delivery, "unheard", NotUnderstood()))
            return
        event, spawn = self._hearers[kind]
        try:
            spawn(lambda handler: self._finished(delivery, lambda: self.handle(delivery, event, handler)))
        except Exception as error:  # the service takes no more work: it is stopping
            log.warning("event_given_back", event_type=event.name, exc_info=error)
            self._count(-1)

    def _finished(self, delivery: Delivery, work: Callable[[], object]) -> None:
        """Runs the work; never raises: what nobody foresaw gives the message back after a while."""
        try:
            work()
        except _DatabaseGone:
            threading.Thread(target=self._dispatch, args=(delivery,), name="event", daemon=True).start()
            return
        except Exception as error:
            log.error("event_given_back", exc_info=error)
            self._give_back(delivery)
        self._count(-1)

    def _count(self, change: int) -> None:
        with self._counting:
            self._under_way += change

    # --- one event -------------------------------------------------------------------------------------------------

    def handle(self, delivery: Delivery, event: Event[Any], handler: Handler) -> None:
        """Runs the handler in the transaction that notes the event as heard, and tells the broker what became of it."""
        try:
            understood = understand(delivery, event)
        except NotUnderstood as error:
            self._bury(delivery, event.name, error)
            return
        attempts = attempts_of(delivery)
        failure: Exception | None = None
        for _ in range(2 if attempts == 0 else 1):
            if not self._link.is_current(delivery):
                return
            attempts += 1
            try:
                first = self._database.hear(
                    understood.id,
                    lambda tx: handler(tx, understood.body),
                    origin=delivery.headers.get(outbox.ORIGIN_HEADER),
                )
            except Exception as error:
                if isinstance(error, Unavailable) and error.reason in _GONE:
                    self._hold(error)
                    raise _DatabaseGone from error
                failure = error
            else:
                self._holds = 0
                self._link.ack(delivery)
                self._metrics.event(event.name, "done" if first else "repeated")
                return
        assert failure is not None
        log.warning(
            "event_failed",
            event_type=event.name,
            event_id=str(understood.id),
            attempt=attempts,
            source=event.service,
            exc_info=failure,
        )
        if attempts >= ATTEMPTS:
            self._bury(delivery, event.name, failure, attempts)
            return
        queue = topology.delay_queue(self._service, topology.DELAYS_SECONDS[attempts - 2])
        if self._move(delivery, queue, {ATTEMPTS_HEADER: attempts}):
            self._metrics.event(event.name, "delayed")

    def _hold(self, error: Unavailable) -> None:
        """The database is gone: nothing is handled for a while, by anyone here."""
        now = time.monotonic()
        if now >= self._held_until:
            self._holds += 1
            self._held_until = now + min(_LONGEST_HOLD_SECONDS, 0.1 * 2 ** min(self._holds, 10))
            log.warning("events_held", reason=error.reason, attempt=self._holds)

    def _bury(self, delivery: Delivery, kind: str, error: Exception, attempts: int | None = None) -> None:
        """With the dead letters: what kind of error, how many attempts and when, never the error's text (R-SYS-3)."""
        headers = {
            ERROR_HEADER: type(error).__name__,
            ATTEMPTS_HEADER: attempts_of(delivery) if attempts is None else attempts,
            DEAD_AT_HEADER: clock.now().isoformat(timespec="seconds"),
        }
        if self._move(delivery, topology.dead_queue(self._service), headers):
            log.error("event_dead", event_type=kind, error_type=type(error).__name__, attempts=headers[ATTEMPTS_HEADER])
            self._metrics.event(kind, "dead")

    def _move(self, delivery: Delivery, queue: str, headers: dict[str, Any]) -> bool:
        """Puts the message into another queue and acknowledges it here when it is there. Answers whether it is."""
        if not self._link.is_current(delivery):
            return False  # it comes again, and must not be in two places
        try:
            [outcome] = self._link.publish_all([moved(delivery, self._service, queue, headers)], _CONFIRM_SECONDS)
        except LinkDown:
            self._give_back(delivery)  # the connection may stand all the same, and only have been busy for too long
            return False
        if outcome is Outcome.CONFIRMED:
            self._link.ack(delivery)
            return True
        log.error("event_not_moved", queue=queue, outcome=outcome.value)
        if outcome is Outcome.RETURNED:
            with contextlib.suppress(LinkDown):
                self._link.run(topology.declare)
        self._give_back(delivery)
        return False

    def _give_back(self, delivery: Delivery) -> None:
        self._stopping.wait(_GIVE_BACK_SECONDS)
        self._link.reject(delivery, requeue=True)


class _DatabaseGone(Exception):
    """The event waits in this process until the database is back."""


def kind_of(delivery: Delivery, service: str) -> str:
    """`service.event`, by the way that the message took into the service's queues; `BY_A_DETOUR` if anyone could have
    sent it.

    To an exchange of events only its service may write; to `<service>.again` only the service itself, which puts the
    kind into the type; to the default exchange nobody: so the broker took it out of a queue of this service. All else
    comes by an exchange or a queue that a user made and bound to one that it may write to: type and headers are its
    own words then.
    """
    exchange, key, deaths = delivery.exchange, delivery.routing_key, delivery.headers.get(_DEATHS_HEADER)
    if (exchange, key) == (_DEFAULT_EXCHANGE, topology.dead_queue(service)):
        (exchange, key), deaths = _given_up(deaths, topology.events_queue(service)), None
    back_from_a_delay = (exchange, key) == (_DEFAULT_EXCHANGE, topology.events_queue(service))
    if back_from_a_delay or exchange == topology.again_exchange(service):
        return str(delivery.properties.get("type"))
    # What is told has not died before: else a header of its teller's could stand for what the broker says, above.
    if exchange.endswith(_EVENTS) and not deaths:
        return f"{exchange.removesuffix(_EVENTS)}.{key}"
    return BY_A_DETOUR


def _given_up(deaths: object, queue: str) -> tuple[str, str]:
    """Exchange and routing key by which a message had come into the queue that the broker took it out of."""
    for death in deaths if isinstance(deaths, list) else []:
        if isinstance(death, dict) and death.get("queue") == queue:
            keys = death.get("routing-keys")
            return str(death.get("exchange")), str(keys[0]) if isinstance(keys, list) and keys else ""
    return BY_A_DETOUR, ""


def attempts_of(delivery: Delivery) -> int:
    """Attempts made so far."""
    attempts = delivery.headers.get(ATTEMPTS_HEADER, 0)
    return attempts if isinstance(attempts, int) and 0 <= attempts <= ATTEMPTS else 0


def understand(delivery: Delivery, event: Event[Any]) -> Understood:
    """The event's id and body, checked against the contract. Raises `NotUnderstood`."""
    try:
        event_id = UUID(str(delivery.properties.get("message_id")))
        return Understood(event_id, event.body.model_validate_json(delivery.body))
    except (ValidationError, ValueError):
        raise NotUnderstood from None


def moved(delivery: Delivery, service: str, queue: str, headers: dict[str, Any]) -> OutgoingMessage:
    """The same message, for a queue of the service, with what is to be known of its way in the headers."""
    kept = {name: delivery.headers[name] for name in _KEPT_HEADERS if name in delivery.headers}
    properties = {name: value for name, value in delivery.properties.items() if name in _KEPT_PROPERTIES}
    return OutgoingMessage(
        body=delivery.body,
        exchange=topology.again_exchange(service),
        routing_key=queue,
        mandatory=True,
        properties={
            "message_id": str(uuid4()),  # where it has none: the broker returns a message by its id
            **properties,
            "type": kind_of(delivery, service),
            "delivery_mode": outbox.PERSISTENT,
            "application_headers": kept | headers,
        },
    )
