"""The access log as log reviewers see it: searched, sampled at random, extracted for a resident (R-CASE-18)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from services.cases import access_log as log
from services.cases import document, neighbours
from services.cases.files import as_file
from services.cases.tables import Row, access_log, access_log_unsealed
from shared.contracts.base import HsaId, Instant, Role
from shared.contracts.case_records import AccessLogExtract, AccessLogSample, ExtractAccessLog, SampleAccessLog
from shared.contracts.cases import AccessLog, AccessLogEntry, ReadAccessLog
from shared.contracts.directory import StaffFacts
from shared.contracts.identity import ResidentCard as Card
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid, LimitExceeded, NotFound
from shared.messaging.server import OngoingCall

MOST_EXTRACTED = 1_000


def search(call: OngoingCall[ReadAccessLog, AccessLog]) -> AccessLog:
    """The clinic's readings that fit what is asked, latest first; with the names of those who read and were read about.

    Whoever has no account has not been read about: an empty list. Raises `Forbidden` for others than log reviewers.
    """
    call.caller.require(call.request.clinic, Role.LOG_REVIEWER)
    residents = None
    if call.request.identity_number is not None:
        residents = neighbours.accounts_by_number(call, call.request.identity_number)
        if not residents:
            return AccessLog(entries=[], after=None)
    rows, unsealed, after = call.read(_found, residents)
    return AccessLog(entries=_shown(call, rows, unsealed), after=after)


def sample(call: OngoingCall[SampleAccessLog, AccessLogSample]) -> AccessLogSample:
    """Readings of a period, each as likely as any other. Raises `Forbidden` for others than log reviewers."""
    call.caller.require(call.request.clinic, Role.LOG_REVIEWER)
    rows, unsealed, population = call.read(_drawn)
    return AccessLogSample(entries=_shown(call, rows, unsealed), population=population)


def extract(call: OngoingCall[ExtractAccessLog, AccessLogExtract]) -> AccessLogExtract:
    """Who has read about a resident at the clinic, as a document for the resident; for its log reviewers.

    Raises `NotFound` (`resident_not_in_log`) for a number of which the clinic's log has nothing at all: whoever types
    it learns nothing of who has it (R-ID-14). Raises `LimitExceeded` (`period_too_long`) for too much.
    """
    asked = call.request
    call.caller.require(asked.clinic, Role.LOG_REVIEWER)
    residents = neighbours.accounts_by_number(call, asked.identity_number)
    if not residents:
        raise _not_in_log()
    rows = call.read(_about, residents)
    card = neighbours.card_for_staff(neighbours.cards(call, residents[:1]).get(residents[0]))
    if card is None:
        raise _not_in_log()
    staff = neighbours.staff(call, log.readers(rows))
    clinic = neighbours.clinics(call, [asked.clinic]).get(asked.clinic)
    around = document.Around(
        clinic=clinic.name if clinic else asked.clinic,
        care_provider=clinic.care_provider_name if clinic else document.UNKNOWN,
        people={},
        taken_by=call.caller.subject,
        now=call.now,
    )
    found = [document.Reading(row["at"], _named(staff.get(row["person"])), row["number"], row["what"]) for row in rows]
    blocks = document.of_readings(card, around, (asked.since, asked.until), found)
    file = as_file(asked.format, "Loggutdrag", "loggutdrag", blocks)
    return AccessLogExtract(
        readings=len(rows), file_name=file.name, content_type=file.content_type, content=file.base64
    )


def _about(tx: Transaction, asked: ExtractAccessLog, residents: Sequence[UUID]) -> list[Row]:
    conditions = _conditions(asked.clinic, None, asked.since, asked.until)
    question = select(access_log).where(*conditions, access_log.c.resident.in_(residents))
    rows = tx.execute(question.order_by(access_log.c.entry).limit(MOST_EXTRACTED + 1)).mappings().all()
    if len(rows) > MOST_EXTRACTED:
        raise LimitExceeded("Perioden har för många läsningar. Välj en kortare.", reason="period_too_long")
    if not rows and not _ever_read(tx, asked.clinic, residents):
        raise _not_in_log()
    return list(rows)


def _ever_read(tx: Transaction, clinic: HsaId, residents: Sequence[UUID]) -> bool:
    theirs = access_log.c.resident.in_(residents) & (access_log.c.clinic == clinic)
    return tx.execute(select(access_log.c.entry).where(theirs).limit(1)).first() is not None


def _not_in_log() -> NotFound:
    return NotFound("Mottagningens logg har ingen läsning om invånaren.", reason="resident_not_in_log")


def _named(person: StaffFacts | None) -> str:
    """As residents see staff: name and title, never an HSA-id."""
    title = f", {person.title}," if person is not None and person.title else ""
    return f"{log.name_of(person) or document.UNKNOWN}{title}"


def _found(
    tx: Transaction, asked: ReadAccessLog, residents: Sequence[UUID] | None
) -> tuple[list[Row], set[int], str | None]:
    conditions = _conditions(asked.clinic, asked.person, asked.since, asked.until)
    if asked.case is not None:
        conditions.append(access_log.c.case_id == asked.case)
    if residents is not None:
        conditions.append(access_log.c.resident.in_(residents))
    rows, after = log.rows_of(tx, conditions, asked.after, asked.limit)
    return rows, _unsealed(tx, rows), after


def _drawn(tx: Transaction, asked: SampleAccessLog) -> tuple[list[Row], set[int], int]:
    conditions = _conditions(asked.clinic, asked.person, asked.since, asked.until)
    population = tx.execute(select(func.count()).select_from(access_log).where(*conditions)).scalar_one()
    drawn = select(access_log).where(*conditions).order_by(func.random()).limit(asked.size)
    rows = sorted(tx.execute(drawn).mappings(), key=lambda row: row["entry"], reverse=True)
    return list(rows), _unsealed(tx, rows), population


def _conditions(
    clinic: HsaId, person: HsaId | None, since: Instant | None, until: Instant | None
) -> list[ColumnElement[bool]]:
    if since is not None and until is not None and since >= until:
        raise Invalid("Perioden slutar innan den börjar.", reason="period_empty", fields=[("until", "ska vara senare")])
    conditions: list[ColumnElement[bool]] = [access_log.c.clinic == clinic]
    if person is not None:
        conditions.append(access_log.c.person == person)
    if since is not None:
        conditions.append(access_log.c.at >= since)
    if until is not None:
        conditions.append(access_log.c.at < until)
    return conditions


def _unsealed(tx: Transaction, rows: Collection[Row]) -> set[int]:
    waiting = access_log_unsealed.c.entry
    return set(tx.execute(select(waiting).where(waiting.in_([row["entry"] for row in rows]))).scalars())


def _shown(call: OngoingCall[Any, Any], rows: Collection[Row], unsealed: set[int]) -> list[AccessLogEntry]:
    """Names of all in one question each."""
    staff = neighbours.staff(call, log.readers(rows))
    cards = neighbours.cards(call, {row["resident"] for row in rows})
    return [
        _entry(row, staff.get(row["person"]), cards.get(row["resident"]), sealed=row["entry"] not in unsealed)
        for row in rows
    ]


def _entry(row: Row, person: StaffFacts | None, card: Card | None, *, sealed: bool) -> AccessLogEntry:
    return AccessLogEntry(
        entry=row["entry"],
        at=row["at"],
        person=row["person"],
        clinic=row["clinic"],
        care_provider=row["care_provider"],
        case=row["case_id"],
        number=row["number"],
        resident=row["resident"],
        what=log.what_was_read(row),
        attachment=row["attachment"],
        sealed=sealed,
        as_document=row["what"] == "document",
        in_list=row["what"] == "list",
        staff_name=log.name_of(person),
        staff_title=person.title if person else None,
        staff_protected=person is not None and person.protected,
        resident_card=neighbours.card_for_staff(card),
    )
