"""What those who answer have at hand: lists and counts, internal notes, drafts, referrals, their signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.cases import drafts
from shared.contracts import case_desk as desk
from shared.contracts import cases
from shared.contracts.base import Role
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotFound
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


@pytest.fixture
def own_world(fresh_database: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    yield from World.made(fresh_database("cases").url, tmp_path)


def listed(world: World, by: Caller | None = None, **filters: Any) -> list[UUID]:
    request = cases.ListClinicCases(clinic=world.clinic, **filters)
    return [one.case for one in world.call(cases.LIST_CLINIC_CASES, request, by or world.receiver).cases]


def mine(world: World, by: Caller, **filters: Any) -> list[cases.CaseListed]:
    page: cases.CasePage = world.call(cases.LIST_MY_CASES, cases.ListMyCases(**filters), by)
    return page.cases


def count(world: World, by: Caller | None = None, **filters: Any) -> desk.CaseCounts:
    counted: desk.CaseCounts = world.call(
        desk.COUNT_CASES, desk.CountCases(clinic=world.clinic, **filters), by or world.receiver
    )
    return counted


def note(world: World, case: UUID, by: Caller, words: str = "Ring anhörig först.") -> Any:
    return world.call(desk.ADD_NOTE, desk.AddNote(request_id=uuid4(), case=case, text=words), by)


def save(world: World, case: UUID, by: Caller, **changed: Any) -> Any:
    values = {"request_id": uuid4(), "case": case, "version": world.version(case), "text": "Hej, vi har"}
    return world.call(desk.SAVE_DRAFT, desk.SaveDraft(**(values | changed)), by)


def draft(world: World, case: UUID, by: Caller) -> desk.DraftFound:
    found: desk.DraftFound = world.call(desk.GET_DRAFT, desk.GetDraft(case=case), by)
    return found


# --- lists and counts


def test_r_case_19_a_list_is_filtered_by_all_that_is_named(world: World) -> None:
    """R-CASE-19: by state, case type, handler, date, identity number and case number; and counted with the same."""
    other_type = world.new_case_type()
    other = world.new_resident()
    card = world.neighbours.cards[UUID(other.subject)]
    world.neighbours.cards[card.resident] = card.model_copy(update={"identity_number": "199001010009"})
    first = world.start()
    world.move(timedelta(days=3))
    second = world.start(other, case_type=other_type)
    world.assign(second.case)
    today = clock.now().astimezone(clock.SWEDEN).date()
    for filters, expected in (
        ({}, {first.case, second.case}),
        ({"state": "assigned"}, {second.case}),
        ({"case_type": other_type}, {second.case}),
        ({"case_type": uuid4()}, set()),
        ({"handler": world.handler.subject}, {second.case}),
        ({"handler": world.receiver.subject}, set()),
        ({"number": f" {first.number} "}, {first.case}),
        ({"number": "2026-9999999"}, set()),
        ({"identity_number": "199001010009"}, {second.case}),
        ({"identity_number": "197001010000"}, set()),
        ({"started_from": today}, {second.case}),
        ({"started_to": today - timedelta(days=1)}, {first.case}),
        ({"started_from": date.min, "started_to": date.max}, {first.case, second.case}),
        ({"unread": True}, {first.case, second.case}),
        ({"state": "assigned", "case_type": world.case_type}, set()),
    ):
        assert set(listed(world, **filters)) == expected, filters
        counted = count(world, **filters)
        assert counted.new + counted.assigned + counted.awaiting_resident + counted.closed == len(expected), filters
    assert [one.case for one in mine(world, world.handler, number=second.number)] == [second.case]
    assert count(world, world.handler, mine=True).assigned == 1


def test_r_case_19_r_id_24_a_number_finds_the_cases_of_all_accounts_of_the_person(world: World) -> None:
    """R-CASE-19, R-ID-24: by a number that the register linked later the person has another account."""
    before, now = world.numbered("199001010074"), world.numbered("199001010082")
    world.neighbours.linked[UUID(now.subject)] = [UUID(before.subject)]
    both = {world.start(before).case, world.start(now).case}
    world.start()
    assert set(listed(world, identity_number="199001010082")) == both
    assert count(world, identity_number="199001010082").new == 2


def test_r_case_19_only_who_may_list_is_told_whose_number_it_is(world: World) -> None:
    """R-CASE-19, R-ID-24: identity is not even asked for others."""
    for by, call, request in (
        (world.handler, cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic, identity_number="1")),
        (world.receiver, cases.LIST_MY_CASES, cases.ListMyCases(identity_number="1")),
        (world.receiver, desk.COUNT_CASES, desk.CountCases(clinic=world.clinic, mine=True, identity_number="1")),
        (world.handler, desk.COUNT_CASES, desk.CountCases(clinic=world.clinic, identity_number="1")),
    ):
        with pytest.raises(Forbidden):
            world.call(call, request, by)
    assert "find_resident" not in world.neighbours.asked


def test_r_case_19_unread_until_whoever_has_it_has_read_it(world: World) -> None:
    """R-CASE-19"""
    case = world.start().case
    assert count(world).unread == 1
    world.get(case, world.receiver)
    assert count(world).unread == 0
    world.assign(case)
    assert [one.unread for one in mine(world, world.handler)] == [True]
    world.get(case, world.receiver)
    assert listed(world, unread=True) == [case], "the handler has not seen it yet"
    world.get(case, world.handler)
    assert listed(world, unread=True) == []
    world.reply(case, "counter_question")
    world.write(case)
    assert listed(world, unread=True) == [case]
    world.reply(case, "answer")
    assert listed(world, unread=True) == []
    taken = world.start().case
    both = world.person(Role.CASE_RECEIVER, Role.CASE_HANDLER)
    world.get(taken, both)
    world.assign(taken, both, by=both)
    assert [one.unread for one in mine(world, both)] == [False], "R-CASE-4: who takes a case has read it"


def test_r_case_19_how_long_residents_have_waited(world: World) -> None:
    """R-CASE-19"""
    first = world.start().case
    since = world.get(first, world.receiver).started_at
    world.move(timedelta(hours=1))
    second = world.start().case
    assert count(world).waiting_since == since
    world.assign(first)
    world.reply(first, "counter_question")
    waiting = {one.case: one.waiting_since for one in mine(world, world.handler)}
    assert waiting == {first: None}
    assert count(world).waiting_since == world.get(second, world.receiver).started_at
    world.close_case(second)
    assert count(world).waiting_since is None


def test_r_case_15_the_inbox_counts_all_that_is_unopened(world: World) -> None:
    """R-CASE-15: on every page, whatever the page shows."""
    found = [world.waiting_case() for _ in range(3)]
    inbox = world.call(cases.LIST_INBOX, cases.ListInbox(limit=1), world.resident)
    assert (len(inbox.cases), inbox.unopened) == (1, 3)
    world.get(found[0], world.resident)
    assert world.call(cases.LIST_INBOX, cases.ListInbox(limit=1), world.resident).unopened == 2


# --- internal notes


def test_internal_notes_are_for_staff_and_never_for_the_resident(own_world: World) -> None:
    """R-CASE-3, R-SYS-2: in no view, and sealed at rest."""
    world = own_world
    case = world.waiting_case()
    version = world.version(case)
    note(world, case, world.handler)
    note(world, case, world.receiver, "Har ringt.")
    assert world.version(case) == version, "nobody who answers is stopped by a note"
    for reader in (world.handler, world.receiver):
        shown = world.get(case, reader)
        assert [(one.person, one.text) for one in shown.notes] == [
            (world.handler.subject, "Ring anhörig först."),
            (world.receiver.subject, "Har ringt."),
        ]
        assert [one.kind for one in shown.activities].count("note_added") == 2
    assert "anhörig" not in world.get(case, world.resident).model_dump_json()
    assert "anhörig" not in str(world.events(case))
    strangers = [
        world.admin,
        world.person(Role.CASE_HANDLER),
        world.person(Role.CASE_RECEIVER, clinic=world.new_clinic()),
    ]
    for stranger in strangers:
        foreign = refused("case_not_found", NotFound, note, world, case, stranger)
        assert (
            foreign.on_the_wire() == refused("case_not_found", NotFound, note, world, uuid4(), stranger).on_the_wire()
        )
    world.close_case(case)
    note(world, case, world.receiver, "Avslutat på begäran.")
    with world.database.transaction() as tx:
        stored = " ".join(tx.execute(text("SELECT n::text FROM notes n")).scalars())
    assert "anhörig".encode().hex() not in stored
    for statement in ("DELETE FROM notes", "UPDATE notes SET person = 'x'"):
        with pytest.raises(Exception, match=r"internal|added"), world.database.transaction() as tx:
            tx.connection.exec_driver_sql(statement)


# --- drafts


def test_r_case_17_a_draft_survives_until_it_is_sent(world: World) -> None:
    """R-CASE-17: a draft belongs to the person, not to the session."""
    case = world.start().case
    world.assign(case)
    file = uuid4()
    saved = save(world, case, world.handler, kind="answer", attachments=[file])
    assert (saved.version, saved.others_writing) == (2, [])
    save(world, case, world.handler, text="Hej, vi har tittat", kind="answer", attachments=[file], version=2)
    again = world.staff(world.handler.subject)
    assert again.session != world.handler.session
    found = draft(world, case, again).draft
    assert found is not None
    assert (found.text, found.kind, found.attachments, found.version) == ("Hej, vi har tittat", "answer", [file], 2)
    world.reply(case, "partial_reply")
    assert draft(world, case, again).draft is None
    save(world, case, world.handler)
    world.call(desk.DISCARD_DRAFT, desk.DiscardDraft(request_id=uuid4(), case=case), world.handler)
    assert draft(world, case, world.handler).draft is None


def test_r_att_8_each_saving_of_a_draft_is_told_with_its_files(world: World) -> None:
    """R-ATT-8: attachments keeps them, from then on for a day; a draft without files concerns nobody."""
    case, files = world.waiting_case(), [uuid4(), uuid4()]
    save(world, case, world.handler)
    save(world, case, world.handler, attachments=files)
    save(world, case, world.handler, text="Hej, vi har tittat", attachments=files)
    save(world, case, world.resident, attachments=files[:1])
    told = [cases.DraftSavedEvent(**payload) for kind, payload in world.events(case) if kind == "draft_saved"]
    assert [(one.owner, one.attachments) for one in told] == [
        (world.handler.subject, files),
        (world.handler.subject, files),
        (world.resident.subject, files[:1]),
    ]


def test_r_case_17_others_are_told_that_someone_is_answering(world: World) -> None:
    """R-CASE-17: that, and who; never what, and never the resident."""
    case = world.waiting_case()
    save(world, case, world.receiver, text="Hemligt utkast")
    for told in (world.get(case, world.handler), draft(world, case, world.handler), save(world, case, world.handler)):
        assert [one.person for one in told.others_writing] == [world.receiver.subject]
    assert draft(world, case, world.handler).draft.text == "Hej, vi har"  # type: ignore[union-attr]
    shown = world.get(case, world.resident)
    assert shown.others_writing == []
    assert save(world, case, world.resident, text="Jag").others_writing == []
    assert draft(world, case, world.resident).draft.text == "Jag"  # type: ignore[union-attr]
    assert len(world.get(case, world.handler).others_writing) == 1, "the resident's own draft is nobody else's matter"
    world.move(timedelta(minutes=16))
    assert world.get(case, world.handler).others_writing == []
    world.write(case)
    assert draft(world, case, world.resident).draft is None
    assert draft(world, case, world.receiver).draft is not None


def test_r_case_17_a_draft_that_comes_late_is_not_kept(world: World) -> None:
    """R-CASE-17: what has been sent is not unfinished any more, whatever is still on its way from the keyboard."""
    case = world.waiting_case()
    before = world.version(case)
    world.reply(case, "partial_reply", text="Vi har tittat på det.")
    refused("draft_late", Conflict, save, world, case, world.handler, version=before)
    assert draft(world, case, world.handler).draft is None
    assert world.get(case, world.receiver).others_writing == []
    assert save(world, case, world.resident, text="Tack", version=before), "they had not sent anything"
    world.write(case)
    refused("draft_late", Conflict, save, world, case, world.resident, version=before)
    assert draft(world, case, world.resident).draft is None
    save(world, case, world.resident, text="En sak till", version=world.version(case))
    assert draft(world, case, world.resident).draft.text == "En sak till"  # type: ignore[union-attr]


def test_r_case_17_an_older_draft_takes_no_newer_ones_place(world: World) -> None:
    """R-CASE-17: nor does one of a version that the case has not had."""
    case = world.waiting_case()
    now = world.version(case)
    save(world, case, world.handler, text="Först läst nu", version=now)
    refused("draft_late", Conflict, save, world, case, world.handler, text="Läst tidigare", version=now - 1)
    refused("case_changed", Conflict, save, world, case, world.handler, text="Aldrig läst", version=now + 1)
    assert draft(world, case, world.handler).draft.text == "Först läst nu"  # type: ignore[union-attr]
    save(world, case, world.handler, text="Först läst nu, och mer", version=now)
    assert draft(world, case, world.handler).draft.text == "Först läst nu, och mer"  # type: ignore[union-attr]


def test_r_case_17_nobody_is_writing_in_a_case_that_is_closed(world: World) -> None:
    """R-CASE-17"""
    case = world.waiting_case()
    save(world, case, world.receiver, version=world.version(case))
    assert len(world.get(case, world.handler).others_writing) == 1
    world.reply(case, "answer")
    assert world.get(case, world.handler).others_writing == []
    assert draft(world, case, world.handler).others_writing == []


def test_drafts_only_where_the_writer_may_write(world: World) -> None:
    """R-SYS-1"""
    case = world.start().case
    refused("no_counter_question", Conflict, save, world, case, world.resident)
    for stranger in (world.new_resident(), world.handler, world.admin):
        refused("case_not_found", NotFound, save, world, case, stranger)
        refused("case_not_found", NotFound, draft, world, case, stranger)
    world.close_case(case)
    refused("case_closed", Conflict, save, world, case, world.receiver)


def test_drafts_are_sealed_and_forgotten_after_a_week(own_world: World) -> None:
    """R-SYS-2"""
    case = own_world.waiting_case()
    save(own_world, case, own_world.handler, text="Hemligheten")
    with own_world.database.transaction() as tx:
        stored = " ".join(tx.execute(text("SELECT d::text FROM drafts d")).scalars())
    assert "Hemligheten" not in stored
    assert b"Hemligheten".hex() not in stored
    own_world.move(timedelta(days=6))
    assert drafts.forget_old(own_world.database) == 0
    own_world.move(timedelta(days=2))
    assert drafts.forget_old(own_world.database) == 1
    assert draft(own_world, case, own_world.handler).draft is None


def test_old_drafts_are_forgotten_some_at_a_time_whatever_plan_the_database_chooses(
    own_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-SYS-2: statistics of a table of one row let a plan run a subquery of the statement for each row that there is;
    it took all at once."""
    monkeypatch.setattr(drafts, "AT_ONCE", 2)
    for number in range(5):
        save(own_world, own_world.waiting_case(), own_world.handler)
        if number == 0:
            with own_world.database.transaction() as tx:
                tx.execute(text("ANALYZE drafts"))
    own_world.move(timedelta(days=8))
    left: list[int] = []

    @contextmanager
    def counted() -> Iterator[Transaction]:
        with own_world.database.transaction() as tx:
            yield tx
            left.append(tx.execute(text("SELECT count(*) FROM drafts")).scalar_one())

    assert drafts.forget_old(SimpleNamespace(transaction=counted)) == 5
    assert left == [3, 1, 0]


