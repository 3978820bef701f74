"""The rule of who may read a case, as a condition for the database: lists and readings use the same one (R-CASE-19)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, or_, true

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
    return or_(false(), *(_covered(ground) for ground in grounds_for_reading(who, now)))


def _covered(ground: Ground) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [true()]
    if ground.clinics is not None:
        conditions.append(cases.c.clinic.in_(sorted(ground.clinics)))
    if ground.handler is not None:
        conditions.append(cases.c.handler == ground.handler)
    if ground.resident is not None:
        conditions.append(cases.c.resident == ground.resident)
    if ground.elsewhere_than:
        conditions.append(cases.c.clinic.not_in(sorted(ground.elsewhere_than)))
    if ground.written_after is not None:
        conditions.append(cases.c.latest_message_at > ground.written_after)
    return and_(*conditions)


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
