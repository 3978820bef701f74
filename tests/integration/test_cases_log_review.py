"""The access log as its reviewers see it: searched, sampled, and with everyone's protection (R-CASE-18)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.cases import log_review
from shared.contracts import case_desk as desk
from shared.contracts import case_records as records
from shared.contracts import cases
from shared.contracts.base import Role
from shared.messaging.errors import Forbidden, Invalid, LimitExceeded, NotFound
from shared.operations import clock
from shared.security.caller import Caller
from tests.integration.cases_support import World, refused, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def search(world: World, by: Caller | None = None, **asked: Any) -> list[cases.AccessLogEntry]:
    request = cases.ReadAccessLog(clinic=world.clinic, **asked)
    entries: list[cases.AccessLogEntry] = world.call(cases.ACCESS_LOG, request, by or world.reviewer).entries
    return entries


def sample(world: World, by: Caller | None = None, **asked: Any) -> records.AccessLogSample:
    period = {"since": clock.now() - timedelta(days=30), "until": clock.now() + timedelta(minutes=1)}
    request = records.SampleAccessLog(clinic=world.clinic, **(period | asked))
    drawn: records.AccessLogSample = world.call(records.SAMPLE_ACCESS_LOG, request, by or world.reviewer)
    return drawn


def test_r_case_18_reviewers_search_by_person_resident_and_period(world: World) -> None:
    """R-CASE-18: by identity number, which is resolved elsewhere (R-ID-24)."""
    other = world.new_resident()
    world.set_resident(UUID(other.subject), "201001012384")
    mine, theirs = world.start().case, world.start(other).case
    world.assign(mine)
    world.get(mine, world.receiver)
    world.get(theirs, world.receiver)
    world.move(timedelta(days=2))
    world.get(mine, world.handler)
    assert [one.case for one in search(world)] == [mine, theirs, mine]
    assert [one.person for one in search(world, person=world.handler.subject)] == [world.handler.subject]
    assert [one.case for one in search(world, identity_number="201001012384")] == [theirs]
    assert search(world, identity_number="191010101010") == []
    world.neighbours.linked[UUID(other.subject)] = [UUID(world.resident.subject)]
    assert [one.case for one in search(world, identity_number="201001012384")] == [mine, theirs, mine]
    yesterday = clock.now() - timedelta(days=1)
    assert [one.person for one in search(world, since=yesterday)] == [world.handler.subject]
    assert [one.case for one in search(world, until=yesterday)] == [theirs, mine]
    assert [one.case for one in search(world, until=yesterday, case=mine)] == [mine]
    refused("period_empty", Invalid, search, world, since=yesterday, until=yesterday)


def test_r_case_18_rows_have_names_and_the_protected_mark(world: World) -> None:
    """R-CASE-18, R-ID-14, R-ID-16: for residents and staff alike."""
    protected = world.new_resident(protected=True)
    facts = world.neighbours.staff[world.receiver.subject]
    world.neighbours.staff[world.receiver.subject] = facts.model_copy(update={"protected": True})
    world.get(world.start(protected).case, world.receiver)
    [entry] = search(world)
    assert (entry.staff_name, entry.staff_title, entry.staff_protected) == (f"Åsa {facts.surname}", "Läkare", True)
    assert entry.resident_card is not None
    assert entry.resident_card.model_dump() == {
        "name": "Tolvan Tolvansson",
        "identity_number": "191212121212",
        "active": True,
        "protected": True,
    }


def test_r_case_18_names_of_a_page_are_asked_for_once(world: World) -> None:
    """R-CASE-18: whatever the page holds, one question to each neighbour."""
    for _ in range(3):
        resident = world.new_resident()
        world.get(world.start(resident).case, world.receiver)
    world.neighbours.asked.clear()
    assert len(search(world)) == 3
    assert sorted(world.neighbours.asked) == ["get_staff", "resident_cards"]


def test_r_case_18_a_sample_is_drawn_from_the_period(world: World) -> None:
    """R-CASE-18: each reading as likely as any other, none twice."""
    case = world.start().case
    world.assign(case)
    for _ in range(10):
        world.get(case, world.receiver)
    world.get(case, world.handler)
    seen: set[int] = set()
    for _ in range(40):
        drawn = sample(world, size=3)
        numbers = [one.entry for one in drawn.entries]
        assert (len(numbers), len(set(numbers)), drawn.population) == (3, 3, 11)
        assert numbers == sorted(numbers, reverse=True)
        seen.update(numbers)
    assert len(seen) == 11
    assert sample(world, person=world.handler.subject).population == 1
    assert sample(world, until=clock.now() - timedelta(days=1)).entries == []
    assert len(sample(world, size=100).entries) == 11


def extract(world: World, by: Caller | None = None, **asked: Any) -> records.AccessLogExtract:
    values = {"since": clock.now() - timedelta(days=30), "until": clock.now() + timedelta(minutes=1), "format": "text"}
    values |= {"identity_number": "191212121212"} | asked
    request = records.ExtractAccessLog(clinic=world.clinic, **values)
    found: records.AccessLogExtract = world.call(records.EXTRACT_ACCESS_LOG, request, by or world.reviewer)
    return found


def test_r_case_18_an_extract_for_the_resident_names_staff_and_has_no_hsa_id(world: World) -> None:
    """R-CASE-18, R-ID-14: only the resident's own cases at the clinic, with what was read, when and by whom."""
    world.set_resident(UUID(world.resident.subject), "199001012385", protected=True)
    file = world.file(world.resident)
    mine = world.start(attachments=[file])
    someone = world.new_resident()
    other = world.start(someone)
    world.get(other.case, world.receiver)
    world.get(mine.case, world.receiver)
    world.call(cases.OPEN_ATTACHMENT, cases.OpenAttachment(case=mine.case, attachment=file), world.receiver)
    world.call(records.TAKE_OUT_CASE, records.TakeOutCase(case=mine.case, format="text"), world.receiver)
    made = extract(world, identity_number="199001012385")
    text = base64.b64decode(made.content).decode()
    name = f"Åsa {world.neighbours.staff[world.receiver.subject].surname}, Läkare,"
    for told in (
        "Invånare: Tolvan Tolvansson, 199001012385",
        "Skyddade personuppgifter",
        "Björkskogens vårdcentral",
        f"{name} läste ärendet {mine.number}",
        f"{name} öppnade en fil i ärendet {mine.number}",
        f"{name} tog ut ärendet för journal {mine.number}",
    ):
        assert told in text
    assert made.readings == 3
    assert other.number not in text
    assert world.receiver.subject not in text
    assert base64.b64decode(extract(world, identity_number="199001012385", format="pdf").content)[:4] == b"%PDF"
    world.neighbours.linked[UUID(world.resident.subject)] = [UUID(someone.subject)]
    assert extract(world, identity_number="199001012385").readings == 4, "of all accounts of the person (R-ID-24)"
    nothing = extract(world, identity_number="199001012385", until=clock.now() - timedelta(days=1))
    assert "Ingen har läst" in base64.b64decode(nothing.content).decode()


