"""Before a counter-question closes its case the resident is reminded, once, a week ahead (R-CASE-7, R-NOT-3)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, select, update

from services.cases.changing import note
from services.cases.rules import counter_question_due
from services.cases.tables import cases, messages
from services.cases.visibility import facts
from services.cases.weight import STEP
from shared.contracts.cases import ANSWER_REMINDER, AnswerReminderEvent
from shared.database.transaction import Transaction
from shared.operations.logs import log

AT_ONCE = 100


def remind_all(run: Any) -> int:
    """Reminds of all that is to be reminded of, some at a time, each lot in a transaction of its own; says how many."""
    reminded, lot = 0, AT_ONCE
    while lot == AT_ONCE:
        with run.transaction() as tx:
            lot = remind_some(tx)
        reminded += lot
    if reminded:
        log.info("answer_reminders_told", count=reminded)
    return reminded


def remind_some(tx: Transaction) -> int:
    """Tells of up to `AT_ONCE` counter-questions that have a week left, or less. Says how many cases were looked at.

    One that is being written in just now is left for the next run; one that is due already is not touched at all, so
    that the closing finds it free.

    The case's version stays: nothing that staff have read of it has changed.
    """
    asked = messages.c.id.label("message")
    found = (
        tx.execute(
            select(cases, asked)
            .join(messages, and_(messages.c.case_id == cases.c.id, messages.c.sent_at == cases.c.counter_question_at))
            .where(cases.c.remind_at <= tx.now, cases.c.answer_before > tx.now)
            .order_by(cases.c.remind_at, cases.c.id)
            .limit(AT_ONCE)
            .with_for_update(of=cases, skip_locked=True)
        )
        .mappings()
        .all()
    )
    if not found:
        return 0
    done = update(cases).where(cases.c.id.in_([case["id"] for case in found]))
    tx.execute(done.values(remind_at=None, reply_bytes=cases.c.reply_bytes + STEP))
    for case in found:
        due = counter_question_due(facts(case))
        if due is None or due <= tx.now:
            continue
        note(tx, case, case["version"], "reminded", by="system", message=case["message"])
        tx.publish(
            ANSWER_REMINDER,
            AnswerReminderEvent(
                case=case["id"],
                message=case["message"],
                clinic=case["clinic"],
                resident=case["resident"],
                answer_before=due,
            ),
            aggregate=case["id"],
        )
    return len(found)
