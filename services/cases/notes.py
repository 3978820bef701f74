"""Internal notes of the clinic in a case: sealed, only ever added to, never shown to a resident."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import insert, select, update

from services.cases.changing import find, note
from services.cases.opening import open_sealed
from services.cases.tables import Row, cases, notes
from services.cases.weight import ROOM_FOR_STAFF, STEP, check_room, of_message
from shared.contracts.case_desk import AddNote, NoteAdded
from shared.contracts.cases import NoteShown
from shared.database.transaction import Transaction


def add(tx: Transaction, request: AddNote) -> NoteAdded:
    """Adds a note. The case's version stays, so that nobody who answers is stopped by it.

    Raises `NotFound` for a case that is not the caller's to read, `LimitExceeded` for a full one.
    """
    case = find(tx, request.case, lock=True)
    check_room(case, request.text, [], ROOM_FOR_STAFF)
    added = uuid4()
    tx.execute(
        insert(notes).values(
            id=added,
            case_id=case["id"],
            care_provider=case["care_provider"],
            at=tx.now,
            person=tx.caller.subject,
            content=tx.sealer.seal(request.text.encode(), context(case["id"], added)),
        )
    )
    grown = case["reply_bytes"] + STEP + of_message(request.text, [])
    tx.execute(update(cases).where(cases.c.id == case["id"]).values(reply_bytes=grown))
    note(tx, case, case["version"], "note_added")
    return NoteAdded(note=added)


def of_case(tx: Transaction, case: Row) -> list[NoteShown]:
    """The notes of a case that staff may read, in order, opened."""
    rows = tx.execute(select(notes).where(notes.c.case_id == case["id"]).order_by(notes.c.at, notes.c.id)).mappings()
    return [
        NoteShown(
            note=row["id"],
            at=row["at"],
            person=row["person"],
            text=open_sealed(tx.sealer, bytes(row["content"]), context(row["case_id"], row["id"])).decode(),
        )
        for row in rows
    ]


def context(case: UUID, note_id: UUID) -> bytes:
    """What a note is sealed to."""
    return f"case {case} note {note_id}".encode()
