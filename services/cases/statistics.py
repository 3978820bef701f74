"""How a clinic fares: what came in, what was answered, how long it took, by case type (R-CASE-20)."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, text, true

from services.cases.rules import State
from services.cases.tables import case_types, cases
from shared.contracts.base import Role, utc
from shared.contracts.case_records import AskStatistics, CaseTypeStatistics, Statistics
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid
from shared.operations.clock import SWEDEN

_BEFORE_ALL = date(2000, 1, 1)


def of_clinic(tx: Transaction, request: AskStatistics) -> Statistics:
    """Of the cases that residents started at the clinic on these days, by Swedish date, and what has become of them.

    For the clinic's local administrators and receivers: others are `Forbidden`.
    """
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN, Role.CASE_RECEIVER)
    since, until = _period(request, tx.now)
    answered = cases.c.closed_reason == "answered"
    done = cases.c.state == State.CLOSED.value
    rows = tx.execute(
        select(
            cases.c.case_type,
            func.max(case_types.c.name).label("name"),
            func.count().label("arrived"),
            func.count().filter(answered).label("answered"),
            func.count().filter(done, ~answered).label("closed_otherwise"),
            func.count().filter(~done).label("open"),
            _median(cases.c.first_reply_at, true()).label("first"),
            _median(cases.c.last_reply_at, answered).label("last"),
        )
        .join(case_types, case_types.c.id == cases.c.case_type)
        .where(
            cases.c.clinic == request.clinic,
            cases.c.started_at >= since,
            cases.c.started_at < until,
            case_types.c.purpose == "resident",
        )
        .group_by(func.grouping_sets(cases.c.case_type, text("()")))
    ).all()
    found = {row.case_type: _shown(row) for row in rows}
    types = [one for case_type, one in found.items() if case_type is not None]
    return Statistics(
        clinic=request.clinic,
        total=found[None],
        case_types=sorted(types, key=lambda one: (one.case_type_name, str(one.case_type))),
    )


def _median(moment: ColumnElement[datetime | None], of: ColumnElement[bool]) -> ColumnElement[float]:
    """Seconds from the start of the case; cases without that moment are passed over."""
    seconds = func.extract("epoch", moment - cases.c.started_at)
    return func.percentile_cont(0.5).within_group(seconds).filter(of)


def _shown(row: Row[Any]) -> CaseTypeStatistics:
    return CaseTypeStatistics(
        case_type=row.case_type,
        case_type_name=row.name if row.case_type else "Alla ärendetyper",
        arrived=row.arrived,
        answered=row.answered,
        closed_otherwise=row.closed_otherwise,
        open=row.open,
        median_seconds_to_first_reply=None if row.first is None else round(row.first),
        median_seconds_to_last_reply=None if row.last is None else round(row.last),
    )


def _period(request: AskStatistics, now: datetime) -> tuple[datetime, datetime]:
    """From midnight in Sweden before the first day to the midnight after the last, or after today."""
    if request.last_day < request.first_day:
        raise Invalid(
            "Perioden slutar innan den börjar.",
            reason="period_empty",
            fields=[("last_day", "ska inte vara före den första dagen")],
        )
    first = max(request.first_day, _BEFORE_ALL)
    last = max(_BEFORE_ALL, min(request.last_day, now.astimezone(SWEDEN).date()))
    return _midnight(first), _midnight(last + timedelta(days=1))


def _midnight(day: date) -> datetime:
    return utc(datetime.combine(day, time(), SWEDEN))
