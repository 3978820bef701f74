"""Cases lived at random: residents, a guardian, receivers, handlers and time do what comes to mind.

By the service's own calls on a real database; what happens is what the rules say, told here in words of its own.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from services.cases.rules import month_after, week_before
from services.cases.tables import cases as case_table
from shared.contracts import case_desk, cases
from shared.contracts.base import Role
from shared.messaging.errors import Refused
from shared.operations import clock
from shared.security.caller import Caller
from tests.integration.cases_support import World, shared_database
from tests.stack.rooms import Rooms

OPEN = {"new", "assigned", "awaiting_resident"}
NUMBERS, PEOPLE = st.integers(0, 9), st.integers(0, 5)
MOSTLY = st.sampled_from([True, True, True, False])
DEEDS = ["start", *["assign"] * 4, *["reply"] * 6, *["write"] * 4, "close", "note", "rights", *["time"] * 3]
DEEDS += [*["staff reads"] * 2, *["resident reads"] * 2, *["staff looks for"] * 2]
BOTH = (Role.CASE_RECEIVER, Role.CASE_HANDLER)


@dataclass
class Known:
    """What the test knows of a case."""

    id: UUID
    owner: str
    state: str = "new"
    reason: str | None = None
    handler: str | None = None
    asked_at: datetime | None = None
    wrote_at: datetime | None = None
    latest_at: datetime | None = None
    texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remind_at: datetime | None = None
    steps: list[Step] = field(default_factory=list)


class Step(NamedTuple):
    """What the case's activities say of something that was done; `wrote`: with a message."""

    kind: str
    by: str
    person: str | None = None
    handler: str | None = None
    reason: str | None = None
    wrote: bool = False


