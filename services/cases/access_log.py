"""Who of the staff has read what: written in the transaction that lets it be read (R-CASE-18)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, insert, select

from services.cases.paging import number_cursor, page, read_number_cursor
from services.cases.tables import Row, access_log, cases
from services.cases.visibility import resident, viewer, visible
from shared.contracts.cases import MyAccessLog, MyAccessLogEntry, ReadMyAccessLog
from shared.contracts.directory import StaffFacts
from shared.database.transaction import Transaction

_LOG = insert(access_log)


def log_reading(
    tx: Transaction, case: Row, what: Literal["case", "document", "attachment"], attachment: UUID | None = None
) -> None:
    """Adds a row for the caller, who is staff and is about to read this: a case, one as a document, or a file of it."""
    tx.execute(_LOG, _row(tx, case, what, attachment))


def log_listing(tx: Transaction, found: Sequence[Row]) -> None:
    """Adds a row for each of these cases, which the caller is about to be told are a certain resident's."""
    if found:
        tx.execute(_LOG, [_row(tx, case, "list", None) for case in found])


def _row(tx: Transaction, case: Row, what: str, attachment: UUID | None) -> dict[str, Any]:
    return {
        "at": tx.now,
        "person": tx.caller.subject,
        "clinic": case["clinic"],
        "care_provider": case["care_provider"],
        "case_id": case["id"],
        "number": case["number"],
        "resident": case["resident"],
        "what": what,
        "attachment": attachment,
    }


def of_resident(tx: Transaction, request: ReadMyAccessLog) -> tuple[list[Row], str | None]:
    """The readings of the resident's own cases, latest first; rows, as the readers' names are still to be asked for.

    Who has read is told for as long as the log has it (R-CASE-18); a case that the resident sees no more (R-CASE-10) is
    not named.
    """
    conditions = [access_log.c.resident == resident(tx.caller)]
    if tx.caller.blocked_at:  # a guardian, who sees nothing of the child there (R-ID-13)
        conditions.append(access_log.c.clinic.not_in(sorted(tx.caller.blocked_at)))
    rows, after = rows_of(tx, conditions, request.after, request.limit)
    mine = select(cases.c.id).where(
        cases.c.id.in_({row["case_id"] for row in rows}), visible(viewer(tx.caller), tx.now)
    )
    seen = set(tx.execute(mine).scalars())
    return [row if row["case_id"] in seen else {**row, "number": ""} for row in rows], after


def rows_of(
    tx: Transaction, conditions: Sequence[ColumnElement[bool]], after: str | None, limit: int
) -> tuple[list[Row], str | None]:
    """A page of the rows that meet the conditions, latest first, and the cursor of the next one."""
    question = select(access_log).where(*conditions)
    if after is not None:
        question = question.where(access_log.c.entry < read_number_cursor(after))
    rows = tx.execute(question.order_by(access_log.c.entry.desc()).limit(limit + 1)).mappings().all()
    return page(rows, limit, lambda row: number_cursor(row["entry"]))


def what_was_read(row: Row) -> Literal["case", "attachment"]:
    """In the contract's words: a case that was taken out as a document, or listed, was read as a case."""
    return "attachment" if row["what"] == "attachment" else "case"


def name_of(person: StaffFacts | None) -> str | None:
    """As the directory has it; none for whom it has no name."""
    return " ".join(part for part in (person.given_name, person.surname) if part) or None if person else None


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
                staff_name=name_of(person) or "",
                staff_title=person.title if person else None,
                what=what_was_read(row),
                in_list=row["what"] == "list",
            )
        )
    return MyAccessLog(entries=entries, after=after)
