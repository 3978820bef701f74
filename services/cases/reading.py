"""Reading a case and opening its files: by the one rule, and logged (R-CASE-3, R-CASE-18, R-ATT-6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import select, update

from services.cases import access_log, case_types, drafts, messages, notes
from services.cases.changing import find
from services.cases.neighbours import card_for_staff
from services.cases.rules import parties, questions_open, reading_makes_known, resident_may_write
from services.cases.tables import Row, activities, cases, message_files
from services.cases.visibility import facts, viewer, visible
from shared.contracts import identity
from shared.contracts.case_records import TakeOutCase
from shared.contracts.cases import (
    ActivityShown,
    CaseShown,
    ComponentShown,
    GetCase,
    MessageShown,
    OpenAttachment,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import NotFound


@dataclass(frozen=True)
class Read:
    """A case as read, and whose cards are needed to show it: none where the reader is the resident."""

    resident: UUID
    shown: CaseShown
    writers: dict[UUID, UUID]
    """By message, the resident or guardian who wrote it."""
    cards: frozenset[UUID]


def get_case(tx: Transaction, request: GetCase) -> Read:
    """The case with its messages; for staff with its activities, and a row in the access log, in this transaction.

    A resident's reading opens what the clinic has written. Raises `NotFound` for what is not the caller's to read.
    """
    return _read(tx, request.case, "case")


def take_out(tx: Transaction, request: TakeOutCase) -> Read:
    """The same for a document (R-CASE-16): a reading as well, and logged as one that was taken out."""
    return _read(tx, request.case, "document")


def _read(tx: Transaction, which: UUID, what: Literal["case", "document"]) -> Read:
    case = find(tx, which)
    for_staff = tx.caller.kind == "staff"
    if for_staff:
        access_log.log_reading(tx, case, what)
        _make_known(tx, case)
    found = messages.of_case(tx, case["id"])
    if not for_staff:
        found = messages.open_for_resident(tx, case["id"], found)
    writers = {one.shown.message: UUID(one.writer) for one in found if one.shown.written_by in ("resident", "guardian")}
    known = facts(case)
    shown = CaseShown(
        case=case["id"],
        number=case["number"],
        clinic=case["clinic"],
        care_provider=case["care_provider"],
        case_type=case["case_type"],
        case_type_name=case["case_type_name"],
        state=case["state"],
        closed_reason=case["closed_reason"],
        version=case["version"],
        handler=case["handler"] if for_staff else None,
        started_at=case["started_at"],
        answer_before=case["answer_before"],
        may_write=resident_may_write(known),
        may_attach=resident_may_write(known) and case["takes_attachments"],
        questions=_questions(tx, case) if questions_open(known) else [],
        resident=None,
        messages=[one.shown for one in found],
        activities=_activities(tx, case["id"]) if for_staff else [],
        notes=notes.of_case(tx, case) if for_staff else [],
        recorded_at=case["recorded_at"] if for_staff else None,
        recorded_by=case["recorded_by"] if for_staff else None,
        recorded_version=case["recorded_version"] if for_staff else None,
        others_writing=drafts.others_writing(tx, case),
    )
    cards = frozenset({case["resident"], *writers.values()}) if for_staff else frozenset()
    return Read(case["resident"], shown, writers, cards)


def _questions(tx: Transaction, case: Row) -> list[ComponentShown]:
    return [ComponentShown.model_validate(one.model_dump()) for one in case_types.form_of(tx, case).components]


def _make_known(tx: Transaction, case: Row) -> None:
    """It is unread no more, unless the resident has written since it was read."""
    if case["unread"] and reading_makes_known(case["handler"], parties(viewer(tx.caller), facts(case))):
        as_read = (cases.c.id == case["id"], cases.c.version == case["version"])
        tx.execute(update(cases).where(*as_read).values(unread=False))


def _activities(tx: Transaction, case: UUID) -> list[ActivityShown]:
    question = select(activities).where(activities.c.case_id == case)
    rows = tx.execute(question.order_by(activities.c.case_version, activities.c.id)).mappings()
    return [
        ActivityShown(
            at=row["at"],
            kind=row["kind"],
            by=row["by"],
            person=row["person"],
            handler=row["handler"],
            reason=row["reason"],
            message=row["message"],
        )
        for row in rows
    ]


def with_cards(read: Read, cards: dict[UUID, identity.ResidentCard]) -> CaseShown:
    """The case as staff see it: the resident's card and the names of those who wrote, nothing else (R-ID-14)."""

    def named(message: MessageShown) -> MessageShown:
        card = cards.get(read.writers[message.message]) if message.message in read.writers else None
        return message.model_copy(update={"sender_name": card.name}) if card else message

    shown = card_for_staff(cards.get(read.resident))
    return read.shown.model_copy(
        update={"resident": shown, "messages": [named(message) for message in read.shown.messages]}
    )


def open_attachment(tx: Transaction, request: OpenAttachment) -> Row:
    """Lets a file be read by exactly those who may read its case; for staff that is logged as a reading (R-ATT-6)."""
    row = (
        tx.execute(
            select(cases)
            .join(message_files, message_files.c.case_id == cases.c.id)
            .where(
                cases.c.id == request.case,
                message_files.c.attachment == request.attachment,
                visible(viewer(tx.caller), tx.now),
            )
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise NotFound("Filen finns inte.", reason="attachment_not_found")
    if tx.caller.kind == "staff":
        access_log.log_reading(tx, row, "attachment", request.attachment)
    return row
