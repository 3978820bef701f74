"""Each call that names something is made by those whose it is not: what is theirs not to know is as if it were not
there, word for word, and nothing is changed (R-SYS-1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from shared.contracts import case_desk as desk
from shared.contracts import case_records as records
from shared.contracts import case_types as offer
from shared.contracts import cases
from shared.contracts import contacting as contacts
from shared.contracts.base import Command, Role
from shared.messaging.errors import NotFound, Refused
from shared.security.caller import Caller
from tests.integration.cases_support import World, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


Ask = Callable[[UUID], Any]
OF_A_CASE: dict[str, tuple[Any, Callable[[World, UUID], Any], tuple[str, ...]]] = {
    "get_case": (cases.GET_CASE, lambda _, case: cases.GetCase(case=case), ("staff", "resident")),
    "open_attachment": (
        cases.OPEN_ATTACHMENT,
        lambda _, case: cases.OpenAttachment(case=case, attachment=UUID(int=7)),
        ("staff", "resident"),
    ),
    "assign_case": (
        cases.ASSIGN_CASE,
        lambda world, case: cases.AssignCase(
            request_id=uuid4(), case=case, version=1, handler=world.handler.subject, partial_reply="Hej."
        ),
        ("staff",),
    ),
    "reply": (
        cases.REPLY,
        lambda _, case: cases.WriteReply(request_id=uuid4(), case=case, version=2, kind="answer", text="Hej."),
        ("staff",),
    ),
    "close_case": (
        cases.CLOSE_CASE,
        lambda _, case: cases.CloseCase(request_id=uuid4(), case=case, version=2),
        ("staff",),
    ),
    "send_message": (
        cases.SEND_MESSAGE,
        lambda _, case: cases.SendMessage(request_id=uuid4(), case=case, text="Hej."),
        ("resident",),
    ),
    "take_out_case": (
        records.TAKE_OUT_CASE,
        lambda _, case: records.TakeOutCase(case=case, format="text"),
        ("staff",),
    ),
    "mark_recorded": (
        records.MARK_RECORDED,
        lambda _, case: records.MarkRecorded(request_id=uuid4(), case=case, version=2),
        ("staff",),
    ),
    "add_note": (desk.ADD_NOTE, lambda _, case: desk.AddNote(request_id=uuid4(), case=case, text="Hej."), ("staff",)),
    "save_draft": (
        desk.SAVE_DRAFT,
        lambda _, case: desk.SaveDraft(request_id=uuid4(), case=case, version=2, text="Hej."),
        ("staff", "resident"),
    ),
    "get_draft": (desk.GET_DRAFT, lambda _, case: desk.GetDraft(case=case), ("staff", "resident")),
    "discard_draft": (
        desk.DISCARD_DRAFT,
        lambda _, case: desk.DiscardDraft(request_id=uuid4(), case=case),
        ("staff", "resident"),
    ),
}


def refusal(action: Callable[[], Any]) -> dict[str, Any]:
    with pytest.raises(NotFound) as told:
        action()
    return told.value.on_the_wire()


def everything(world: World) -> list[Any]:
    """All that is stored of the clinic's cases, and all that was told of them."""
    mine = {"clinic": world.clinic}
    with world.database.transaction() as tx:
        found: list[Any] = []
        found += tx.execute(text("SELECT c::text FROM cases c WHERE clinic = :clinic ORDER BY id"), mine).all()
        for table in ("messages", "activities", "drafts", "notes"):
            of_clinic = f"SELECT t::text FROM {table} t JOIN cases ON cases.id = t.case_id WHERE cases.clinic = :clinic"
            found += tx.execute(text(of_clinic + " ORDER BY t.id"), mine).all()
        found += tx.execute(text("SELECT a::text FROM access_log a WHERE clinic = :clinic"), mine).all()
        return found


def strangers(world: World) -> list[Caller]:
    return [
        world.new_resident(),
        Caller(
            "resident", world.new_resident().subject, session=uuid4(), acting_for=UUID(world.new_resident().subject)
        ),
        world.admin,
        world.reviewer,
        world.person(Role.CASE_HANDLER),
        world.person(Role.CASE_HANDLER, Role.CASE_RECEIVER, Role.LOCAL_ADMIN, clinic=world.new_clinic()),
    ]


