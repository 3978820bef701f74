"""Cases that a clinic starts, with one resident and with many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.cases import mailings, rules, sending
from services.cases.paging import number_cursor
from shared.contracts import access, cases, identity
from shared.contracts import case_types as offer
from shared.contracts import contacting as contacts
from shared.contracts.base import Role
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Forbidden, Invalid, LimitExceeded, NotFound, Unavailable
from shared.security.caller import Caller
from tests.integration.cases_support import CARE_PROVIDER, World, refused, shared_database
from tests.stack.rooms import Rooms

QUESTIONS = [
    cases.Component(id="since", kind="date", label="Sjukskriven sedan?", required=True),
    cases.Component(id="files", kind="attachments", label="Bifoga filer"),
]


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


@pytest.fixture
def own_world(fresh_database: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    yield from World.made(fresh_database("cases").url, tmp_path)


def template(world: World, purpose: str = "information", **changed: Any) -> UUID:
    values = {
        "request_id": uuid4(),
        "clinic": world.clinic,
        "purpose": purpose,
        "name": "Frågor" if purpose == "questions" else "Provsvar",
        "text": "Proverna ser bra ut.",
        "components": QUESTIONS if purpose == "questions" else [],
    }
    made: UUID = world.call(offer.CREATE_TEMPLATE, offer.CreateTemplate(**(values | changed)), world.admin).case_type
    return made


def contact(world: World, which: UUID, number: str, by: Caller | None = None, **more: Any) -> Any:
    values = {"request_id": uuid4(), "clinic": world.clinic, "template": which, "identity_number": number}
    return world.call(contacts.CONTACT_RESIDENT, contacts.ContactResident(**(values | more)), by or world.handler)


def number_of() -> str:
    return f"19{uuid4().int % 10**10:010}"


# --- one resident


def test_r_case_14_information_is_read_and_not_answered(world: World) -> None:
    """R-CASE-14, R-CASE-11, R-ID-25"""
    number = number_of()
    resident = world.numbered(number)
    sent = contact(world, template(world), number)
    assert (sent.state, sent.version, sent.resident_active) == ("closed", 1, True)
    shown = world.get(sent.case, resident)
    assert (shown.state, shown.closed_reason, shown.may_write, shown.case_type_name) == (
        "closed",
        "information",
        False,
        "Provsvar",
    )
    [message] = shown.messages
    assert (message.text, message.written_by, message.kind) == ("Proverna ser bra ut.", "staff", "start")
    assert message.signature == f"Åsa {world.neighbours.staff[world.handler.subject].surname}, Läkare"
    refused("case_closed", Conflict, world.write, sent.case, resident)
    told = world.get(sent.case, world.handler)
    assert told.messages[0].opened_at is not None, "R-CASE-15: staff see that it was opened"
    assert told.care_provider == CARE_PROVIDER
    assert [(one.kind, one.by, one.person) for one in told.activities] == [("started", "staff", world.handler.subject)]
    assert [kind for kind, _ in world.events(sent.case)] == ["message_sent", "case_closed"]
    assert world.events(sent.case)[0][1]["written_by"] == "staff"


def test_r_case_14_questions_wait_for_the_resident_who_answers_them(world: World) -> None:
    """R-CASE-14, R-CASE-7, R-ATT-4: by the form as it was when they were asked."""
    number, asking = number_of(), template(world, "questions")
    resident = world.numbered(number)
    sent = contact(world, asking, number, text="Svara på några frågor.")
    changed = offer.UpdateCaseType(request_id=uuid4(), case_type=asking, form_version=1, components=QUESTIONS[1:])
    world.call(offer.UPDATE_CASE_TYPE, changed, world.admin)
    shown = world.get(sent.case, resident)
    assert (shown.state, shown.may_write, shown.may_attach) == ("awaiting_resident", True, True)
    assert [one.id for one in shown.questions] == ["since", "files"]
    assert shown.answer_before == rules.month_after(shown.started_at)
    item = world.call(cases.LIST_INBOX, cases.ListInbox(), resident).cases[0]
    assert (item.inbox_state, item.unopened) == ("waiting_for_me", 0)
    refused("answers_invalid", Invalid, world.write, sent.case, resident)
    answers = [cases.Answer(component="since", values=["2026-02-01"])]
    world.write(sent.case, resident, answers=answers, text="", attachments=[world.file(resident)])
    told = world.get(sent.case, world.handler)
    assert (told.state, told.handler, told.questions) == ("assigned", world.handler.subject, [])
    assert told.messages[1].text == "Sjukskriven sedan?\n2026-02-01"
    assert told.messages[1].answers[0].values == ["2026-02-01"]
    refused("no_questions", Invalid, world.write, sent.case, resident, answers=answers)
    refused("message_empty", Invalid, world.write, sent.case, resident, text=" ")
    assert world.write(sent.case, resident, text="En sak till.").state == "assigned"
    assert world.reply(sent.case, "answer").state == "closed"


def test_r_case_14_a_template_that_has_changed_since_it_was_read_starts_nothing(world: World) -> None:
    """R-CASE-14, R-CASE-1: staff send the form that they have seen, to one and to many."""
    number, asking = number_of(), template(world, "questions")
    resident = world.numbered(number)
    changed = offer.UpdateCaseType(request_id=uuid4(), case_type=asking, form_version=1, components=QUESTIONS[1:])
    world.call(offer.UPDATE_CASE_TYPE, changed, world.admin)
    for version in (1, 3):
        refused("form_changed", Conflict, contact, world, asking, number, form_version=version)
        refused("form_changed", Conflict, mailing_of, world, [], template=asking, form_version=version)
    assert world.call(cases.LIST_INBOX, cases.ListInbox(), resident).cases == []
    sent = contact(world, asking, number, form_version=2)
    assert [one.id for one in world.get(sent.case, resident).questions] == ["files"]
    assert mailing_of(world, [number], template=asking, form_version=2)


def test_r_case_14_a_template_that_changes_while_the_call_asks_others_starts_nothing(world: World) -> None:
    """R-CASE-14, R-CASE-1"""
    number, asking = number_of(), template(world, "questions")
    resident = world.numbered(number)
    changed = offer.UpdateCaseType(request_id=uuid4(), case_type=asking, form_version=1, components=QUESTIONS[1:])
    world.neighbours.before["find_resident"] = lambda: world.call(offer.UPDATE_CASE_TYPE, changed, world.admin)
    refused("form_changed", Conflict, contact, world, asking, number, form_version=1)
    assert world.call(cases.LIST_INBOX, cases.ListInbox(), resident).cases == []


def test_r_case_7_questions_that_nobody_answers_close_by_themselves(world: World) -> None:
    """R-CASE-7, R-CASE-14"""
    number = number_of()
    world.numbered(number)
    case = contact(world, template(world, "questions"), number).case
    world.move(timedelta(days=32))
    world.expire()
    assert world.get(case, world.handler).closed_reason == "counter_question_expired"


def test_r_case_12_r_case_22_who_can_be_written_to(world: World) -> None:
    """R-CASE-12, R-CASE-22: those with an account that is not locked. Catchment and protection limit what residents
    turn to; a refusal to staff would tell where a protected person lives (R-ID-14, R-ID-15, R-ID-22)."""
    which = template(world)
    inactive, locked, outside = number_of(), number_of(), number_of()
    world.numbered(inactive, active=False)
    world.numbered(locked, locked=True)
    resident = UUID(world.numbered(outside, protected=True).subject)
    closed = access.ClinicAccess(clinic=world.clinic, allowed=False, reason="protected_outside_county")
    world.neighbours.access[(resident, world.clinic)] = closed
    assert contact(world, which, inactive).resident_active is False
    refused("resident_locked", Conflict, contact, world, which, locked)
    refused("resident_without_account", Conflict, contact, world, which, number_of())
    assert contact(world, which, outside).resident_active is True


def test_r_case_14_only_handlers_of_the_clinic_with_its_own_templates(world: World) -> None:
    """R-CASE-14, R-SYS-1"""
    number, which = number_of(), template(world)
    world.numbered(number)
    for caller in (world.receiver, world.admin, world.person(Role.CASE_HANDLER, clinic=world.new_clinic())):
        with pytest.raises(Forbidden):
            contact(world, which, number, caller)
    assert "find_resident" not in world.neighbours.asked
    absent = refused("case_type_not_found", NotFound, contact, world, uuid4(), number)
    foreign = refused("case_type_not_found", NotFound, contact, world, world.case_type, number)
    assert foreign.on_the_wire() == absent.on_the_wire()
    refused("message_empty", Invalid, contact, world, template(world, text=""), number)
    files = [world.file(world.handler) for _ in range(21)]
    refused("too_many_attachments", LimitExceeded, contact, world, which, number, attachments=files)
    request_id = uuid4()
    first = contact(world, which, number, request_id=request_id, attachments=files[:1])
    assert contact(world, which, number, request_id=request_id, attachments=files[:1]) == first


# --- many


class Job:
    """A run of the job, which can be killed before or after a transaction of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.stopping = threading.Event()
        self.killed_at: int | None = None
        self._transactions = 0

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._world.database.transaction() as tx:
            yield tx
            self._transactions += 1
            if self._transactions == self.killed_at:
                raise Killed
        if self._transactions + 0.5 == self.killed_at:
            raise Killed

    def ask(self, call: Any, request: Any, timeout: float = 10.0) -> Any:
        return self._world.neighbours.ask(call, request)


