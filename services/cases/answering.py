"""Writing in a case: the handler's replies and the resident's messages; closing it (R-CASE-5, R-CASE-6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.cases import case_types, drafts, forms, messages, neighbours
from services.cases.changing import change, decided, find, note
from services.cases.rules import Act, Outcome, State, check_attachments, questions_open, swedish_date, unanswered_since
from services.cases.signature import personal_signature
from services.cases.tables import Row
from services.cases.visibility import facts
from services.cases.weight import ROOM_FOR_RESIDENT, ROOM_FOR_STAFF, check_room
from shared.contracts.cases import (
    CASE_CLOSED,
    AnswerShown,
    CaseClosedEvent,
    CaseClosedReply,
    CloseCase,
    MessageKind,
    MessageSentReply,
    ReplySent,
    SendMessage,
    WriteReply,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid
from shared.messaging.server import OngoingCall

_ACTS: Mapping[str, Act] = {act.value: act for act in Act}


# --- the handler ----------------------------------------------------------------------------------------------------


def check_reply(tx: Transaction, request: WriteReply) -> tuple[Row, str | None]:
    """The case, if the caller may reply in it as it is now, and the signature that they have written themselves."""
    check_attachments(request.attachments, tx.settings.max_files_staff)
    case = find(tx, request.case)
    decided(tx, case, _ACTS[request.kind], request.version)
    check_room(case, request.text, request.attachments, ROOM_FOR_STAFF)
    return case, personal_signature(tx)


def prepare_reply(call: OngoingCall[WriteReply, ReplySent]) -> neighbours.Prepared:
    """Asks what a message from staff needs, and claims its files last."""
    case, personal = call.read(check_reply)
    return neighbours.prepare_staff_message(call, case, personal, referral=call.request.referral)


def reply(tx: Transaction, request: WriteReply, prepared: neighbours.Prepared) -> ReplySent:
    """A partial reply, a counter-question or an answer, from the handler who has the case (R-CASE-5)."""
    case = find(tx, request.case, lock=True)
    outcome = decided(tx, case, _ACTS[request.kind], request.version)
    check_room(case, request.text, request.attachments, ROOM_FOR_STAFF)
    dates: dict[str, Any] = {"counter_question_at": tx.now} if request.kind == "counter_question" else {}
    version = add_message(
        tx,
        case,
        outcome,
        prepared,
        kind=request.kind,
        text=request.text,
        handler=case["handler"],
        unread=False,
        **dates,
    )
    note(tx, case, version, request.kind, message=prepared.message)
    _tell_if_closed(tx, case, outcome)
    return ReplySent(
        case=case["id"],
        message=prepared.sending[0],
        state=outcome.state.value,
        version=version,
        resident_active=prepared.resident_active,
    )


def add_message(
    tx: Transaction,
    case: Row,
    outcome: Outcome,
    prepared: neighbours.Prepared,
    *,
    kind: MessageKind,
    text: str,
    handler: str | None,
    answers: tuple[AnswerShown, ...] = (),
    **columns: Any,
) -> int:
    """Sends a message in the case and writes what the case becomes of it; gives the case's new version."""
    message_id, sender = prepared.sending
    position = case["message_count"] + 1
    message = messages.NewMessage(
        id=message_id,
        kind=kind,
        sender=sender,
        care_provider=prepared.care_provider,
        text=text,
        answers=answers,
        files=prepared.files,
        referral=prepared.referral,
    )
    messages.add(tx, case, message, position=position, handler=handler)
    drafts.forget(tx, case["id"])
    if sender.written_by == "staff":
        columns |= {"first_reply_at": case["first_reply_at"] or tx.now, "last_reply_at": tx.now}
    return change(
        tx,
        case,
        outcome,
        handler=handler,
        grown=message.weight,
        message_count=position,
        latest_message_at=tx.now,
        latest_written_by=sender.written_by,
        **columns,
    )


def _tell_if_closed(tx: Transaction, case: Row, outcome: Outcome) -> None:
    if outcome.state is State.CLOSED:
        tx.publish(
            CASE_CLOSED,
            CaseClosedEvent(case=case["id"], clinic=case["clinic"], resident=case["resident"], reason=outcome.reason),
            aggregate=case["id"],
        )