@pytest.mark.parametrize("name", sorted(OF_A_CASE))
def test_r_sys_1_a_case_that_is_not_yours_is_not_there(world: World, name: str) -> None:
    """R-SYS-1, R-CASE-3"""
    call, made, kinds = OF_A_CASE[name]
    case = world.start().case
    world.assign(case)
    before = everything(world)
    for stranger in strangers(world):
        if stranger.kind in kinds:
            foreign = refusal(lambda stranger=stranger: world.call(call, made(world, case), stranger))
            absent = refusal(lambda stranger=stranger: world.call(call, made(world, uuid4()), stranger))
            assert foreign == absent
    assert everything(world) == before


def test_r_sys_1_every_call_that_names_a_case_is_tried_here() -> None:
    """R-SYS-1: whoever adds one says who may not make it."""
    naming = {
        name
        for name, call in cases.cases.calls.items()
        if "case" in call.request.model_fields and "clinic" not in call.request.model_fields
    }
    assert naming == set(OF_A_CASE)


def test_r_sys_1_what_another_clinic_has_ready_is_not_there(world: World) -> None:
    """R-SYS-1: not by naming it as one's own clinic's, nor as its own."""
    elsewhere = world.new_clinic()
    theirs = world.new_case_type(clinic=elsewhere)
    made = offer.CreateTemplate(
        request_id=uuid4(), clinic=elsewhere, purpose="information", name="Provsvar", text="Bra."
    )
    author = world.person(Role.LOCAL_ADMIN, clinic=elsewhere)
    template = world.call(offer.CREATE_TEMPLATE, made, author).case_type

    def deactivate(which: UUID) -> Command:
        return cases.DeactivateCaseType(request_id=uuid4(), case_type=which)

    def reactivate(which: UUID) -> Command:
        return offer.ReactivateCaseType(request_id=uuid4(), case_type=which)

    def start(which: UUID) -> Command:
        return cases.StartCase(request_id=uuid4(), clinic=world.clinic, case_type=which)

    def contact(which: UUID) -> Command:
        return contacts.ContactResident(
            request_id=uuid4(), clinic=world.clinic, template=which, identity_number="191212121212"
        )

    def mailing(which: UUID) -> Command:
        return contacts.CreateMailing(request_id=uuid4(), clinic=world.clinic, template=which)

    for call, request, which, caller in (
        (cases.DEACTIVATE_CASE_TYPE, deactivate, theirs, world.admin),
        (offer.REACTIVATE_CASE_TYPE, reactivate, theirs, world.admin),
        (cases.START_CASE, start, theirs, world.resident),
        (cases.START_CASE, start, template, world.resident),
        (contacts.CONTACT_RESIDENT, contact, template, world.handler),
        (contacts.CREATE_MAILING, mailing, template, world.handler),
    ):
        foreign = refusal(lambda: world.call(call, request(which), caller))  # noqa: B023
        absent = refusal(lambda: world.call(call, request(uuid4()), caller))  # noqa: B023
        assert foreign == absent


def test_lists_of_others_show_nothing(world: World) -> None:
    """R-SYS-1, R-CASE-3"""
    case = world.start().case
    world.assign(case)
    for stranger in strangers(world):
        for call, request in (
            (cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic)),
            (cases.LIST_MY_CASES, cases.ListMyCases()),
            (desk.COUNT_CASES, desk.CountCases(clinic=world.clinic)),
            (desk.COUNT_CASES, desk.CountCases(clinic=world.clinic, mine=True)),
            (cases.LIST_INBOX, cases.ListInbox()),
        ):
            if (stranger.kind == "resident") != (call is cases.LIST_INBOX):
                continue
            try:
                shown = world.call(call, request, stranger)
            except Refused:
                continue
            assert str(case) not in shown.model_dump_json()
            if isinstance(shown, desk.CaseCounts):
                assert shown == desk.CaseCounts(
                    new=0, assigned=0, awaiting_resident=0, closed=0, unread=0, waiting_since=None
                )
