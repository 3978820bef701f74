"""Answering calls: what stands between the broker and a service's method.

For each request: the deadline, the caller's token, the contract, the method, the answer or a typed error, and only then
the acknowledgement. A process that dies before that gives the request back, and it is run again: queries change
nothing, commands have their request id.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import amqp
from pydantic_core import to_json

from shared.contracts.base import Answered, Asked, Call, Command, Contract, ContractError, Reply
from shared.database.transaction import Database, Wish
from shared.messaging.errors import (
    DeadlineExceeded,
    Forbidden,
    Internal,
    Invalid,
    LimitExceeded,
    NotAuthenticated,
    NotFound,
    Refused,
    TermsNotAccepted,
    Unavailable,
)
from shared.messaging.link import Delivery, Link, LinkDown, OutgoingMessage
from shared.messaging.topology import all_contracts
from shared.messaging.wire import (
    CALL_IDS_HEADER,
    DEADLINE_HEADER,
    JSON,
    LARGEST_REPLY_BYTES,
    LARGEST_REQUEST_BYTES,
    REPLY_KEY,
    RPC_EXCHANGE,
    TOKEN_HEADER,
    Envelope,
    declare_request_queues,
    decode_request,
    encode_error,
    encode_result,
    next_call_ids,
    request_queues,
    sent_by_a_caller,
)
from shared.operations import clock
from shared.operations.logs import log
from shared.security.caller import ANYONE, Caller
from shared.security.rights import HELD_FOR_SECONDS

if TYPE_CHECKING:
    from datetime import datetime

    from shared.database.transaction import Transaction
    from shared.operations.core import Core

LONGEST_CALL_SECONDS = 30.0
_REPLY_RETRY_SECONDS = 3.0
_NOTHING_LEFT_SECONDS = 0.001
_CALL_IDS_KEPT = 6
_CALL_ID = re.compile(
    r"(?P<method>[a-z_]{1,40}\.[a-z_]{1,60})\.(?P<id>[0-9a-f]{16}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)

_DETOUR_HEADER = "x-death"
"""The broker writes it on what comes out of a queue as a dead letter, and asks for no right to call then: whoever has a
queue could name a method as where its dead letters go. So it is with an exchange that is bound to ours, and with copies
(`CC`, `BCC`), whose routing key is another's. Requests are taken only from whoever published them."""
_FAILED = encode_error(Internal())

Extras = ParamSpec("Extras")
Result = TypeVar("Result")
Fact = TypeVar("Fact")
Replied = TypeVar("Replied", bound=Reply)


