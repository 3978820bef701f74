"""A connection to the broker that mends itself.

One thread reads, sends heartbeats and reconnects; any thread may publish and acknowledge. It is the same under
eventlet, where threads are green, and in plain programs. Everything that touches the connection holds one lock:
py-amqp lets two threads interleave frames otherwise, and OpenSSL does not allow two threads in one connection.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import amqp
from amqp.exceptions import AccessRefused, AMQPError, RecoverableConnectionError

from shared.messaging import waiting
from shared.messaging.acknowledging import Acknowledgements
from shared.messaging.confirming import Confirms, Outcome
from shared.messaging.transport import HEARTBEAT_SECONDS, Wire, connect, connection_arguments, publishing
from shared.operations.logs import log

_STOP_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 2.0
_STEADY_SECONDS = 5.0
"""A connection that lasted so long was no failure: the next attempt follows at once."""
_WISH_SECONDS = 2.0
"""A broker that does not answer a simple question in so long is taken for gone: nobody can publish meanwhile."""
_ACKNOWLEDGED_AFTER_SECONDS = 0.05
"""An answer goes out at once, its acknowledgement with those of others: the broker has much to do for each by itself.
What was not acknowledged yet when the process dies is asked of another once more."""
_BROKEN = (AMQPError, OSError, ssl.SSLError, AttributeError, KeyError)
# AttributeError and KeyError: what py-amqp raises when the other end of the lock has just closed the connection.


class LinkDown(Exception):
    """There is no connection to the broker at the moment."""


class OutgoingMessage(NamedTuple):
    """A message to publish; `properties` as in AMQP (delivery_mode, headers, message_id, ...)."""

    body: bytes
    exchange: str
    routing_key: str
    mandatory: bool = False
    properties: Mapping[str, Any] = MappingProxyType({})


class Delivery(NamedTuple):
    """A message as consumed, and which connection it came by: an older connection's can't be acknowledged any more."""

    generation: int
    tag: int
    body: bytes
    routing_key: str
    exchange: str
    redelivered: bool
    properties: dict[str, Any]
    received: float
    """`time.monotonic()` at receipt."""
    unreadable: bool = False
    """Its headers could not be read; it has none then."""

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.get("application_headers") or {}


@dataclass
class _Wish:
    """Something to be done with the channel by the thread that reads."""

    action: Callable[[amqp.Channel], Any]
    done: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    error: Exception | None = None
    given_up: bool = False


class Link:
    """See the module. `on_ready` is called with the channel each time a connection stands, before anything is read.

    `on_refused` is called with the broker's words when it ended the channel because this user may not do something: a
    publish, for the most part, of which nothing else tells. It comes before the next connection.
    """

    def __init__(
        self,
        url: str,
        name: str,
        on_ready: Callable[[amqp.Channel], None] | None = None,
        *,
        confirm: bool = False,
        ca_file: str | None = None,
        on_down: Callable[[], None] | None = None,
        on_returned: Callable[[str | None], None] | None = None,
        on_delivery: Callable[[Delivery], None] | None = None,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self._arguments = connection_arguments(url, name, ca_file)
        self.name = name
        self._on_ready = on_ready
        self._on_down = on_down
        self._on_returned = on_returned
        self._on_delivery = on_delivery
        self._on_refused = on_refused
        self._arrived: list[Delivery] = []
        self._confirm = confirm
        self._lock = threading.Lock()
        self._connection: amqp.Connection | None = None
        self._channel: amqp.Channel | None = None
        self._wire: Wire | None = None
        self._flush_now = waiting.nobody_else_can_run()
        self._flush_is_due = False
        self._generation = 0
        self._up = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_sent = self._heard = 0.0
        self._frames = 0
        self._publishing = threading.Lock()
        self._confirms = Confirms()
        self._acknowledgements = Acknowledgements()
        self._acknowledging_is_due = False
        self._wishes: list[_Wish] = []
        self._arrivals: waiting.Arrivals | None = None

    @contextlib.contextmanager
    def _held(self, timeout: float) -> Iterator[None]:
        """The connection for oneself. Raises `LinkDown` if it can't be had in time: its holder waits for the broker."""
        if not self._lock.acquire(timeout=max(timeout, 0.001)):
            raise LinkDown(self.name)
        try:
            yield
        finally:
            self._lock.release()

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the message came by the connection that stands now; else it comes again, here or elsewhere."""
        return delivery.generation == self._generation and self._up.is_set()

    def start(self) -> None:
        """Begins to connect, and keeps at it until `stop`."""
        arrivals, _ = waiting.kinds()
        self._arrivals = arrivals()
        self._thread = threading.Thread(target=self._run, name=f"link {self.name}", daemon=True)
        self._thread.start()

    def wait_connected(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds for a connection; says whether there is one."""
        return self._up.wait(timeout)

    def stop(self) -> None:
        """Closes the connection; what was consumed and not acknowledged goes back to its queue."""
        self._acknowledge_now()
        self._stopping.set()
        self._wake_reader()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=_STOP_SECONDS)
        self._drop()
        arrivals, self._arrivals = self._arrivals, None
        if arrivals is not None:
            arrivals.close()

    def _wake_reader(self) -> None:
        arrivals = self._arrivals
        if arrivals is not None:
            arrivals.wake()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._connect()
                self._read_until_broken()
            except Exception as error:  # whatever it is: without this thread the process would be deaf for good
                if not self._stopping.is_set():
                    known = isinstance(error, _BROKEN)
                    log.warning("broker_connection_lost", link=self.name, exc_info=None if known else error)
                if isinstance(error, AccessRefused) and self._on_refused is not None:
                    self._on_refused(str(error.reply_text))
            if time.monotonic() - began > _STEADY_SECONDS:
                failures = 0
            self._drop()
            pause = min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**failures)
            failures = min(failures + 1, 10)
            self._stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def _connect(self) -> None:
        connection, wire, confirms = connect(self._arguments), None, Confirms()
        try:
            wire = Wire(connection)
            channel = connection.channel()
            channel.auto_decode = False  # a body is bytes, whatever encoding its sender claims
            # Else py-amqp opens a channel again that the broker has ended, and waits for it amid what is being read;
            # here the connection ends with its channel.
            channel._do_revive = lambda: None
            if self._confirm:
                channel.confirm_select()
                channel.events["basic_ack"].add(confirms.acked)
                channel.events["basic_nack"].add(confirms.nacked)
            channel.events["basic_return"].add(self._on_return)
            with self._lock:
                self._generation += 1
                self._connection, self._channel, self._wire = connection, channel, wire
                self._confirms = confirms
                self._arrived = []
                self._acknowledgements = Acknowledgements()
                self._last_sent = self._heard = time.monotonic()
                self._frames = 0
                if self._on_ready is not None:
                    self._on_ready(channel)
                self._up.set()  # in the same hold of the lock: whoever could not publish before is known to `on_ready`
        except BaseException:
            with contextlib.suppress(*_BROKEN):
                connection.collect()
            if wire is not None:
                wire.close()
            raise

    def _drop(self) -> None:
        if self._arrivals is not None:
            self._arrivals.let_go()
        with self._lock:
            connection, self._connection, self._channel = self._connection, None, None
            wire, self._wire = self._wire, None
            was_up = self._up.is_set()
            self._up.clear()
            wishes, self._wishes = self._wishes, []
        for wish in wishes:
            wish.error = LinkDown(self.name)
            wish.done.set()
        if connection is not None:
            with contextlib.suppress(Exception):
                if self._stopping.is_set():
                    connection.close()
            with contextlib.suppress(Exception):
                connection.collect()
        if wire is not None:
            wire.close()
        self._confirms.complete.set()
        if was_up and self._on_down is not None:
            self._on_down()

    def _read_until_broken(self) -> None:
        connection, wire, arrivals = self._connection, self._wire, self._arrivals
        assert connection is not None
        assert wire is not None
        assert arrivals is not None
        more = True  # what came in one piece with the answers that `on_ready` waited for
        while not self._stopping.is_set():
            if not more and not wire.pending:
                arrivals.wait(connection.sock)
            with self._lock:
                more = wire.drain()
                if self._wishes:
                    arrivals.let_go()
                    self._fulfil_wishes(connection)
                    more = wire.drain()  # likewise
                self._beat(connection)
                arrived, self._arrived = self._arrived, []
            if self._on_delivery is not None:
                for delivery in arrived:  # outside the lock: whoever handles them publishes and acknowledges
                    self._on_delivery(delivery)

    def _fulfil_wishes(self, connection: amqp.Connection) -> None:
        while self._wishes:
            wish = self._wishes.pop(0)
            if wish.given_up:
                continue
            connection.sock.settimeout(_WISH_SECONDS)
            try:
                wish.answer = wish.action(self._channel)
            except _BROKEN:
                wish.error = LinkDown(self.name)
                raise
            except Exception as error:
                wish.error = error
            finally:
                wish.done.set()
                with contextlib.suppress(*_BROKEN):
                    connection.sock.settimeout(HEARTBEAT_SECONDS * 2)

    def _beat(self, connection: amqp.Connection) -> None:
        now = time.monotonic()
        if now - self._last_sent >= HEARTBEAT_SECONDS / 3:
            connection.send_heartbeat()
            self._last_sent = now
            if connection.bytes_recv != self._frames:
                self._frames, self._heard = connection.bytes_recv, now
            elif now - self._heard > HEARTBEAT_SECONDS * 2:
                raise OSError("the broker has gone quiet")

    # --- publishing -------------------------------------------------------------------------------------------------

    def publish(
        self,
        message: OutgoingMessage | Callable[[], OutgoingMessage | None],
        timeout: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Hands one message to the connection, unconfirmed, in `timeout` seconds. Raises `LinkDown`.

        A message that depends on what `on_ready` did is made by a function, which is called with the connection in
        hand; where it makes none, nothing is sent.
        Among green threads it may not have left yet on return, and a connection that breaks then takes it along: only
        for whoever learns by other means that nothing came of it, and sends again.
        """
        self._publish(message, None, timeout)

    def answer(self, delivery: Delivery, answer: OutgoingMessage, room: int = 0) -> None:
        """As `publish`, and then `ack`, but that together with others, in a moment, where they leave `room` enough: the
        broker delivers so many until they are acknowledged.

        Without a connection neither is done: raises `LinkDown`.
        """
        self._publish(answer, delivery, HEARTBEAT_SECONDS, room)

    def _publish(
        self,
        message: OutgoingMessage | Callable[[], OutgoingMessage | None],
        done: Delivery | None,
        timeout: float,
        room: int = 0,
    ) -> None:
        # Each call comes by here, and so it takes the lock and gathers without a generator for each.
        if not self._lock.acquire(timeout=max(timeout, 0.001)):
            raise LinkDown(self.name)
        try:
            channel, wire = self._channel, self._wire
            if channel is None or wire is None or not self._up.is_set():
                raise LinkDown(self.name)
            made = message() if callable(message) else message
            if made is None:
                return
            try:
                wire.gathers = True
                try:
                    self._send(channel, made)
                    if done is not None and done.generation == self._generation:
                        self._acknowledge_soon(channel, done.tag, room)
                finally:
                    wire.gathers = False
                self._flush_soon(wire)
            except _BROKEN as error:
                self._break()
                raise LinkDown(self.name) from error
        finally:
            self._lock.release()

    def _flush_soon(self, wire: Wire) -> None:
        """Among green threads: when those that can run now have run, so that what all of them write leaves together."""
        if self._flush_now():
            wire.flush()
        elif not self._flush_is_due:
            from eventlet import spawn_n

            self._flush_is_due = True
            spawn_n(self._flush)

    def _flush(self) -> None:
        with self._lock:
            self._flush_is_due = False
            if self._wire is not None:
                try:
                    self._wire.flush()
                except _BROKEN:
                    self._break()

    def _acknowledge_soon(self, channel: amqp.Channel, tag: int, room: int) -> None:
        if self._acknowledgements.done(tag, room):
            self._acknowledge(channel)
        elif not self._acknowledging_is_due:
            self._acknowledging_is_due = True
            timer = threading.Timer(_ACKNOWLEDGED_AFTER_SECONDS, self._acknowledge_now)
            timer.daemon = True
            timer.start()

    def _acknowledge(self, channel: amqp.Channel) -> None:
        for tag, those_before in self._acknowledgements.due():
            channel.basic_ack(tag, multiple=those_before)

    def _acknowledge_now(self) -> None:
        with self._lock:
            self._acknowledging_is_due = False
            if self._channel is not None and self._wire is not None:
                try:
                    with self._wire.gathering():
                        self._acknowledge(self._channel)
                    self._wire.flush()
                except _BROKEN:
                    self._break()

    def _break(self) -> None:
        if self._wire is not None:
            self._wire.sever()

    @staticmethod
    def _send(channel: amqp.Channel, message: OutgoingMessage) -> None:
        connection = channel.connection
        if connection is None:
            raise RecoverableConnectionError("the channel is closed")
        content = amqp.Message(message.body, **message.properties)
        connection.transport._write(
            publishing(
                channel.channel_id,
                connection.frame_max,
                content,
                message.exchange,
                message.routing_key,
                message.mandatory,
            )
        )

    def publish_all(self, messages: Sequence[OutgoingMessage], timeout: float) -> list[Outcome]:
        """Publishes all, then waits at most `timeout` seconds for the broker's word on each; needs `confirm=True`.

        Mandatory messages need a `message_id` property, by which a returned one is known. UNKNOWN means that the
        connection broke or time ran out first: the message may or may not have arrived.
        """
        if not messages:
            return []
        ids = [message.properties.get("message_id") for message in messages]
        with self._publishing:
            with self._held(timeout):
                if self._channel is None or self._wire is None or not self._up.is_set():
                    raise LinkDown(self.name)
                confirms = self._confirms
                confirms.begin(len(messages))
                try:
                    with self._wire.gathering():
                        for message in messages:
                            self._send(self._channel, message)
                            confirms.sent()
                    self._wire.flush()
                except _BROKEN:
                    self._break()
                    return confirms.end(ids)
            confirms.complete.wait(timeout)
            with self._lock:
                return confirms.end(ids)

    def _on_return(self, _error: object, _exchange: str, _key: str, message: amqp.Message) -> None:
        self._confirms.returned(str(message.properties.get("message_id")))
        if self._on_returned is not None:
            self._on_returned(message.properties.get("correlation_id"))

    # --- consuming --------------------------------------------------------------------------------------------------

    def collect(self, message: amqp.Message) -> None:
        """The callback to give to `basic_consume`: `on_delivery` gets the message once the connection is free."""
        self._arrived.append(self.delivery(message))

    def delivery(self, message: amqp.Message) -> Delivery:
        """The message as our own value; to be called in the consumer's callback."""
        info = message.delivery_info
        if info["consumer_tag"] not in message.channel.no_ack_consumers:
            self._acknowledgements.begun(message.delivery_tag)
        return Delivery(
            generation=self._generation,
            tag=message.delivery_tag,
            body=bytes(message.body or b""),  # without a body py-amqp has an empty text there
            routing_key=info["routing_key"],
            exchange=info["exchange"],
            redelivered=bool(info["redelivered"]),
            properties=message.properties,
            received=time.monotonic(),
            unreadable=getattr(message, "unreadable", False),
        )

    def ack(self, delivery: Delivery) -> None:
        """Tells the broker that the message is done with. One of an older connection is left: it comes again."""
        self._answer(delivery, lambda channel: channel.basic_ack(delivery.tag))

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Gives the message back to its queue, or to the dead letters."""
        self._answer(delivery, lambda channel: channel.basic_reject(delivery.tag, requeue))

    def _answer(self, delivery: Delivery, send: Callable[[amqp.Channel], None]) -> None:
        with self._lock:
            if self._channel is not None and self._wire is not None and delivery.generation == self._generation:
                try:
                    self._acknowledgements.settled(delivery.tag)
                    with self._wire.gathering():
                        send(self._channel)
                    self._flush_soon(self._wire)
                except _BROKEN:
                    self._break()

    def run(self, action: Callable[[amqp.Channel], Any], timeout: float = HEARTBEAT_SECONDS) -> Any:
        """Runs `action` with the channel, alone on the connection; it may wait for the broker's answer.

        Raises `LinkDown`, also if it is not done after `timeout` seconds; it is not begun any more then. Not for
        callbacks. It is the reading thread that runs it: under eventlet no two green threads may wait for the same
        socket.
        """
        wish = _Wish(action)
        ends = time.monotonic() + timeout
        with self._held(timeout):
            if self._channel is None:
                raise LinkDown(self.name)
            self._wishes.append(wish)
        self._wake_reader()
        if not wish.done.wait(max(ends - time.monotonic(), 0.0)):
            wish.given_up = True
            raise LinkDown(self.name)
        if wish.error is not None:
            raise wish.error
        return wish.answer
