"""The life of a case, step by step, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shared.contracts import cases, identity
from shared.contracts.base import Role
from shared.messaging.errors import Conflict, Forbidden, Invalid, LimitExceeded, NotFound, Unavailable
from tests.integration.cases_support import CARE_PROVIDER, World, refused, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


# --- case types


def test_r_case_1_case_types_in_order_and_forms_checked(world: World) -> None:
    """R-CASE-1"""
    second = world.new_case_type()
    listed = world.call(cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=world.clinic), world.resident).case_types
    assert [one.case_type for one in listed] == [world.case_type, second]
    assert [one.kind for one in listed[0].components] == ["text", "attachments"]
    refused("form_invalid", Invalid, world.new_case_type, [cases.Component(id="a", kind="single_choice", label="A")])


def test_r_case_1_only_a_local_administrator_of_an_active_clinic(world: World) -> None:
    """R-CASE-1"""
    request = cases.ActivateCaseType(
        request_id=uuid4(),
        clinic=world.clinic,
        name="Recept",
        components=[cases.Component(id="a", kind="text", label="A")],
    )
    for caller in (world.receiver, world.person(Role.LOCAL_ADMIN, clinic=world.new_clinic())):
        with pytest.raises(Forbidden):
            world.call(cases.ACTIVATE_CASE_TYPE, request, caller)
    closed = world.new_clinic(active=False)
    refused("clinic_not_active", Conflict, world.new_case_type, clinic=closed)


def test_r_case_2_nothing_starts_from_a_case_type_out_of_use(world: World) -> None:
    """R-CASE-2"""
    off = cases.DeactivateCaseType(request_id=uuid4(), case_type=world.case_type)
    refused("case_type_not_found", NotFound, world.call, cases.DEACTIVATE_CASE_TYPE, off, world.receiver)
    world.call(cases.DEACTIVATE_CASE_TYPE, off, world.admin)
    refused("case_type_not_active", Conflict, world.start)
    ask = cases.ListCaseTypes(clinic=world.clinic)
    assert world.call(cases.LIST_CASE_TYPES, ask, world.resident).case_types == []
    [shown] = world.call(cases.LIST_CASE_TYPES, ask, world.admin).case_types
    assert not shown.active


# --- starting


def test_r_case_2_a_case_is_started_and_new_at_the_clinic(world: World) -> None:
    """R-CASE-2, R-ID-25"""
    started = world.start()
    assert started.number.startswith("20")
    shown = world.get(started.case, world.receiver)
    assert (shown.state, shown.version, shown.handler) == ("new", 1, None)
    assert shown.care_provider == CARE_PROVIDER
    [first] = shown.messages
    assert first.message == started.message
    assert (first.kind, first.written_by) == ("start", "resident")
    assert first.text == "Vad gäller det?\nJag har fått utslag."
    assert first.answers == [
        cases.AnswerShown(component="what", label="Vad gäller det?", values=["Jag har fått utslag."])
    ]
    assert [(one.kind, one.by) for one in shown.activities] == [("started", "resident")]
    resident = world.resident.subject
    assert world.events(started.case) == [
        (
            "case_started",
            {
                "case": str(started.case),
                "clinic": world.clinic,
                "resident": resident,
                "message": str(started.message),
            },
        ),
        (
            "message_sent",
            {
                "case": str(started.case),
                "message": str(started.message),
                "clinic": world.clinic,
                "resident": resident,
                "kind": "start",
                "written_by": "resident",
                "handler": None,
                "attachments": [],
                "notify": True,
            },
        ),
    ]


def test_r_case_2_answers_must_fit_the_form(world: World) -> None:
    """R-CASE-2"""
    refused("answers_invalid", Invalid, world.start, answers=[])
    refused("case_type_not_found", NotFound, world.start, clinic=world.new_clinic())
    refused("case_type_not_found", NotFound, world.start, case_type=uuid4())
    assert world.neighbours.asked.count("claim") == 0


def test_r_case_17_a_repeated_request_starts_one_case(world: World) -> None:
    """R-CASE-17: also when what it asked for would be refused by now."""
    request_id = uuid4()
    file = world.file(world.resident)
    first = world.start(request_id=request_id, attachments=[file])
    world.call(
        cases.DEACTIVATE_CASE_TYPE,
        cases.DeactivateCaseType(request_id=uuid4(), case_type=world.case_type),
        world.admin,
    )
    assert world.start(request_id=request_id, attachments=[file]) == first
    assert len(world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident).cases) == 1
    refused("request_id_reused", Conflict, world.start, request_id=request_id)


def test_a_request_id_of_another_caller_gives_nothing_away(world: World) -> None:
    request_id = uuid4()
    world.start(request_id=request_id)
    refused("request_id_reused", Conflict, world.start, world.new_resident(), request_id=request_id)


def test_numbers_are_unlike_and_readable(world: World) -> None:
    numbers = {world.start().number for _ in range(5)}
    assert len(numbers) == 5
    assert all(number[4] == "-" and number.replace("-", "").isdigit() for number in numbers)


# --- distributing


def test_r_case_4_a_receiver_assigns_with_a_partial_reply_in_the_same_step(world: World) -> None:
    """R-CASE-4, R-ATT-4, R-CASE-11"""
    case = world.start().case
    file = world.file(world.receiver, "karta.png")
    assigned = world.assign(case, partial_reply="Vi återkommer.", attachments=[file])
    assert (assigned.state, assigned.version, assigned.resident_active) == ("assigned", 2, True)
    shown = world.get(case, world.handler)
    assert shown.handler == world.handler.subject
    reply = shown.messages[-1]
    facts = world.neighbours.staff[world.receiver.subject]
    assert (reply.message, reply.kind, reply.text) == (assigned.message, "partial_reply", "Vi återkommer.")
    assert reply.signature == f"Åsa {facts.surname}, Läkare"
    assert [(one.attachment, one.name, one.size) for one in reply.attachments] == [(file, "karta.png", 4711)]
    kinds = [kind for kind, _ in world.events(case)]
    assert kinds == ["case_started", "message_sent", "message_sent", "case_assigned"]
    assert world.events(case)[2][1]["attachments"] == [str(file)]
    assert world.events(case)[3][1]["assigned_by"] == world.receiver.subject


def test_r_case_4_a_handler_passes_on_their_own_case(world: World) -> None:
    """R-CASE-4"""
    other = world.person(Role.CASE_HANDLER)
    case = world.start().case
    refused("case_not_found", NotFound, world.assign, case, other, by=world.handler)
    world.assign(case)
    world.assign(case, other, by=world.handler)
    refused("case_not_found", NotFound, world.get, case, world.handler)
    assert world.get(case, other).handler == other.subject


def test_r_case_4_only_a_handler_of_the_same_clinic_is_given_it(world: World) -> None:
    """R-CASE-4, R-CASE-8"""
    case = world.start().case
    elsewhere = world.person(Role.CASE_HANDLER, clinic=world.new_clinic())
    for person in (world.receiver, elsewhere, world.resident):
        if person.kind == "staff":
            refused("not_a_handler", Invalid, world.assign, case, person)
    assert world.get(case, world.receiver).state == "new"


def test_a_handler_whose_role_is_not_in_the_copy_yet_is_asked_for(world: World) -> None:
    case = world.start().case
    fresh = world.person()
    role = identity.HeldRole(clinic=world.clinic, role=Role.CASE_HANDLER)
    told = identity.RightsNow(number=10**6, roles=[role], regional=False, session_live=True)
    world.neighbours.rights[fresh.subject] = told
    assert world.assign(case, fresh).state == "assigned"
    # what identity said before the copy got newer counts no more
    old = world.person()
    world.neighbours.rights[old.subject] = told.model_copy(update={"number": 0})
    refused("not_a_handler", Invalid, world.assign, case, old)


def test_r_id_10_an_answer_older_than_a_change_that_came_early_counts_no_more(world: World) -> None:
    """R-ID-10: the change was heard after identity had answered, and before one of a lower number."""
    case, person, number = world.start().case, world.person(), 10**6
    role = identity.HeldRole(clinic=world.clinic, role=Role.CASE_HANDLER)
    told = identity.RightsNow(number=number, roles=[role], regional=False, session_live=True)
    world.neighbours.rights[person.subject] = told
    early = identity.RightsChanged(number=number + 2, subject=person.subject, version=number + 2, roles=[])
    world.hear_rights(early)
    refused("not_a_handler", Invalid, world.assign, case, person)
    assert world.get(case, world.receiver).state == "new"
    world.neighbours.rights[person.subject] = told.model_copy(update={"number": number + 3})
    assert world.assign(case, person).state == "assigned"


def test_r_att_7_no_file_is_claimed_for_one_who_is_no_handler(world: World) -> None:
    """R-CASE-4, R-ATT-7: refused before the files are bound, so the same files go with the next try."""
    case, file = world.start().case, world.file(world.receiver)
    other = world.person(Role.CASE_RECEIVER)
    refused("not_a_handler", Invalid, world.assign, case, other, partial_reply="Hej.", attachments=[file])
    assert world.neighbours.claims == {}
    assert world.assign(case, partial_reply="Hej.", attachments=[file]).state == "assigned"


def test_r_att_4_files_only_with_the_partial_reply(world: World) -> None:
    """R-ATT-4"""
    case = world.start().case
    file = world.file(world.receiver)
    refused("attachments_need_partial_reply", Invalid, world.assign, case, attachments=[file])


# --- answering


def test_r_case_5_partial_reply_counter_question_answer(world: World) -> None:
    """R-CASE-5"""
    case = world.start().case
    world.assign(case)
    assert world.reply(case).state == "assigned"
    assert world.reply(case, "counter_question").state == "awaiting_resident"
    assert world.reply(case, "answer").state == "closed"
    shown = world.get(case, world.receiver)
    assert (shown.state, shown.closed_reason) == ("closed", "answered")
    assert [one.kind for one in shown.messages] == ["start", "partial_reply", "counter_question", "answer"]
    assert world.events(case)[-1] == (
        "case_closed",
        {"case": str(case), "clinic": world.clinic, "resident": world.resident.subject, "reason": "answered"},
    )
    for again in ("answer", "counter_question", "partial_reply"):
        refused("case_closed", Conflict, world.reply, case, again)
    refused("case_closed", Conflict, world.write, case)
    refused("case_closed", Conflict, world.close_case, case)
    refused("case_closed", Conflict, world.assign, case)


def test_r_case_5_a_receiver_sees_but_does_not_answer(world: World) -> None:
    """R-CASE-5, R-CASE-3"""
    case = world.start().case
    world.assign(case)
    with pytest.raises(Forbidden):
        world.reply(case, by=world.receiver)
    refused("case_not_found", NotFound, world.reply, case, by=world.person(Role.CASE_HANDLER))


def test_r_case_6_both_sides_write_after_a_counter_question(world: World) -> None:
    """R-CASE-6"""
    case = world.start().case
    refused("no_counter_question", Conflict, world.write, case)
    world.assign(case)
    refused("no_counter_question", Conflict, world.write, case)
    world.reply(case, "counter_question")
    assert world.write(case).state == "assigned"
    assert world.write(case).state == "assigned"
    world.reply(case, "partial_reply")
    assert world.write(case).state == "assigned"
    world.reply(case, "counter_question")
    assert world.write(case).state == "assigned"
    refused("case_not_found", NotFound, world.write, case, world.new_resident())
    assert len(world.get(case, world.resident).messages) == 8


def test_r_case_11_signature_as_it_was_when_sent(world: World) -> None:
    """R-CASE-11"""
    case = world.start().case
    world.assign(case)
    world.reply(case)
    facts = world.neighbours.staff[world.handler.subject]
    world.neighbours.staff[world.handler.subject] = facts.model_copy(update={"surname": "Nytt", "title": "Överläkare"})
    world.reply(case)
    signatures = [one.signature for one in world.get(case, world.resident).messages]
    assert signatures == [None, f"Åsa {facts.surname}, Läkare", "Åsa Nytt, Överläkare"]


def test_r_case_12_an_inactive_resident_is_written_to_and_the_caller_told(world: World) -> None:
    """R-CASE-12"""
    case = world.start().case
    world.set_resident(UUID(world.resident.subject), active=False)
    assert world.assign(case, partial_reply="Hej.").resident_active is False
    assert world.reply(case, "answer").resident_active is False
    assert world.get(case, world.receiver).resident.active is False  # type: ignore[union-attr]


def test_r_case_22_a_locked_resident_or_one_without_account_is_not_written_to(world: World) -> None:
    """R-CASE-22"""
    case = world.start().case
    world.set_resident(UUID(world.resident.subject), locked=True)
    refused("resident_locked", Conflict, world.assign, case, partial_reply="Hej.")
    assert world.assign(case).state == "assigned"
    refused("resident_locked", Conflict, world.reply, case)
    del world.neighbours.cards[UUID(world.resident.subject)]
    refused("resident_without_account", Conflict, world.reply, case)
    assert len(world.get(case, world.receiver).messages) == 1


def test_r_case_17_the_second_of_two_who_answer_is_told(world: World) -> None:
    """R-CASE-17"""
    case = world.start().case
    world.assign(case)
    read = world.version(case)
    world.reply(case, "answer", version=read)
    refused("case_changed", Conflict, world.reply, case, "answer", version=read)
    refused("case_changed", Conflict, world.close_case, case, version=read)
    refused("case_changed", Conflict, world.assign, case, version=read)
    assert [one.kind for one in world.get(case, world.receiver).messages] == ["start", "answer"]


def test_r_case_17_a_repeated_answer_gets_the_same_answer(world: World) -> None:
    """R-CASE-17"""
    case = world.start().case
    world.assign(case)
    same = {"request_id": uuid4(), "version": world.version(case)}
    first = world.reply(case, "answer", **same)
    assert world.reply(case, "answer", **same) == first
    world.neighbours.faults["get_staff"] = Unavailable()
    assert world.reply(case, "answer", **same) == first
    assert len(world.get(case, world.receiver).messages) == 2


def test_closing_without_an_answer(world: World) -> None:
    new, own, foreign = (world.start().case for _ in range(3))
    assert world.close_case(new).state == "closed"
    assert world.get(new, world.resident).closed_reason == "closed_by_clinic"
    world.assign(own)
    world.close_case(own, by=world.handler)
    refused("case_not_found", NotFound, world.close_case, foreign, by=world.handler)
    assert world.get(own, world.receiver).activities[-1].reason == "closed_by_clinic"


# --- files


def test_r_att_3_4_files_from_residents(world: World) -> None:
    """R-ATT-3, R-ATT-4"""
    files = [world.file(world.resident) for _ in range(6)]
    refused("too_many_attachments", LimitExceeded, world.start, attachments=files)
    case = world.start(attachments=files[:5]).case
    assert [one.attachment for one in world.get(case, world.resident).messages[0].attachments] == files[:5]
    world.assign(case)
    world.reply(case, "counter_question")
    assert world.get(case, world.resident).may_attach
    world.write(case, attachments=files[5:])

    without = world.new_case_type([cases.Component(id="what", kind="text", label="Vad?")])
    refused("answers_invalid", Invalid, world.start, case_type=without, attachments=[world.file(world.resident)])
    plain = world.start(case_type=without).case
    world.assign(plain)
    world.reply(plain, "counter_question")
    more = [world.file(world.resident)]
    refused("attachments_not_allowed", Invalid, world.write, plain, attachments=more)


def test_r_att_3_files_from_the_clinic(world: World) -> None:
    """R-ATT-3"""
    case = world.start().case
    world.assign(case)
    files = [world.file(world.handler) for _ in range(21)]
    refused("too_many_attachments", LimitExceeded, world.reply, case, attachments=files)
    assert len(world.reply(case, attachments=files[:20]).model_dump()) > 0
    assert len(world.get(case, world.resident).messages[-1].attachments) == 20


def test_files_of_others_are_not_sent(world: World) -> None:
    case = world.start().case
    world.assign(case)
    with pytest.raises(NotFound):
        world.reply(case, attachments=[world.file(world.resident)])
    assert len(world.get(case, world.receiver).messages) == 1


def test_files_are_free_again_when_the_message_lost_the_race(world: World) -> None:
    case = world.start().case
    world.assign(case)
    file, version = world.file(world.handler), world.version(case)

    def resident_case_changes() -> None:
        world.assign(case, world.handler)

    world.neighbours.before["claim"] = resident_case_changes
    refused("case_changed", Conflict, world.reply, case, version=version, attachments=[file])
    assert world.neighbours.claims == {}
    world.reply(case, attachments=[file])


def test_r_case_17_a_repeated_id_with_other_files_binds_none_to_a_message_that_lacks_them(world: World) -> None:
    """R-CASE-17, R-ATT-5: the message was sent without files, and stays so."""
    request_id, file = uuid4(), world.file(world.resident)
    sent = world.start(request_id=request_id).message
    refused("request_id_reused", Conflict, world.start, request_id=request_id, attachments=[file])
    assert world.neighbours.claims.get(file) != sent


def test_r_case_17_a_repeated_id_for_another_case_does_not_move_a_sent_file(world: World) -> None:
    """R-CASE-17, R-ATT-6: the file is read by those who read the case that it was sent in."""
    first, second = world.start().case, world.start().case
    world.assign(first)
    world.assign(second)
    request_id, file = uuid4(), world.file(world.handler)
    sent = world.reply(first, request_id=request_id, attachments=[file]).message
    refused("request_id_reused", Conflict, world.reply, second, request_id=request_id, attachments=[file])
    assert world.neighbours.claims[file] == sent
    assert world.neighbours.claimed_for[file] == first


def test_r_att_6_a_file_is_opened_by_those_who_read_the_case_and_logged(world: World) -> None:
    """R-ATT-6, R-CASE-18"""
    file = world.file(world.resident)
    case = world.start(attachments=[file]).case
    ask = cases.OpenAttachment(case=case, attachment=file)
    assert world.call(cases.OPEN_ATTACHMENT, ask, world.resident).name == "utslag.png"
    assert world.call(cases.OPEN_ATTACHMENT, ask, world.receiver).url
    for caller in (world.handler, world.new_resident(), world.admin):
        refused("attachment_not_found", NotFound, world.call, cases.OPEN_ATTACHMENT, ask, caller)
    other = world.start().case
    elsewhere = cases.OpenAttachment(case=other, attachment=file)
    refused("attachment_not_found", NotFound, world.call, cases.OPEN_ATTACHMENT, elsewhere, world.receiver)
    log = world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.reviewer)
    assert [(one.person, one.what, one.attachment) for one in log.entries] == [
        (world.receiver.subject, "attachment", file)
    ]


# --- time


def test_r_case_7_an_unanswered_counter_question_closes_the_case(world: World) -> None:
    """R-CASE-7"""
    case, answered, chatty = world.waiting_case(), world.waiting_case(), world.waiting_case()
    world.write(answered)
    due = world.get(case, world.resident).answer_before
    assert due is not None
    world.move(timedelta(days=20))
    world.reply(chatty)  # what staff write in between does not keep it open
    world.move(timedelta(days=7))
    world.expire()
    assert world.get(case, world.receiver).state == "awaiting_resident"
    world.move(timedelta(days=5))
    assert world.expire() >= 2
    assert world.expire() == 0
    for one in (case, chatty):
        shown = world.get(one, world.receiver)
        assert (shown.state, shown.closed_reason) == ("closed", "counter_question_expired")
        assert (shown.activities[-1].by, shown.activities[-1].reason) == ("system", "counter_question_expired")
        assert world.events(one)[-1][1]["reason"] == "counter_question_expired"
    assert world.get(answered, world.receiver).state == "assigned"


def test_r_case_7_the_month_counts_from_the_latest_counter_question(world: World) -> None:
    """R-CASE-7"""
    case = world.waiting_case()
    world.move(timedelta(days=25))
    world.reply(case, "counter_question")
    world.move(timedelta(days=25))
    world.expire()
    assert world.get(case, world.receiver).state == "awaiting_resident"
    world.assign(case, world.person(Role.CASE_HANDLER))
    world.move(timedelta(days=7))
    world.expire()
    assert world.get(case, world.receiver).closed_reason == "counter_question_expired"


def test_many_are_closed_in_small_lots(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.cases import expiry

    monkeypatch.setattr(expiry, "AT_ONCE", 2)
    found = [world.waiting_case() for _ in range(5)]
    world.move(timedelta(days=32))
    assert world.expire() >= 5
    assert {world.get(one, world.receiver).state for one in found} == {"closed"}


# --- a right that is lost


def test_who_loses_the_right_loses_the_cases(world: World) -> None:
    """R-ID-10 on the side of cases"""
    assigned, waiting, done = world.start().case, world.waiting_case(), world.start().case
    for case in (assigned, done):
        world.assign(case)
    world.reply(done, "answer")
    gone = world.give(world.handler.subject)
    for case in (assigned, waiting, done):
        refused("case_not_found", NotFound, world.get, case, gone)
    shown = world.get(assigned, world.receiver)
    assert (shown.state, shown.handler, shown.version) == ("new", None, 3)
    assert (shown.activities[-1].kind, shown.activities[-1].handler) == ("handler_lost_right", world.handler.subject)
    still = world.get(waiting, world.receiver)
    assert (still.state, still.handler) == ("awaiting_resident", None)
    assert world.get(done, world.receiver).handler == world.handler.subject
    assert world.write(waiting).state == "new"
    world.assign(waiting, world.person(Role.CASE_HANDLER))
    assert world.assign(assigned, world.give(world.handler.subject, Role.CASE_HANDLER)).state == "assigned"


def test_only_the_clinic_where_the_right_is_lost(world: World) -> None:
    other = world.new_clinic()
    world.give(world.handler.subject, Role.CASE_HANDLER, clinic=other)
    case = world.start().case
    world.assign(case)
    world.give(world.handler.subject, clinic=other)
    assert world.get(case, world.handler).state == "assigned"


def test_an_old_change_of_rights_takes_nothing(world: World) -> None:
    case = world.start().case
    world.assign(case)
    world.hear_rights(identity.RightsChanged(number=1, subject=world.handler.subject, version=0, roles=[]))
    assert world.get(case, world.handler).state == "assigned"


def test_r_case_4_an_older_change_that_comes_late_takes_no_case(world: World) -> None:
    """R-CASE-4: the role that identity told of counts until the copy has come as far; then what the copy has counts."""

    def hear(number: int, *roles: Role) -> None:
        held = [identity.HeldRole(clinic=world.clinic, role=role) for role in roles]
        told = identity.RightsChanged(number=number, subject=person.subject, version=number, roles=held)
        world.hear_rights(told)

    case, person = world.start().case, world.person()
    role = identity.HeldRole(clinic=world.clinic, role=Role.CASE_HANDLER)
    number = 10**6
    told = identity.RightsNow(number=number, roles=[role], regional=False, session_live=True)
    world.neighbours.rights[person.subject] = told
    world.assign(case, person)
    hear(number - 1)  # a session of the person's that ended before the role was given
    assert world.get(case, world.receiver).handler == person.subject
    hear(number, Role.CASE_HANDLER)
    assert world.get(case, world.receiver).handler == person.subject
    hear(number + 1)
    assert world.get(case, world.receiver).handler is None


# --- for other services


def test_what_other_services_ask(world: World) -> None:
    """R-DIR-3"""
    ask = cases.AskClinicActivity(clinic=world.clinic)
    caller = world.staff("x")
    assert world.call(cases.CLINIC_ACTIVITY, ask, caller) == cases.ClinicActivity(active_case_types=1, open_cases=0)
    started, closed = world.start(), world.start().case
    world.close_case(closed)
    assert world.call(cases.CLINIC_ACTIVITY, ask, caller).open_cases == 1
    known = cases.MessagesExist(messages=[started.message, uuid4()])
    assert world.call(cases.MESSAGES_EXIST, known, caller).existing == [started.message]
