"""What cases tells identity for a subject access report (R-ID-19)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import get_args
from uuid import UUID, uuid4

import pytest

from services.cases import document, sending, subject_access
from shared.contracts import case_desk as desk
from shared.contracts import cases, contacting, inbox
from shared.contracts import subject_access as report
from shared.contracts.base import Role
from shared.messaging.wire import LARGEST_REPLY_BYTES
from shared.security.caller import Caller
from tests.integration.cases_support import CARE_PROVIDER, World, shared_database
from tests.integration.test_cases_contacting import Job, add, contact, mailing_of, number_of, send, template
from tests.integration.test_cases_statements import watched
from tests.integration.test_cases_system_messages import put
from tests.stack.rooms import Rooms

IDENTITY = Caller("service", "identity")
OTHER_PROVIDER = "SE2321000131-E000000000002"


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def held(world: World, resident: Caller, care_provider: str = CARE_PROVIDER) -> list[report.Held]:
    """All of it, page by page."""
    found: list[report.Held] = []
    ask = report.SubjectAccess(resident=UUID(resident.subject), care_provider=care_provider)
    while True:
        page = world.call(report.OF_CASES, ask, IDENTITY)
        found += page.held
        if page.after is None:
            return found
        ask = ask.model_copy(update={"after": page.after})


def of_kind(found: list[report.Held], kind: str) -> list[dict[str, str]]:
    return [{value.name: value.value for value in one.values} for one in found if one.kind == kind]


def providers(world: World, resident: Caller) -> list[str]:
    ask = report.CareProvidersOf(resident=UUID(resident.subject))
    return list(world.call(report.CARE_PROVIDERS_OF, ask, IDENTITY).care_providers)


def save(world: World, case: UUID, text: str, by: Caller, files: Sequence[UUID] = ()) -> None:
    request = desk.SaveDraft(
        request_id=uuid4(), case=case, version=world.version(case), text=text, attachments=list(files)
    )
    world.call(desk.SAVE_DRAFT, request, by)


def test_r_id_19_drafts_are_told_of_by_whoever_writes_them(world: World) -> None:
    """R-ID-19, R-ID-16: what staff write about the resident, and what the resident has not sent yet."""
    case, file, own = world.waiting_case(), world.file(world.receiver), world.file(world.resident)
    save(world, case, "Hör sig oroligt", world.receiver, [file])
    save(world, case, "Jag vet inte hur jag ska", world.resident, [own])
    found = held(world, world.resident)
    drafts = {one["Text"]: one for one in of_kind(found, "Utkast")}
    assert set(drafts) == {"Hör sig oroligt", "Jag vet inte hur jag ska"}
    surname = world.neighbours.staff[world.receiver.subject].surname
    assert drafts["Hör sig oroligt"]["Skrivet av"] == f"Åsa {surname}"
    assert drafts["Jag vet inte hur jag ska"]["Skrivet av"] == "invånaren"
    assert [one.attachments for one in found if one.kind == "Utkast" and one.attachments] == [[file]]
    assert of_kind(held(world, world.new_resident()), "Utkast") == []
    assert of_kind(held(world, world.resident, OTHER_PROVIDER), "Utkast") == []


def test_r_id_19_the_report_is_in_swedish(world: World) -> None:
    """R-ID-19: no word of the code's is in it."""
    case = world.waiting_case()
    world.get(case, world.handler)
    world.write(case)
    world.reply(case, "answer")
    found = held(world, world.resident)
    told = {one.kind: of_kind(found, one.kind) for one in found}
    assert [(one["Tillstånd"], one["Avslutsorsak"]) for one in told["Ärenden"]] == [("Avslutat", "besvarat")]
    assert {one["Skrivet av"] for one in told["Meddelanden"]} == {"invånaren", "mottagningen"}
    assert [(one["Händelse"], one["Av"]) for one in told["Händelser"]] == [
        ("Ärendet startades", "invånaren"),
        ("Tilldelat", "mottagningen"),
        ("Motfråga", "mottagningen"),
        ("Meddelande", "invånaren"),
        ("Svar", "mottagningen"),
    ]
    assert {one["Vad"] for one in told["Vem som har läst"]} == {"läste ärendet"}


