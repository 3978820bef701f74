"""Lists of cases, by the same rule as reading them, paged by key (R-CASE-3, R-CASE-10, R-CASE-19)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text

from services.cases.paging import before, cursor, page, read_cursor
from services.cases.rules import INBOX_STATES, State
from services.cases.tables import UNOPENED, Row, cases, messages
from services.cases.visibility import viewer, visible
from shared.contracts.base import Role
from shared.contracts.cases import (
    CaseListed,
    CasePage,
    Inbox,
    InboxItem,
    ListClinicCases,
    ListInbox,
    ListMyCases,
)
from shared.database.transaction import Transaction


def clinic_cases(tx: Transaction, request: ListClinicCases) -> CasePage:
    """The clinic's cases, open and closed, for its receivers: others are `Forbidden`."""
    tx.caller.require(request.clinic, Role.CASE_RECEIVER)
    return _staff_page(tx, [cases.c.clinic == request.clinic], request)


def my_cases(tx: Transaction, request: ListMyCases) -> CasePage:
    """The cases that the caller handles: at one clinic, where others than handlers are `Forbidden`, or at all."""
    conditions = [cases.c.handler == tx.caller.subject]
    if request.clinic is not None:
        tx.caller.require(request.clinic, Role.CASE_HANDLER)
        conditions.append(cases.c.clinic == request.clinic)
    return _staff_page(tx, conditions, request)


def _staff_page(
    tx: Transaction, conditions: Sequence[ColumnElement[bool]], request: ListClinicCases | ListMyCases
) -> CasePage:
    question = select(cases).where(*conditions, visible(viewer(tx.caller), tx.now))
    if request.state is not None:
        question = question.where(cases.c.state == request.state)
    if request.after is not None:
        question = question.where(before(cases.c.started_at, cases.c.id, read_cursor(request.after)))
    question = question.order_by(cases.c.started_at.desc(), cases.c.id.desc()).limit(request.limit + 1)
    rows, after = page(
        tx.execute(question).mappings().all(), request.limit, lambda row: cursor(row["started_at"], row["id"])
    )
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
    unopened = _unopened(tx, [row["id"] for row in rows])
    return Inbox(cases=[_item(row, unopened.get(row["id"], 0)) for row in rows], after=after)


def _unopened(tx: Transaction, found: list[UUID]) -> dict[UUID, int]:
    if not found:
        return {}
    counted = tx.execute(
        select(messages.c.case_id, func.count().label("unopened"))
        .where(messages.c.case_id.in_(found), text(UNOPENED))
        .group_by(messages.c.case_id)
    )
    return {row.case_id: row.unopened for row in counted}


def _item(row: Row, unopened: int) -> InboxItem:
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
    )
