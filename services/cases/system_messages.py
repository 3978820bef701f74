"""Messages that other systems put into residents' inboxes, in the name of a clinic (R-CASE-21).

They are kept as cases that are closed from the start: so they are read, listed, told and retained like all others.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_leave

from services.cases import changing, docbook, messages, neighbours
from services.cases.messages import NewMessage, Sender
from services.cases.opening import open_sealed
from services.cases.rules import State
from services.cases.starting import case_id, next_numbers
from services.cases.tables import Row, case_type_forms, case_types, cases
from services.cases.weight import ROOM_FOR_STAFF, STEP
from shared.contracts.inbox import InboxMessagePut, PutInboxMessage
from shared.database.transaction import Transaction
from shared.messaging.errors import LimitExceeded
from shared.messaging.server import OngoingCall

_NAMES = {"booking": "Meddelande om bokning", "calling": "Kallelse"}
"""What a system's messages are shown as."""
_SYSTEMS = UUID("0b6d8d0e-53a0-4c5b-9a55-f6f3a2f0c7c1")


def context(case: UUID) -> bytes:
    """What the title of a case is sealed to."""
    return f"title of case {case}".encode()


def title_of(tx: Transaction, case: Row) -> str | None:
    """The title of another system's message; none for other cases."""
    if case["title"] is None:
        return None
    return open_sealed(tx.sealer, bytes(case["title"]), context(case["id"])).decode()


def put(call: OngoingCall[PutInboxMessage, InboxMessagePut]) -> InboxMessagePut:
    """Stores the message, if the resident has an account that is not locked; else the answer says so (R-CASE-22)."""
    request = call.request
    said = docbook.read(request.text) if request.format == "docbook" else docbook.plain(request.text)
    links = said.links
    if request.link is not None:
        links = (*links, docbook.checked_link(request.link.text, request.link.url))
    resident = neighbours.resident_by_number(call, request.identity_number)
    card = neighbours.cards(call, [resident]).get(resident) if resident is not None else None
    if card is None or card.locked:
        answer = InboxMessagePut(result="locked" if card is not None else "no_account")
        return call.write(lambda _tx, _request: answer)
    care_provider = neighbours.care_provider(call, request.clinic, active=True)
    message = NewMessage(
        id=messages.message_id(request.request_id, call.caller),
        kind="start",
        sender=Sender("system", call.caller.subject),
        care_provider=care_provider,
        text=said.text,
        title=request.title,
        links=links,
    )
    return call.write(_store, card.resident, card.active, message)


def _store(
    tx: Transaction, request: PutInboxMessage, resident: UUID, active: bool, message: NewMessage
) -> InboxMessagePut:
    """In the thread that it names, if there is one; else as a case of its own."""
    thread = uuid5(_SYSTEMS, f"{tx.caller.subject} {request.clinic} {request.thread}") if request.thread else None
    case = _of_thread(tx, resident, thread) if thread is not None else None
    if case is None:
        case = _new_case(tx, request, resident, thread, message)
    else:
        case = _next_message(tx, case, message)
    messages.add_all(tx, [(case, message)], position=case["message_count"], handler=None, notify=request.notify)
    changing.note(tx, case, case["version"], "system_message", by="system", message=message.id)
    return InboxMessagePut(result="stored", case=case["id"], message=message.id, resident_active=active)


def _of_thread(tx: Transaction, resident: UUID, thread: UUID) -> Row | None:
    """The case of the thread; whoever else is about to begin it is waited for."""
    tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(literal(f"{resident} {thread}"), 0))))
    question = select(cases).where(cases.c.resident == resident, cases.c.thread == thread)
    return tx.execute(question.with_for_update()).mappings().one_or_none()


def _new_case(
    tx: Transaction, request: PutInboxMessage, resident: UUID, thread: UUID | None, message: NewMessage
) -> dict[str, Any]:
    new = case_id(request.request_id, tx.caller)
    case: dict[str, Any] = {
        "id": new,
        "number": next_numbers(tx, 1)[0],
        "clinic": request.clinic,
        "care_provider": message.care_provider,
        "resident": resident,
        "case_type": _case_type(tx, request.clinic, message.care_provider),
        "case_type_name": _NAMES[tx.caller.subject],
        "form_version": 1,
        "takes_attachments": False,
        "state": State.CLOSED.value,
        "closed_reason": "information",
        "closed_at": tx.now,
        "version": 1,
        "started_at": tx.now,
        "message_count": 1,
        "reply_bytes": STEP + message.weight,
        "latest_message_at": tx.now,
        "latest_written_by": "system",
        "title": tx.sealer.seal((message.title or "").encode(), context(new)),
        "thread": thread,
    }
    tx.execute(insert(cases).values(case))
    return case


def _next_message(tx: Transaction, case: Row, message: NewMessage) -> dict[str, Any]:
    """Closed it stays: nobody answers such a message."""
    changed = {
        "version": case["version"] + 1,
        "message_count": case["message_count"] + 1,
        "reply_bytes": case["reply_bytes"] + STEP + message.weight,
        "latest_message_at": tx.now,
        "title": tx.sealer.seal((message.title or "").encode(), context(case["id"])),
    }
    if changed["reply_bytes"] > ROOM_FOR_STAFF:
        raise LimitExceeded("Tråden rymmer inte mer.", reason="case_full")
    tx.execute(update(cases).where(cases.c.id == case["id"]).values(changed))
    return {**case, **changed}


def _case_type(tx: Transaction, clinic: str, care_provider: str) -> UUID:
    """What the system's messages at the clinic are counted as; made with the first of them."""
    system = tx.caller.subject
    case_type = uuid5(_SYSTEMS, f"{system} at {clinic}")
    row = {
        "id": case_type,
        "clinic": clinic,
        "care_provider": care_provider,
        "name": _NAMES[system],
        "position": 0,
        "active": False,
        "purpose": "system",
        "form_version": 1,
        "created_at": tx.now,
        "created_by": f"system:{system}",
    }
    tx.execute(insert_or_leave(case_types).values(row).on_conflict_do_nothing())
    form = {"case_type": case_type, "version": 1, "components": []}
    tx.execute(insert_or_leave(case_type_forms).values(form).on_conflict_do_nothing())
    return case_type
