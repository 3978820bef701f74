"""A case on its way into the medical record: taken out as a document, and marked as recorded (R-CASE-16)."""

from __future__ import annotations

from sqlalchemy import update

from services.cases import document, neighbours, reading
from services.cases.access_log import name_of
from services.cases.changing import find, note
from services.cases.files import as_file
from services.cases.rules import check_version
from services.cases.tables import cases
from services.cases.visibility import facts
from services.cases.weight import STEP
from shared.contracts.case_records import CaseDocument, CaseRecorded, MarkRecorded, TakeOutCase
from shared.contracts.cases import CaseShown
from shared.database.transaction import Transaction
from shared.messaging.server import OngoingCall


def take_out(call: OngoingCall[TakeOutCase, CaseDocument]) -> CaseDocument:
    """The case as a document, for staff who may read it; logged as a reading before anything of it leaves.

    Raises `LimitExceeded` (`document_too_large`) for a PDF that would take too long: the text takes any case.
    """
    read = call.read(reading.take_out)
    case = reading.with_cards(read, neighbours.cards(call, read.cards))
    file = as_file(
        call.request.format,
        f"Ärende {case.number}",
        f"arende-{case.number}",
        document.of_case(case, _around(call, case)),
    )
    return CaseDocument(
        case=case.case,
        version=case.version,
        file_name=file.name,
        content_type=file.content_type,
        content=file.base64,
    )


def _around(call: OngoingCall[TakeOutCase, CaseDocument], case: CaseShown) -> document.Around:
    """Names as they are now: one question for the clinic, one for all of the staff."""
    named = {call.caller.subject, case.handler, *(one.person for one in case.activities)}
    named |= {one.handler for one in case.activities}
    people = neighbours.staff(call, {person for person in named if person is not None})
    clinic = neighbours.clinics(call, [case.clinic]).get(case.clinic)
    return document.Around(
        clinic=clinic.name if clinic else document.UNKNOWN,
        care_provider=clinic.care_provider_name if clinic else document.UNKNOWN,
        people={person: name for person, found in people.items() if (name := name_of(found))},
        taken_by=call.caller.subject,
        now=call.now,
    )


def mark(tx: Transaction, request: MarkRecorded) -> CaseRecorded:
    """Notes that the case, as the caller has read it, is in the medical record. The version stays; twice is as once.

    Raises `Conflict` (`case_changed`) if it has changed since that version: what is new may not be in the record.
    """
    case = find(tx, request.case, lock=True)
    check_version(facts(case), request.version)
    if case["recorded_version"] == case["version"]:
        return CaseRecorded(case=case["id"], recorded_at=case["recorded_at"])
    recorded = {"recorded_at": tx.now, "recorded_by": tx.caller.subject, "recorded_version": case["version"]}
    changed = update(cases).where(cases.c.id == case["id"])
    tx.execute(changed.values(**recorded, reply_bytes=case["reply_bytes"] + STEP))
    note(tx, case, case["version"], "recorded")
    return CaseRecorded(case=case["id"], recorded_at=tx.now)
