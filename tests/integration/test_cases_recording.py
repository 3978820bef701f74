"""A case on its way into the medical record (R-CASE-16)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.cases import pdf
from shared.contracts import case_records as records
from shared.contracts import cases, inbox
from shared.messaging.errors import Conflict, LimitExceeded, NotFound
from shared.security.caller import Caller
from tests.integration.cases_support import World, refused, shared_database
from tests.integration.test_cases_contacting import number_of
from tests.integration.test_cases_system_messages import put
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def taken_out(world: World, case: UUID, form: str, by: Caller | None = None) -> records.CaseDocument:
    request = records.TakeOutCase(case=case, format=form)  # type: ignore[arg-type]
    document: records.CaseDocument = world.call(records.TAKE_OUT_CASE, request, by or world.receiver)
    return document


def mark(world: World, case: UUID, by: Caller | None = None, **more: int) -> records.CaseRecorded:
    values = {"version": world.version(case)} | more
    request = records.MarkRecorded(request_id=uuid4(), case=case, **values)
    recorded: records.CaseRecorded = world.call(records.MARK_RECORDED, request, by or world.receiver)
    return recorded


def test_r_case_16_the_whole_case_as_text_and_pdf(world: World) -> None:
    """R-CASE-16, R-ID-14, R-CASE-18: every message and step, the protected mark, and a row in the access log."""
    resident = world.new_resident(protected=True)
    started = world.start(resident, attachments=[world.file(resident, "blåmärke.png")])
    world.assign(started.case)
    world.reply(started.case, "counter_question", text="Är det rött, ömt eller svullet?")
    world.write(started.case, resident, text="Ömt och rött.")
    world.reply(started.case, "answer", text="Kom till oss på måndag.")
    made = taken_out(world, started.case, "text", world.handler)
    assert (made.file_name, made.content_type) == (f"arende-{started.number}.txt", "text/plain; charset=utf-8")
    text = base64.b64decode(made.content).decode()
    facts = world.neighbours.staff[world.handler.subject]
    for told in (
        f"Ärende {started.number}",
        "Invånare: Tolvan Tolvansson, 191212121212",
        "Skyddade personuppgifter",
        "Björkskogens vårdcentral",
        "Status: Avslutat (besvarat)",
        "Är det rött, ömt eller svullet?",
        "Ömt och rött.",
        "Kom till oss på måndag.",
        f"Åsa {facts.surname}, Läkare",
        "Bifogad fil: blåmärke.png (4711 byte)",
        f"Tilldelat till Åsa {facts.surname} ({world.handler.subject})",
        "Motfråga från mottagningen",
    ):
        assert told in text
    made = taken_out(world, started.case, "pdf")
    assert made.content_type == "application/pdf"
    assert base64.b64decode(made.content).startswith(b"%PDF")
    assert made.version == world.version(started.case)
    log = world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.reviewer).entries
    assert [(one.person, one.what, one.as_document) for one in log] == [
        (world.receiver.subject, "case", True),
        (world.handler.subject, "case", True),
    ]
    mine = world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), resident).entries
    assert [one.what for one in mine] == ["case", "case"]


def test_r_case_16_a_thread_of_another_system_with_its_titles_and_links(world: World) -> None:
    """R-CASE-16, R-CASE-21: what each of its messages said, and its steps in words."""
    number = number_of()
    world.numbered(number)
    for title in ("Din tid", "Din tid är ändrad"):
        link = inbox.InboxLink(text=f"Om {title}", url="https://bokning.example.se/tid")
        case = put(world, identity_number=number, thread="tid-1", title=title, link=link).case
    assert case is not None
    lines = base64.b64decode(taken_out(world, case, "text").content).decode().split("\n")
    for title in ("Din tid", "Din tid är ändrad"):
        assert f"Rubrik: {title}" in lines
        assert f"Länk: Om {title} (https://bokning.example.se/tid)" in lines
    assert [line.partition(" – ")[2] for line in lines[lines.index("Händelser") + 2 :] if line] == [
        "Meddelande från ett annat system, systemet",
        "Meddelande från ett annat system, systemet",
    ]


def test_r_case_16_only_who_may_read_it(world: World) -> None:
    """R-CASE-16, R-SYS-1: and what is not theirs is not logged either."""
    case = world.start().case
    for stranger in (world.handler, world.admin, world.reviewer):
        refused("case_not_found", NotFound, taken_out, world, case, "text", stranger)
        refused("case_not_found", NotFound, mark, world, case, stranger)
    assert world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.reviewer).entries == []


def test_r_case_16_internal_notes_stay_out_of_the_record(world: World) -> None:
    """R-CASE-16"""
    from shared.contracts import case_desk

    case = world.start().case
    world.call(
        case_desk.ADD_NOTE, case_desk.AddNote(request_id=uuid4(), case=case, text="Hemligt internt."), world.receiver
    )
    assert "Hemligt internt." not in base64.b64decode(taken_out(world, case, "text").content).decode()


def test_r_case_16_marked_as_recorded_as_it_was_read(world: World) -> None:
    """R-CASE-16: closed ones too; what came since shows; the version stays, so that nobody who answers is stopped."""
    case = world.start().case
    world.assign(case)
    version = world.version(case)
    first = mark(world, case)
    shown = world.get(case, world.handler)
    assert (shown.version, shown.recorded_version, shown.recorded_by) == (version, version, world.receiver.subject)
    assert shown.activities[-1].kind == "recorded"
    assert mark(world, case, world.handler) == first, "twice is as once"
    world.reply(case, "answer", version=version)
    refused("case_changed", Conflict, mark, world, case, version=version)
    shown = world.get(case, world.handler)
    assert (shown.recorded_version, shown.version) == (version, version + 1)
    mark(world, case, world.handler)
    assert world.get(case, world.handler).recorded_version == version + 1
    for_resident = world.get(case, world.resident)
    assert (for_resident.recorded_at, for_resident.recorded_by, for_resident.recorded_version) == (None, None, None)


def test_a_case_too_large_for_a_pdf_is_told_and_goes_as_text(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-CASE-16"""
    case = world.start().case
    monkeypatch.setattr(pdf, "SECONDS", 0.01)
    refused("document_too_large", LimitExceeded, taken_out, world, case, "pdf")
    assert taken_out(world, case, "text").content
