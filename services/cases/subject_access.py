"""What cases holds about a resident, for the subject access report, however old it is (R-ID-19)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, and_, func, literal, select, tuple_, union

from services.cases import drafts as of_drafts
from services.cases import mailings as of_mailings
from services.cases import messages as sent
from services.cases import notes as of_notes
from services.cases.access_log import name_of
from services.cases.document import ACTIVITIES, READ, REASONS, STATES, WRITERS
from services.cases.forms import text_besides
from services.cases.opening import open_sealed
from services.cases.system_messages import title_of
from services.cases.tables import (
    Row,
    access_log,
    activities,
    case_types,
    cases,
    drafts,
    mailing_recipients,
    mailings,
    message_files,
    messages,
    notes,
)
from shared.contracts.case_desk import DraftShown
from shared.contracts.directory import StaffFacts
from shared.contracts.subject_access import CareProviders, CareProvidersOf, Held, HeldPage, HeldValue, SubjectAccess
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid

PAGE = 50
PAGE_BYTES = 2_000_000
"""A page ends with the row whose sealed content passes this: a message may be as long as a request, and a reply has to
hold all of the page."""


RESULTS = {
    "waiting": "väntar på att skickas",
    "sent": "skickat",
    "sent_to_inactive": "skickat, kontot är inte aktivt",
    "no_account": "inte skickat: kontot saknas",
    "locked": "inte skickat: inloggningen är låst",
    "clinic_not_open": "inte skickat: mottagningen är inte öppen för invånaren",
    "not_sent": "inte skickat",
}


@dataclass(frozen=True)
class Stream:
    """One kind of thing, read in the order of columns that never change."""

    key: tuple[Column[Any], ...]
    read: Callable[[SubjectAccess], Select[Any]]
    key_of: tuple[Callable[[str], Any], ...]
    long: Column[Any] | None = None
    """What can make rows so long that a page holds fewer."""


@dataclass(frozen=True)
class Found:
    """A page of rows of one stream, with what belongs to them; staff are still to be named."""

    kind: str
    rows: list[Row]
    after: str | None
    messages: Mapping[UUID, sent.Stored]
    drafts: Mapping[UUID, DraftShown]
    texts: Mapping[UUID, str]
    """Of notes and mailings."""
    titles: Mapping[UUID, str]

    @property
    def people(self) -> set[str]:
        """The HSA-ids of staff that the page tells of."""
        return {row["person"] for row in self.rows if row.get("person")}


def care_providers(tx: Transaction, request: CareProvidersOf) -> CareProviders:
    """Who controls a case, a message or a reading of the resident's, or has written them up for a mailing, as it was
    then (R-ID-25)."""
    of_cases = select(cases.c.care_provider).where(cases.c.resident == request.resident)
    of_messages = (
        select(messages.c.care_provider)
        .join(cases, cases.c.id == messages.c.case_id)
        .where(cases.c.resident == request.resident)
    )
    of_readings = select(access_log.c.care_provider).where(access_log.c.resident == request.resident)
    of_mailings = select(_mailed_by).select_from(_MAILED).where(mailing_recipients.c.resident == request.resident)
    found = tx.execute(union(of_cases, of_messages, of_readings, of_mailings)).scalars()
    return CareProviders(care_providers=sorted(found))


# A mailing that has given no case is its template's care provider's.
_MAILED = (
    mailing_recipients.join(mailings, mailings.c.id == mailing_recipients.c.mailing)
    .join(case_types, case_types.c.id == mailings.c.case_type)
    .outerjoin(cases, cases.c.id == mailing_recipients.c.case_id)
)
_mailed_by = func.coalesce(cases.c.care_provider, case_types.c.care_provider)


def _of_mailings(request: SubjectAccess) -> Select[Any]:
    told = (mailings.c.clinic, mailings.c.case_type_name, mailings.c.created_at, mailings.c.content)
    mine = and_(mailing_recipients.c.resident == request.resident, _mailed_by == request.care_provider)
    return (
        select(mailing_recipients, *told, mailings.c.author.label("person"), cases.c.number)
        .select_from(_MAILED)
        .where(mine)
    )


def _of_drafts(request: SubjectAccess) -> Select[Any]:
    mine = drafts.join(cases, cases.c.id == drafts.c.case_id)
    return (
        select(drafts, cases.c.number, of_drafts.STAFF_WRITER.label("person"))
        .select_from(mine)
        .where(cases.c.resident == request.resident, cases.c.care_provider == request.care_provider)
    )


def _of_cases(request: SubjectAccess) -> Select[Any]:
    return select(cases).where(cases.c.resident == request.resident, cases.c.care_provider == request.care_provider)


def _of_messages(request: SubjectAccess) -> Select[Any]:
    mine = messages.join(cases, cases.c.id == messages.c.case_id)
    return (
        select(messages)
        .select_from(mine)
        .where(cases.c.resident == request.resident, messages.c.care_provider == request.care_provider)
    )


def _of_activities(request: SubjectAccess) -> Select[Any]:
    mine = activities.join(cases, cases.c.id == activities.c.case_id)
    return (
        select(activities, cases.c.number)
        .select_from(mine)
        .where(cases.c.resident == request.resident, activities.c.care_provider == request.care_provider)
    )


def _of_notes(request: SubjectAccess) -> Select[Any]:
    mine = notes.join(cases, cases.c.id == notes.c.case_id)
    return (
        select(notes, cases.c.number)
        .select_from(mine)
        .where(cases.c.resident == request.resident, notes.c.care_provider == request.care_provider)
    )


def _of_readings(request: SubjectAccess) -> Select[Any]:
    mine = (access_log.c.resident == request.resident) & (access_log.c.care_provider == request.care_provider)
    return select(access_log).where(mine)


STREAMS = {
    "cases": Stream((cases.c.id,), _of_cases, (UUID,)),
    "messages": Stream((messages.c.case_id, messages.c.position), _of_messages, (UUID, int), messages.c.content),
    "notes": Stream((notes.c.id,), _of_notes, (UUID,)),
    "drafts": Stream((drafts.c.id,), _of_drafts, (UUID,)),
    "mailings": Stream((mailing_recipients.c.mailing, mailing_recipients.c.position), _of_mailings, (UUID, int)),
    "activities": Stream((activities.c.id,), _of_activities, (int,)),
    "readings": Stream((access_log.c.entry,), _of_readings, (int,)),
}


def page(tx: Transaction, request: SubjectAccess) -> Found:
    """The rows of the page that the cursor stands at. Raises `Invalid` for a cursor that is none."""
    kind, key = _read_cursor(request.after)
    stream = STREAMS[kind]
    query = stream.read(request)
    if key is not None:
        query = query.where(tuple_(*stream.key) > tuple_(*key))
    rows: list[Row] = list(tx.execute(_weighed(stream, query)).mappings())
    more = bool(rows) and rows[-1]["more"]
    kinds = list(STREAMS)
    following = kinds[kinds.index(kind) + 1 :]
    place = "/".join(str(rows[-1][column.name]) for column in stream.key) if more else ""
    after = f"{kind} {place}" if more else f"{following[0]} " if following else None
    found = {row["id"]: title_of(tx, row) for row in rows} if kind == "cases" else {}
    return Found(
        kind,
        rows,
        after,
        messages=sent.of_rows(tx, rows) if kind == "messages" else {},
        drafts=_drafts(tx, rows) if kind == "drafts" else {},
        texts=_texts(tx, kind, rows),
        titles={case: title for case, title in found.items() if title is not None},
    )


def _weighed(stream: Stream, query: Select[Any]) -> Select[Any]:
    """The first of these rows that fit in a page, one at least; each tells whether there are `more` after it."""
    length = literal(0) if stream.long is None else func.length(stream.long)
    before = func.coalesce(func.sum(length).over(order_by=stream.key, rows=(None, -1)), 0)
    more = func.count().over(order_by=stream.key, rows=(1, 1)) > 0
    first = query.add_columns(before.label("before"), more.label("more")).order_by(*stream.key).limit(PAGE).subquery()
    fits = select(first).where(first.c.before < PAGE_BYTES)
    return fits.order_by(*(first.c[column.name] for column in stream.key))


def _read_cursor(after: str | None) -> tuple[str, Any]:
    kind, _, key = (after or "cases ").partition(" ")
    try:
        stream = STREAMS[kind]
        parts = zip(stream.key_of, key.split("/"), strict=True)
        return kind, tuple(read(part) for read, part in parts) if key else None
    except (KeyError, ValueError):
        raise Invalid(fields=[("after", "är ingen fortsättning")]) from None


def _drafts(tx: Transaction, rows: list[Row]) -> dict[UUID, DraftShown]:
    """The drafts, without files that were sent in another case: a draft names whatever its writer's client put there,
    and that case may be somebody else's (R-ATT-6)."""
    found = {row["id"]: of_drafts.shown(tx, row) for row in rows}
    named = {file for draft in found.values() for file in draft.attachments}
    sent_in = select(message_files.c.attachment, message_files.c.case_id).where(message_files.c.attachment.in_(named))
    case_of = {one.attachment: one.case_id for one in tx.execute(sent_in)} if named else {}
    for row in rows:
        draft = found[row["id"]]
        here = [file for file in draft.attachments if case_of.get(file, row["case_id"]) == row["case_id"]]
        found[row["id"]] = draft.model_copy(update={"attachments": here})
    return found


