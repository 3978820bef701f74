"""Counter-questions that stay unanswered close their case after one calendar month (R-CASE-7)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from services.cases.changing import change_by_system
from services.cases.rules import Act, State, counter_question_due
from services.cases.tables import cases
from services.cases.visibility import facts
from shared.contracts.cases import CASE_CLOSED, CaseClosedEvent
from shared.database.transaction import Transaction
from shared.operations.logs import log

AT_ONCE = 100


def close_expired(run: Any) -> int:
    """Closes all that are due, some at a time, each lot in a transaction of its own; says how many."""
    closed = 0
    while True:
        with run.transaction() as tx:
            lot = close_some(tx)
        closed += lot
        if lot < AT_ONCE:
            break
    if closed:
        log.info("counter_questions_expired", count=closed)
    return closed


def close_some(tx: Transaction) -> int:
    """Closes up to `AT_ONCE` cases that are due. One that is being written in just now is left for the next run."""
    due = tx.execute(
        select(cases)
        .where(cases.c.state == State.AWAITING_RESIDENT.value, cases.c.answer_before <= tx.now)
        .order_by(cases.c.answer_before, cases.c.id)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    ).mappings()
    found = [case for case in due if (moment := counter_question_due(facts(case))) is not None and moment <= tx.now]
    change_by_system(tx, found, Act.EXPIRE, "closed")
    for case in found:
        tx.publish(
            CASE_CLOSED,
            CaseClosedEvent(
                case=case["id"],
                clinic=case["clinic"],
                resident=case["resident"],
                reason="counter_question_expired",
            ),
            aggregate=case["id"],
        )
    return len(found)
