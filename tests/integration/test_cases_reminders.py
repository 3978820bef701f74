"""Reminders: the resident of a counter-question that is about to expire, the clinic of cases that nobody handles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from shared.contracts import case_types as offer
from shared.contracts import cases
from shared.contracts import contacting as contacts
from shared.contracts.base import Role
from shared.operations import clock
from tests.integration.cases_support import World, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def reminders(world: World, case: UUID) -> list[dict[str, Any]]:
    return [told for kind, told in world.events(case) if kind == "answer_reminder"]


def move_to(world: World, moment: datetime) -> None:
    world.move(moment - clock.now())


def test_r_case_7_the_resident_is_reminded_once_a_week_before(world: World) -> None:
    """R-CASE-7, R-NOT-3: with the counter-question's own id and nothing personal, and the version stays."""
    case = world.waiting_case()
    shown = world.get(case, world.receiver)
    due = shown.answer_before
    assert due is not None
    move_to(world, due - timedelta(days=7, minutes=1))
    world.remind()
    assert reminders(world, case) == []
    world.move(timedelta(minutes=2))
    assert world.remind() >= 1
    world.remind()
    assert reminders(world, case) == [
        {
            "case": str(case),
            "message": str(shown.messages[-1].message),
            "clinic": world.clinic,
            "resident": world.resident.subject,
            "answer_before": due.isoformat().replace("+00:00", "Z"),
        }
    ]
    after = world.get(case, world.receiver)
    assert (after.version, after.state) == (shown.version, "awaiting_resident")
    assert (after.activities[-1].kind, after.activities[-1].by) == ("reminded", "system")


def test_r_case_7_who_has_written_or_need_not_is_not_reminded(world: World) -> None:
    """R-CASE-7"""
    answered, closed, again, late = (world.waiting_case() for _ in range(4))
    world.write(answered)
    world.close_case(closed)
    world.move(timedelta(days=20))
    world.reply(again, "counter_question")
    world.move(timedelta(days=5))
    world.remind()
    assert [len(reminders(world, case)) for case in (answered, closed, again, late)] == [0, 0, 0, 1]
    world.move(timedelta(days=20))
    world.remind()
    assert len(reminders(world, again)) == 1
    world.reply(again, "counter_question")
    world.move(timedelta(days=25))
    world.remind()
    assert len(reminders(world, again)) == 2, "each counter-question has its own"


def test_r_case_7_what_is_due_already_is_closed_and_not_reminded_of(world: World) -> None:
    """R-CASE-7: the jobs were not run for long."""
    case = world.waiting_case()
    world.move(timedelta(days=40))
    world.remind()
    world.expire()
    assert reminders(world, case) == []
    assert world.get(case, world.receiver).closed_reason == "counter_question_expired"


def test_r_case_7_a_case_without_handler_is_reminded_of_too(world: World) -> None:
    """R-CASE-7: it waits for the resident all the same."""
    case = world.waiting_case()
    world.give(world.handler.subject)
    world.move(timedelta(days=25))
    world.remind()
    assert len(reminders(world, case)) == 1


def unhandled(world: World, days: int, *, after_days: int | None = None) -> tuple[int, datetime | None]:
    now = clock.now()
    asked = cases.UnhandledAt(
        clinic=world.clinic,
        silent_since=now - timedelta(days=days),
        written_after=None if after_days is None else now - timedelta(days=after_days),
    )
    request = cases.AskUnhandledCases(clinics=[asked])
    found = world.call(cases.UNHANDLED_CASES, request, world.staff("x")).clinics
    assert [one.clinic for one in found] in ([], [world.clinic])
    return (found[0].count, found[0].oldest) if found else (0, None)


def test_r_not_2_a_clinic_can_be_reminded_of_cases_that_nobody_handles(world: World) -> None:
    """R-NOT-2: new and assigned ones in which nothing was written for so long; not those that wait for the resident."""
    began = clock.now()
    new, assigned, waiting, closed = world.start().case, world.start().case, world.waiting_case(), world.start().case
    world.assign(assigned)
    world.close_case(closed)
    assert unhandled(world, 3) == (0, None)
    world.move(timedelta(days=3, minutes=1))
    count, oldest = unhandled(world, 3)
    assert count == 2
    assert oldest is not None
    assert abs(oldest - began) < timedelta(minutes=1)
    assert unhandled(world, 3, after_days=4)[0] == 2
    assert unhandled(world, 1, after_days=3)[0] == 0, "asked about before"
    world.reply(assigned)
    assert unhandled(world, 3)[0] == 1
    world.assign(new)
    assert unhandled(world, 3)[0] == 1, "giving it to someone is no handling"
    world.write(waiting)
    world.move(timedelta(days=3, minutes=1))
    assert unhandled(world, 3)[0] == 3
    for case in (new, assigned, waiting):
        world.close_case(case)
    assert unhandled(world, 3) == (0, None)