class OngoingCall(Generic[Asked, Answered]):
    """One call while it is answered: who asks what, and the ways to answer it."""

    def __init__(
        self,
        core: Core,
        call: Call[Asked, Answered],
        request: Asked,
        caller: Caller,
        ends: float,
        ids: list[str],
        rights_as_of: float,
    ) -> None:
        self._core = core
        self.contract = call
        self.request = request
        self.caller = caller
        self.call_ids = ids
        self._ends = ends
        self._rights_as_of = rights_as_of
        self._wrote = False
        self.settings: Any = core.settings

    @property
    def remaining(self) -> float:
        """Seconds until the caller gives up."""
        return self._ends - time.monotonic()

    @property
    def deadline(self) -> float:
        """The same as epoch seconds."""
        return time.time() + self.remaining

    @property
    def now(self) -> datetime:
        return clock.now()

    @property
    def origin(self) -> str:
        """The id of the call that began it all, for the log lines of what follows from it."""
        return self.call_ids[0]

    def write(
        self,
        work: Callable[Concatenate[Transaction, Asked, Extras], Answered],
        *extras: Extras.args,
        **named: Extras.kwargs,
    ) -> Answered:
        """Runs `work(tx, request, *extras)` in one transaction, once for each request id (R-CASE-17).

        A repeated id gives the stored answer. The events that `work` publishes are stored in the same transaction.
        """
        request = self.request
        if not isinstance(request, Command):
            raise ContractError(f"{self.contract.routing_key} is a query and may not write")
        self._look_at_the_time()
        self._look_at_the_rights()
        self._wrote = True
        return self._core.database.write_once(
            request.request_id,
            self.caller,
            self.contract.name,
            fingerprint(request),
            lambda tx: work(tx, request, *extras, **named),
            dump=lambda reply: reply.model_dump_json().encode(),
            load=self.contract.reply.model_validate_json,
            origin=self.origin,
        )

    def write_together(
        self, work: Callable[[Transaction, Sequence[tuple[Asked, Fact]]], Sequence[Answered]], fact: Fact
    ) -> Answered:
        """As `write`, but in one transaction with calls of the same kind that come at the same moment.

        `work(tx, [(request, fact), …])` answers for each, and must be the same for all calls of the kind, but for
        `fact`. If it raises, nothing stands, and each is made by itself: then it gets one alone. For calls that anyone
        may make: the transaction has no caller.
        """
        request = self.request
        if not isinstance(request, Command) or self.caller is not ANYONE:
            raise ContractError(f"{self.contract.routing_key} can't be written together with others")
        self._look_at_the_time()
        wish = Wish(request.request_id, self.caller, self.contract.name, fingerprint(request))
        kind = self._core.together(f"write {self.contract.name}", _write_together)
        answer: Answered = kind.do(
            (wish, work, (request, fact)), lambda: self.write(lambda tx, _: work(tx, [(request, fact)])[0])
        )
        return answer

    def read_together(self, work: Callable[[Transaction, Sequence[Asked]], Sequence[Result]]) -> Result:
        """As `read`, but in one transaction with calls of the same kind that come at the same moment.

        `work(tx, requests)` answers for each, and raises for none. For calls that anyone may make.
        """
        if self.caller is not ANYONE:
            raise ContractError(f"{self.contract.routing_key} can't be read together with others")
        self._look_at_the_time()
        kind = self._core.together(f"read {self.contract.name}", _read_together)
        found: Result = kind.do((work, self.request), lambda: self.read(lambda tx, request: work(tx, [request])[0]))
        return found

    def read(
        self,
        work: Callable[Concatenate[Transaction, Asked, Extras], Result],
        *extras: Extras.args,
        **named: Extras.kwargs,
    ) -> Result:
        """Runs `work(tx, request, *extras)` in one transaction that is committed before the answer leaves."""
        self._look_at_the_time()
        self._look_at_the_rights()
        return self._core.database.read(
            lambda tx: work(tx, self.request, *extras, **named), caller=self.caller, origin=self.origin
        )

    def ask(self, call: Call[Any, Replied], request: Any, timeout: float | None = None) -> Replied:
        """Asks another service, as this service, with the time that is left, or `timeout` seconds if that is less."""
        self._look_at_the_time()
        return self._core.client.ask(
            call,
            request,
            token=self._core.signer.own_token(),
            timeout=self.remaining if timeout is None else min(timeout, self.remaining),
            call_ids=self.call_ids,
        )

    def refuse(self, refusal: Refused) -> Answered:
        """For a refusal that came before anything was written: raises it, unless the request has had its effect before.

        What stands in the way of a repetition need not have stood in the way of the first: a case is closed, a service
        does not answer. A repeated request gets its first answer all the same (R-CASE-17); but never someone who may
        not have it any more, for R-ID-10 goes before.
        """

        def nothing(_tx: Transaction, _request: Asked) -> Answered:
            raise refusal

        about_the_caller = isinstance(refusal, NotAuthenticated | TermsNotAccepted | Forbidden)
        if self._wrote or not self.contract.changes or not self.caller.subject or about_the_caller:
            raise refusal
        return self.write(nothing)

    def _look_at_the_rights(self) -> bool:
        """Takes the caller's rights anew if they are not fresh any more, as after waiting for another service
        (R-ID-10).

        Says whether they are as they were. Raises `NotAuthenticated` if the session has ended.
        """
        if not self.caller.is_person or time.monotonic() - self._rights_as_of <= HELD_FOR_SECONDS:
            return True
        before, self._rights_as_of = self.caller.rights, time.monotonic()
        self.caller = self._core.with_rights(self.caller)
        return self.caller.rights == before

    def answer(self, reply: object) -> object:
        """The reply, if whoever asked may still have it: what was read may have waited for another service since."""
        if not self.contract.changes and not self._look_at_the_rights():
            raise Unavailable(reason="rights_changed")
        return reply

    def _look_at_the_time(self) -> None:
        if self.remaining <= _NOTHING_LEFT_SECONDS:
            raise DeadlineExceeded