class Killed(BaseException):
    pass


def mailing_of(world: World, numbers: list[str], by: Caller | None = None, **more: Any) -> UUID:
    author = by or world.handler
    role = identity.HeldRole(clinic=world.clinic, role=Role.CASE_HANDLER)
    told = identity.RightsNow(number=0, roles=[role], regional=False, session_live=True)
    world.neighbours.rights[author.subject] = told
    values = {"request_id": uuid4(), "clinic": world.clinic, "template": template(world)}
    made: UUID = world.call(contacts.CREATE_MAILING, contacts.CreateMailing(**(values | more)), author).mailing
    for start in range(0, len(numbers), contacts.RECIPIENTS_AT_ONCE):
        add(world, made, numbers[start : start + contacts.RECIPIENTS_AT_ONCE], author)
    return made


def add(world: World, mailing: UUID, numbers: list[str], by: Caller | None = None) -> contacts.RecipientsAdded:
    request = contacts.AddRecipients(request_id=uuid4(), mailing=mailing, identity_numbers=numbers)
    added: contacts.RecipientsAdded = world.call(contacts.ADD_RECIPIENTS, request, by or world.handler)
    return added


def send(world: World, mailing: UUID, by: Caller | None = None) -> Any:
    request = contacts.SendMailing(request_id=uuid4(), mailing=mailing)
    return world.call(contacts.SEND_MAILING, request, by or world.handler)