def test_every_word_of_the_code_that_a_report_may_hold_has_a_swedish_one() -> None:
    """R-ID-19"""
    for words, codes in (
        (document.STATES, cases.CaseState),
        (document.REASONS, cases.ClosedReason),
        (document.WRITERS, cases.Writer),
        (document.ACTIVITIES, cases.MessageKind),
        (subject_access.RESULTS, contacting.RecipientResult),
    ):
        assert set(get_args(codes)) <= set(words)


def test_r_att_6_a_draft_tells_nothing_of_a_file_in_another_residents_case(world: World) -> None:
    """R-ATT-6, R-SYS-1, R-ID-19: whatever ids the writer's client has put in it."""
    elsewhere, sent, own = world.file(world.handler), world.file(world.handler), world.file(world.handler)
    theirs, case = world.start(world.new_resident()).case, world.start().case
    for one, file in ((theirs, elsewhere), (case, sent)):
        world.assign(one)
        world.reply(one, attachments=[file])
    save(world, case, "Som vi såg", world.handler, [elsewhere, sent, own])
    [draft] = [one for one in held(world, world.resident) if one.kind == "Utkast"]
    assert draft.attachments == [sent, own]


def test_r_id_19_who_was_in_a_mailing_is_told_what_became_of_it(world: World) -> None:
    """R-ID-19, R-CASE-14, R-CASE-22: also where nothing was sent, and where it is the only thing that is held."""
    numbers = [number_of() for _ in range(3)]
    sent, locked, waiting = (
        world.numbered(numbers[0]),
        world.numbered(numbers[1], locked=True),
        world.numbered(numbers[2]),
    )
    mailing = mailing_of(world, numbers[:2], text="Dags för provtagning.")
    send(world, mailing)
    sending.send_all(Job(world))
    add(world, mailing_of(world, [], text="Kommer senare."), numbers[2:])
    told = [of_kind(held(world, who), "Utskick") for who in (sent, locked, waiting)]
    assert [(one["Text"], one["Utfall"]) for one in told[0]] == [("Dags för provtagning.", "skickat")]
    assert [(one["Text"], one["Utfall"]) for one in told[1]] == [
        ("Dags för provtagning.", "inte skickat: inloggningen är låst")
    ]
    assert [(one["Text"], one["Utfall"]) for one in told[2]] == [("Kommer senare.", "väntar på att skickas")]
    assert "Ärendenummer" in told[0][0]
    assert "Ärendenummer" not in told[1][0]
    assert providers(world, locked) == providers(world, waiting) == [CARE_PROVIDER]
    assert of_kind(held(world, locked, OTHER_PROVIDER), "Utskick") == []


def test_r_id_19_a_message_is_told_with_all_that_it_says(world: World) -> None:
    """R-ID-19, R-CASE-21, R-CASE-8: each title and link of a thread, and where one is referred."""
    number = number_of()
    resident = world.numbered(number)
    for title in ("Din tid", "Din tid är ändrad"):
        link = inbox.InboxLink(text=f"Om {title}", url="https://bokning.example.se/tid")
        put(world, identity_number=number, thread="tid-1", title=title, link=link)
    right = world.new_clinic()
    case = world.start(resident).case
    world.assign(case)
    world.reply(case, "answer", text="Vänd dig till ögonmottagningen.", referral=right)
    told = {one.get("Rubrik") or one.get("Text"): one for one in of_kind(held(world, resident), "Meddelanden")}
    for title in ("Din tid", "Din tid är ändrad"):
        assert told[title]["Länkar"] == f"Om {title} (https://bokning.example.se/tid)"
        assert "Hänvisning" not in told[title]
    referred = told["Vänd dig till ögonmottagningen."]
    assert referred["Hänvisning"] == f"{world.neighbours.clinics[right].name} ({right})"
    assert "Länkar" not in referred


