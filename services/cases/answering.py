"""Writing in a case: the handler's replies and the resident's messages; closing it (R-CASE-5, R-CASE-6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.cases import drafts, messages, neighbours
from services.cases.changing import change, decided, find, note
from services.cases.rules import Act, Outcome, State, check_attachments
from services.cases.tables import Row
from services.cases.weight import ROOM_FOR_RESIDENT, ROOM_FOR_STAFF, check_room
from shared.contracts.cases import (
    CASE_CLOSED,
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


def check_reply(tx: Transaction, request: WriteReply) -> Row:
    """The case, if the caller may reply in it as it is now."""
    check_attachments(request.attachments, tx.settings.max_files_staff)
    case = find(tx, request.case)
    decided(tx, case, _ACTS[request.kind], request.version)
    check_room(case, request.text, request.attachments, ROOM_FOR_STAFF)
    return case


def prepare_reply(call: OngoingCall[WriteReply, ReplySent]) -> neighbours.Prepared:
    """Asks what a message from staff needs, and claims its files last."""
    return neighbours.prepare_staff_message(call, call.read(check_reply), referral=call.request.referral)


def reply(tx: Transaction, request: WriteReply, prepared: neighbours.Prepared) -> ReplySent:
    """A partial reply, a counter-question or an answer, from the handler who has the case (R-CASE-5)."""
    case = find(tx, request.case, lock=True)
    outcome = decided(tx, case, _ACTS[request.kind], request.version)
    check_room(case, request.text, request.attachments, ROOM_FOR_STAFF)
    dates = {"counter_question_at": tx.now} if request.kind == "counter_question" else {}
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


def check_message(tx: Transaction, request: SendMessage) -> Row:
    """The case, if the resident may write in it now, and with files at all (R-CASE-6, R-ATT-4)."""
    check_attachments(request.attachments, tx.settings.max_files_resident)
    case = find(tx, request.case)
    decided(tx, case, Act.RESIDENT_WRITES)
    if request.attachments and not case["takes_attachments"]:
        raise Invalid(
            "Filer kan inte bifogas i det här ärendet.",
            reason="attachments_not_allowed",
            fields=[("attachments", "kan inte bifogas i den här ärendetypen")],
        )
    check_room(case, request.text, request.attachments, ROOM_FOR_RESIDENT)
    return case


def prepare_message(call: OngoingCall[SendMessage, MessageSentReply]) -> neighbours.Prepared:
    """Asks for the clinic's care provider, and claims the files."""
    case = call.read(check_message)
    message = messages.message_id(call.request.request_id, call.caller)
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
    check_room(case, request.text, request.attachments, ROOM_FOR_RESIDENT)
    version = add_message(
        tx,
        case,
        outcome,
        prepared,
        kind="resident_message",
        text=request.text,
        handler=case["handler"],
        resident_wrote_at=tx.now,
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
