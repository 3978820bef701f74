"""nameko's wire form: what a request, a reply and their headers look like in the broker.

Requests go to exchange `nameko-rpc` with routing key `service.method` and body `{"args": [], "kwargs": {...}}`; the
reply goes to the same exchange with the request's `reply_to` as routing key and its `correlation_id`, with body
`{"result": ..., "error": ...}`. Context travels in headers that begin with `nameko.`.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import uuid4

import amqp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from shared.contracts.base import Part, Reply
from shared.messaging import topology
from shared.messaging.errors import Internal, Invalid, Refused, from_the_wire

RPC_EXCHANGE = "nameko-rpc"
TOKEN_HEADER = "nameko.auth_token"  # noqa: S105 - the header's name
DEADLINE_HEADER = "nameko.deadline"
CALL_IDS_HEADER = "nameko.call_id_stack"
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
LARGEST_REQUEST_BYTES = 1024 * 1024
LARGEST_REPLY_BYTES = 8 * 1024 * 1024
REQUEST_LIFE_MS = 60_000
"""How long a request without a deadline waits in the queue of a service that is not there."""
REQUEST_QUEUE_ARGUMENTS = {"x-message-ttl": REQUEST_LIFE_MS}
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
REPLY_KEY = re.compile(rf"(reply\.[A-Za-z0-9_-]+\.)?{UUID}")
"""Where an answer may go: a UUID, as nameko's clients have it, or our client's key. A caller could name a call instead,
and so have it made by the service that answers; where that may not make it, the broker would end the service's
connection."""

_CALLER_EXCHANGE = re.compile(r"rpc\.[a-z_]+")
_CALL_IDS_KEPT = 5

Asked = TypeVar("Asked", bound=Part)
Answered = TypeVar("Answered", bound=Reply)


class Envelope(BaseModel, Generic[Asked]):
    """The body of a request. Arguments go by name only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    args: list[Any] = Field(default=[], max_length=0)
    kwargs: Asked


def caller_exchange(user: str) -> str:
    """The exchange by which an outside caller sends its calls: nameko's client declares the one that it uses each time,
    and whoever may declare one may replace it. It is nameko's setting `rpc_exchange`."""
    return f"rpc.{user}"


def sent_by_a_caller(exchange: str) -> bool:
    """Whether requests may come by this exchange: ours, or a caller's own. No other that a user can make has such a
    name: what a user may make begins with `rpc.reply-` and its own name, exchanges as well as queues."""
    return exchange == RPC_EXCHANGE or _CALLER_EXCHANGE.fullmatch(exchange) is not None


def reply_key(user: str) -> str:
    """A new key for answers to a client of ours. It has the user's name in it, so that the broker lets nobody else
    listen: every service that is called sees the key."""
    return f"reply.{user}.{uuid4()}"


def request_queue(service: str) -> str:
    """The queue that a service takes its calls from: those of the other services, and of the operator."""
    return f"rpc-{service}"


def outside_queue(service: str) -> str:
    """The queue that it takes the calls of outside callers from: if one of them calls faster than it is answered,
    the services' calls to each other don't wait behind its."""
    return f"rpc-{service}-outside"


def request_queues(service: str) -> tuple[str, str]:
    """Both."""
    return request_queue(service), outside_queue(service)


def declare_request_queues(channel: amqp.Channel, service: str) -> None:
    """Makes the queues, unless the broker was given its definitions, in which outside callers' calls come to theirs.

    Classic on purpose: a request is worth nothing after its deadline, and its caller repeats it.
    """
    if topology.given(channel.connection):
        return
    topology.declare_exchange(channel, RPC_EXCHANGE, "topic")
    for queue in request_queues(service):
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=REQUEST_QUEUE_ARGUMENTS)
    channel.queue_bind(request_queue(service), RPC_EXCHANGE, f"{service}.*")


def encode_request(request: Part) -> bytes:
    """The body of a request."""
    return b'{"args":[],"kwargs":' + request.model_dump_json().encode() + b"}"


def decode_request(envelope: type[Envelope[Asked]], body: bytes) -> Asked:
    """The request in the body, checked against its contract. Raises `Invalid` that names each faulty field."""
    try:
        return envelope.model_validate_json(body).kwargs
    except ValidationError as error:
        raise Invalid(fields=faults(error)) from None


def faults(error: ValidationError) -> list[tuple[str, str]]:
    """Field and problem for each fault, without the values that were sent (R-SYS-3)."""
    return [
        (_place(fault["loc"], fault["type"]), _problem(fault["type"], fault["msg"], fault.get("ctx") or {}))
        for fault in error.errors(include_url=False, include_input=False)[:50]
    ]


def _place(location: tuple[int | str, ...], kind: str) -> str:
    parts = list(location[1:] if location[:1] == ("kwargs",) else location)
    if kind == "extra_forbidden" and parts:
        parts[-1] = str(parts[-1])[:40]  # a name that the caller made up
    return ".".join(str(part) for part in parts) or "request"


_PROBLEMS = {
    "missing": "saknas",
    "extra_forbidden": "är ett okänt fält",
    "uuid_parsing": "är inget giltigt id",
    "uuid_type": "är inget giltigt id",
    "string_type": "ska vara text",
    "string_too_long": "är för lång",
    "string_too_short": "är för kort",
    "string_pattern_mismatch": "har fel form",
    "int_type": "ska vara ett heltal",
    "bool_type": "ska vara sant eller falskt",
    "list_type": "ska vara en lista",
    "too_long": "har för många värden",
    "too_short": "har för få värden",
    "enum": "är inget av de tillåtna värdena",
    "literal_error": "är inget av de tillåtna värdena",
    "greater_than_equal": "är för litet",
    "less_than_equal": "är för stort",
    "greater_than": "är för litet",
    "less_than": "är för stort",
    "json_invalid": "är ingen giltig JSON",
}


def _problem(kind: str, message: str, _context: dict[str, Any]) -> str:
    if kind in _PROBLEMS:
        return _PROBLEMS[kind]
    own = kind in ("hsa_id", "text") or ("_" not in kind and kind not in ("value_error", "assertion_error"))
    return message if own else "har fel form"


def encode_result(reply: Reply) -> bytes:
    """The body of a reply that succeeded."""
    return b'{"result":' + reply.model_dump_json().encode() + b',"error":null}'


def encode_error(error: Refused) -> bytes:
    """The body of a reply that did not."""
    return to_json({"result": None, "error": error.on_the_wire()})


class ReplyEnvelope(BaseModel, Generic[Answered]):
    """The body of a reply."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    result: Answered | None = None
    error: dict[str, Any] | None = None


@cache
def _reply_envelope(kind: type[Answered]) -> type[ReplyEnvelope[Answered]]:
    return ReplyEnvelope[kind]  # type: ignore[valid-type]


def decode_reply(body: bytes, kind: type[Answered]) -> Answered:
    """The reply in the body. Raises the error that it carries, or `Internal` if it is no reply of this contract."""
    try:
        answer = _reply_envelope(kind).model_validate_json(body)
    except ValidationError:
        raise Internal(reason="reply_malformed") from None
    if answer.error:
        raise from_the_wire(answer.error)
    if answer.result is None:
        raise Internal(reason="reply_malformed")
    result: Answered = answer.result
    return result


def next_call_ids(stack: list[str], service: str, method: str) -> list[str]:
    """The trail of calls, with a new id for this one: it ties the log lines of all services together."""
    return [*stack[-_CALL_IDS_KEPT:], f"{service}.{method}.{os.urandom(8).hex()}"]