def progress(world: World, mailing: UUID, by: Caller | None = None) -> tuple[str, dict[str, int]]:
    shown = world.call(contacts.GET_MAILING, contacts.GetMailing(mailing=mailing), by or world.handler)
    return shown.state, {one.result: one.count for one in shown.results}


def cases_of(world: World, resident: Caller) -> list[UUID]:
    return [one.case for one in world.call(cases.LIST_INBOX, cases.ListInbox(), resident).cases]


def test_r_case_14_each_recipient_has_a_result(world: World) -> None:
    """R-CASE-14, R-CASE-12, R-CASE-22, R-ID-14"""
    numbers = [number_of() for _ in range(5)]
    people = [
        world.numbered(numbers[0]),
        world.numbered(numbers[1], active=False),
        world.numbered(numbers[2], locked=True),
        world.numbered(numbers[3]),
        world.numbered(numbers[4]),
    ]
    closed = access.ClinicAccess(clinic=world.clinic, allowed=False, reason="outside_catchment")
    world.neighbours.access[(UUID(people[3].subject), world.clinic)] = closed
    mailing = mailing_of(world, [])
    refused("mailing_empty", Invalid, send, world, mailing)
    added = add(world, mailing, [numbers[0], "inget nummer", numbers[0], number_of(), *numbers[1:]])
    assert (added.added, added.recipients) == (5, 5)
    assert [(one.position, one.reason) for one in added.refused] == [
        (1, "not_an_identity_number"),
        (2, "already_there"),
        (3, "no_account"),
    ]
    assert add(world, mailing, numbers[:1]).refused[0].reason == "already_there"
    assert progress(world, mailing) == ("draft", {"waiting": 5})
    del world.neighbours.cards[UUID(people[4].subject)]
    send(world, mailing)
    refused("mailing_begun", Conflict, send, world, mailing)
    refused("mailing_begun", Conflict, add, world, mailing, numbers[:1])
    assert sending.send_all(Job(world)) == 3
    expected = {"sent": 2, "sent_to_inactive": 1, "locked": 1, "no_account": 1}
    assert progress(world, mailing) == ("done", expected)
    ask = contacts.ListRecipients(mailing=mailing, limit=3)
    first = world.call(contacts.LIST_RECIPIENTS, ask, world.handler)
    second = world.call(contacts.LIST_RECIPIENTS, ask.model_copy(update={"after": first.after}), world.handler)
    results = [one.result for one in first.recipients + second.recipients]
    assert results == ["sent", "sent_to_inactive", "locked", "sent", "no_account"]
    assert [one.position for one in first.recipients + second.recipients] == [0, 1, 2, 3, 4]
    shown = [one.resident and one.resident.identity_number for one in first.recipients + second.recipients]
    assert shown == [*numbers[:2], None, numbers[3], None]  # of those who got nothing by it, nothing is told
    assert second.after is None
    beyond = ask.model_copy(update={"after": number_cursor(2**40)})  # as another list's may be
    assert world.call(contacts.LIST_RECIPIENTS, beyond, world.handler).recipients == []
    [case] = cases_of(world, people[0])
    assert first.recipients[0].case == case
    assert world.get(case, world.handler).messages[0].text == "Proverna ser bra ut."


