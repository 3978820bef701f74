"""Every field of every call of cases is given what it should not have: a typed refusal that names the field, or a value
that is as it was meant (R-SYS-3: and never the value in the refusal)."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from datetime import date, datetime
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID, uuid4

import pytest
from pydantic import AwareDatetime, BaseModel

from shared.contracts.base import Call
from shared.messaging.errors import Invalid
from shared.messaging.topology import all_contracts
from shared.messaging.wire import Envelope, decode_request

CALLS: dict[str, Call[Any, Any]] = next(contract for contract in all_contracts() if contract.name == "cases").calls

SAMPLES = {
    "clinic": "SE2321000131-E000000000001",
    "care_provider": "SE2321000131-E000000000003",
    "clinics": ["SE2321000131-E000000000001"],
    "handler": "SE2321000131-P000000000001",
    "person": "SE2321000131-P000000000001",
    "referral": "SE2321000131-E000000000002",
    "number": "2026-0000001",
    "id": "what",
    "component": "what",
    "earliest": "today",
    "latest": "2026-01-31",
    "thread": "bokning-1",
}
MOMENTS = {"until": "2026-02-28T10:00:00Z"}
HOSTILE = {
    "control": "a\x00b",
    "escape": "a\x1b[31mb",
    "override": "abc\u202edef",
    "isolate": "abc\u2066def",
    "invisible": "\u200b\u200d\u2060",
    "blank": " \n\t ",
}
OPAQUE = frozenset({"identity_number", "identity_numbers", "after", "url", "job"})
"""Taken as they come, and looked at where they are used: by identity, as a cursor, as a web address, as a name."""
MAY_BE_BLANK = frozenset({"description", "information", "text", "values"})
WRONG = ({"a": 1}, [[1]], 3.5, True, -(10**30), "x" * 300_000)


def model_of(annotation: Any) -> tuple[Any, bool]:
    """The type without its wrappings, and whether there are several of them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return model_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return model_of(next(one for one in get_args(annotation) if one is not type(None)))
    if origin is list:
        return model_of(get_args(annotation)[0])[0], True
    return annotation, False


def sample(model: type[BaseModel]) -> dict[str, Any]:
    """A request that is in order, with every field filled in."""
    return {name: _value(name, field.annotation) for name, field in model.model_fields.items()}


def _value(name: str, annotation: Any) -> Any:
    kind, several = model_of(annotation)
    if name in SAMPLES and kind is str:
        return SAMPLES[name]
    one: Any
    if get_origin(kind) is Literal:
        one = get_args(kind)[0]
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        one = sample(kind)
    elif kind is UUID:
        one = str(uuid4())
    elif kind is int:
        one = 1
    elif kind is bool:
        one = True
    elif kind is date:
        one = "2026-01-31"
    elif kind in (datetime, AwareDatetime):
        one = MOMENTS.get(name, "2026-01-31T10:00:00Z")
    else:
        one = "ord"
    return [one] if several else one


@cache
def envelope(name: str) -> type[Envelope[Any]]:
    made: type[Envelope[Any]] = Envelope[CALLS[name].request]  # type: ignore[name-defined]
    return made


def decoded(name: str, kwargs: Any) -> Any:
    request: Any = decode_request(envelope(name), json.dumps({"args": [], "kwargs": kwargs}).encode())
    return request


def places(model: type[BaseModel], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, bool]]:
    """Every field there is, however deep: its path in the sample, its type, whether it is one of several."""
    for name, field in model.model_fields.items():
        kind, several = model_of(field.annotation)
        here = (*path, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield here, kind, several
            yield from places(kind, (*here, 0) if several else here)
        else:
            yield here, kind, several


def changed(base: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(base))
    at: Any = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_request_in_order_is_taken(name: str) -> None:
    assert decoded(name, sample(CALLS[name].request))


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_field_refuses_what_it_is_not(name: str) -> None:
    base = sample(CALLS[name].request)
    for path, kind, several in places(CALLS[name].request):
        for value in WRONG:
            fits = kind is bool and not several
            if (fits and value is True) or (isinstance(value, int) and path[-1] == "version"):
                continue  # a version is only compared with the case's
            with pytest.raises(Invalid) as refused:
                decoded(name, changed(base, path, value))
            assert refused.value.fields, (path, value)
            assert "xxx" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_text_refuses_what_can_not_be_seen_or_turns_it_around(name: str) -> None:
    base = sample(CALLS[name].request)
    for path, kind, several in places(CALLS[name].request):
        if kind is not str or path[-1] in OPAQUE:
            continue
        for what, value in HOSTILE.items():
            if what in ("invisible", "blank") and path[-1] in MAY_BE_BLANK:
                continue
            with pytest.raises(Invalid) as refused:
                decoded(name, changed(base, path, [value] if several else value))
            assert any(field.split(".")[0] == path[0] for field, _ in refused.value.fields), (path, what)


NAMES = ("name", "title", "options")
"""What things are known by: no character in them that can't be seen, so that two that look the same are the same."""


@pytest.mark.parametrize("name", sorted(CALLS))
def test_names_have_nothing_hidden_in_them(name: str) -> None:
    base = sample(CALLS[name].request)
    for path, kind, several in places(CALLS[name].request):
        if kind is str and path[-1] in NAMES:
            for value in ("Rec\u200bept", "Rec\u00adept", "Recept\u200e", "Rec\nept", "Rec\tept"):
                with pytest.raises(Invalid):
                    decoded(name, changed(base, path, [value] if several else value))
            if not several:
                assert decoded(name, changed(base, path, "  Recept  ")) == decoded(name, changed(base, path, "Recept"))


@pytest.mark.parametrize("name", sorted(CALLS))
def test_unknown_fields_and_missing_ones_are_refused(name: str) -> None:
    base = sample(CALLS[name].request)
    with pytest.raises(Invalid):
        decoded(name, base | {"admin": True})
    for field, described in CALLS[name].request.model_fields.items():
        if described.is_required():
            with pytest.raises(Invalid) as refused:
                decoded(name, {key: value for key, value in base.items() if key != field})
            assert (field, "saknas") in refused.value.fields
    nothings: tuple[Any, ...] = (None, [], "x", 7)
    for nothing in nothings:
        with pytest.raises(Invalid):
            decoded(name, nothing)
