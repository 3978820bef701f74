"""Lists of cases, by the same rule as reading them, paged by key (R-CASE-3, R-CASE-10, R-CASE-19)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text

from services.cases import access_log, neighbours, system_messages
from services.cases.paging import before, cursor, page, read_cursor
from services.cases.rules import INBOX_STATES, State, end_of_day, start_of_day, waiting_since
from services.cases.tables import UNOPENED, Row, cases, messages
from services.cases.visibility import viewer, visible
from shared.contracts.base import Role
from shared.contracts.case_desk import CaseCounts, CountCases
from shared.contracts.cases import (
    CaseFilter,
    CaseListed,
    CasePage,
    Inbox,
    InboxItem,
    ListClinicCases,
    ListInbox,
    ListMyCases,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Forbidden
from shared.messaging.server import OngoingCall

Listed = TypeVar("Listed", CasePage, CaseCounts)


def of_whom(
    call: OngoingCall[Any, Listed], work: Callable[[Transaction, Any, Sequence[UUID] | None], Listed], nothing: Listed
) -> Listed:
    """The list or count, where need be of one person, whose accounts identity knows by the number (R-ID-24).

    Whoever has no account has no cases: `nothing`. The caller's role is looked at before anyone is asked.
    """
    number, residents = call.request.identity_number, None
    if number is not None:
        call.read(_require_role)
        residents = neighbours.accounts_by_number(call, number)
        if not residents:
            return nothing
    return call.read(work, residents)


NO_CASES = CasePage(cases=[], after=None)
NONE_COUNTED = CaseCounts(new=0, assigned=0, awaiting_resident=0, closed=0, unread=0, waiting_since=None)


def _require_role(tx: Transaction, request: ListClinicCases | ListMyCases | CountCases) -> None:
    """A receiver for the clinic's cases, a handler for their own."""
    if isinstance(request, ListClinicCases) or (isinstance(request, CountCases) and not request.mine):
        tx.caller.require(request.clinic, Role.CASE_RECEIVER)
    elif request.clinic is not None:
        tx.caller.require(request.clinic, Role.CASE_HANDLER)
    elif not tx.caller.rights.clinics_with(Role.CASE_HANDLER):
        raise Forbidden(reason="role_missing")


def clinic_cases(tx: Transaction, request: ListClinicCases, residents: Sequence[UUID] | None = None) -> CasePage:
    """The clinic's cases, open and closed, for its receivers: others are `Forbidden`. `residents`: only theirs."""
    _require_role(tx, request)
    return _staff_page(tx, [cases.c.clinic == request.clinic], request, residents)


def my_cases(tx: Transaction, request: ListMyCases, residents: Sequence[UUID] | None = None) -> CasePage:
    """The cases that the caller handles, at one clinic or at all; for handlers, others are `Forbidden`."""
    _require_role(tx, request)
    conditions = [cases.c.handler == tx.caller.subject]
    if request.clinic is not None:
        conditions.append(cases.c.clinic == request.clinic)
    return _staff_page(tx, conditions, request, residents)


def count(tx: Transaction, request: CountCases, residents: Sequence[UUID] | None = None) -> CaseCounts:
    """How many there are of what the list with the same filters shows (R-CASE-19).

    Of one resident, who is named: a reading of each that is counted (R-CASE-18).
    """
    _require_role(tx, request)
    conditions = [cases.c.clinic == request.clinic]
    if request.mine:
        conditions.append(cases.c.handler == tx.caller.subject)
    if residents is not None:
        counted = select(cases).where(*conditions, visible(viewer(tx.caller), tx.now), *_filtered(request, residents))
        found = tx.execute(counted).mappings().all()
        access_log.log_listing(tx, found)
        conditions.append(cases.c.id.in_([row["id"] for row in found]))  # none that has come since and is not logged
    rows = tx.execute(
        select(
            cases.c.state,
            func.count().label("many"),
            func.count().filter(cases.c.unread).label("unread"),
            func.min(cases.c.resident_wrote_at).label("wrote"),
        )
        .where(*conditions, visible(viewer(tx.caller), tx.now), *_filtered(request, residents))
        .group_by(cases.c.state)
    ).all()
    many = {row.state: row.many for row in rows}
    waiting = [since for row in rows if (since := waiting_since(State(row.state), row.wrote)) is not None]
    return CaseCounts(
        **{state.value: many.get(state.value, 0) for state in State},
        unread=sum(row.unread for row in rows),
        waiting_since=min(waiting, default=None),
    )