def test_r_case_14_a_list_of_numbers_tells_nothing_of_those_behind_them(world: World) -> None:
    """R-SYS-1, R-CASE-18: before it is sent."""
    numbers = [number_of() for _ in range(2)]
    for number in numbers:
        world.numbered(number)
    listed = world.call(
        contacts.LIST_RECIPIENTS, contacts.ListRecipients(mailing=mailing_of(world, numbers)), world.handler
    )
    assert [one.resident for one in listed.recipients] == [None, None]


def test_r_case_18_whose_cases_a_mailing_gave_is_a_reading_of_them(world: World) -> None:
    """R-CASE-18, R-CASE-3, R-CASE-19: told of the cases that the author may read, no others, and in the log."""
    numbers = [number_of() for _ in range(3)]
    residents = [world.numbered(number) for number in numbers]
    mailing = mailing_of(world, numbers, template=template(world, "questions"))
    send(world, mailing)
    sending.send_all(Job(world))
    given = [cases_of(world, resident)[0] for resident in residents]
    other = world.person(Role.CASE_HANDLER)
    world.assign(given[1], other)

    def log_of(resident: Caller) -> list[tuple[str, bool]]:
        entries = world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), resident).entries
        return [(one.staff_name, one.in_list) for one in entries]

    refused("case_not_found", NotFound, world.get, given[1], world.handler)
    asked = contacts.ListRecipients(mailing=mailing, limit=2)
    listed = world.call(contacts.LIST_RECIPIENTS, asked, world.handler).recipients
    assert [one.result for one in listed] == ["sent", "sent"]
    assert [one.resident and one.resident.identity_number for one in listed] == [numbers[0], None]
    name = f"Åsa {world.neighbours.staff[world.handler.subject].surname}"
    assert [log_of(one) for one in residents] == [[(name, True)], [], []]


