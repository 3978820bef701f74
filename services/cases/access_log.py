"""Who of the staff has read what: written in the transaction that lets it be read (R-CASE-18)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, insert, select

from services.cases.paging import number_cursor, page, read_number_cursor
from services.cases.tables import Row, access_log, access_log_unsealed
from services.cases.visibility import resident
from shared.contracts.base import Role
from shared.contracts.cases import (
    AccessLog,
    AccessLogEntry,
    MyAccessLog,
    MyAccessLogEntry,
    ReadAccessLog,
    ReadMyAccessLog,
)
from shared.contracts.directory import StaffFacts
from shared.database.transaction import Transaction


def log_reading(
    tx: Transaction, case: Row, what: Literal["case", "attachment"], attachment: UUID | None = None
) -> None:
    """Adds a row for the caller, who is staff and is about to read this."""
    tx.execute(
        insert(access_log).values(
            at=tx.now,
            person=tx.caller.subject,
            clinic=case["clinic"],
            care_provider=case["care_provider"],
            case_id=case["id"],
            number=case["number"],
            resident=case["resident"],
            what=what,
            attachment=attachment,
        )
    )


def of_clinic(tx: Transaction, request: ReadAccessLog) -> AccessLog:
    """The readings of the clinic's cases, or of one of them, latest first, for its log reviewers."""
    tx.caller.require(request.clinic, Role.LOG_REVIEWER)
    conditions = [access_log.c.clinic == request.clinic]
    if request.case is not None:
        conditions.append(access_log.c.case_id == request.case)
    rows, after = _page(tx, conditions, request.after, request.limit)
    waiting = set(
        tx.execute(
            select(access_log_unsealed.c.entry).where(access_log_unsealed.c.entry.in_([row["entry"] for row in rows]))
        ).scalars()
    )
    return AccessLog(entries=[_entry(row, sealed=row["entry"] not in waiting) for row in rows], after=after)


def of_resident(tx: Transaction, request: ReadMyAccessLog) -> tuple[list[Row], str | None]:
    """The readings of the resident's own cases, latest first; rows, as the readers' names are still to be asked for."""
    return _page(tx, [access_log.c.resident == resident(tx.caller)], request.after, request.limit)


def _page(
    tx: Transaction, conditions: Sequence[ColumnElement[bool]], after: str | None, limit: int
) -> tuple[list[Row], str | None]:
    question = select(access_log).where(*conditions)
    if after is not None:
        question = question.where(access_log.c.entry < read_number_cursor(after))
    rows = tx.execute(question.order_by(access_log.c.entry.desc()).limit(limit + 1)).mappings().all()
    return page(rows, limit, lambda row: number_cursor(row["entry"]))


def _entry(row: Row, *, sealed: bool) -> AccessLogEntry:
    return AccessLogEntry(
        entry=row["entry"],
        at=row["at"],
        person=row["person"],
        clinic=row["clinic"],
        care_provider=row["care_provider"],
        case=row["case_id"],
        number=row["number"],
        resident=row["resident"],
        what=row["what"],
        attachment=row["attachment"],
        sealed=sealed,
    )


def readers(rows: Collection[Row]) -> set[str]:
    """Whose names are needed to show these rows."""
    return {row["person"] for row in rows}


def shown_to_resident(rows: Sequence[Row], after: str | None, staff: Mapping[str, StaffFacts]) -> MyAccessLog:
    """The rows with names and titles as the directory has them; never the HSA-ids of staff."""
    entries = []
    for row in rows:
        person = staff.get(row["person"])
        entries.append(
            MyAccessLogEntry(
                at=row["at"],
                clinic=row["clinic"],
                care_provider=row["care_provider"],
                number=row["number"],
                staff_name=" ".join(part for part in (person.given_name, person.surname) if part) if person else "",
                staff_title=person.title if person else None,
                what=row["what"],
            )
        )
    return MyAccessLog(entries=entries, after=after)
