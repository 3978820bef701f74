"""How a case is taken up for change, and what every change of one leaves behind: a new version and an activity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, insert, select, update

from services.cases.rules import (
    Act,
    Facts,
    Outcome,
    Party,
    State,
    check_version,
    decide,
    grounds_for_reading,
    month_after,
    parties,
    week_before,
)
from services.cases.tables import Row, activities, cases
from services.cases.visibility import Shape, condition, facts, shape, values, viewer
from services.cases.weight import STEP
from shared.database.prepared import Prepared, prepared
from shared.database.transaction import Transaction
from shared.messaging.errors import NotFound

# In SQL: to put a statement together takes SQLAlchemy longer than to run it.
_COLUMNS = tuple(cases.columns.keys())
_NOTE = (
    b"INSERT INTO activities"
    b" (case_id, case_version, care_provider, at, kind, by, person, handler, reason, message) VALUES"
)


def find(tx: Transaction, case: UUID, *, lock: bool = False) -> Row:
    """The case, if the caller may read it; locked until the transaction ends if it is to be changed.

    Raises `NotFound`, the same for what is not there and for what is not the caller's.
    """
    grounds = grounds_for_reading(viewer(tx.caller), tx.now)
    question = _found_by(shape(grounds), lock)
    run = tx.ask if lock else tx.look
    rows = run(question.sql, question.values({"this": case, **values(grounds)}))
    if not rows:
        raise NotFound("Ärendet finns inte.", reason="case_not_found")
    return dict(zip(_COLUMNS, rows[0], strict=True))


@cache
def _found_by(named: Shape, lock: bool) -> Prepared:
    question = select(cases).where(cases.c.id == bindparam("this"), condition(named))
    return prepared(question.with_for_update() if lock else question)


def decided(tx: Transaction, case: Row, act: Act, version: int | None = None) -> Outcome:
    """What the caller's act makes of the case; refused if it has changed since that version, or by the rules."""
    known: Facts = facts(case)
    them = parties(viewer(tx.caller), known)
    if version is not None and them:
        check_version(known, version)
    return decide(known, act, them)


def change(tx: Transaction, case: Row, outcome: Outcome, *, grown: int = 0, **columns: Any) -> int:
    """Writes what the case has become and gives its new version. `grown`: bytes that a message takes in a reply."""
    written: dict[str, Any] = {
        "state": outcome.state.value,
        "version": case["version"] + 1,
        "reply_bytes": case["reply_bytes"] + STEP + grown,
        **columns,
    }
    if outcome.state is State.CLOSED:
        written |= {"closed_reason": outcome.reason, "closed_at": tx.now, "unread": False}
    if outcome.state is not State.AWAITING_RESIDENT:
        written |= {"answer_before": None, "remind_at": None}
    elif columns.get("counter_question_at") is not None:
        written["answer_before"] = month_after(columns["counter_question_at"])
        written["remind_at"] = week_before(written["answer_before"])
    tx.later(_changing(tuple(written)), [*written.values(), case["id"]])
    return int(written["version"])


@cache
def _changing(columns: tuple[str, ...]) -> bytes:
    return f"UPDATE cases SET {', '.join(f'{name} = %s' for name in columns)} WHERE id = %s".encode()  # noqa: S608


def change_by_system(tx: Transaction, found: Sequence[Row], act: Act, kind: str) -> None:
    """What the system does to cases by itself, in three statements for any number of them, each with its activity."""
    outcomes = {case["id"]: decide(facts(case), act, frozenset({Party.SYSTEM})) for case in found}
    for outcome in sorted(set(outcomes.values()), key=str):
        values: dict[str, Any] = {
            "state": outcome.state.value,
            "version": cases.c.version + 1,
            "reply_bytes": cases.c.reply_bytes + STEP,
        }
        if outcome.state is State.CLOSED:
            values |= {"closed_reason": outcome.reason, "closed_at": tx.now, "answer_before": None, "remind_at": None}
            values |= {"unread": False}
        if act is Act.LOSE_HANDLER:
            values |= {"handler": None, "handler_rights_number": None, "unread": outcome.state is State.NEW}
        ids = [case for case, its in outcomes.items() if its == outcome]
        tx.execute(update(cases).where(cases.c.id.in_(ids)).values(values))
    if found:
        tx.execute(
            insert(activities),
            [
                {
                    "case_id": case["id"],
                    "case_version": case["version"] + 1,
                    "care_provider": case["care_provider"],
                    "at": tx.now,
                    "kind": kind,
                    "by": "system",
                    "handler": case["handler"],
                    "reason": outcomes[case["id"]].reason,
                }
                for case in found
            ],
        )


def note(
    tx: Transaction,
    case: Row,
    version: int,
    kind: str,
    *,
    by: str = "staff",
    handler: str | None = None,
    reason: str | None = None,
    message: UUID | None = None,
) -> None:
    """Adds to the case's activities what was done in this version of it, and by whom (R-CASE-3)."""
    person = tx.caller.subject if by == "staff" else None
    step = (case["id"], version, case["care_provider"], tx.now, kind, by, person, handler, reason, message)
    tx.add(_NOTE, step)
