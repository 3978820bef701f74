"""Whom a clinic takes cases from, and who stands for a child: as identity decides, each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.contracts import access, cases
from shared.contracts import case_desk as desk
from shared.contracts import case_types as offer
from shared.messaging.errors import Forbidden, NotFound, Unavailable
from shared.security.caller import Caller
from tests.integration.cases_support import World, refused, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def decide(world: World, **decided: Any) -> None:
    """What identity says of the resident and the clinic."""
    key = (UUID(world.resident.subject), world.clinic)
    world.neighbours.access[key] = access.ClinicAccess(**({"clinic": world.clinic, "allowed": True} | decided))


def usable(world: World, *clinics: str) -> dict[str, list[UUID]]:
    request = offer.ListUsableCaseTypes(clinics=list(clinics))
    found = world.call(offer.LIST_USABLE_CASE_TYPES, request, world.resident)
    return {one.clinic: [case_type.case_type for case_type in one.case_types] for one in found.clinics}


def family(world: World) -> tuple[Caller, Caller, Caller]:
    """A child, a guardian, and the guardian who acts for the child."""
    child, guardian = world.new_resident(), world.new_resident()
    return child, guardian, Caller("resident", guardian.subject, session=uuid4(), acting_for=UUID(child.subject))


def represent(world: World, guardian: Caller, **now: Any) -> None:
    assert guardian.acting_for is not None
    found = access.RepresentationNow(**({"acting": True} | now))
    world.neighbours.representation[(UUID(guardian.subject), guardian.acting_for)] = found


# --- which clinics and case types


@pytest.mark.parametrize("reason", ["outside_catchment", "protected_outside_county"])
def test_r_id_15_r_id_22_a_clinic_that_is_not_open_takes_no_case(world: World, reason: str) -> None:
    """R-ID-15, R-ID-22: and why is not told apart, for it would tell where someone lives."""
    decide(world, allowed=False, reason=reason)
    file = world.file(world.resident)
    told = refused("clinic_not_open", Forbidden, world.start, attachments=[file])
    assert told.fields == ()
    assert world.neighbours.claims == {}
    ask = cases.ListCaseTypes(clinic=world.clinic)
    assert world.call(cases.LIST_CASE_TYPES, ask, world.resident).case_types == []
    assert len(world.call(cases.LIST_CASE_TYPES, ask, world.receiver).case_types) == 1
    assert usable(world, world.clinic) == {}


def test_r_id_22_an_approval_may_be_for_some_case_types(world: World) -> None:
    """R-ID-22"""
    other = world.new_case_type()
    decide(world, case_types=[other])
    refused("clinic_not_open", Forbidden, world.start)
    assert world.start(case_type=other).case
    second = world.new_clinic()
    there = world.new_case_type(clinic=second)
    assert usable(world, second, world.clinic, world.new_clinic()) == {second: [there], world.clinic: [other]}


def test_r_id_15_nothing_is_started_while_identity_can_not_be_asked(world: World) -> None:
    """R-ID-15"""
    world.neighbours.faults["access_to_clinics"] = Unavailable()
    with pytest.raises(Unavailable):
        world.start()


def test_who_has_a_case_goes_on_with_it_when_the_clinic_is_closed_to_them(world: World) -> None:
    """R-ID-22: access is asked about when a case is started, not for one that is under way."""
    case = world.waiting_case()
    decide(world, allowed=False, reason="outside_catchment")
    assert world.write(case).state == "assigned"


# --- guardians


def test_r_id_12_the_child_reads_what_the_guardian_sent_and_sees_that_it_was(world: World) -> None:
    """R-CASE-15, R-ID-11, R-ID-12"""
    child, guardian, acting = family(world)
    case = world.start(acting).case
    world.assign(case)
    world.reply(case, "counter_question")
    world.write(case, acting)
    for reader in (child, acting, world.handler):
        writers = [one.written_by for one in world.get(case, reader).messages]
        assert writers == ["guardian", "staff", "guardian"]
    assert [one.case for one in world.call(cases.LIST_INBOX, cases.ListInbox(), child).cases] == [case]
    assert world.call(cases.LIST_INBOX, cases.ListInbox(), guardian).cases == []
    refused("case_not_found", NotFound, world.get, case, guardian)


def test_r_id_11_who_acts_no_more_reads_nothing_in_an_old_session(world: World) -> None:
    """R-ID-11, R-ID-13: from the 13th birthday, or when either becomes protected; the child goes on."""
    child, _guardian, acting = family(world)
    case = world.start(acting).case
    world.assign(case)
    world.reply(case, "counter_question")
    represent(world, acting, acting=False)
    draft = desk.SaveDraft(request_id=uuid4(), case=case, version=1)
    for action in (
        lambda: world.get(case, acting),
        lambda: world.write(case, acting),
        lambda: world.start(acting),
        lambda: world.call(cases.LIST_INBOX, cases.ListInbox(), acting),
        lambda: world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), acting),
        lambda: world.call(cases.OPEN_ATTACHMENT, cases.OpenAttachment(case=case, attachment=uuid4()), acting),
        lambda: world.call(desk.SAVE_DRAFT, draft, acting),
        lambda: world.call(desk.GET_DRAFT, desk.GetDraft(case=case), acting),
    ):
        refused("not_representative", Forbidden, action)
    assert world.write(case, child).state == "assigned"


def test_r_id_13_a_blocked_guardian_sees_nothing_of_the_child_at_that_clinic(world: World) -> None:
    """R-ID-13: as if it were not there; elsewhere as before."""
    child, _guardian, acting = family(world)
    second = world.new_clinic()
    case = world.start(acting).case
    elsewhere = world.start(acting, clinic=second, case_type=world.new_case_type(clinic=second)).case
    world.assign(case)
    world.reply(case, "counter_question")
    world.get(case, world.receiver)
    represent(world, acting, blocked_at=[world.clinic])
    absent = refused("case_not_found", NotFound, world.get, uuid4(), acting)
    blocked = refused("case_not_found", NotFound, world.get, case, acting)
    assert blocked.on_the_wire() == absent.on_the_wire()
    refused("case_not_found", NotFound, world.write, case, acting)
    refused("guardian_blocked", Forbidden, world.start, acting)
    inbox = world.call(cases.LIST_INBOX, cases.ListInbox(), acting)
    assert ([one.case for one in inbox.cases], inbox.unopened) == ([elsewhere], 0)
    assert world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), acting).entries == []
    assert len(world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), child).entries) == 1
    assert world.get(elsewhere, acting).case == elsewhere
    assert {one.case for one in world.call(cases.LIST_INBOX, cases.ListInbox(), child).cases} == {case, elsewhere}
