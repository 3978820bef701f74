"""A clinic starts cases with residents from a template: of information, or with questions (R-CASE-14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from services.cases import case_types, messages, neighbours, templates
from services.cases.handlers import entitled, hold_rights_of
from services.cases.messages import NewMessage, Sender
from services.cases.rules import State, check_attachments, month_after, week_before
from services.cases.signature import personal_signature
from services.cases.starting import case_id, next_numbers
from services.cases.tables import Row, activities, cases
from services.cases.weight import STEP
from shared.contracts.attachments import ClaimedFile
from shared.contracts.base import HsaId, Role
from shared.contracts.cases import CASE_CLOSED, CaseClosedEvent
from shared.contracts.contacting import ContactResident, CreateMailing, ResidentContacted
from shared.contracts.identity import RightsNow
from shared.database.transaction import Transaction
from shared.messaging.errors import Forbidden, Invalid
from shared.messaging.server import OngoingCall

# --- what is sent, to anyone ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letter:
    """What a clinic starts a case with: a template as it is now, the words, and who sends it and has the case."""

    clinic: HsaId
    care_provider: str
    template: case_types.Offered
    text: str
    sender: Sender
    files: tuple[ClaimedFile, ...] = ()
    handler_rights_number: int | None = None


@dataclass(frozen=True)
class To:
    """One resident who is written to, and the ids that their case and its message get."""

    resident: UUID
    case: UUID
    message: UUID


def words(template: case_types.Offered, text: str | None) -> str:
    """What the message says: what is written, else the template's own words. `Invalid` where that is nothing."""
    said = template.text if text is None else text
    if not said.strip():
        raise Invalid("Meddelandet är tomt.", reason="message_empty", fields=[("text", "får inte vara tom")])
    return said


def start_cases(tx: Transaction, letter: Letter, recipients: Sequence[To]) -> list[Row]:
    """A case with each of these residents, in as many statements as for one.

    One of information is closed from the start; one with questions waits for the resident, a month as after each
    counter-question (R-CASE-7), and its sender has it.
    """
    asks = letter.template.purpose == "questions"
    due = month_after(tx.now)
    state: dict[str, Any] = (
        {
            "state": State.AWAITING_RESIDENT.value,
            "counter_question_at": tx.now,
            "answer_before": due,
            "remind_at": week_before(due),
        }
        if asks
        else {"state": State.CLOSED.value, "closed_reason": "information", "closed_at": tx.now}
    )
    begun: list[tuple[dict[str, Any], NewMessage]] = []
    for to, number in zip(recipients, next_numbers(tx, len(recipients)), strict=True):
        message = NewMessage(to.message, "start", letter.sender, letter.care_provider, letter.text, files=letter.files)
        case = {
            "id": to.case,
            "number": number,
            "clinic": letter.clinic,
            "care_provider": letter.care_provider,
            "resident": to.resident,
            "case_type": letter.template.id,
            "case_type_name": letter.template.name,
            "form_version": letter.template.form_version,
            "takes_attachments": letter.template.form.takes_attachments,
            "version": 1,
            "handler": letter.sender.writer,
            "handler_rights_number": letter.handler_rights_number,
            "started_at": tx.now,
            "message_count": 1,
            "reply_bytes": STEP + message.weight,
            "latest_message_at": tx.now,
            "latest_written_by": letter.sender.written_by,
            **state,
        }
        begun.append((case, message))
    tx.execute(insert(cases), [case for case, _ in begun])
    messages.add_all(tx, begun, position=1, handler=letter.sender.writer)
    tx.execute(insert(activities), [_activity(tx, case, message) for case, message in begun])
    for case, _ in begun if not asks else []:
        closed = CaseClosedEvent(case=case["id"], clinic=letter.clinic, resident=case["resident"], reason="information")
        tx.publish(CASE_CLOSED, closed, aggregate=case["id"])
    return [case for case, _ in begun]


def _activity(tx: Transaction, case: Row, message: NewMessage) -> dict[str, Any]:
    return {
        "case_id": case["id"],
        "case_version": 1,
        "care_provider": case["care_provider"],
        "at": tx.now,
        "kind": "started",
        "by": "staff",
        "person": message.sender.writer,
        "handler": message.sender.writer,
        "reason": case.get("closed_reason"),
        "message": message.id,
    }


# --- one resident ---------------------------------------------------------------------------------------------------


def check(tx: Transaction, request: ContactResident) -> tuple[bool, str | None]:
    """Refuses what can't be sent, before anyone is asked; whether the copy of the rights has the caller's role yet, and
    the signature that they have written themselves."""
    tx.caller.require(request.clinic, Role.CASE_HANDLER)
    check_attachments(request.attachments, tx.settings.max_files_staff)
    words(template_of(tx, request), request.text)
    return entitled(tx, tx.caller.subject, request.clinic) is not None, personal_signature(tx)


def template_of(tx: Transaction, request: ContactResident | CreateMailing, *, keep: bool = False) -> case_types.Offered:
    """The clinic's template, in use, as the caller has read it."""
    template = case_types.offered(tx, request.clinic, request.template, purposes=templates.PURPOSES, keep=keep)
    case_types.check_current(template, request.form_version)
    return template


@dataclass(frozen=True)
class Prepared(neighbours.Prepared):
    """And whom it is for."""

    resident: UUID | None = None


def prepare(call: OngoingCall[ContactResident, ResidentContacted]) -> Prepared:
    """Whose number it is, whether they can be written to, who writes; claims the files last."""
    request = call.request
    known, personal = call.read(check)
    rights: RightsNow | None = None if known else neighbours.rights_of(call, call.caller.subject)
    resident = neighbours.resident_by_number(call, request.identity_number)
    if resident is None:
        raise neighbours.without_account()
    active = neighbours.resident_can_be_written_to(call, resident)
    case = case_id(request.request_id, call.caller)
    message = messages.message_id_with(request.attachments, case, request.request_id, call.caller)
    return Prepared(
        resident=resident,
        resident_active=active,
        handler_rights=rights,
        sender=neighbours.staff_sender(call, personal),
        care_provider=neighbours.care_provider(call, request.clinic, active=True),
        message=message,
        files=neighbours.claim(
            call,
            request.attachments,
            case=case,
            message=message,
            at_most=call.settings.max_files_staff,
        ),
    )


def contact(tx: Transaction, request: ContactResident, prepared: Prepared) -> ResidentContacted:
    """Starts the case; its handler is the caller, who must be one still."""
    message, sender = prepared.sending
    hold_rights_of(tx, tx.caller.subject)
    by = entitled(tx, tx.caller.subject, request.clinic, prepared.handler_rights)
    if by is None:
        raise Forbidden(reason="role_missing")
    template = template_of(tx, request, keep=True)
    letter = Letter(
        clinic=request.clinic,
        care_provider=prepared.care_provider,
        template=template,
        text=words(template, request.text),
        sender=sender,
        files=prepared.files,
        handler_rights_number=by.rights_number,
    )
    assert prepared.resident is not None
    to = To(prepared.resident, case_id(request.request_id, tx.caller), message)
    [case] = start_cases(tx, letter, [to])
    return ResidentContacted(
        case=case["id"],
        number=case["number"],
        message=message,
        state=case["state"],
        version=1,
        resident_active=prepared.resident_active,
    )
