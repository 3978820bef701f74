"""What other services need to know of cases, and nothing more."""

from __future__ import annotations

from sqlalchemy import func, select

from services.cases.rules import State
from services.cases.tables import case_types, cases, messages
from shared.contracts.cases import AskClinicActivity, ClinicActivity, MessagesExist, MessagesThatExist
from shared.database.transaction import Transaction

_OPEN = [state.value for state in State if state is not State.CLOSED]


def messages_exist(tx: Transaction, request: MessagesExist) -> MessagesThatExist:
    """Which of the messages have been sent."""
    found = tx.execute(select(messages.c.id).where(messages.c.id.in_(request.messages))).scalars()
    return MessagesThatExist(existing=list(found))


def clinic_activity(tx: Transaction, request: AskClinicActivity) -> ClinicActivity:
    """How many case types are active and cases open at the clinic (R-DIR-3)."""
    active = select(func.count()).where(case_types.c.clinic == request.clinic, case_types.c.active)
    still_open = select(func.count()).where(cases.c.clinic == request.clinic, cases.c.state.in_(_OPEN))
    row = tx.execute(select(active.scalar_subquery().label("active"), still_open.scalar_subquery().label("open"))).one()
    return ClinicActivity(active_case_types=row.active, open_cases=row.open)