def _texts(tx: Transaction, kind: str, rows: list[Row]) -> dict[UUID, str]:
    if kind == "notes":
        sealed = {row["id"]: (row["content"], of_notes.context(row["case_id"], row["id"])) for row in rows}
    elif kind == "mailings":
        sealed = {row["mailing"]: (row["content"], of_mailings.context(row["mailing"])) for row in rows}
    else:
        return {}
    return {one: open_sealed(tx.sealer, bytes(content), context).decode() for one, (content, context) in sealed.items()}


def shown(found: Found, staff: Mapping[str, StaffFacts]) -> HeldPage:
    """The page in words, staff by name as residents see them (R-ID-16)."""
    words = _WORDS[found.kind]
    return HeldPage(held=[words(row, found, staff) for row in found.rows], after=found.after)


def _case(row: Row, found: Found, _staff: Mapping[str, StaffFacts]) -> Held:
    return _held(
        "Ärenden",
        row["started_at"],
        row["id"],
        Ärendenummer=row["number"],
        Mottagning=row["clinic"],
        Ärendetyp=row["case_type_name"],
        Rubrik=found.titles.get(row["id"]),
        Tillstånd=STATES[row["state"]],
        Avslutat=row["closed_at"],
        Avslutsorsak=_said(REASONS, row["closed_reason"]),
    )