class Life(RuleBasedStateMachine):
    """See the module."""

    url = ""
    happened: ClassVar[Counter[str]] = Counter()
    """What was done, by its new state where it is one: lives in which nothing happens prove nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self._made = World.made(self.url, Path(self.folder.name))
        self.world = world = next(self._made)
        child, guardian = world.new_resident(), world.new_resident()
        acting = Caller("resident", guardian.subject, session=uuid4(), acting_for=UUID(child.subject))
        self.residents = [world.resident, world.new_resident(), child, acting, guardian]
        self.people = [world.receiver, world.handler, world.person(Role.CASE_HANDLER), world.person(*BOTH)]
        self.people += [world.person(*BOTH, clinic=world.new_clinic()), world.admin]
        self.known: list[Known] = []
        self.numbers = {
            str(one.acting_for or one.subject): f"19121212{place:04}" for place, one in enumerate(self.residents)
        }
        for resident, number in self.numbers.items():
            world.set_resident(UUID(resident), number)
        self.readings: Counter[tuple[str, UUID, bool]] = Counter()
        """Who of the staff has read what, and whether in a list by identity number."""
        self.written = 0

    def teardown(self) -> None:
        try:
            for person in range(len(self.people)):
                self.lists_are_what_can_be_read(person)
            for resident in range(len(self.residents)):
                self.inbox_is_what_can_be_read(resident)
            for resident in self.numbers:
                self.lists_by_number_are_what_can_be_read(self.world.receiver.subject, resident)
            for case in self.known:
                assert self._texts(case) == case.texts, "nothing was recalled, changed or lost (R-CASE-9)"
                self._staff_reads(self.world.staff(self.world.receiver.subject), case)
            log = self._pages(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=self.world.clinic), self.world.reviewer)
            logged = Counter((one.person, one.case, one.in_list) for one in log)
            assert logged == self.readings, "a row for each reading by staff, and no other (R-CASE-18)"
            owners = {case.id: UUID(case.owner) for case in self.known}
            assert all(one.resident == owners[one.case] for one in log)
        finally:
            next(self._made, None)
            self.folder.cleanup()

    # --- who may, in other words

    def _roles(self, who: Caller) -> frozenset[Role]:
        return self.world.staff(who.subject).rights.roles_at(self.world.clinic)

    def _sees(self, who: Caller, case: Known) -> bool:
        if who.kind == "resident":
            theirs = case.owner == str(who.acting_for or who.subject)
            return theirs and case.latest_at is not None and clock.now() < case.latest_at + timedelta(days=730)
        return Role.CASE_RECEIVER in self._roles(who) or self._has(who, case)

    def _has(self, who: Caller, case: Known) -> bool:
        return case.handler == who.subject and Role.CASE_HANDLER in self._roles(who)

    def _case(self, number: int, fit: Callable[[Known], object] = lambda case: case.state in OPEN) -> Known:
        """One that fits what is to be done with it, or now and then any."""
        some = [case for case in self.known if fit(case)] if number < 8 else []
        some = some or self.known
        return some[number % len(some)]

    def _person(self, number: int) -> Caller:
        return self.world.staff(self.people[number % len(self.people)].subject)

    def _holder(self, case: Known, otherwise: int) -> Caller:
        """Who has the case, if anyone has."""
        return self._person(otherwise) if case.handler is None else self.world.staff(case.handler)

    def _text(self) -> str:
        self.written += 1
        return f"text {self.written}"

    def _tries(self, allowed: bool, action: Callable[[], Any]) -> Any:
        """Does it; what is allowed succeeds, and what is not is refused."""
        try:
            done = action()
        except Refused as refusal:
            assert not allowed, f"refused although it is allowed: {refusal.reason}"
            return None
        assert allowed, "done although it is not allowed"
        self.happened[type(done).__name__ + getattr(done, "state", "")] += 1
        return done

    def _wrote(self, case: Known, text: str, *, resident: bool) -> None:
        case.texts.append(text)
        case.latest_at = clock.now()
        if resident:
            case.wrote_at = clock.now()

    # --- what they do: mostly what they may (`rightly`), or little would ever happen

    @rule(
        deed=st.sampled_from(DEEDS),
        number=NUMBERS,
        by=PEOPLE,
        to=PEOPLE,
        resident=st.integers(0, 4),
        rightly=MOSTLY,
        flag=st.booleans(),
        kind=st.sampled_from(["partial_reply", *["counter_question"] * 5, "answer"]),
        days=st.sampled_from([0, 1, 6, 24, 24, 24, 31, 31, 31, 300]),
    )
    def something_happens(
        self,
        deed: str,
        number: int,
        by: int,
        to: int,
        resident: int,
        rightly: bool,
        flag: bool,
        kind: str,
        days: int,
    ) -> None:
        """One rule for all: each of its own would be left out of half of the lives, and nothing follow on anything."""
        going = sum(case.state in OPEN for case in self.known)
        if going == 0 or (deed == "start" and going < 3):
            self.somebody_starts_a_case(resident)
            return
        # What nothing fits yet is prepared instead.
        if deed == "write" and not any(case.state in OPEN and case.asked_at for case in self.known):
            deed, kind, rightly = "reply", "counter_question", True
        if deed == "reply" and not any(case.state in OPEN and case.handler for case in self.known):
            deed, rightly = "assign", True
        if deed in ("assign", "start"):
            self.it_is_given_to_someone(number, by, to, rightly, flag)
        elif deed == "reply":
            self.somebody_replies(number, by, rightly, kind, flag)
        elif deed == "write":
            self.a_resident_writes(number, resident, rightly)
        elif deed == "close" and flag:
            self.somebody_closes_it(number, by)
        elif deed == "note":
            self.somebody_notes_something(number, by)
        elif deed == "rights":
            self.a_right_is_taken_or_given(1 + to % 3, rightly)
        elif deed == "time":
            self.time_passes(days)
        elif deed == "staff reads":
            self.somebody_reads(number, by)
        elif deed == "staff looks for":
            self.lists_by_number_are_what_can_be_read(self._person(by).subject, sorted(self.numbers)[resident % 4])
        else:
            self.a_resident_reads(number, resident)

    def _side(self, who: Caller) -> str:
        return "guardian" if who.acting_for else "resident"

    def somebody_starts_a_case(self, resident: int) -> None:
        who, text = self.residents[resident], self._text()
        answers = [cases.Answer(component="what", values=[text])]
        case = Known(self.world.start(who, answers=answers).case, str(who.acting_for or who.subject))
        self._wrote(case, text, resident=True)
        case.steps.append(Step("started", self._side(who), wrote=True))
        self.known.append(case)

    def it_is_given_to_someone(self, number: int, by: int, to: int, rightly: bool, with_reply: bool) -> None:
        case, who, handler = self._case(number), self._person(by), self._person(to)
        if rightly:
            who, handler = self._person(3 * (by % 2)), self._person(1 + to % 3)
        may = Role.CASE_RECEIVER in self._roles(who) or self._has(who, case)
        allowed = may and case.state in OPEN and Role.CASE_HANDLER in self._roles(handler)
        text = self._text() if with_reply else None
        if self._tries(allowed, lambda: self.world.assign(case.id, handler, by=who, partial_reply=text)):
            case.handler = handler.subject
            case.state = "assigned" if case.state == "new" else case.state
            case.steps.append(Step("assigned", "staff", who.subject, handler.subject, wrote=text is not None))
            if text:
                self._wrote(case, text, resident=False)

    def somebody_replies(self, number: int, by: int, rightly: bool, kind: str, again: bool) -> None:
        case = self._case(number, lambda one: one.state in OPEN and one.handler)
        who, text = self._holder(case, by) if rightly else self._person(by), self._text()
        allowed = case.state in ("assigned", "awaiting_resident") and self._has(who, case)
        same = {"by": who, "text": text, "request_id": uuid4(), "version": self.world.version(case.id)}
        done = self._tries(allowed, lambda: self.world.reply(case.id, kind, **same))
        if done is None:
            return
        if again:
            assert self.world.reply(case.id, kind, **same) == done, "once for each request id (R-CASE-17)"
        self._wrote(case, text, resident=False)
        case.steps.append(Step(kind, "staff", who.subject, wrote=True))
        if kind == "counter_question":
            case.state, case.asked_at = "awaiting_resident", clock.now()
            case.remind_at = week_before(month_after(case.asked_at))
        elif kind == "answer":
            case.state, case.reason = "closed", "answered"

    def a_resident_writes(self, number: int, resident: int, rightly: bool) -> None:
        case = self._case(number, lambda one: one.state in OPEN and one.asked_at)
        who, text = self.residents[resident], self._text()
        if rightly:
            who = next(one for one in self.residents if str(one.acting_for or one.subject) == case.owner)
        allowed = self._sees(who, case) and case.state in OPEN and case.asked_at is not None
        if self._tries(allowed, lambda: self.world.write(case.id, who, text=text)):
            self._wrote(case, text, resident=True)
            case.steps.append(Step("resident_message", self._side(who), wrote=True))
            if case.state == "awaiting_resident":
                case.state = "assigned" if case.handler else "new"

    def somebody_closes_it(self, number: int, by: int) -> None:
        case, who = self._case(number), self._person(by)
        allowed = self._sees(who, case) and case.state in OPEN
        if self._tries(allowed, lambda: self.world.close_case(case.id, by=who)):
            case.state, case.reason = "closed", "closed_by_clinic"
            case.steps.append(Step("closed", "staff", who.subject, reason=case.reason))

    def somebody_notes_something(self, number: int, by: int) -> None:
        case, who, text = self._case(number), self._person(by), f"note {uuid4()}"
        request = case_desk.AddNote(request_id=uuid4(), case=case.id, text=text)
        if self._tries(self._sees(who, case), lambda: self.world.call(case_desk.ADD_NOTE, request, who)):
            case.notes.append(text)
            case.steps.append(Step("note_added", "staff", who.subject))

    def a_right_is_taken_or_given(self, who: int, keep: bool) -> None:
        person = self.people[who].subject
        self.world.give(person, *(BOTH if who == 3 else BOTH[1:]) if keep else ())
        for case in self.known:
            if case.handler == person and not keep and case.state in OPEN:
                case.steps.append(Step("handler_lost_right", "system", handler=case.handler))
                case.handler = None
                case.state = "new" if case.state == "assigned" else case.state

    def time_passes(self, days: int) -> None:
        self.world.move(timedelta(days=days, seconds=1))
        self.world.remind()
        self.world.expire()
        for case in self.known:
            waits = case.state == "awaiting_resident" and case.asked_at is not None
            silent = waits and (case.wrote_at is None or case.wrote_at < case.asked_at)  # type: ignore[operator]
            if waits and silent and month_after(case.asked_at) <= clock.now():  # type: ignore[arg-type]
                case.state, case.reason = "closed", "counter_question_expired"
                case.steps.append(Step("closed", "system", handler=case.handler, reason=case.reason))
                self.happened["expired"] += 1
            elif waits and case.remind_at is not None and case.remind_at <= clock.now():
                case.remind_at = None
                case.steps.append(Step("reminded", "system", wrote=True))
                self.happened["reminded"] += 1

    # --- what they see

    def somebody_reads(self, number: int, by: int) -> None:
        self._staff_reads(self._person(by), self._case(number))

    def _staff_reads(self, who: Caller, case: Known) -> bool:
        shown = self._tries(self._sees(who, case), lambda: self.world.get(case.id, who))
        if shown is None:
            return False
        self.readings[(who.subject, case.id, False)] += 1
        steps = [
            Step(one.kind, one.by, one.person, one.handler, one.reason, bool(one.message)) for one in shown.activities
        ]
        assert steps == case.steps, "each step that was taken, as it was taken (R-CASE-3)"
        assert {one.message for one in shown.activities if one.message} == {one.message for one in shown.messages}
        assert (shown.state, shown.closed_reason, shown.handler) == (case.state, case.reason, case.handler)
        assert [one.text for one in shown.messages[1:]] == case.texts[1:]
        assert [one.text for one in shown.notes] == case.notes
        return True

    def a_resident_reads(self, number: int, resident: int) -> None:
        self._resident_reads(self.residents[resident], self._case(number))

    def _resident_reads(self, who: Caller, case: Known) -> bool:
        shown = self._tries(self._sees(who, case), lambda: self.world.get(case.id, who))
        if shown is None:
            return False
        text = shown.model_dump_json()
        assert not any(note in text for note in case.notes), "no resident ever sees a note"
        assert (shown.activities, shown.handler, shown.notes) == ([], None, [])
        assert [one.text for one in shown.messages[1:]] == case.texts[1:]
        return True

    def lists_by_number_are_what_can_be_read(self, person: str, resident: str) -> None:
        """R-CASE-18, R-CASE-19: what a list or count by identity number tells is logged, case by case."""
        who, number = self.world.staff(person), self.numbers[resident]
        theirs = {case.id for case in self.known if case.owner == resident and self._sees(who, case)}
        receives, handles = (role in self._roles(who) for role in BOTH)
        ours = cases.ListClinicCases(clinic=self.world.clinic, identity_number=number)
        found = self._tries(receives, lambda: self._pages(cases.LIST_CLINIC_CASES, ours, who))
        if found is not None:
            assert set(found) == theirs
            assert len(found) == len(theirs)
            self._told_of(who, found)
            self.happened["listed by number"] += 1
            ask = case_desk.CountCases(clinic=self.world.clinic, identity_number=number)
            counts = self.world.call(case_desk.COUNT_CASES, ask, who)
            assert counts.new + counts.assigned + counts.awaiting_resident + counts.closed == len(theirs)
            self._told_of(who, found)
        mine = cases.ListMyCases(clinic=self.world.clinic, identity_number=number)
        found = self._tries(handles, lambda: self._pages(cases.LIST_MY_CASES, mine, who))
        if found is not None:
            held = {case.id for case in self.known if case.id in theirs and case.handler == who.subject}
            assert set(found) == held
            self._told_of(who, found)

    def _told_of(self, who: Caller, found: list[UUID]) -> None:
        for case in found:
            self.readings[(who.subject, case, True)] += 1

    def _pages(self, call: Any, request: Any, who: Caller) -> list[Any]:
        found: list[Any] = []
        after = None
        while True:
            page = self.world.call(call, request.model_copy(update={"after": after, "limit": 7}), who)
            found += page.entries if call is cases.ACCESS_LOG else [one.case for one in page.cases]
            after = page.after
            if after is None:
                return found

    def lists_are_what_can_be_read(self, number: int) -> None:
        """R-CASE-19: for every role."""
        who = self._person(number)
        readable = {case.id for case in self.known if self._staff_reads(who, case)}
        listed: set[UUID] = set()
        if Role.CASE_RECEIVER in self._roles(who):
            ours = cases.ListClinicCases(clinic=self.world.clinic)
            listed |= set(self._pages(cases.LIST_CLINIC_CASES, ours, who))
        if who.rights.clinics_with(Role.CASE_HANDLER):
            listed |= set(self._pages(cases.LIST_MY_CASES, cases.ListMyCases(), who))
        assert listed == readable

    def inbox_is_what_can_be_read(self, number: int) -> None:
        """R-CASE-19, R-CASE-10, R-ID-12"""
        who = self.residents[number]
        readable = {case.id for case in self.known if self._resident_reads(who, case)}
        inbox = self._pages(cases.LIST_INBOX, cases.ListInbox(), who)
        assert len(inbox) == len(set(inbox))
        assert set(inbox) == readable

    def _texts(self, case: Known) -> list[str]:
        """As stored, past every view: the first message is the form, of which the answer is looked at."""
        from services.cases import messages

        with self.world.database.transaction() as tx:
            first, *others = [one.shown for one in messages.of_case(tx, case.id)]
        return [first.answers[0].values[0], *(one.text for one in others)]

    @invariant()
    def every_case_is_as_the_rules_say(self) -> None:
        """One handler or none, and nothing that is not of the rules."""
        if not self.known:
            return
        with self.world.database.transaction() as tx:
            mine = case_table.c.id.in_([case.id for case in self.known])
            rows = {row["id"]: row for row in tx.execute(select(case_table).where(mine)).mappings()}
        for case in self.known:
            row = rows[case.id]
            assert (row["state"], row["closed_reason"], row["handler"]) == (case.state, case.reason, case.handler)
            assert row["message_count"] == len(case.texts)
            assert (row["answer_before"] is not None) == (case.state == "awaiting_resident")


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


def lived(url: str, examples: int, steps: int, *, the_same: bool) -> None:
    Life.url = url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=the_same,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_r_case_2_to_19_cases_live_by_the_rules_whatever_people_do(cases_database: str) -> None:
    """R-CASE-2 to R-CASE-7, R-CASE-9, R-CASE-10, R-CASE-17, R-CASE-18, R-CASE-19: the same lives in every run."""
    lived(cases_database, 20, 40, the_same=True)
    enough = {"CaseAssignedassigned": 30, "CaseAssignedawaiting_resident": 3, "ReplySentawaiting_resident": 20}
    enough |= {
        "ReplySentclosed": 3,
        "MessageSentReplyassigned": 10,
        "NoteAdded": 1,
        "expired": 2,
        "reminded": 1,
        "listed by number": 5,
    }
    assert {name: Life.happened[name] for name, least in enough.items() if Life.happened[name] < least} == {}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_r_case_2_to_19_many_other_lives(cases_database: str) -> None:
    """The same at random, for many minutes."""
    lived(cases_database, 1000, 60, the_same=False)
