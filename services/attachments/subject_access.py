"""What attachments holds about a resident, for the subject access report (R-ID-19).

Files in messages are controlled by the care provider of the message: identity names them and their cases, as cases has
told it; so are those in what staff are writing. The resident's own that were never sent are controlled by none.

A draft names whatever its writer's client put there: of a file that belongs to somebody else's case nothing is told.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select

from services.attachments import files
from services.attachments.tables import REMOVED, attachments
from shared.contracts.attachments import State
from shared.contracts.subject_access import Held, HeldPage, HeldValue, SubjectAccess
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid

PAGE = 200
STATES: dict[str, str] = {
    State.WAITING: "väntar på kontroll",
    State.CHECKING: "kontrolleras",
    State.USABLE: "kontrollerad",
    State.REFUSED: "avvisad",
}


def page(tx: Transaction, request: SubjectAccess) -> HeldPage:
    """A page of the files: those named that are in the cases named, or in no message yet; or, where no care provider
    is, the resident's own that were never sent.

    Raises `Invalid` for a cursor that is none, and for files without their cases.
    """
    query = select(attachments).where(attachments.c.state != REMOVED)
    if request.care_provider is not None:
        query = query.where(_named(request))
    else:
        mine = (attachments.c.owner_kind == "resident") & (attachments.c.owner == str(request.resident))
        query = query.where(mine, attachments.c.sent_at.is_(None))
    if request.after is not None:
        query = query.where(attachments.c.attachment > _cursor(request.after))
    rows = tx.execute(query.order_by(attachments.c.attachment).limit(PAGE + 1)).all()
    after = str(rows[PAGE - 1].attachment) if len(rows) > PAGE else None
    return HeldPage(held=[_held(tx, row) for row in rows[:PAGE]], after=after)


def _named(request: SubjectAccess) -> ColumnElement[bool]:
    if request.attachments and not request.cases:
        raise Invalid(fields=[("cases", "måste anges för filer")])
    in_their_cases = attachments.c.case.in_(request.cases)
    # nobody but its owner knows the id of a file that is in no message
    in_a_draft_of_staff = attachments.c.case.is_(None) & (attachments.c.owner_kind == "staff")
    return attachments.c.attachment.in_(request.attachments) & (in_their_cases | in_a_draft_of_staff)


def _cursor(after: str) -> UUID:
    try:
        return UUID(after)
    except ValueError:
        raise Invalid(fields=[("after", "är ingen fortsättning")]) from None


def _held(tx: Transaction, row: Row[Any]) -> Held:
    values = {
        "Fil": files.open_name(tx, row),
        "Id": str(row.attachment),
        "Storlek i byte": str(row.size),
        "Typ": row.content_type,
        "SHA-256": bytes(row.sha256).hex(),
        "Bifogad av": "invånaren" if row.owner_kind == "resident" else "vården",
        "Tillstånd": STATES[row.state],
        "Skickad": row.sent_at.isoformat(timespec="seconds") if row.sent_at else None,
    }
    return Held(
        kind="Filer",
        at=row.created_at,
        case=row.case,
        values=[HeldValue(name=name, value=value) for name, value in values.items() if value is not None],
    )