# --- referral and signature


def test_r_case_8_a_reply_links_to_the_right_clinics_card(world: World) -> None:
    """R-CASE-8: with the name as it was; the case itself stays."""
    case = world.start().case
    world.assign(case)
    right = world.new_clinic()
    refused("referral_unknown", Invalid, world.reply, case, referral="SE2321000131-E999999999999")
    world.reply(case, "answer", text="Vänd dig till ögonmottagningen.", referral=right)
    name = world.neighbours.clinics[right].name
    world.neighbours.clinics[right] = world.neighbours.clinics[right].model_copy(update={"name": "Nytt namn"})
    for reader in (world.resident, world.receiver):
        shown = world.get(case, reader)
        assert shown.clinic == world.clinic
        assert shown.messages[-1].referral == cases.ReferralShown(clinic=right, name=name)
        assert shown.messages[0].referral is None


def test_r_case_11_the_personal_signature_goes_before_the_made_one(world: World) -> None:
    """R-CASE-11, R-ID-16: what has been sent keeps the one it was sent with."""

    def write(words: str | None) -> None:
        world.call(desk.SET_SIGNATURE, desk.SetSignature(request_id=uuid4(), text=words), world.handler)

    def shown() -> tuple[str, bool]:
        found = world.call(desk.GET_SIGNATURE, desk.GetSignature(), world.handler)
        return found.text, found.personal

    made = f"Åsa {world.neighbours.staff[world.handler.subject].surname}, Läkare"
    case = world.start().case
    world.assign(case)
    assert shown() == (made, False)
    world.reply(case)
    write("Med vänlig hälsning\nÅsa")
    assert shown() == ("Med vänlig hälsning\nÅsa", True)
    world.reply(case)
    write(None)
    assert shown() == (made, False)
    world.reply(case)
    signatures = [one.signature for one in world.get(case, world.resident).messages]
    assert signatures == [None, made, "Med vänlig hälsning\nÅsa", made]