def _message(row: Row, found: Found, _staff: Mapping[str, StaffFacts]) -> Held:
    message = found.messages[row["id"]].shown
    answers = [HeldValue(name=answer.label, value="; ".join(answer.values)) for answer in message.answers]
    files = "; ".join(f"{file.name} ({file.size} byte)" for file in message.attachments)
    links = "; ".join(f"{link.text} ({link.url})" for link in message.links)
    referral = message.referral
    held = _held(
        "Meddelanden",
        message.sent_at,
        row["case_id"],
        Skrivet_av=WRITERS[message.written_by],
        Avsändare=message.sender_name,
        Rubrik=message.title,
        Text=text_besides(message.text, message.answers) or None,
        Länkar=links or None,
        Hänvisning=f"{referral.name} ({referral.clinic})" if referral else None,
        Signatur=message.signature,
        Filer=files or None,
        Öppnat=message.opened_at,
    )
    attached = [file.attachment for file in message.attachments]
    return held.model_copy(update={"values": held.values + answers, "attachments": attached})


def _note(row: Row, found: Found, staff: Mapping[str, StaffFacts]) -> Held:
    return _held(
        "Mottagningens anteckningar",
        row["at"],
        row["case_id"],
        Ärendenummer=row["number"],
        Skrivet_av=name_of(staff.get(row["person"])),
        Text=found.texts[row["id"]],
    )


def _draft(row: Row, found: Found, staff: Mapping[str, StaffFacts]) -> Held:
    draft = found.drafts[row["id"]]
    held = _held(
        "Utkast",
        row["saved_at"],
        row["case_id"],
        Ärendenummer=row["number"],
        Skrivet_av=name_of(staff.get(row["person"])) if row["person"] else "invånaren",
        Text=draft.text,
    )
    # the resident's own files that were never sent are told of by themselves
    return held.model_copy(update={"attachments": draft.attachments if row["person"] else []})


def _mailing(row: Row, found: Found, staff: Mapping[str, StaffFacts]) -> Held:
    return _held(
        "Utskick",
        row["created_at"],
        row["case_id"],
        Ärendenummer=row["number"],
        Mottagning=row["clinic"],
        Mall=row["case_type_name"],
        Skrivet_av=name_of(staff.get(row["person"])),
        Text=found.texts[row["mailing"]],
        Utfall=RESULTS[row["result"]],
    )


def _activity(row: Row, _found: Found, staff: Mapping[str, StaffFacts]) -> Held:
    return _held(
        "Händelser",
        row["at"],
        row["case_id"],
        Ärendenummer=row["number"],
        Händelse=_said(ACTIVITIES, row["kind"]),
        Av=WRITERS[row["by"]],
        Person=name_of(staff.get(row["person"])) if row["person"] else None,
        Orsak=_said(REASONS, row["reason"]),
    )


def _reading(row: Row, _found: Found, staff: Mapping[str, StaffFacts]) -> Held:
    person = staff.get(row["person"])
    return _held(
        "Vem som har läst",
        row["at"],
        row["case_id"],
        Ärendenummer=row["number"],
        Mottagning=row["clinic"],
        Läst_av=name_of(person),
        Titel=person.title if person else None,
        Vad=READ[row["what"]],
    )


_WORDS = {
    "cases": _case,
    "messages": _message,
    "notes": _note,
    "drafts": _draft,
    "mailings": _mailing,
    "activities": _activity,
    "readings": _reading,
}


def _said(words: Mapping[str, str], code: str | None) -> str | None:
    """What is not known to have a word is told as it is: a report is complete."""
    return words.get(code, code) if code is not None else None


def _held(kind: str, at: datetime | None, case: UUID | None, **values: object) -> Held:
    return Held(
        kind=kind,
        at=at,
        case=case,
        values=[
            HeldValue(
                name=name.replace("_", " "),
                value=value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value),
            )
            for name, value in values.items()
            if value is not None
        ],
    )
