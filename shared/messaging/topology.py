"""Exchanges and queues of the events, computed from the contracts.

    <source>.events            topic exchange; routing key: the event's name
    <service>.again            direct exchange by which a service, and nobody else, puts events into its own queues
    events.<service>           what a service hears; bound to each event whose contract names it
    events.<service>.delay.<n> waits <n> milliseconds, then goes back to events.<service>
    dead.<service>             what could not be handled, until someone looks at it
    definitions.<digest>       says that the broker was given just these definitions: nobody declares anything then

Every process that publishes or hears makes sure that all of it is there, so that an event told before its hearer's
first start is not lost. Where the broker was given its definitions (deploy/rabbitmq), services may not declare, and
need not. Not through the default exchange: whoever may write to that may write to every queue.
Arguments of a queue can't be changed later: another argument means another name.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import amqp
from amqp.exceptions import AccessRefused, NotFound

import shared.contracts
from shared.contracts.base import Contract
from shared.operations.logs import log

DELAYS_SECONDS = (1, 5, 30, 120, 600, 1800)
"""The pauses between attempts at an event, after the first, which is repeated at once."""
DELIVERIES = 100
"""So often is a message delivered and given back (a process that dies of it) before it is put with the dead letters."""
_FOR_EVER = 1_000_000_000
"""Dead letters are looked at any number of times: without a limit of its own, RabbitMQ 4 drops them after 20."""
_QUORUM = {"x-queue-type": "quorum"}
_DEFAULT_EXCHANGE = ""
# A message leaves the one queue when the other has it. Needs reject-publish, which without a length limit is no limit.
_MOVED_SAFELY = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


@dataclass(frozen=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Binding:
    """From an exchange to a queue."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True)
class Topology:
    """All that the broker needs for the events of these contracts. `exchanges`: name and type."""

    exchanges: dict[str, str]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    @property
    def mark(self) -> str:
        """The exchange that says that the broker was given all of this."""
        return f"definitions.{hashlib.sha256(repr(self).encode()).hexdigest()[:16]}"


def events_queue(service: str) -> str:
    """The queue that a service takes its events from."""
    return f"events.{service}"


def delay_queue(service: str, seconds: int) -> str:
    """The queue in which an event of the service waits for so long, one of `DELAYS_SECONDS`."""
    return f"events.{service}.delay.{seconds * 1000}"


def dead_queue(service: str) -> str:
    """The queue of the service's dead letters."""
    return f"dead.{service}"


def again_exchange(service: str) -> str:
    """The exchange to the service's own queues; routing key: the queue's name."""
    return f"{service}.again"


def events_exchange(service: str) -> str:
    """The exchange that a service tells its events by."""
    return f"{service}.events"


@cache
def all_contracts() -> tuple[Contract, ...]:
    """The contracts in `shared.contracts`, by name."""
    found: dict[str, Contract] = {}
    for module in pkgutil.iter_modules(shared.contracts.__path__):
        content = vars(importlib.import_module(f"{shared.contracts.__name__}.{module.name}"))
        for value in content.values():
            if isinstance(value, Contract):
                found[value.name] = value
    return tuple(found[name] for name in sorted(found))


def topology(contracts: Iterable[Contract] | None = None) -> Topology:
    """What these contracts (else all) need."""
    contracts = all_contracts() if contracts is None else tuple(contracts)
    services = {contract.name for contract in contracts}
    queues: list[Queue] = []
    bindings: list[Binding] = []
    for contract in contracts:
        for event in contract.events.values():
            services |= event.heard_by
            bindings += [Binding(event.exchange, events_queue(hearer), event.name) for hearer in sorted(event.heard_by)]
    exchanges = {events_exchange(contract.name): "topic" for contract in contracts}
    for service in sorted(services):
        own = _queues(service)
        queues += own
        exchanges[again_exchange(service)] = "direct"
        bindings += [Binding(again_exchange(service), queue.name, queue.name) for queue in own]
    return Topology(exchanges, tuple(queues), tuple(bindings))


def _queues(service: str) -> list[Queue]:
    to_dead = {"x-dead-letter-exchange": _DEFAULT_EXCHANGE, "x-dead-letter-routing-key": dead_queue(service)}
    back = {"x-dead-letter-exchange": _DEFAULT_EXCHANGE, "x-dead-letter-routing-key": events_queue(service)}
    return [
        Queue(dead_queue(service), {**_QUORUM, "x-delivery-limit": _FOR_EVER}),
        Queue(events_queue(service), {**_QUORUM, **to_dead, **_MOVED_SAFELY, "x-delivery-limit": DELIVERIES}),
        *(
            Queue(delay_queue(service, seconds), {**_QUORUM, **back, **_MOVED_SAFELY, "x-message-ttl": seconds * 1000})
            for seconds in DELAYS_SECONDS
        ),
    ]


def given(connection: amqp.Connection, needed: Topology | None = None) -> bool:
    """Whether the broker was given its definitions, and just those that these contracts make."""
    try:
        with connection.channel() as scratch:  # the broker closes it where there is none
            scratch.exchange_declare((needed or topology()).mark, "fanout", passive=True)
    except NotFound:
        return False
    return True


def declare_exchange(channel: amqp.Channel, name: str, kind: str) -> None:
    """Makes the durable exchange where it is missing. Looks first: who may only use it needs no more rights."""
    try:
        with channel.connection.channel() as scratch:
            scratch.exchange_declare(name, kind, passive=True)
    except NotFound:
        channel.exchange_declare(name, kind, durable=True, auto_delete=False)


def declare(channel: amqp.Channel, needed: Topology | None = None) -> None:
    """Makes sure that all of it is in the broker; what is there already stays as it is.

    Looks first, on channels of its own, and makes only what is missing. Where this user may not, the log says so: the
    broker's definitions are older than this program.
    """
    needed = needed or topology()
    connection = channel.connection
    if given(connection, needed):
        return
    try:
        with connection.channel() as scratch:
            for exchange, kind in needed.exchanges.items():
                scratch.exchange_declare(exchange, kind, passive=True)
            for queue in needed.queues:
                scratch.queue_declare(queue.name, passive=True)
        missing = False
    except NotFound:
        missing = True
    try:
        with connection.channel() as scratch:
            if missing:
                _make(scratch, needed)
            _bind(scratch, needed)
    except AccessRefused:
        log.error("broker_definitions_are_old", state="incomplete" if missing else "unknown")


def _make(channel: amqp.Channel, needed: Topology) -> None:
    for exchange, kind in needed.exchanges.items():
        channel.exchange_declare(exchange, kind, durable=True, auto_delete=False)
    for queue in needed.queues:
        channel.queue_declare(queue.name, durable=True, auto_delete=False, arguments=queue.arguments)


def _bind(channel: amqp.Channel, needed: Topology) -> None:
    for binding in needed.bindings:
        channel.queue_bind(binding.queue, binding.exchange, binding.routing_key)


def definitions(vhost: str, needed: Topology | None = None) -> dict[str, Any]:
    """The same as RabbitMQ's definitions: exchanges, queues and bindings of a virtual host. Users are not in it."""
    needed = needed or topology()
    return {
        "exchanges": [
            {
                "name": name,
                "vhost": vhost,
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name, kind in needed.exchanges.items()
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": queue.arguments,
            }
            for queue in needed.queues
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": {},
            }
            for binding in needed.bindings
        ],
    }


def main() -> None:
    """`python -m shared.messaging.topology [VHOST]` prints the definitions as JSON."""
    json.dump(definitions(sys.argv[1] if len(sys.argv) > 1 else "/"), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
