"""A case as a document for the medical record: what it says, and as plain text (R-CASE-16).

Internal notes are no part of it: they are the clinic's own, and a record can be asked for by the resident.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.contracts.cases import ActivityShown, CaseShown, MessageShown, ResidentCard
from shared.operations.clock import SWEDEN

PROTECTED = "Skyddade personuppgifter"
UNKNOWN = "okänd"
INDENT = "\t"
"""Before each line that a person has written. One byte: so a line takes no more than the case counts it as, and the
document of the longest case fits in a reply."""

STATES = {"new": "Nytt", "assigned": "Tilldelat", "awaiting_resident": "Väntar på invånaren", "closed": "Avslutat"}
REASONS = {
    "answered": "besvarat",
    "counter_question_expired": "motfrågan besvarades inte",
    "closed_by_clinic": "avslutat av mottagningen",
    "information": "information",
}
MESSAGES = {
    "start": "Ärendet startades",
    "resident_message": "Meddelande",
    "partial_reply": "Delsvar",
    "counter_question": "Motfråga",
    "answer": "Svar",
}
WRITERS = {"resident": "invånaren", "guardian": "vårdnadshavare", "staff": "mottagningen", "system": "systemet"}
ACTIVITIES = MESSAGES | {
    "started": "Ärendet startades",
    "assigned": "Tilldelat",
    "closed": "Avslutat",
    "handler_lost_right": "Ärendehanteraren har inte längre behörighet",
    "reminded": "Invånaren påmindes om motfrågan",
    "recorded": "Markerat som journalfört",
    "note_added": "Intern anteckning",
    "system_message": "Meddelande från ett annat system",
}


@dataclass(frozen=True)
class Block:
    """A piece of the document: its title, a heading, a line of facts, or a text that a person has written.

    Only a text may have several lines, and it stands indented: nobody can write what looks like a line of the document.
    """

    kind: Literal["title", "heading", "line", "text"]
    text: str

    def __post_init__(self) -> None:
        if self.kind != "text":
            object.__setattr__(self, "text", " ".join(self.text.split()))


@dataclass(frozen=True)
class Around:
    """What a document needs that the case does not hold: names as they are now, and who takes it out when."""

    clinic: str
    care_provider: str
    people: Mapping[str, str]
    taken_by: str
    now: datetime

    def name(self, person: str | None) -> str:
        """A member of staff with their HSA-id, which stays when names change."""
        known = self.people.get(person or "")
        return f"{known} ({person})" if known else person or UNKNOWN


def of_case(case: CaseShown, around: Around) -> list[Block]:
    """The whole case: whom and what it is about, each message, each step."""
    return [
        Block("title", f"Ärende {case.number}"),
        *_about(case, around),
        Block("heading", "Meddelanden"),
        *(block for message in case.messages for block in _message(message)),
        Block("heading", "Händelser"),
        *(Block("line", _activity(activity, around)) for activity in case.activities),
    ]


@dataclass(frozen=True)
class Reading:
    """That somebody of the staff has read about a resident, in the words that a resident may see."""

    at: datetime
    who: str
    number: str
    what: str


READ = {
    "case": "läste ärendet",
    "document": "tog ut ärendet för journal",
    "attachment": "öppnade en fil i ärendet",
    "list": "såg ärendet i en lista över invånarens ärenden",
}


def of_readings(
    resident: ResidentCard, around: Around, period: tuple[datetime, datetime], found: list[Reading]
) -> list[Block]:
    """Who has read about a resident at a clinic, for the resident to have (R-CASE-18)."""
    return [
        Block("title", "Loggutdrag"),
        Block("line", f"Invånare: {_resident(resident)}"),
        *([Block("line", PROTECTED)] if resident.protected else []),
        Block("line", f"Mottagning: {around.clinic}"),
        Block("line", f"Vårdgivare: {around.care_provider}"),
        Block("line", f"Period: från {at(period[0])} till {at(period[1])}"),
        Block("line", f"Utskrivet {at(around.now)}"),
        Block("heading", "Läst av personal"),
        *(Block("line", f"{at(one.at)} – {one.who} {READ[one.what]} {one.number}") for one in found),
        *([] if found else [Block("line", "Ingen har läst under perioden.")]),
    ]


def as_text(blocks: list[Block]) -> str:
    """For systems that take text: headings are underlined, and nothing is wrapped."""
    lines: list[str] = []
    for block in blocks:
        if block.kind in ("title", "heading"):
            lines += ["", block.text, ("=" if block.kind == "title" else "-") * len(block.text)]
        elif block.kind == "text":
            lines += [*(INDENT + line for line in block.text.split("\n")), ""]
        else:
            lines.append(block.text)
    return "\n".join(lines).strip() + "\n"


def at(moment: datetime) -> str:
    """Swedish clock time."""
    return f"{moment.astimezone(SWEDEN):%Y-%m-%d kl. %H:%M}"


def _about(case: CaseShown, around: Around) -> Iterator[Block]:
    yield Block("line", f"Invånare: {_resident(case.resident)}")
    if case.resident is not None and case.resident.protected:
        yield Block("line", PROTECTED)
    yield Block("line", f"Mottagning: {around.clinic} ({case.clinic})")
    yield Block("line", f"Vårdgivare: {around.care_provider} ({case.care_provider})")
    yield Block("line", f"Ärendetyp: {case.case_type_name}")
    yield Block("line", f"Startat: {at(case.started_at)}")
    reason = f" ({REASONS.get(case.closed_reason, case.closed_reason)})" if case.closed_reason else ""
    yield Block("line", f"Status: {STATES[case.state]}{reason}")
    if case.handler is not None:
        yield Block("line", f"Ärendehanterare: {around.name(case.handler)}")
    taken = f"Utskrivet {at(around.now)} av {around.name(around.taken_by)}, version {case.version} av ärendet"
    yield Block("line", taken)


def _resident(card: ResidentCard | None) -> str:
    return f"{card.name}, {card.identity_number}" if card else UNKNOWN


def _message(message: MessageShown) -> Iterator[Block]:
    who = WRITERS[message.written_by]
    named = f", {message.sender_name}" if message.sender_name else ""
    kind = MESSAGES.get(message.kind, "Meddelande")
    yield Block("line", f"{at(message.sent_at)} – {kind} från {who}{named}")
    if message.title:
        yield Block("line", f"Rubrik: {message.title}")
    yield Block("text", message.text)
    for link in message.links:
        yield Block("line", f"Länk: {link.text} ({link.url})")
    if message.signature:
        yield Block("line", message.signature)
    if message.referral is not None:
        yield Block("line", f"Hänvisning till {message.referral.name} ({message.referral.clinic})")
    for file in message.attachments:
        yield Block("line", f"Bifogad fil: {file.name} ({file.size} byte)")
    if message.opened_at is not None:
        yield Block("line", f"Öppnat av invånaren {at(message.opened_at)}")
    yield Block("line", "")


def _activity(activity: ActivityShown, around: Around) -> str:
    by = around.name(activity.person) if activity.person else WRITERS[activity.by]
    what = ACTIVITIES.get(activity.kind, activity.kind)
    given = f" till {around.name(activity.handler)}" if activity.handler and activity.kind == "assigned" else ""
    reason = f" ({REASONS.get(activity.reason, activity.reason)})" if activity.reason else ""
    return f"{at(activity.at)} – {what}{given}{reason}, {by}"
