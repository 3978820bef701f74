"""The broker in the kernel's own tests: a look into queues, a way to cut connections, a relay and a consumer."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import UUID

import amqp

from shared.contracts.base import Contract, Event, EventBody
from shared.database.transaction import Database
from shared.messaging import topology
from shared.messaging.events import EventConsumer
from shared.messaging.relay import Relay
from shared.operations.health import Metrics


class Happened(EventBody):
    key: UUID
    number: int = 0


# The names are a real service's and its hearer's, so that the queues are those of the real contracts.
contract = Contract("cases")
HAPPENED = contract.event("case_started", Happened, heard_by=("notifications",))
UNHEARD = contract.event("nobody_hears", Happened)
MISSED = contract.event("nobody_is_bound", Happened, heard_by=("notifications",))
hearing_contract = Contract("notifications")
QUEUE = topology.events_queue("notifications")
DEAD = topology.dead_queue("notifications")


@dataclass
class KernelBroker:
    """A virtual host."""

    url: str

    @contextlib.contextmanager
    def channel(self) -> Iterator[amqp.Channel]:
        """A channel of its own connection; what is published by it is confirmed: a queue that was made a moment ago may
        not have taken it yet when the connection closes."""
        parts = urlsplit(self.url)
        with amqp.Connection(
            f"{parts.hostname}:{parts.port}",
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            virtual_host=unquote(parts.path[1:]) or "/",
            confirm_publish=True,
        ) as connection:
            yield connection.channel()

    def declare(self) -> None:
        with self.channel() as channel:
            topology.declare(channel)

    def clear(self) -> None:
        """Removes all queues and exchanges of the events."""
        with self.channel() as channel:
            for queue in topology.topology().queues:
                channel.queue_delete(queue.name)
            for exchange in topology.topology().exchanges:
                channel.exchange_delete(exchange)

    def messages(self, queue: str) -> int:
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def take_all(self, queue: str, count: int, seconds: float = 30.0) -> list[amqp.Message]:
        """Takes `count` messages out of the queue, in order, and a short while longer whatever comes."""
        taken: list[amqp.Message] = []
        with self.channel() as channel:
            channel.basic_qos(0, 1000, False)
            channel.basic_consume(queue, callback=lambda m: (taken.append(m), channel.basic_ack(m.delivery_tag)))
            ends = time.monotonic() + seconds
            while len(taken) < count and time.monotonic() < ends:
                with contextlib.suppress(TimeoutError, socket.timeout):
                    channel.connection.drain_events(timeout=0.5)
            with contextlib.suppress(TimeoutError, socket.timeout):
                while True:
                    channel.connection.drain_events(timeout=0.3)
        return taken


class Proxy:
    """A way to a server that can be cut, or stopped up, in the middle of anything."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._stopped = threading.Event()
        self.open = True
        self.flowing = True
        self.lag = 0.0
        """Seconds by which whatever comes by it is late."""
        host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        user = f"{parts.username}:{parts.password}@" if parts.password else f"{parts.username}@"
        self.url = urlunsplit(parts._replace(netloc=user + host))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                break
            if not self.open:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._pairs.append((client, server))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()
        self._listener.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                while not self.flowing:
                    time.sleep(0.01)
                if not select.select([source], [], [], 0.5)[0]:
                    continue
                data = source.recv(65536)
                if not data:
                    break
                time.sleep(self.lag)
                while not self.flowing:
                    time.sleep(0.01)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # the other end is closed by whoever waits for it: its number could be another socket's at once

    def cut(self) -> None:
        """Ends every connection now."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stopped.set()
        self.flowing = True
        # Closed by the thread that waits for it, not here: the hub of green threads would have it still, under a number
        # that libpq's next connection may get.
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()


def relay_of(database: Database, url: str) -> Relay:
    """A relay, not started; the database wakes it."""
    relay = Relay(database, url, contract, Metrics())
    database.on_published.append(relay.wake)
    return relay


def consumer_of(
    database: Database, url: str, handlers: dict[Event[Any], Callable[..., Any]], **options: Any
) -> EventConsumer:
    """A consumer that runs each handler on a thread of its own, not started."""
    core = SimpleNamespace(
        settings=SimpleNamespace(amqp_url=url),
        ca_file=None,
        contract=hearing_contract,
        database=database,
        metrics=Metrics(),
    )

    def spawning(handler: Callable[..., Any]) -> Any:
        return lambda work: threading.Thread(target=work, args=(handler,), daemon=True).start()

    consumer = EventConsumer(core, {event: spawning(handler) for event, handler in handlers.items()}, **options)
    consumer.metrics = core.metrics  # type: ignore[attr-defined]
    return consumer


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Waits until the condition holds; fails if it does not in time."""
    ends = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < ends, "did not come true in time"
        time.sleep(0.05)
    return answer