def test_r_not_2_a_resident_who_goes_on_writing_waits_since_their_first_message(world: World) -> None:
    """R-NOT-2: after a counter-question they write again and again; what staff write ends it, and what the resident
    writes after that is another wait."""
    case = world.waiting_case()
    world.move(timedelta(days=10))
    answered = clock.now()
    for _ in range(3):
        world.write(case)
        world.move(timedelta(days=2))
    count, oldest = unhandled(world, 3)
    assert count == 1
    assert oldest is not None
    assert abs(oldest - answered) < timedelta(minutes=1)
    assert unhandled(world, 3, after_days=5)[0] == 0, "the same wait, told of before"
    world.reply(case)
    assert unhandled(world, 3) == (0, None)
    world.move(timedelta(days=2))
    wrote_again = clock.now()
    for _ in range(2):
        world.write(case)
        world.move(timedelta(days=2))
    count, oldest = unhandled(world, 3)
    assert count == 1
    assert oldest is not None
    assert abs(oldest - wrote_again) < timedelta(minutes=1)
    world.reply(case, "counter_question")
    assert unhandled(world, 0) == (0, None)
    world.move(timedelta(days=2))
    world.write(case)
    assert unhandled(world, 1) == (0, None), "back at the clinic, it waits anew"
    world.reply(case, "answer")
    assert unhandled(world, 0) == (0, None)


def test_r_not_2_changing_hands_neither_ends_nor_begins_a_wait(world: World) -> None:
    """R-NOT-2: another handler, and one who loses the right."""
    case = world.waiting_case()
    world.give(world.handler.subject)
    world.write(case)
    world.move(timedelta(days=2))
    colleague = world.person(Role.CASE_HANDLER)
    world.assign(case, colleague)
    world.write(case)
    world.move(timedelta(days=2))
    world.give(colleague.subject)
    assert world.get(case, world.receiver).state == "new"
    assert unhandled(world, 3)[0] == 1
    world.write(case)
    assert unhandled(world, 3)[0] == 1


def test_r_not_2_answers_to_a_clinics_own_questions_wait_since_the_first(world: World) -> None:
    """R-NOT-2, R-CASE-14: a case that the clinic started; it has written no reply in it."""
    number = "199001011262"
    resident = world.numbered(number)
    question = cases.Component(id="how", kind="text", label="Hur mår du?", required=True)
    make = offer.CreateTemplate(
        request_id=uuid4(),
        clinic=world.clinic,
        purpose="questions",
        name="Uppföljning",
        text="Vi vill veta hur det går.",
        components=[question],
    )
    template = world.call(offer.CREATE_TEMPLATE, make, world.admin).case_type
    ask = contacts.ContactResident(
        request_id=uuid4(), clinic=world.clinic, identity_number=number, template=template, form_version=1
    )
    case = world.call(contacts.CONTACT_RESIDENT, ask, world.handler).case
    world.move(timedelta(days=2))
    world.write(case, resident, answers=[cases.Answer(component="how", values=["Bra."])])
    world.move(timedelta(days=2))
    world.write(case, resident)
    world.move(timedelta(days=2))
    assert unhandled(world, 3)[0] == 1


def kept_of_the_wait(world: World, case: UUID) -> datetime | None:
    with world.database.transaction() as tx:
        return tx.execute(text("SELECT unanswered_since FROM cases WHERE id = :case"), {"case": case}).scalar_one()


def as_the_version_before_leaves_it(world: World, case: UUID, kept: datetime | None) -> None:
    """It knows nothing of when a wait began, and writes it neither down nor off."""
    with world.database.transaction() as tx:
        change = text("UPDATE cases SET unanswered_since = :kept WHERE id = :case")
        tx.execute(change, {"case": case, "kept": kept})


def test_r_not_2_a_wait_from_the_version_before_counts_from_its_latest_message(world: World) -> None:
    """R-NOT-2: by which it has been reminded of, if it has; so it is lost by nobody and told of once."""
    case = world.waiting_case()
    world.write(case)
    as_the_version_before_leaves_it(world, case, None)
    world.move(timedelta(days=2))
    assert unhandled(world, 1)[0] == 1
    world.write(case)
    world.move(timedelta(days=1, minutes=1))
    assert unhandled(world, 3)[0] == 1, "writing on puts it off no more"


def test_r_not_2_a_wait_that_the_version_before_has_ended_is_not_gone_on_with(world: World) -> None:
    """R-NOT-2: it may be taken up again for a while, on the same database."""
    case = world.waiting_case()
    world.write(case)
    ended = kept_of_the_wait(world, case)
    world.move(timedelta(days=5))
    world.reply(case)
    world.write(case)
    as_the_version_before_leaves_it(world, case, ended)
    assert unhandled(world, 3) == (0, None)
    world.move(timedelta(days=2))
    world.write(case)
    world.move(timedelta(days=1, minutes=1))
    count, oldest = unhandled(world, 3)
    assert count == 1
    assert oldest is not None
    assert ended is not None
    assert oldest - ended > timedelta(days=4)


def test_r_not_2_nothing_asked_nothing_told(world: World) -> None:
    request = cases.AskUnhandledCases(clinics=[])
    assert world.call(cases.UNHANDLED_CASES, request, world.staff("x")).clinics == []