# --- the resident ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """What a resident writes, as it is sent: the answers to the clinic's questions, if it asked any, and the text."""

    text: str
    answers: tuple[AnswerShown, ...] = ()


def check_message(tx: Transaction, request: SendMessage) -> Row:
    """The case, if the resident may write this in it now, and with files at all (R-CASE-6, R-ATT-4)."""
    check_attachments(request.attachments, tx.settings.max_files_resident)
    case = find(tx, request.case)
    decided(tx, case, Act.RESIDENT_WRITES)
    if request.attachments and not case["takes_attachments"]:
        raise Invalid(
            "Filer kan inte bifogas i det här ärendet.",
            reason="attachments_not_allowed",
            fields=[("attachments", "kan inte bifogas i den här ärendetypen")],
        )
    written = _written(tx, case, request)
    check_room(case, written.text, request.attachments, ROOM_FOR_RESIDENT, written.answers)
    return case


def _written(tx: Transaction, case: Row, request: SendMessage) -> Written:
    """Raises `Invalid` where the answers do not fit the questions, or there is nothing written at all (R-CASE-14)."""
    if questions_open(facts(case)):
        form = case_types.form_of(tx, case)
        given = forms.check_answers(form, request.answers, len(request.attachments), swedish_date(tx.now))
        answers = forms.shown(form, given)
        parts = [forms.as_text(answers), request.text.strip()]
        written = Written("\n\n".join(part for part in parts if part), answers)
    elif request.answers:
        raise Invalid(
            "Det finns inga frågor att svara på i ärendet.",
            reason="no_questions",
            fields=[("answers", "det finns inga frågor att svara på")],
        )
    else:
        written = Written(request.text)
    if not written.text.strip() and not request.attachments:
        raise Invalid("Meddelandet är tomt.", reason="message_empty", fields=[("text", "får inte vara tom")])
    return written


def prepare_message(call: OngoingCall[SendMessage, MessageSentReply]) -> neighbours.Prepared:
    """Asks for the clinic's care provider, and claims the files."""
    case = call.read(check_message)
    message = messages.message_id_with(call.request.attachments, case["id"], call.request.request_id, call.caller)
    return neighbours.Prepared(
        care_provider=neighbours.care_provider(call, case["clinic"]),
        message=message,
        sender=messages.resident_sender(call.caller),
        files=neighbours.claim(
            call, call.request.attachments, case=case["id"], message=message, at_most=call.settings.max_files_resident
        ),
    )


def send_message(tx: Transaction, request: SendMessage, prepared: neighbours.Prepared) -> MessageSentReply:
    """The resident writes after a counter-question; a case that waited for that goes back to the clinic (R-CASE-6)."""
    case = find(tx, request.case, lock=True)
    outcome = decided(tx, case, Act.RESIDENT_WRITES)
    written = _written(tx, case, request)
    check_room(case, written.text, request.attachments, ROOM_FOR_RESIDENT, written.answers)
    version = add_message(
        tx,
        case,
        outcome,
        prepared,
        kind="resident_message",
        text=written.text,
        answers=written.answers,
        handler=case["handler"],
        resident_wrote_at=tx.now,
        unanswered_since=unanswered_since(
            case["unanswered_since"], case["resident_wrote_at"], case["last_reply_at"] or case["started_at"], tx.now
        ),
        unread=True,
    )
    message, sender = prepared.sending
    note(tx, case, version, "resident_message", by=sender.written_by, message=message)
    return MessageSentReply(case=case["id"], message=message, state=outcome.state.value, version=version)


# --- closing --------------------------------------------------------------------------------------------------------


def close(tx: Transaction, request: CloseCase) -> CaseClosedReply:
    """A receiver, or the handler who has it, closes the case without an answer."""
    case = find(tx, request.case, lock=True)
    outcome = decided(tx, case, Act.CLOSE, request.version)
    version = change(tx, case, outcome)
    note(tx, case, version, "closed", reason=outcome.reason)
    _tell_if_closed(tx, case, outcome)
    return CaseClosedReply(case=case["id"], state=outcome.state.value, version=version)