def test_r_case_14_one_mailing_that_fails_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-CASE-14: and is not ended by it, nor by a directory that does not know its sender just now."""
    numbers = [number_of(), number_of()]
    people = [world.numbered(number) for number in numbers]
    first, second = (mailing_of(world, [number]) for number in numbers)
    send(world, first)
    send(world, second)
    asked = sending._ask

    def ask(run: Any, mailing: Any, residents: list[UUID]) -> Any:
        if mailing["id"] == first:
            raise ZeroDivisionError
        return asked(run, mailing, residents)

    monkeypatch.setattr(sending, "_ask", ask)
    assert sending.send_all(Job(world)) == 1
    assert (progress(world, first)[0], progress(world, second)[0]) == ("sending", "done")
    monkeypatch.setattr(sending, "_ask", asked)
    assert sending.send_all(Job(world)) == 1
    assert [len(cases_of(world, one)) for one in people] == [1, 1]


@pytest.mark.parametrize("killed_at", [1, 2, 2.5, 3, 4, 4.5])
def test_r_case_14_killed_in_between_each_still_gets_it_once(
    world: World, monkeypatch: pytest.MonkeyPatch, killed_at: float
) -> None:
    """R-CASE-14, R-SYS-5"""
    monkeypatch.setattr(sending, "AT_ONCE", 2)
    numbers = [number_of() for _ in range(5)]
    people = [world.numbered(number) for number in numbers]
    mailing = mailing_of(world, numbers)
    send(world, mailing)
    job = Job(world)
    job.killed_at = killed_at  # type: ignore[assignment]
    with pytest.raises(Killed):
        sending.send_all(job)
    sending.send_all(Job(world))
    assert progress(world, mailing) == ("done", {"sent": 5})
    assert [len(cases_of(world, one)) for one in people] == [1] * 5


def test_r_case_14_what_can_not_be_asked_now_is_sent_later(world: World) -> None:
    """R-CASE-14"""
    number = number_of()
    resident = world.numbered(number)
    mailing = mailing_of(world, [number])
    send(world, mailing)
    world.neighbours.faults["resident_cards"] = Unavailable()
    assert sending.send_all(Job(world)) == 0
    assert progress(world, mailing) == ("sending", {"waiting": 1})
    del world.neighbours.faults["resident_cards"]
    sending.send_all(Job(world))
    assert len(cases_of(world, resident)) == 1


def test_r_case_14_a_sender_whom_the_directory_does_not_know_at_the_moment_sends_later(world: World) -> None:
    """R-CASE-14: nothing is sent without a name, and nothing is given up for the lack of it."""
    number = number_of()
    resident = world.numbered(number)
    author = world.person(Role.CASE_HANDLER)
    mailing = mailing_of(world, [number], author)
    send(world, mailing, author)
    known = world.neighbours.staff.pop(author.subject)
    assert sending.send_all(Job(world)) == 0
    assert progress(world, mailing, author) == ("sending", {"waiting": 1})
    world.neighbours.staff[author.subject] = known
    sending.send_all(Job(world))
    assert len(cases_of(world, resident)) == 1


def test_r_id_10_who_lost_the_right_sends_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-10, R-CASE-14: by identity's word or by the copy, whichever knows first."""
    monkeypatch.setattr(sending, "AT_ONCE", 1)
    for forget in (
        lambda author: world.give(author.subject),
        lambda author: world.neighbours.rights.pop(author.subject),
    ):
        author = world.person(Role.CASE_HANDLER)
        numbers = [number_of() for _ in range(2)]
        people = [world.numbered(number) for number in numbers]
        mailing = mailing_of(world, numbers, author)
        send(world, mailing, author)
        job = Job(world)
        job.killed_at = 2.5  # type: ignore[assignment]
        with pytest.raises(Killed):
            sending.send_all(job)
        forget(author)
        sending.send_all(Job(world))
        assert [len(cases_of(world, one)) for one in people] == [1, 0]
        back = world.give(author.subject, Role.CASE_HANDLER)
        assert progress(world, mailing, back) == ("stopped", {"sent": 1, "not_sent": 1})


def test_a_mailing_is_its_authors_alone_and_can_be_cancelled(world: World) -> None:
    """R-SYS-1, R-CASE-9"""
    number = number_of()
    world.numbered(number)
    mailing = mailing_of(world, [number])
    for stranger in (world.person(Role.CASE_HANDLER), world.receiver, world.give(world.handler.subject)):
        for action in (send, progress):
            foreign = refused("mailing_not_found", NotFound, action, world, mailing, stranger)
            absent = refused("mailing_not_found", NotFound, action, world, uuid4(), stranger)
            assert foreign.on_the_wire() == absent.on_the_wire()
    author = world.give(world.handler.subject, Role.CASE_HANDLER)
    cancel = contacts.CancelMailing(request_id=uuid4(), mailing=mailing)
    world.call(contacts.CANCEL_MAILING, cancel, author)
    assert progress(world, mailing, author) == ("cancelled", {"not_sent": 1})
    again = contacts.CancelMailing(request_id=uuid4(), mailing=mailing)
    refused("mailing_finished", Conflict, world.call, contacts.CANCEL_MAILING, again, author)


def test_r_case_14_administrators_of_the_clinic_can_stop_a_mailing(world: World) -> None:
    """R-CASE-14: whoever has written it; they see how far it has come, not to whom (R-CASE-3)."""
    number = number_of()
    resident = world.numbered(number)
    mailing = mailing_of(world, [number])
    send(world, mailing)
    listing = contacts.ListMailings(clinic=world.clinic)
    [listed] = world.call(contacts.LIST_MAILINGS, listing, world.admin).mailings
    assert (listed.mailing, listed.author, listed.state) == (mailing, world.handler.subject, "sending")
    assert progress(world, mailing, world.admin) == ("sending", {"waiting": 1})
    ask = contacts.ListRecipients(mailing=mailing)
    refused("mailing_not_found", NotFound, world.call, contacts.LIST_RECIPIENTS, ask, world.admin)
    refused("mailing_not_found", NotFound, add, world, mailing, [number], world.admin)
    refused("mailing_not_found", NotFound, send, world, mailing, world.admin)
    cancel = contacts.CancelMailing(request_id=uuid4(), mailing=mailing)
    elsewhere = world.person(Role.LOCAL_ADMIN, clinic=world.new_clinic())
    refused("mailing_not_found", NotFound, world.call, contacts.CANCEL_MAILING, cancel, elsewhere)
    world.call(contacts.CANCEL_MAILING, contacts.CancelMailing(request_id=uuid4(), mailing=mailing), world.admin)
    assert sending.send_all(Job(world)) == 0
    assert progress(world, mailing) == ("cancelled", {"not_sent": 1})
    assert cases_of(world, resident) == []


