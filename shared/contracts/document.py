"""Writes docs/rpc.md and docs/events.md from the contracts; `--check` only says whether they are up to date."""

from __future__ import annotations

import sys
from datetime import date, datetime
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shared.contracts.base import Call, Contract, Event
from shared.messaging.errors import BY_CODE
from shared.messaging.topology import all_contracts

SERVICES = ("identity", "directory", "cases", "attachments", "notifications")
DOCS = Path(__file__).parents[2] / "docs"

_SIMPLE = {str: "text", int: "whole number", float: "number", bool: "true or false", UUID: "UUID", Any: "any"}
_AUDIENCES = {"anyone": "anyone, without a token", "service": "any service of ours", "system": "any connected system"}


def contracts() -> list[Contract]:
    """The contract of each service, in the order that a case meets them."""
    found = {contract.name: contract for contract in all_contracts()}
    return [found[name] for name in SERVICES]


def type_name(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if annotation in (datetime, date):
        return "moment (ISO 8601 with zone)" if annotation is datetime else "date (ISO 8601)"
    if origin is Literal:
        return ", ".join(f"`{getattr(one, 'value', one)}`" for one in arguments)
    if origin in (Union, UnionType):
        some = [type_name(one) for one in arguments if one is not NoneType]
        return " or ".join(some) + (" or null" if NoneType in arguments else "")
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"object of {type_name(arguments[1])} by {type_name(arguments[0])}"
    if origin is Annotated:
        return "HSA-id" if "hsa_id" in repr(arguments) else type_name(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    return getattr(annotation, "__name__", str(annotation))


def _field_type(field: FieldInfo) -> str:
    for mark in field.metadata:
        if "hsa_id" in repr(mark):
            return "HSA-id"
    return type_name(field.annotation)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=False)
    if isinstance(value, Enum):
        value = value.value
    return "null" if value is None else f"`{value}`" if isinstance(value, (str, int, float, bool)) else "empty"


def _table(model: type[BaseModel], head: str) -> list[str]:
    lines = [f"| {head} | type | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {_field_type(field)} | {_default(field)} |")
    return lines


def _parts(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    """Collects the models that a model is made of."""

    def look(annotation: Any) -> None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if is_model and annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            _parts(annotation, found)
        for argument in get_args(annotation):
            look(argument)

    for field in model.model_fields.values():
        look(field.annotation)


def _text(documented: type) -> str:
    lines = [line.strip() for line in (documented.__doc__ or "").strip().splitlines()]
    return "\n".join(lines)


def _call(call: Call[Any, Any]) -> list[str]:
    who = ", ".join(_AUDIENCES.get(one, one.replace(":", " ")) for one in sorted(call.who))
    lines = [f"### {call.service}.{call.name}", "", _text(call.request), ""]
    lines.append(f"Who: {who}." + (" Also before the terms are accepted." if call.before_terms else ""))
    lines += ["", *_table(call.request, "argument"), ""] if call.request.model_fields else ["", "No arguments.", ""]
    answer = call.reply
    own = _text(answer) if answer.__doc__ and answer.__doc__ != (answer.__base__.__doc__ or "") else ""
    if answer.model_fields:
        lines += [f"Answer: {own}" if own else "Answer:", "", *_table(answer, "field"), ""]
    else:
        lines += [f"Answer: {own or 'empty.'}", ""]
    return lines


_HEAD = """# Calls

Made from the contracts in `shared/contracts` by `python -m shared.contracts.document`; do not edit.

Any nameko client can make these calls; nothing of this project is needed at the caller's end:

```python
from uuid import uuid4
from nameko.standalone.rpc import ClusterRpcProxy

config = {"AMQP_URI": "amqps://portal:…", "rpc_exchange": "rpc.portal"}  # a broker's user, and its own exchange
with ClusterRpcProxy(config, context_data={"auth_token": access_token}, timeout=10) as rpc:
    rpc.cases.list_inbox(limit=20)
    rpc.cases.send_message(request_id=str(uuid4()), case="…", text="Tack!", attachments=[])
```

- Arguments go by name. What changes something takes a `request_id` (a UUID of the caller's making): the same call with
  the same id, sent again, has one effect and gets the same answer.
- `auth_token` in the context says who calls: a person's access token from `identity.complete_login`, or a token signed
  by the key of a service, a connected system or the operator.
- `deadline` in the context, optional: epoch seconds after which the caller no longer waits (the clocks of callers and
  services agree within a second or so). A call that has not begun by then is dropped unrun. No call runs more than 30
  s.
- A request is at most 1 MiB. Moments are ISO 8601 with a zone.

An error arrives as nameko's `RemoteError`: `exc_type` is one of the codes below, `value` is `reason: message`, where
the reason, if there is one, is a stable word for programs and the message is Swedish, for people.

| code | meaning |
|---|---|
"""


def rpc_document() -> str:
    """docs/rpc.md."""
    lines = [_HEAD.rstrip()]
    for code, kind in BY_CODE.items():
        lines.append(f"| `{code}` | {(kind.__doc__ or '').strip().splitlines()[0].replace('|', '/')} |")
    for contract in contracts():
        module = import_module(f"shared.contracts.{contract.name}")
        lines += ["", f"## {contract.name}", "", (module.__doc__ or "").strip(), ""]
        found: dict[str, type[BaseModel]] = {}
        for call in contract.calls.values():
            lines += _call(call)
            _parts(call.request, found)
            _parts(call.reply, found)
        if found:
            lines += [f"### Parts of {contract.name}", ""]
            for name, model in sorted(found.items()):
                lines += [
                    f"#### {name}",
                    "",
                    *([_text(model), ""] if model.__doc__ else []),
                    *_table(model, "field"),
                    "",
                ]
    return "\n".join(lines).rstrip() + "\n"


def _event(event: Event[Any]) -> list[str]:
    heard = ", ".join(sorted(event.heard_by)) or "no service of ours"
    return [
        f"### {event.service}.{event.name}",
        "",
        _text(event.body),
        "",
        f"Heard by: {heard}.",
        "",
        *_table(event.body, "field"),
        "",
    ]


_EVENTS_HEAD = """# Events

Made from the contracts in `shared/contracts` by `python -m shared.contracts.document`; do not edit.

An event goes to the topic exchange `<service>.events` with its name as routing key, so that nameko's own
`event_handler("cases", "case_started")` hears it too. Its id is the message's `message_id`; it may come more than once
and, after a failure, out of order: take each id once, and of versions the newest. It carries ids, never personal data.
"""


def events_document() -> str:
    """docs/events.md."""
    lines = [_EVENTS_HEAD.rstrip(), ""]
    for contract in contracts():
        if contract.events:
            lines += [f"## {contract.name}", ""]
            for event in contract.events.values():
                lines += _event(event)
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    """Writes the documents, or with `--check` tells which are not up to date."""
    stale = []
    for name, text in (("rpc.md", rpc_document()), ("events.md", events_document())):
        path = DOCS / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    if stale and "--check" in arguments:
        print(f"not up to date: {', '.join(stale)}; run: python -m shared.contracts.document", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
