"""Calling services: a deadline on every call, typed answers, and calls that outlive a lost connection.

A call that is under way when the connection breaks is sent again on the next one: a query changes nothing, and a
command carries its request id, so that what happens twice on the wire happens once in effect (R-SYS-5).
"""

from __future__ import annotations

import os
import re
import threading
import time
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import amqp

from shared.contracts.base import Answered, Asked, Call
from shared.messaging import topology, waiting
from shared.messaging.errors import DeadlineExceeded, Forbidden, LimitExceeded, Refused, Unavailable
from shared.messaging.link import Link, LinkDown, OutgoingMessage
from shared.messaging.wire import (
    CALL_IDS_HEADER,
    DEADLINE_HEADER,
    JSON,
    LARGEST_REQUEST_BYTES,
    REPLY_KEY,
    RPC_EXCHANGE,
    TOKEN_HEADER,
    decode_reply,
    encode_request,
    next_call_ids,
    reply_key,
    request_queue,
)
from shared.operations.logs import log

STANDARD_TIMEOUT_SECONDS = 10.0
_LAST_LOOK_SECONDS = 0.3
"""So long before the deadline it is looked whether there is anybody who could answer."""
_REFUSED_KEY = re.compile(r"access to topic '([^']*)'")


class _Pending:
    """A call that waits for its answer."""

    def __init__(self, message: OutgoingMessage, gate: waiting.Gate) -> None:
        self.message = message
        self.answer: bytes | Refused | None = None
        self.sent_by = ""
        """The reply key of the connection by which it was sent last; to be touched with the connection in hand."""
        self._gate = gate

    def settle(self, answer: bytes | Refused) -> None:
        """Answers it: by the body of a reply, or the error to be raised. The first answer counts."""
        if self.answer is None:
            self.answer = answer
            self._gate.open()

    def wait(self, seconds: float) -> bool:
        """Whether it is answered, at the latest after so many seconds."""
        if self.answer is None:
            self._gate.wait(seconds)
        return self.answer is not None


class _LookUp:
    """A question to the broker after a service, and whoever waits for its answer."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.processes: int | None = None
        """How many take the service's calls; None: the broker gave no answer."""