def test_r_id_19_small_pages_tell_the_same_as_large_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-19"""
    number = number_of()
    resident = world.numbered(number)
    mailing_of(world, [number])
    mailing_of(world, [number])
    for _ in range(3):
        case = world.start(resident).case
        world.assign(case)
        world.reply(case)
        world.reply(case, "counter_question")
        save(world, case, "Hej", world.handler)
        world.get(case, world.handler)
    whole = held(world, resident)
    assert len(of_kind(whole, "Meddelanden")) == 9
    assert len(of_kind(whole, "Utskick")) == 2
    monkeypatch.setattr(subject_access, "PAGE", 2)
    assert held(world, resident) == whole


def test_r_id_19_a_page_opens_no_more_than_it_tells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-19: however many cases its messages are of, and however long these are."""
    resident = world.new_resident()
    for _ in range(3):
        case = world.start(resident, attachments=[world.file(resident)]).case
        world.assign(case)
        for _ in range(3):
            world.reply(case)
    monkeypatch.setattr(subject_access, "PAGE", 4)
    opened: list[bytes] = []
    sealer = world.database._sealer
    real = type(sealer).open

    def open_noted(self: object, sealed: bytes, context: bytes) -> bytes:
        opened.append(context)
        return real(sealer, sealed, context)

    monkeypatch.setattr(type(sealer), "open", open_noted)
    ask = report.SubjectAccess(resident=UUID(resident.subject), care_provider=CARE_PROVIDER, after="messages ")
    with watched(world) as seen:
        page = world.call(report.OF_CASES, ask, IDENTITY)
    assert len(page.held) == len(opened) == 4
    assert len(seen) == 2


def test_r_id_19_long_cases_are_told_whole_in_pages_that_fit_in_a_reply(world: World) -> None:
    """R-ID-19: answers fill a request each time; what they say stands once."""
    form = [cases.Component(id=f"q{place}", kind="text", label=f"Fråga {place}") for place in range(20)]
    long_form, longest = world.new_case_type(form), "\U0001f600" * cases.MESSAGE_LENGTH
    answers = [cases.Answer(component=one.id, values=[longest]) for one in form]
    resident = world.new_resident()
    for _ in range(6):
        world.start(resident, case_type=long_form, answers=answers)
    told: list[report.Held] = []
    ask = report.SubjectAccess(resident=UUID(resident.subject), care_provider=CARE_PROVIDER, after="messages ")
    while ask.after is not None and ask.after.startswith("messages "):
        page = world.call(report.OF_CASES, ask, IDENTITY)
        assert len(page.model_dump_json().encode()) < LARGEST_REPLY_BYTES / 2
        told += page.held
        ask = ask.model_copy(update={"after": page.after})
    said = {one.label: longest for one in form}
    assert of_kind(told, "Meddelanden") == [{"Skrivet av": "invånaren"} | said] * 6


def test_r_id_19_what_is_written_besides_answers_is_told_too(world: World) -> None:
    """R-ID-19, R-CASE-14: each word once."""
    number = number_of()
    resident = world.numbered(number)
    case = contact(world, template(world, "questions"), number, text="Svara på några frågor.").case
    answers = [cases.Answer(component="since", values=["2026-02-01"])]
    world.write(case, resident, answers=answers, text="Det går bättre nu.")
    asked, answered = of_kind(held(world, resident), "Meddelanden")
    assert asked["Text"] == "Svara på några frågor."
    assert (answered["Sjukskriven sedan?"], answered["Text"]) == ("2026-02-01", "Det går bättre nu.")


def test_r_case_10_who_has_read_is_told_longer_than_the_case_is_shown(world: World) -> None:
    """R-CASE-10, R-CASE-18: after two years without its number."""
    old = world.start()
    world.get(old.case, world.receiver)
    world.move(timedelta(days=2 * 366))
    new = world.start()
    world.get(new.case, world.person(Role.CASE_RECEIVER))
    world.get(old.case, world.person(Role.CASE_RECEIVER))
    entries = world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), world.resident).entries
    assert [one.number for one in entries] == ["", new.number, ""]
    assert all(one.staff_name for one in entries)
