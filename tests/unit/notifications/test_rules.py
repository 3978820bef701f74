"""What is told to whom, and how often it is tried: the tables of rules.py, read aloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications import rules
from services.notifications.rules import Choice, NotTold, Told
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import Channel, DeliveryKind, DeliveryState

CLINIC = "SE2321000131-E000000001708"
ANNA, BO = "SE2321000131-P000000000001", "SE2321000131-P000000000002"


def message(**changes: Any) -> cases.MessageSentEvent:
    facts: dict[str, Any] = {
        "case": uuid4(),
        "message": uuid4(),
        "clinic": CLINIC,
        "resident": uuid4(),
        "kind": "resident_message",
        "written_by": "resident",
        "handler": ANNA,
    }
    return cases.MessageSentEvent(**facts | changes)


def assigned(by: str | None) -> cases.CaseAssignedEvent:
    return cases.CaseAssignedEvent(
        case=uuid4(), clinic=CLINIC, resident=uuid4(), handler=ANNA, version=2, assigned_by=by
    )


def told(event: Any, body: Any) -> list[tuple[Told, DeliveryKind]]:
    return [(notice.told, notice.kind) for notice in rules.notices(event, body)]


def test_a_new_case_is_told_to_the_clinics_addresses_and_its_receivers() -> None:
    """R-NOT-1, R-NOT-2."""
    body = cases.CaseStartedEvent(case=uuid4(), clinic=CLINIC, resident=uuid4(), message=uuid4())
    assert told(cases.CASE_STARTED, body) == [
        (Told.NEW_CASE_ADDRESSES, DeliveryKind.CLINIC_NEW_CASE),
        (Told.CASE_RECEIVERS, DeliveryKind.NEW_CASE),
    ]


def test_an_assigned_case_is_told_to_its_handler_unless_they_took_it_themselves() -> None:
    """R-NOT-1."""
    assert told(cases.CASE_ASSIGNED, assigned(BO)) == [(Told.HANDLER, DeliveryKind.CASE_ASSIGNED)]
    assert told(cases.CASE_ASSIGNED, assigned(None)) == [(Told.HANDLER, DeliveryKind.CASE_ASSIGNED)]
    assert told(cases.CASE_ASSIGNED, assigned(ANNA)) == []


def test_what_a_resident_writes_is_told_to_the_handler_but_not_the_first_message() -> None:
    """R-NOT-1."""
    assert told(cases.MESSAGE_SENT, message()) == [(Told.HANDLER, DeliveryKind.RESIDENT_WROTE)]
    assert told(cases.MESSAGE_SENT, message(handler=None)) == []
    assert told(cases.MESSAGE_SENT, message(kind="start")) == []


@pytest.mark.parametrize("kind", ["partial_reply", "counter_question", "answer"])
def test_what_lands_in_the_inbox_is_told_to_the_resident(kind: str) -> None:
    """R-NOT-3."""
    assert told(cases.MESSAGE_SENT, message(written_by="staff", kind=kind)) == [(Told.RESIDENT, DeliveryKind.INBOX)]


def test_r_case_21_other_systems_say_whether_a_message_is_told() -> None:
    """R-CASE-21, R-NOT-3."""
    of_system = {"written_by": "system", "kind": "start", "handler": None}
    assert told(cases.MESSAGE_SENT, message(**of_system)) == [(Told.RESIDENT, DeliveryKind.INBOX)]
    assert told(cases.MESSAGE_SENT, message(**of_system, notify=False)) == []


BOTH = {Channel.SMS: "+46701740605", Channel.EMAIL: "anna@vgregion.example"}


def choice(**changes: Any) -> Choice:
    facts: dict[str, Any] = {
        "active": True,
        "notify_by": frozenset({"sms"}),
        "tell_me_about": frozenset({"new_case", "case_assigned", "resident_wrote"}),
        "addresses": BOTH,
    }
    return Choice(**facts | changes)


STAFF_KINDS = list(rules.STAFF_RULES)


@pytest.mark.parametrize("kind", STAFF_KINDS)
def test_staff_are_told_by_the_means_they_chose(kind: DeliveryKind) -> None:
    """R-NOT-1: e-mail, SMS, or both."""
    roles = [rules.STAFF_RULES[kind].role]
    assert rules.choose(kind, choice(), roles) == {Channel.SMS: BOTH[Channel.SMS]}
    assert rules.choose(kind, choice(notify_by=frozenset({"email"})), roles) == {Channel.EMAIL: BOTH[Channel.EMAIL]}
    assert rules.choose(kind, choice(notify_by=frozenset({"email", "sms"})), roles) == BOTH


@pytest.mark.parametrize("kind", STAFF_KINDS)
def test_staff_who_did_not_choose_it_are_not_told(kind: DeliveryKind) -> None:
    """R-NOT-1."""
    rule = rules.STAFF_RULES[kind]
    others = frozenset({"new_case", "case_assigned", "resident_wrote"} - {rule.choice})
    not_wanted = NotTold(DeliveryState.NOT_WANTED, "not_chosen")
    assert rules.choose(kind, choice(tell_me_about=others), [rule.role]) == not_wanted
    assert rules.choose(kind, choice(notify_by=frozenset()), [rule.role]) == not_wanted


@pytest.mark.parametrize("kind", STAFF_KINDS)
@pytest.mark.parametrize("held", [[], [Role.LOCAL_ADMIN, Role.LOG_REVIEWER]])
def test_staff_whose_right_is_gone_are_not_told(kind: DeliveryKind, held: list[Role]) -> None:
    """R-NOT-5."""
    assert rules.choose(kind, choice(), held) == NotTold(DeliveryState.WITHDRAWN, "right_gone")


def test_a_resident_needs_no_role_and_chooses_only_the_means() -> None:
    """R-NOT-3."""
    assert rules.choose(DeliveryKind.INBOX, choice(tell_me_about=frozenset()), []) == {Channel.SMS: BOTH[Channel.SMS]}
    assert rules.choose(DeliveryKind.INBOX, choice(notify_by=frozenset()), []) == NotTold(
        DeliveryState.NOT_WANTED, "not_chosen"
    )


@pytest.mark.parametrize("kind", list(DeliveryKind))
def test_nobody_inactive_or_unknown_is_told(kind: DeliveryKind) -> None:
    """R-NOT-4."""
    roles = list(Role)
    assert rules.choose(kind, choice(active=False), roles) == NotTold(DeliveryState.WITHDRAWN, "inactive")
    assert rules.choose(kind, None, roles) == NotTold(DeliveryState.WITHDRAWN, "unknown_person")


def test_a_chosen_means_without_an_address_is_a_visible_failure() -> None:
    assert rules.choose(DeliveryKind.INBOX, choice(addresses={}), []) == NotTold(DeliveryState.FAILED, "no_address")
    only_mail = {Channel.EMAIL: BOTH[Channel.EMAIL]}
    assert rules.choose(DeliveryKind.INBOX, choice(notify_by=frozenset({"sms", "email"}), addresses=only_mail), []) == (
        only_mail
    )


RETRIED = [failure for failure in rules.Failure if failure is not rules.Failure.PERMANENT]


def test_a_permanent_failure_ends_at_once() -> None:
    """R-NOT-7."""
    assert rules.next_pause(rules.Failure.PERMANENT, 1, 0.0) is None


@pytest.mark.parametrize("failure", RETRIED)
def test_the_first_retry_is_at_once_and_the_pauses_grow_to_an_end(failure: rules.Failure) -> None:
    """R-NOT-7."""
    pauses = [rules.next_pause(failure, attempt, 0.0) for attempt in range(1, len(rules.PAUSES[failure]) + 2)]
    assert pauses[0] == timedelta(0)
    assert pauses[-1] is None
    grown = [pause for pause in pauses if pause is not None]
    assert grown == sorted(set(grown))


TRIED_AGAIN = [(failure, attempt) for failure in RETRIED for attempt in range(1, len(rules.PAUSES[failure]) + 1)]


@given(st.sampled_from(TRIED_AGAIN), st.floats(0, 1), st.integers(0, 10**6))
def test_jitter_only_lengthens_a_little_and_a_providers_wish_is_heeded_up_to_an_hour(
    tried: tuple[rules.Failure, int], chance: float, asked: int
) -> None:
    """R-NOT-7."""
    failure, attempt = tried
    plain = rules.PAUSES[failure][attempt - 1]
    pause = rules.next_pause(failure, attempt, chance)
    assert pause is not None
    assert plain <= pause <= plain * (1 + rules.JITTER)
    wished = rules.next_pause(failure, attempt, chance, timedelta(seconds=asked))
    assert wished == max(pause, min(timedelta(seconds=asked), timedelta(hours=1)))


def test_the_reminder_of_a_counter_question_is_told_to_the_resident_as_any_message() -> None:
    """R-NOT-3: the same kind, and so the same text."""
    body = cases.AnswerReminderEvent(
        case=uuid4(), message=uuid4(), clinic=CLINIC, resident=uuid4(), answer_before=datetime(2026, 3, 31, tzinfo=UTC)
    )
    assert told(cases.ANSWER_REMINDER, body) == [(Told.RESIDENT, DeliveryKind.INBOX)]