def _filtered(request: CaseFilter, residents: Sequence[UUID] | None) -> list[ColumnElement[bool]]:
    """What the request names, as conditions."""
    named: list[tuple[object, ColumnElement[bool]]] = [
        (request.state, cases.c.state == request.state),
        (request.case_type, cases.c.case_type == request.case_type),
        (request.handler, cases.c.handler == request.handler),
        (request.number, cases.c.number == (request.number or "").strip()),
        (request.unread, cases.c.unread if request.unread else ~cases.c.unread),
        (residents, cases.c.resident.in_(residents or [])),
    ]
    conditions = [condition for value, condition in named if value is not None]
    if request.started_from is not None:
        conditions.append(cases.c.started_at >= start_of_day(request.started_from))
    if request.started_to is not None:
        conditions.append(cases.c.started_at < end_of_day(request.started_to))
    return conditions


def _staff_page(
    tx: Transaction,
    conditions: Sequence[ColumnElement[bool]],
    request: ListClinicCases | ListMyCases,
    residents: Sequence[UUID] | None,
) -> CasePage:
    question = select(cases).where(*conditions, visible(viewer(tx.caller), tx.now), *_filtered(request, residents))
    if request.after is not None:
        question = question.where(before(cases.c.started_at, cases.c.id, read_cursor(request.after)))
    question = question.order_by(cases.c.started_at.desc(), cases.c.id.desc()).limit(request.limit + 1)
    rows, after = page(
        tx.execute(question).mappings().all(), request.limit, lambda row: cursor(row["started_at"], row["id"])
    )
    if residents is not None:  # the list says whose the cases are: a reading of each (R-CASE-18)
        access_log.log_listing(tx, rows)
    return CasePage(cases=[_listed(row) for row in rows], after=after)


def _listed(row: Row) -> CaseListed:
    return CaseListed(
        case=row["id"],
        number=row["number"],
        clinic=row["clinic"],
        case_type=row["case_type"],
        case_type_name=row["case_type_name"],
        state=row["state"],
        closed_reason=row["closed_reason"],
        version=row["version"],
        handler=row["handler"],
        started_at=row["started_at"],
        latest_message_at=row["latest_message_at"],
        latest_written_by=row["latest_written_by"],
        unread=row["unread"],
        waiting_since=waiting_since(State(row["state"]), row["resident_wrote_at"]),
    )


def inbox(tx: Transaction, request: ListInbox) -> Inbox:
    """The resident's cases, the one with the latest message first, each with how many messages are unopened."""
    question = select(cases).where(visible(viewer(tx.caller), tx.now))
    if request.after is not None:
        question = question.where(before(cases.c.latest_message_at, cases.c.id, read_cursor(request.after)))
    question = question.order_by(cases.c.latest_message_at.desc(), cases.c.id.desc()).limit(request.limit + 1)
    rows, after = page(
        tx.execute(question).mappings().all(), request.limit, lambda row: cursor(row["latest_message_at"], row["id"])
    )
    unopened = _unopened(tx)
    return Inbox(
        cases=[_item(tx, row, unopened.get(row["id"], 0)) for row in rows], after=after, unopened=sum(unopened.values())
    )


def _unopened(tx: Transaction) -> dict[UUID, int]:
    """By case, how many messages the resident has not opened, in all cases that they see."""
    counted = tx.execute(
        select(messages.c.case_id, func.count().label("unopened"))
        .where(
            messages.c.case_id.in_(select(cases.c.id).where(visible(viewer(tx.caller), tx.now))),
            text(UNOPENED),
        )
        .group_by(messages.c.case_id)
    )
    return {row.case_id: row.unopened for row in counted}


def _item(tx: Transaction, row: Row, unopened: int) -> InboxItem:
    return InboxItem(
        case=row["id"],
        number=row["number"],
        clinic=row["clinic"],
        case_type_name=row["case_type_name"],
        state=row["state"],
        inbox_state=INBOX_STATES[State(row["state"])],
        unopened=unopened,
        started_at=row["started_at"],
        latest_message_at=row["latest_message_at"],
        title=system_messages.title_of(tx, row),
    )
