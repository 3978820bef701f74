"""Giving cases to handlers, if wished with a partial reply in the same step (R-CASE-4)."""

from __future__ import annotations

from typing import Any

from services.cases import neighbours
from services.cases.answering import add_message
from services.cases.changing import change, decided, find, note
from services.cases.handlers import entitled, hold_rights_of, told_to_handle
from services.cases.rules import Act, check_attachments
from services.cases.signature import personal_signature
from services.cases.tables import Row
from services.cases.weight import ROOM_FOR_STAFF, check_room
from shared.contracts.cases import CASE_ASSIGNED, AssignCase, CaseAssigned, CaseAssignedEvent
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid
from shared.messaging.server import OngoingCall


def check(tx: Transaction, request: AssignCase) -> tuple[Row, bool, str | None]:
    """The case, if the caller may assign it as it is now, whether the copy of the rights knows the handler, and the
    caller's own signature, for a partial reply."""
    check_attachments(request.attachments, tx.settings.max_files_staff)
    if request.attachments and request.partial_reply is None:
        raise Invalid(
            "Filer kan bara bifogas tillsammans med ett delsvar.",
            reason="attachments_need_partial_reply",
            fields=[("attachments", "kan bara bifogas med ett delsvar")],
        )
    case = find(tx, request.case)
    decided(tx, case, Act.ASSIGN, request.version)
    check_room(case, request.partial_reply, request.attachments, ROOM_FOR_STAFF)
    personal = None if request.partial_reply is None else personal_signature(tx)
    return case, entitled(tx, request.handler, case["clinic"]) is not None, personal


def prepare(call: OngoingCall[AssignCase, CaseAssigned]) -> neighbours.Prepared:
    """Asks identity of a handler that the copy does not know, and what a partial reply needs.

    Who is no handler is refused before any file is bound (R-ATT-7).
    """
    case, known, personal = call.read(check)
    rights = None if known else neighbours.rights_of(call, call.request.handler)
    if rights is not None and not told_to_handle(rights, case["clinic"]):
        raise _not_a_handler()
    if call.request.partial_reply is None:
        return neighbours.Prepared(care_provider=case["care_provider"], handler_rights=rights)
    return neighbours.prepare_staff_message(call, case, personal, handler_rights=rights)


def assign_case(tx: Transaction, request: AssignCase, prepared: neighbours.Prepared) -> CaseAssigned:
    """Gives the case to the handler. One that waits for the resident goes on waiting (R-CASE-7)."""
    hold_rights_of(tx, request.handler)  # before the case: whoever takes cases from a handler locks in this order too
    case = find(tx, request.case, lock=True)
    outcome = decided(tx, case, Act.ASSIGN, request.version)
    check_room(case, request.partial_reply, request.attachments, ROOM_FOR_STAFF)
    by = entitled(tx, request.handler, case["clinic"], prepared.handler_rights)
    if by is None:
        raise _not_a_handler()
    given: dict[str, Any] = {
        "handler": request.handler,
        "handler_rights_number": by.rights_number,
        "unread": case["unread"] or request.handler != tx.caller.subject,
    }
    if request.partial_reply is None:
        version = change(tx, case, outcome, **given)
    else:
        version = add_message(
            tx,
            case,
            outcome,
            prepared,
            kind="partial_reply",
            text=request.partial_reply,
            **given,
        )
    note(tx, case, version, "assigned", handler=request.handler, message=prepared.message)
    tx.publish(
        CASE_ASSIGNED,
        CaseAssignedEvent(
            case=case["id"],
            clinic=case["clinic"],
            resident=case["resident"],
            handler=request.handler,
            version=version,
            assigned_by=tx.caller.subject,
        ),
        aggregate=case["id"],
    )
    return CaseAssigned(
        case=case["id"],
        state=outcome.state.value,
        version=version,
        message=prepared.message,
        resident_active=prepared.resident_active,
    )


def _not_a_handler() -> Invalid:
    return Invalid(
        "Personen är inte ärendehanterare på mottagningen.",
        reason="not_a_handler",
        fields=[("handler", "är inte ärendehanterare på mottagningen")],
    )
