"""The rule of who may read a case, as a condition for the database: lists and readings use the same one (R-CASE-19)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ARRAY, BindParameter, ColumnElement, Text, and_, any_, bindparam, false, or_, true

from services.cases.rules import Facts, Ground, State, Viewer, grounds_for_reading
from services.cases.tables import Row, cases
from shared.contracts.base import Role
from shared.security.caller import Caller


def viewer(caller: Caller) -> Viewer:
    """Who asks, as the rules see it. A guardian stands where the child stands (R-ID-11)."""
    if caller.kind == "staff":
        return Viewer(
            person=caller.subject,
            receiver_at=frozenset(caller.rights.clinics_with(Role.CASE_RECEIVER)),
            handler_at=frozenset(caller.rights.clinics_with(Role.CASE_HANDLER)),
        )
    if caller.kind == "resident":
        return Viewer(resident=resident(caller), blocked_at=caller.blocked_at)
    return Viewer()


def resident(caller: Caller) -> UUID:
    """Whose cases a resident's call is about: the caller's own, or the child's that they act for."""
    return caller.acting_for or UUID(caller.subject)


def visible(who: Viewer, now: datetime) -> ColumnElement[bool]:
    """The condition on `cases` that lets through exactly what the rule lets this viewer read."""
    grounds = grounds_for_reading(who, now)
    return _any_of(shape(grounds), values(grounds).__getitem__)


Shape: TypeAlias = tuple[tuple[str, ...], ...]
"""What each of the viewer's grounds names: the condition is the same for all whose grounds name the same."""

_CONDITIONS: Mapping[str, Callable[[Any], ColumnElement[bool]]] = {
    "clinics": lambda clinics: _among(cases.c.clinic, clinics),
    "handler": lambda handler: cases.c.handler == handler,
    "resident": lambda resident: cases.c.resident == resident,
    "elsewhere_than": lambda clinics: ~_among(cases.c.clinic, clinics),
    "written_after": lambda moment: cases.c.latest_message_at > moment,
}


def _among(column: ColumnElement[Any], values: Any) -> ColumnElement[bool]:
    """Values that are named only when it is run come as one array, so that the statement is the same for any number."""
    return column == any_(values) if isinstance(values, BindParameter) else column.in_(values)


_SETS = ("clinics", "elsewhere_than")
_NAMED = tuple(field.name for field in fields(Ground))


def shape(grounds: Sequence[Ground]) -> Shape:
    """What they name, without the values."""
    return tuple(tuple(name for name in _NAMED if _names(ground, name)) for ground in grounds)


def _names(ground: Ground, name: str) -> bool:
    value = getattr(ground, name)
    return bool(value) if name == "elsewhere_than" else value is not None


@cache
def condition(named: Shape) -> ColumnElement[bool]:
    """The same condition for grounds of this shape, to be made complete by their `values` when it is run."""
    return _any_of(named, lambda name: bindparam(name, type_=ARRAY(Text) if name.startswith(_SETS) else None))


def _any_of(named: Shape, value: Callable[[str], Any]) -> ColumnElement[bool]:
    every = (
        and_(true(), *(_CONDITIONS[name](value(f"{name}_of_{place}")) for name in names))
        for place, names in enumerate(named)
    )
    return or_(false(), *every)


def values(grounds: Sequence[Ground]) -> dict[str, Any]:
    """What makes the condition complete: every value that the grounds name."""
    found: dict[str, Any] = {}
    for place, ground in enumerate(grounds):
        for name in _NAMED:
            if _names(ground, name):
                value = getattr(ground, name)
                found[f"{name}_of_{place}"] = sorted(value) if name in _SETS else value
    return found


def facts(case: Row) -> Facts:
    """What the rules need of a row of `cases`."""
    return Facts(
        clinic=case["clinic"],
        resident=case["resident"],
        state=State(case["state"]),
        version=case["version"],
        handler=case["handler"],
        latest_message_at=case["latest_message_at"],
        counter_question_at=case["counter_question_at"],
        resident_wrote_at=case["resident_wrote_at"],
    )