class RpcClient:
    """Makes calls for one process; any number of threads may use it at once."""

    def __init__(self, url: str, name: str, *, exchange: str = RPC_EXCHANGE, ca_file: str | None = None) -> None:
        """`exchange`: an outside caller's own, see `caller_exchange`."""
        self._name = name
        self._user = unquote(urlsplit(url).username or "")
        if not REPLY_KEY.fullmatch(reply_key(self._user)):
            raise ValueError(
                "the broker's user must be letters, digits, - and _: answers go to keys with its name in them"
            )
        self._exchange = exchange
        self._reply_key = ""
        self._pending: dict[str, _Pending] = {}
        self._looking: dict[str, _LookUp] = {}
        _, self._gate = waiting.kinds()
        self._link = Link(
            url,
            f"{name} calls",
            self._listen,
            ca_file=ca_file,
            on_returned=self._returned,
            on_refused=self._refused,
        )

    @property
    def connected(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        """Begins to connect; calls made before there is a connection wait for it."""
        self._link.start()

    def stop(self) -> None:
        """Closes the connection; calls under way end as `unavailable`."""
        self._link.stop()
        for pending in list(self._pending.values()):
            pending.settle(Unavailable(reason="stopping"))

    def _listen(self, channel: amqp.Channel) -> None:
        # A new queue for each connection: the broker may keep the old one, exclusive, until it notices the loss.
        self._reply_key = reply_key(self._user)
        queue = f"rpc.reply-{self._name}-{uuid4()}"  # not by the key: more can see the names of queues
        topology.declare_exchange(channel, self._exchange, "topic")
        channel.queue_declare(queue, durable=False, exclusive=True, auto_delete=True)
        channel.queue_bind(queue, self._exchange, self._reply_key)
        channel.basic_consume(queue, no_ack=True, callback=self._on_reply)
        for correlation_id, pending in list(self._pending.items()):
            if pending.answer is None:
                self._link._send(channel, self._addressed(pending, correlation_id))

    def _addressed(self, pending: _Pending, correlation_id: str) -> OutgoingMessage:
        pending.sent_by = self._reply_key
        message = pending.message
        properties = {**message.properties, "reply_to": self._reply_key, "correlation_id": correlation_id}
        return OutgoingMessage(message.body, message.exchange, message.routing_key, True, properties)

    def _not_sent_yet(self, pending: _Pending, correlation_id: str) -> OutgoingMessage | None:
        """None for what `_listen` sent, while its caller waited for the connection: once by each is enough."""
        return None if pending.sent_by == self._reply_key else self._addressed(pending, correlation_id)

    def _on_reply(self, message: amqp.Message) -> None:
        pending = self._pending.get(str(message.properties.get("correlation_id")))
        if pending is not None:
            pending.settle(bytes(message.body or b""))

    def _returned(self, correlation_id: str | None) -> None:
        pending = self._pending.get(str(correlation_id))
        if pending is not None:
            pending.settle(Unavailable(reason="unknown_service"))

    def _refused(self, told: str) -> None:
        """The broker does not let this user call that, and says of which method: those calls are not sent again.

        The broker ended the connection for it; the others are sent again on the next one. Where it does not say which
        it was, none is, or the same would happen for ever.
        """
        named = _REFUSED_KEY.search(told)
        log.error("call_refused_by_broker", method=named[1] if named else None)
        for pending in list(self._pending.values()):
            if named is None:
                pending.settle(Unavailable(reason="refused_by_broker"))
            elif pending.message.routing_key == named[1]:
                pending.settle(Forbidden(reason="refused_by_broker"))

    def ask(
        self,
        call: Call[Asked, Answered],
        request: Asked,
        *,
        token: str | None = None,
        timeout: float = STANDARD_TIMEOUT_SECONDS,
        call_ids: list[str] | None = None,
    ) -> Answered:
        """Makes the call and returns its answer within `timeout` seconds.

        Raises the error of the closed set that the service answered, or: `Unavailable(unknown_service)` at once when no
        such service has ever run, `Unavailable(no_process)` when none of its processes is there at the deadline,
        `Forbidden(refused_by_broker)` when this user of the broker's may not make this call,
        `Unavailable(no_broker)` when the broker could not be reached, `DeadlineExceeded` when no answer came.
        """
        body = encode_request(request)
        if len(body) > LARGEST_REQUEST_BYTES:
            raise LimitExceeded(reason="request_too_large")
        return decode_reply(self.ask_raw(call.routing_key, body, token, timeout, call_ids), call.reply)

    def ask_raw(
        self, routing_key: str, body: bytes, token: str | None, timeout: float, call_ids: list[str] | None = None
    ) -> bytes:
        """As `ask`, for bodies that are already encoded."""
        service, _, method = routing_key.partition(".")
        ends = time.monotonic() + timeout
        if timeout <= 0:
            raise DeadlineExceeded(reason="no_time_left")
        headers = {
            DEADLINE_HEADER: time.time() + timeout,
            CALL_IDS_HEADER: next_call_ids(call_ids or [], service, method),
        }
        if token:
            headers[TOKEN_HEADER] = token
        # The broker drops what nobody took in time; the service looks at the deadline for what it took and kept
        # waiting.
        properties = {
            **JSON,
            "delivery_mode": 1,
            "expiration": str(int(timeout * 1000)),
            "application_headers": headers,
        }
        correlation_id = os.urandom(16).hex()
        pending = _Pending(OutgoingMessage(body, self._exchange, routing_key, True, properties), self._gate())
        self._pending[correlation_id] = pending
        try:
            try:
                self._link.publish(lambda: self._not_sent_yet(pending, correlation_id), timeout)
            except LinkDown:
                pass  # it is sent as soon as there is a connection again
            grace = min(_LAST_LOOK_SECONDS, timeout / 4)
            if not pending.wait(ends - time.monotonic() - grace):
                problem: Refused = DeadlineExceeded()
                try:
                    self._look_for(service, grace)
                except Unavailable as nobody:
                    problem = nobody
                # All the same: a process that is stopping takes no more calls, and answers those that it has.
                if not pending.wait(ends - time.monotonic()):
                    raise problem
        finally:
            self._pending.pop(correlation_id, None)
        assert pending.answer is not None
        if isinstance(pending.answer, Refused):
            raise pending.answer
        return pending.answer

    def _look_for(self, service: str, timeout: float) -> None:
        """Raises `Unavailable` where no answer can come: no broker, or no process of the service.

        The broker is asked after a service once at a time, for all who want to know: each for itself, the many callers
        of a service that hangs would wait for one another until they took the broker for gone.
        """
        ends = time.monotonic() + timeout
        processes = None
        while processes is None and (left := ends - time.monotonic()) > 0:
            own = _LookUp()
            look = self._looking.setdefault(service, own)
            if look is own:
                try:
                    processes = self._processes_of(service, left)
                except LinkDown:
                    break
                finally:
                    look.processes = processes
                    del self._looking[service]
                    look.done.set()
            elif look.done.wait(left):
                processes = look.processes  # none: who asked may have had less time than we have
        if processes is None:
            raise Unavailable(reason="no_broker")
        if not processes:
            raise Unavailable(reason="no_process")

    def _processes_of(self, service: str, timeout: float) -> int:
        """How many take the service's calls, by the broker's word. Raises `LinkDown`."""
        queue = request_queue(service)
        return int(self._link.run(lambda channel: channel.queue_declare(queue, passive=True), timeout).consumer_count)
