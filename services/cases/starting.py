"""A resident starts a case (R-CASE-2)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import func, insert, select

from services.cases import admission, case_types, changing, forms, messages, neighbours
from services.cases.rules import State, check_attachments, swedish_date
from services.cases.tables import case_numbers, cases
from services.cases.visibility import resident
from services.cases.weight import STEP
from shared.contracts.cases import CASE_STARTED, CaseStarted, CaseStartedEvent, StartCase
from shared.database.transaction import Transaction
from shared.messaging.server import OngoingCall
from shared.security.caller import Caller

_START = insert(cases)


def check(tx: Transaction, request: StartCase) -> None:
    """Refuses what can't be started, before anything is asked of others."""
    check_attachments(request.attachments, tx.settings.max_files_resident)
    offered = case_types.offered(tx, request.clinic, request.case_type)
    case_types.check_read(offered, request.form_version)
    forms.check_answers(offered.form, request.answers, len(request.attachments), swedish_date(tx.now))


def prepare(call: OngoingCall[StartCase, CaseStarted]) -> neighbours.Prepared:
    """Asks whether the resident may turn to the clinic, and for its care provider; claims the files last."""
    call.read(check)
    admission.require_access(call, call.request.clinic, call.request.case_type)
    case = case_id(call.request.request_id, call.caller)
    message = messages.message_id_with(call.request.attachments, case, call.request.request_id, call.caller)
    return neighbours.Prepared(
        care_provider=neighbours.care_provider(call, call.request.clinic, active=True),
        message=message,
        sender=messages.resident_sender(call.caller),
        files=neighbours.claim(
            call,
            call.request.attachments,
            case=case,
            message=message,
            at_most=call.settings.max_files_resident,
        ),
    )


def case_id(request_id: UUID, caller: Caller) -> UUID:
    """The id of the case that this request starts; known before it, for the claim of its files."""
    return uuid5(request_id, f"case of {caller.identity}")


def start_case(tx: Transaction, request: StartCase, prepared: neighbours.Prepared) -> CaseStarted:
    """The case, new at the clinic, with the answers as its first message."""
    message, sender = prepared.sending
    offered = case_types.offered(tx, request.clinic, request.case_type, keep=True)
    case_types.check_read(offered, request.form_version)
    given = forms.check_answers(offered.form, request.answers, len(request.attachments), swedish_date(tx.now))
    answers = forms.shown(offered.form, given)
    case: dict[str, Any] = {
        "id": case_id(request.request_id, tx.caller),
        "number": next_numbers(tx, 1)[0],
        "clinic": request.clinic,
        "care_provider": prepared.care_provider,
        "resident": resident(tx.caller),
        "case_type": offered.id,
        "case_type_name": offered.name,
        "form_version": offered.form_version,
        "takes_attachments": offered.form.takes_attachments,
        "state": State.NEW.value,
        "version": 1,
        "started_at": tx.now,
        "message_count": 1,
        "latest_message_at": tx.now,
        "latest_written_by": sender.written_by,
        "resident_wrote_at": tx.now,
        "unread": True,
    }
    first = messages.NewMessage(
        id=message,
        kind="start",
        sender=sender,
        care_provider=prepared.care_provider,
        text=forms.as_text(answers),
        answers=answers,
        files=prepared.files,
    )
    tx.execute(_START, case | {"reply_bytes": STEP + first.weight})
    tx.publish(
        CASE_STARTED,
        CaseStartedEvent(case=case["id"], clinic=request.clinic, resident=case["resident"], message=message),
        aggregate=case["id"],
    )
    messages.add(tx, case, first, position=1, handler=None)
    changing.note(tx, case, 1, "started", by=sender.written_by, message=message)
    return CaseStarted(case=case["id"], number=case["number"], message=message)


def next_numbers(tx: Transaction, many: int) -> list[str]:
    """Numbers to say on the telephone: the Swedish year and a running number, `2026-0000042`."""
    series = func.generate_series(1, many).table_valued("n")
    year = swedish_date(tx.now).year
    return [
        f"{year}-{serial:07d}" for serial in tx.execute(select(case_numbers.next_value()).select_from(series)).scalars()
    ]