def test_r_case_18_an_extract_is_whole_or_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-CASE-18"""
    world.set_resident(UUID(world.resident.subject), "199001012393")
    case = world.start().case
    for _ in range(3):
        world.get(case, world.receiver)
    monkeypatch.setattr(log_review, "MOST_EXTRACTED", 2)
    refused("period_too_long", LimitExceeded, extract, world, identity_number="199001012393")


def test_r_id_14_an_extract_tells_nothing_of_those_whom_nobody_has_read_about(world: World) -> None:
    """R-CASE-18, R-ID-14: not a name, not the mark, not even whether the number has an account here."""
    stranger = world.new_resident(protected=True)
    world.set_resident(UUID(stranger.subject), "199001012401", protected=True)
    world.start(stranger)  # a case that nobody has read
    unread = refused("resident_not_in_log", NotFound, extract, world, identity_number="199001012401")
    nobody = refused("resident_not_in_log", NotFound, extract, world, identity_number="190001010000")
    assert str(unread) == str(nobody)


def test_r_case_18_a_list_of_one_residents_cases_is_a_reading_of_each(world: World) -> None:
    """R-CASE-18: whoever lists by identity number learns whose the cases are, so each one shown is logged."""
    resident = world.numbered("199001012419")
    first, second = world.start(resident), world.start(resident)
    world.start(world.new_resident())
    world.assign(second.case)
    asked: dict[str, Any] = {"clinic": world.clinic, "identity_number": "199001012419"}

    def logged(call: Any, request: Any, by: Caller) -> list[tuple[UUID, str]]:
        before = {one.entry for one in search(world)}
        world.call(call, request, by)
        new = [one for one in search(world) if one.entry not in before]
        assert {(one.person, str(one.resident)) for one in new} <= {(by.subject, resident.subject)}
        assert all(one.in_list and not one.as_document for one in new)
        return sorted((one.case, one.what) for one in new)

    both = sorted([(first.case, "case"), (second.case, "case")])
    whole = cases.ListClinicCases(**asked)
    assert logged(cases.LIST_CLINIC_CASES, whole, world.receiver) == both
    # what a page shows, and nothing else
    assert logged(cases.LIST_CLINIC_CASES, cases.ListClinicCases(**asked, limit=1), world.receiver) == [
        (second.case, "case")
    ]
    assert logged(cases.LIST_MY_CASES, cases.ListMyCases(identity_number="199001012419"), world.handler) == [
        (second.case, "case")
    ]
    assert logged(desk.COUNT_CASES, desk.CountCases(**asked), world.receiver) == both
    assert logged(desk.COUNT_CASES, desk.CountCases(**asked, mine=True), world.handler) == [(second.case, "case")]
    # of nobody in particular: no reading
    assert logged(cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic), world.receiver) == []
    assert logged(desk.COUNT_CASES, desk.CountCases(clinic=world.clinic), world.receiver) == []


def test_r_case_18_residents_see_that_their_cases_were_listed(world: World) -> None:
    """R-CASE-18: in their own view of the log, and in the extract; a seal covers it as any other row."""
    resident = world.numbered("199001012427")
    case = world.start(resident)
    world.call(
        cases.LIST_CLINIC_CASES,
        cases.ListClinicCases(clinic=world.clinic, identity_number="199001012427"),
        world.receiver,
    )
    [entry] = world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), resident).entries
    assert (entry.number, entry.what, entry.in_list) == (case.number, "case", True)
    text = base64.b64decode(extract(world, identity_number="199001012427").content).decode()
    assert f"såg ärendet i en lista över invånarens ärenden {case.number}" in text


def test_r_case_18_only_reviewers_of_the_clinic(world: World) -> None:
    """R-CASE-18: and an identity number is not even looked up for others."""
    elsewhere = world.person(Role.LOG_REVIEWER, clinic=world.new_clinic())
    world.neighbours.asked.clear()
    for caller in (world.receiver, world.handler, world.admin, elsewhere):
        with pytest.raises(Forbidden):
            search(world, caller, identity_number="191212121212")
        with pytest.raises(Forbidden):
            sample(world, caller)
        with pytest.raises(Forbidden):
            extract(world, caller)
    assert world.neighbours.asked == []


def test_r_case_10_12_18_nothing_is_purged_that_is_to_be_kept(world: World) -> None:
    """R-CASE-10, R-CASE-12, R-CASE-18: staff keep their cases and the log is kept for five years at least, whatever
    became of the resident; nothing here removes a row, and the database lets nobody."""
    case = world.start().case
    world.assign(case)
    world.reply(case, "answer")
    world.get(case, world.receiver)
    world.set_resident(UUID(world.resident.subject), active=False)
    world.move(timedelta(days=5 * 366))
    world.expire()
    world.remind()
    world.seal()
    assert [one.case for one in search(world)] == [case]
    listed = world.call(cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic), world.receiver).cases
    assert [one.case for one in listed] == [case]
    assert len(world.get(case, world.receiver).messages) == 2