def test_r_case_14_mailings_are_listed_to_those_who_may_see_them(world: World) -> None:
    """R-SYS-1, R-CASE-19: page by page, the latest first."""
    other = world.person(Role.CASE_HANDLER)
    made = [mailing_of(world, [], by) for by in (world.handler, other, world.handler)]

    def seen(by: Caller) -> list[UUID]:
        found, ask = list[UUID](), contacts.ListMailings(clinic=world.clinic, limit=1)
        while True:
            page = world.call(contacts.LIST_MAILINGS, ask, by)
            found += [one.mailing for one in page.mailings]
            if page.after is None:
                return found
            ask = ask.model_copy(update={"after": page.after})

    assert seen(world.admin) == made[::-1]
    assert seen(world.handler) == [made[2], made[0]]
    assert seen(other) == [made[1]]
    for stranger in (world.receiver, world.person(Role.LOCAL_ADMIN, clinic=world.new_clinic())):
        with pytest.raises(Forbidden):
            seen(stranger)


def test_r_case_14_what_was_never_sent_is_forgotten_after_a_week(own_world: World) -> None:
    """R-CASE-14: with all who were to get it; what was sent is kept."""
    world = own_world
    numbers = [number_of() for _ in range(3)]
    for number in numbers:
        world.numbered(number)
    left, cancelled, touched, sent = (mailing_of(world, numbers[:1]) for _ in range(4))
    world.call(contacts.CANCEL_MAILING, contacts.CancelMailing(request_id=uuid4(), mailing=cancelled), world.handler)
    send(world, sent)
    sending.send_all(Job(world))
    world.move(timedelta(days=6))
    add(world, touched, numbers[1:])
    assert mailings.forget_unsent(world.database) == 0
    world.move(timedelta(days=1, minutes=1))
    assert mailings.forget_unsent(world.database) == 2
    for gone in (left, cancelled):
        refused("mailing_not_found", NotFound, progress, world, gone)
    assert progress(world, touched) == ("draft", {"waiting": 3})
    assert progress(world, sent) == ("done", {"sent": 1})
    with world.database.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM mailing_recipients")).scalar_one() == 4


def test_r_case_14_the_words_are_sealed_and_questions_go_to_many(own_world: World) -> None:
    """R-CASE-14, R-SYS-2"""
    world = own_world
    number = number_of()
    resident = world.numbered(number)
    asking = template(world, "questions")
    mailing = mailing_of(world, [number], template=asking, text="Hemligheten om hälsan")
    with world.database.transaction() as tx:
        stored = " ".join(tx.execute(text("SELECT m::text FROM mailings m")).scalars())
    assert "Hemligheten" not in stored
    assert b"Hemligheten".hex() not in stored
    send(world, mailing)
    sending.send_all(Job(world))
    [case] = cases_of(world, resident)
    world.write(case, resident, answers=[cases.Answer(component="since", values=["2026-02-01"])])
    assert world.get(case, world.handler).state == "assigned"


@pytest.mark.soak
def test_r_case_14_ten_thousand_recipients(own_world: World) -> None:
    """R-CASE-14"""
    world = own_world
    numbers = [f"19{place:010}" for place in range(10_000)]
    for number in numbers:
        world.numbered(number)
    mailing = mailing_of(world, numbers)
    send(world, mailing)
    job = Job(world)
    job.killed_at = 80
    with pytest.raises(Killed):
        sending.send_all(job)
    assert 0 < progress(world, mailing)[1]["sent"] < 10_000
    sending.send_all(Job(world))
    assert progress(world, mailing) == ("done", {"sent": 10_000})
    with world.database.transaction() as tx:
        counted = tx.execute(text("SELECT count(*), count(DISTINCT resident) FROM cases")).one()
    assert tuple(counted) == (10_000, 10_000)
