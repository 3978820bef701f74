"""What other services need to know of cases, and nothing more."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import DateTime, Text, column, func, literal_column, select, text, values

from services.cases.rules import State
from services.cases.tables import UNHANDLED_SINCE, WITH_CLINIC, case_types, cases, messages
from shared.contracts.cases import (
    AskClinicActivity,
    AskOfferedCaseTypes,
    AskUnhandledCases,
    ClinicActivity,
    MessagesExist,
    MessagesThatExist,
    OfferedAtClinic,
    OfferedCaseType,
    OfferedCaseTypes,
    UnhandledCases,
    UnhandledOfClinic,
)
from shared.database.transaction import Transaction

_EVER = datetime(2000, 1, 1, tzinfo=UTC)
_OPEN = [state.value for state in State if state is not State.CLOSED]


def messages_exist(tx: Transaction, request: MessagesExist) -> MessagesThatExist:
    """Which of the messages have been sent."""
    found = tx.execute(select(messages.c.id).where(messages.c.id.in_(request.messages))).scalars()
    return MessagesThatExist(existing=list(found))


def clinic_activity(tx: Transaction, request: AskClinicActivity) -> ClinicActivity:
    """How many case types are active and cases open at the clinic (R-DIR-3)."""
    active = select(func.count()).where(
        case_types.c.clinic == request.clinic, case_types.c.purpose == "resident", case_types.c.active
    )
    still_open = select(func.count()).where(cases.c.clinic == request.clinic, cases.c.state.in_(_OPEN))
    row = tx.execute(select(active.scalar_subquery().label("active"), still_open.scalar_subquery().label("open"))).one()
    return ClinicActivity(active_case_types=row.active, open_cases=row.open)


def offered_case_types(tx: Transaction, request: AskOfferedCaseTypes) -> OfferedCaseTypes:
    """The active case types of each clinic, in the clinic's order, for its contact cards (R-DIR-6, R-DIR-10)."""
    rows = tx.execute(
        select(case_types.c.clinic, case_types.c.id, case_types.c.name)
        .where(case_types.c.clinic.in_(request.clinics), case_types.c.purpose == "resident", case_types.c.active)
        .order_by(case_types.c.clinic, case_types.c.position, case_types.c.id)
    )
    found: dict[str, list[OfferedCaseType]] = {}
    for row in rows:
        found.setdefault(row.clinic, []).append(OfferedCaseType(case_type=row.id, name=row.name))
    return OfferedCaseTypes(clinics=[OfferedAtClinic(clinic=one, case_types=types) for one, types in found.items()])


def unhandled_cases(tx: Transaction, request: AskUnhandledCases) -> UnhandledCases:
    """At each clinic the cases that stand with it, and in which the resident has waited for so long (R-NOT-2).

    Who writes on has waited no less for it: the first message that the clinic has written nothing after counts. A case
    that was answered in part counts again from that answer: the resident still waits for the rest.
    """
    if not request.clinics:
        return UnhandledCases(clinics=[])
    moment = DateTime(timezone=True)
    asked = values(column("clinic", Text), column("since", moment), column("after", moment), name="asked").data(
        [(one.clinic, one.silent_since, one.written_after or _EVER) for one in request.clinics]
    )
    since = literal_column(UNHANDLED_SINCE, moment)
    rows = tx.execute(
        select(cases.c.clinic, func.count().label("count"), func.min(since).label("oldest"))
        .join(asked, cases.c.clinic == asked.c.clinic)
        .where(text(WITH_CLINIC), since <= asked.c.since, since > asked.c.after)
        .group_by(cases.c.clinic)
        .order_by(cases.c.clinic)
    )
    return UnhandledCases(
        clinics=[UnhandledOfClinic(clinic=row.clinic, count=row.count, oldest=row.oldest) for row in rows]
    )
