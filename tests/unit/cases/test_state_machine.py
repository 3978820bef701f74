"""The state machine of a case: its table, and random lives of a case that must keep what the domain says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.cases.rules import (
    TRANSITIONS,
    Act,
    Facts,
    Outcome,
    Party,
    State,
    Viewer,
    check_version,
    counter_question_due,
    decide,
    month_after,
    parties,
    resident_may_write,
)
from shared.messaging.errors import Conflict, Forbidden, Refused

CLINIC, OTHER_CLINIC = "SE2321000131-E000000000001", "SE2321000131-E000000000002"
HANDLER, OTHER_HANDLER, RECEIVER = (f"SE2321000131-P00000000000{n}" for n in (1, 2, 3))
RESIDENT, OTHER_RESIDENT = UUID(int=1), UUID(int=2)
START = datetime(2026, 1, 31, 13, tzinfo=UTC)

NEW = Facts(CLINIC, RESIDENT, State.NEW, 1, None, START, None, START)
ASSIGNED = replace(NEW, state=State.ASSIGNED, handler=HANDLER)
AWAITING = replace(ASSIGNED, state=State.AWAITING_RESIDENT, counter_question_at=START + timedelta(hours=1))
CLOSED = replace(ASSIGNED, state=State.CLOSED)

LEGAL = {
    State.NEW: {State.ASSIGNED, State.CLOSED, State.NEW},
    State.ASSIGNED: {State.ASSIGNED, State.AWAITING_RESIDENT, State.NEW, State.CLOSED},
    State.AWAITING_RESIDENT: {State.ASSIGNED, State.NEW, State.CLOSED, State.AWAITING_RESIDENT},
    State.CLOSED: set(),
}
"""The changes of state that the domain names; staying as it is counts as none, so it is let through while open."""


def only(party: Party) -> frozenset[Party]:
    return frozenset({party})


def test_table_has_only_the_transitions_that_the_domain_names() -> None:
    for (state, act), step in TRANSITIONS.items():
        for to in {step.to, step.without_handler or step.to}:
            assert to in LEGAL[state], f"{act} leads from {state} to {to}"
        assert (step.to is State.CLOSED) == (step.reason is not None)
        assert step.who


def test_closed_is_final() -> None:
    for act in Act:
        with pytest.raises(Refused):
            decide(CLOSED, act, frozenset(Party))


@pytest.mark.parametrize(
    ("act", "becomes"),
    [
        (Act.PARTIAL_REPLY, Outcome(State.ASSIGNED, None)),
        (Act.COUNTER_QUESTION, Outcome(State.AWAITING_RESIDENT, None)),
        (Act.ANSWER, Outcome(State.CLOSED, "answered")),
    ],
)
def test_r_case_5_what_a_handlers_reply_makes_of_the_case(act: Act, becomes: Outcome) -> None:
    """R-CASE-5"""
    assert decide(ASSIGNED, act, only(Party.HANDLER)) == becomes


@pytest.mark.parametrize("act", [Act.PARTIAL_REPLY, Act.COUNTER_QUESTION, Act.ANSWER])
def test_r_case_5_nobody_but_the_handler_replies(act: Act) -> None:
    """R-CASE-5"""
    for party in (Party.RECEIVER, Party.RESIDENT, Party.SYSTEM):
        with pytest.raises(Forbidden):
            decide(ASSIGNED, act, only(party))


def test_r_case_4_receivers_assign_and_handlers_pass_on_their_own() -> None:
    """R-CASE-4"""
    assert decide(NEW, Act.ASSIGN, only(Party.RECEIVER)).state is State.ASSIGNED
    assert decide(ASSIGNED, Act.ASSIGN, only(Party.RECEIVER)).state is State.ASSIGNED
    assert decide(ASSIGNED, Act.ASSIGN, only(Party.HANDLER)).state is State.ASSIGNED
    with pytest.raises(Forbidden):
        decide(NEW, Act.ASSIGN, only(Party.HANDLER))
    with pytest.raises(Forbidden):
        decide(ASSIGNED, Act.ASSIGN, only(Party.RESIDENT))


def test_r_case_6_the_resident_writes_only_after_a_counter_question_and_then_any_number_of_times() -> None:
    """R-CASE-6"""
    with pytest.raises(Conflict) as refused:
        decide(ASSIGNED, Act.RESIDENT_WRITES, only(Party.RESIDENT))
    assert refused.value.reason == "no_counter_question"
    assert decide(AWAITING, Act.RESIDENT_WRITES, only(Party.RESIDENT)).state is State.ASSIGNED
    asked = replace(ASSIGNED, counter_question_at=START)
    assert decide(asked, Act.RESIDENT_WRITES, only(Party.RESIDENT)).state is State.ASSIGNED


def test_r_case_7_reassigning_and_partial_replies_do_not_keep_a_counter_question_open() -> None:
    """R-CASE-7"""
    for act, party in ((Act.ASSIGN, Party.RECEIVER), (Act.PARTIAL_REPLY, Party.HANDLER)):
        assert decide(AWAITING, act, only(party)) == Outcome(State.AWAITING_RESIDENT, None)


def test_a_lost_handler_makes_an_assigned_case_new_and_lets_a_waiting_one_wait() -> None:
    assert decide(ASSIGNED, Act.LOSE_HANDLER, only(Party.SYSTEM)).state is State.NEW
    assert decide(AWAITING, Act.LOSE_HANDLER, only(Party.SYSTEM)).state is State.AWAITING_RESIDENT
    waiting = replace(AWAITING, handler=None)
    assert decide(waiting, Act.RESIDENT_WRITES, only(Party.RESIDENT)).state is State.NEW
    with pytest.raises(Forbidden):
        decide(ASSIGNED, Act.LOSE_HANDLER, frozenset({Party.RECEIVER, Party.HANDLER, Party.RESIDENT}))


def test_r_case_17_an_older_version_is_told() -> None:
    """R-CASE-17"""
    check_version(ASSIGNED, 1)
    for version in (0, 2):
        with pytest.raises(Conflict) as refused:
            check_version(ASSIGNED, version)
        assert refused.value.reason == "case_changed"


def test_refusals_tell_whose_it_is_before_they_tell_the_state() -> None:
    with pytest.raises(Forbidden):
        decide(CLOSED, Act.ANSWER, only(Party.RECEIVER))
    with pytest.raises(Conflict) as closed:
        decide(CLOSED, Act.ANSWER, only(Party.HANDLER))
    assert closed.value.reason == "case_closed"
    with pytest.raises(Conflict) as unassigned:
        decide(NEW, Act.ANSWER, only(Party.HANDLER))
    assert unassigned.value.reason == "not_assigned"


def test_r_case_3_what_someone_is_to_a_case() -> None:
    """R-CASE-3"""
    everywhere = frozenset({CLINIC})
    assert parties(Viewer(RECEIVER, receiver_at=everywhere), ASSIGNED) == {Party.RECEIVER}
    assert parties(Viewer(HANDLER, handler_at=everywhere), ASSIGNED) == {Party.HANDLER}
    assert parties(Viewer(HANDLER, everywhere, everywhere), ASSIGNED) == {Party.RECEIVER, Party.HANDLER}
    assert parties(Viewer(OTHER_HANDLER, handler_at=everywhere), ASSIGNED) == set()
    assert parties(Viewer(HANDLER, handler_at=frozenset({OTHER_CLINIC})), ASSIGNED) == set()
    assert parties(Viewer(resident=RESIDENT), ASSIGNED) == {Party.RESIDENT}
    assert parties(Viewer(resident=OTHER_RESIDENT), ASSIGNED) == set()
    assert parties(Viewer(), replace(ASSIGNED, handler=None)) == set()


class LifeOfACase(RuleBasedStateMachine):
    """Anyone tries anything at any time; what is let through must keep the invariants."""

    @initialize()
    def begin(self) -> None:
        self.case = NEW
        self.now = START
        self.reason: str | None = None
        self.closed_at_version: int | None = None

    def _try(self, act: Act, them: frozenset[Party], **changes: object) -> None:
        before = self.case
        try:
            outcome = decide(before, act, them)
        except Refused:
            return
        assert TRANSITIONS[(before.state, act)].who & them
        assert before.state is not State.CLOSED
        if outcome.state is not before.state:
            assert outcome.state in LEGAL[before.state]
        self.reason = outcome.reason
        self.case = replace(before, state=outcome.state, version=before.version + 1, **changes)  # type: ignore[arg-type]

    @rule(handler=st.sampled_from([HANDLER, OTHER_HANDLER]), party=st.sampled_from(Party))
    def assign(self, handler: str, party: Party) -> None:
        if party is Party.HANDLER and self.case.handler is None:
            return
        self._try(Act.ASSIGN, only(party), handler=handler)

    @rule(act=st.sampled_from([Act.PARTIAL_REPLY, Act.ANSWER]))
    @precondition(lambda self: self.case.handler is not None)
    def reply(self, act: Act) -> None:
        self._try(act, only(Party.HANDLER), latest_message_at=self.now)

    @rule()
    @precondition(lambda self: self.case.handler is not None)
    def ask(self) -> None:
        self._try(Act.COUNTER_QUESTION, only(Party.HANDLER), counter_question_at=self.now, latest_message_at=self.now)

    @rule()
    def resident_writes(self) -> None:
        self._try(Act.RESIDENT_WRITES, only(Party.RESIDENT), resident_wrote_at=self.now, latest_message_at=self.now)

    @rule(party=st.sampled_from(Party))
    def close(self, party: Party) -> None:
        if party is not Party.HANDLER or self.case.handler is not None:
            self._try(Act.CLOSE, only(party))

    @rule()
    @precondition(lambda self: self.case.handler is not None)
    def lose_handler(self) -> None:
        self._try(Act.LOSE_HANDLER, only(Party.SYSTEM), handler=None)

    @rule(passed=st.timedeltas(timedelta(minutes=1), timedelta(days=40)))
    def time_passes(self, passed: timedelta) -> None:
        self.now += passed
        due = counter_question_due(self.case)
        if due is None or due > self.now:
            return
        before = self.case
        self._try(Act.EXPIRE, only(Party.SYSTEM))
        assert self.case.state is State.CLOSED
        assert self.reason == "counter_question_expired"
        assert before.state is State.AWAITING_RESIDENT
        assert before.counter_question_at is not None
        assert month_after(before.counter_question_at) <= self.now
        assert before.resident_wrote_at is None or before.resident_wrote_at <= before.counter_question_at

    @invariant()
    def new_has_no_handler_and_assigned_has_one(self) -> None:
        assert self.case.state is not State.NEW or self.case.handler is None
        assert self.case.state is not State.ASSIGNED or self.case.handler is not None

    @invariant()
    def closed_with_a_reason(self) -> None:
        if self.case.state is State.CLOSED:
            assert self.reason is not None
            assert not resident_may_write(self.case)
            assert counter_question_due(self.case) is None

    @invariant()
    def waiting_is_after_a_question_and_always_has_an_end(self) -> None:
        if self.case.state is State.AWAITING_RESIDENT:
            assert self.case.counter_question_at is not None
            assert counter_question_due(self.case) is not None


TestLifeOfACase = LifeOfACase.TestCase