def _write_together(database: Database, calls: Sequence[tuple[Wish, Any, Any]]) -> Sequence[Any]:
    _, work, _ = calls[0]
    return database.write_once_together(
        [wish for wish, _, _ in calls],
        lambda tx: work(tx, [asked for _, _, asked in calls]),
        dump=lambda reply: reply.model_dump_json().encode(),
    )


def _read_together(database: Database, calls: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
    work, _ = calls[0]
    answers: Sequence[Any] = database.read(lambda tx: work(tx, [request for _, request in calls]))
    return answers


def fingerprint(request: Command) -> bytes:
    """What a repeated request is compared by: its content without the id, and without what is as it is by itself.

    Not to be kept as it is, for it can be tried out: `Database.write_once` keys it.
    So it stays the same when the contract gets another field between the first attempt and the repetition.
    """
    return hashlib.sha256(
        to_json(request.model_dump(mode="json", exclude={"request_id"}, exclude_defaults=True))
    ).digest()


def call_ids(sent: object, call: Call[Any, Any]) -> list[str]:
    """The trail of calls that led here; a new one if there is none.

    Callers write it, and it goes into logs and events: only random ids are kept, and names of our own methods
    (R-SYS-3).
    """
    given = sent[-_CALL_IDS_KEPT:] if isinstance(sent, list) else []
    found = [_CALL_ID.fullmatch(one) for one in given if isinstance(one, str)]
    kept = [f"{one['method'] if one['method'] in _methods() else 'outside.call'}.{one['id']}" for one in found if one]
    return kept or next_call_ids([], call.service, call.name)


@cache
def _methods() -> frozenset[str]:
    return frozenset(call.routing_key for contract in all_contracts() for call in contract.calls.values())


class RpcServer:
    """Takes a service's calls from the broker. `spawn(method name, work)` runs work on a thread of the service."""

    def __init__(self, core: Core, contract: Contract, spawn: Callable[[str, Callable[..., None]], None]) -> None:
        self._core = core
        self._contract = contract
        self._spawn = spawn
        self._envelopes: dict[str, type[Envelope[Any]]] = {
            name: Envelope[call.request]  # type: ignore[name-defined]
            for name, call in contract.calls.items()
        }
        self._under_way = 0
        self._link = Link(
            core.settings.amqp_url,
            f"{contract.name} answers",
            self._take,
            ca_file=core.ca_file,
            on_delivery=self._arrived,
        )

    @property
    def connected(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        self._link.start()

    def stop(self, timeout: float = 25.0) -> None:
        """Takes no more calls, finishes those begun, gives back the rest."""
        try:
            self._link.run(self._take_no_more)
        except LinkDown:
            pass
        ends = time.monotonic() + timeout
        while self._under_way and time.monotonic() < ends:
            time.sleep(0.02)
        self._link.stop()

    def _take(self, channel: amqp.Channel) -> None:
        declare_request_queues(channel, self._contract.name)
        channel.basic_qos(0, self._core.settings.max_workers, False)  # of each of the queues
        for queue in request_queues(self._contract.name):
            channel.basic_consume(queue, consumer_tag=queue, callback=self._link.collect)

    def _take_no_more(self, channel: amqp.Channel) -> None:
        for queue in request_queues(self._contract.name):
            channel.basic_cancel(queue)

    def _arrived(self, delivery: Delivery) -> None:
        if delivery.unreadable:
            self._link.ack(delivery)  # nobody to answer, nothing to do
            log.warning("request_unreadable")
            return
        service, _, method = delivery.routing_key.partition(".")
        straight = service == self._contract.name and sent_by_a_caller(delivery.exchange)
        if not straight or _DETOUR_HEADER in delivery.headers:
            self._link.ack(delivery)
            log.warning("request_by_a_detour", exchange=delivery.exchange)
            return
        self._under_way += 1
        if method in self._contract.calls:
            self._spawn(method, lambda run: self._answer(delivery, self._contract.calls[method], run))
        else:  # not on this thread, which is the connection's
            unknown = encode_error(NotFound("Anropet finns inte.", reason="unknown_method"))
            threading.Thread(target=self._finish, args=(delivery, unknown), name="unknown method", daemon=True).start()

    def _answer(self, delivery: Delivery, call: Call[Any, Any], run: Callable[[OngoingCall[Any, Any]], Any]) -> None:
        began = time.monotonic()
        body, code, reason = _FAILED, "internal", None
        ids = call_ids(delivery.headers.get(CALL_IDS_HEADER), call)
        try:
            body, code = self._result(delivery, call, run, ids), "ok"
        except Refused as refusal:
            body, code, reason = encode_error(refusal), refusal.code, refusal.reason
        except Exception as error:  # what was not foreseen: told without its text, which may hold anything
            log.error("call_failed", method=call.name, call_id=ids[-1], exc_info=error)
        finally:
            seconds = time.monotonic() - began
            self._finish(delivery, body)
        self._core.metrics.call(call.name, code, seconds)  # now, when nobody waits any more
        if code not in ("ok", "internal"):
            duration = round(seconds * 1000, 1)
            log.info("call_refused", method=call.name, call_id=ids[-1], code=code, reason=reason, duration_ms=duration)

    def _result(
        self, delivery: Delivery, call: Call[Any, Any], run: Callable[[OngoingCall[Any, Any]], Any], ids: list[str]
    ) -> bytes:
        ends = self._ends(delivery)
        if len(delivery.body) > LARGEST_REQUEST_BYTES:
            raise LimitExceeded("Anropet är för stort.", reason="request_too_large")
        as_of = time.monotonic()
        caller = self._authenticate(call, delivery.headers.get(TOKEN_HEADER))
        request = decode_request(self._envelopes[call.name], delivery.body)
        ongoing = OngoingCall(self._core, call, request, caller, ends, ids, as_of)
        try:
            reply = ongoing.answer(run(ongoing))
        except Refused as refusal:
            reply = ongoing.refuse(refusal)
        if not isinstance(reply, Reply):
            raise TypeError(f"{call.routing_key} answered something else than its contract says")
        body = encode_result(reply)
        if len(body) > LARGEST_REPLY_BYTES:
            raise LimitExceeded("Svaret är för stort.", reason="reply_too_large")
        return body

    @staticmethod
    def _ends(delivery: Delivery) -> float:
        deadline = delivery.headers.get(DEADLINE_HEADER)
        if deadline is None:
            return delivery.received + LONGEST_CALL_SECONDS
        if isinstance(deadline, bool) or not isinstance(deadline, (int, float)):
            raise Invalid(fields=[("deadline", "ska vara sekunder sedan epoken")])
        remaining = min(float(deadline) - time.time(), LONGEST_CALL_SECONDS)
        if not remaining > 0:
            raise DeadlineExceeded(reason="expired_before_start")
        return time.monotonic() + remaining

    def _authenticate(self, call: Call[Any, Any], token: object) -> Caller:
        """Who calls, if they may: the token's signature, its session and rights as they are now, and the contract."""
        if "anyone" in call.who:
            return ANYONE
        claims = self._core.verifier.verify(token)
        caller = Caller(
            kind=claims.kind,
            subject=claims.subject,
            session=claims.session,
            acting_for=claims.acting_for,
            terms_accepted=claims.terms_accepted,
        )
        if not call.who & {claims.kind, f"{claims.kind}:{claims.subject}"}:
            raise Forbidden(reason="not_for_this_caller")
        if caller.is_person:
            caller = self._core.with_rights(caller)
            if not caller.terms_accepted and not call.before_terms:
                raise TermsNotAccepted
        return caller

    def _finish(self, delivery: Delivery, body: bytes) -> None:
        """Sends the answer, then acknowledges.

        Without a connection it waits a little: the caller may still be there. An answer that could not be sent leaves
        the request to be answered again.
        """
        reply_to = delivery.properties.get("reply_to")
        if not isinstance(reply_to, str) or not REPLY_KEY.fullmatch(reply_to):
            self._link.ack(delivery)
        else:
            correlation_id = delivery.properties.get("correlation_id")
            properties = {**JSON, "delivery_mode": 1, "correlation_id": correlation_id}
            if not self._answered(delivery, OutgoingMessage(body, RPC_EXCHANGE, reply_to, properties=properties)):
                self._link.reject(delivery, requeue=True)
        self._under_way -= 1

    def _answered(self, delivery: Delivery, answer: OutgoingMessage) -> bool:
        gives_up = time.monotonic() + _REPLY_RETRY_SECONDS
        while True:
            try:
                self._link.answer(delivery, answer, self._core.settings.max_workers)
                return True
            except LinkDown:
                if time.monotonic() > gives_up:
                    log.warning("reply_not_sent", problem="no_broker")
                    return False
                time.sleep(0.05)
