"""What changes while a sender has a delivery in its hands, or while it is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.notifications import addressing, delivering, queueing, reports, sending
from services.notifications.channels.outcome import NotAccepted
from shared.contracts import cases, identity
from shared.contracts.base import Role
from tests.integration.notifications_support import FakeChannel, World, tell_resident

DOWN = NotAccepted("smtp_connection", provider_down=True)
LATER = NotAccepted("smtp_recipient_451")


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


def meanwhile(world: World, happens: Callable[[], object]) -> None:
    """The next time that a sender asks, this happens before it goes on with the answer."""
    ask = world.ask

    def asked(call: Any, request: Any, timeout: float = 5.0) -> Any:
        found = ask(call, request, timeout)
        world.ask = ask  # type: ignore[method-assign]
        happens()
        return found

    world.ask = asked  # type: ignore[method-assign]


def becomes_inactive(world: World, resident: UUID) -> None:
    with world.database.transaction() as tx:
        queueing.withdraw_residents(tx, resident)


def is_taken_over(world: World) -> None:
    """As if this sender's machine had stood still for longer than its lease."""
    world.end_leases()
    world.sweep()
    world.send()


def tell_child(world: World, *guardians: identity.GuardianContact) -> UUID:
    child = world.child(*guardians)
    world.hear(cases.MESSAGE_SENT, world.message(child, "staff"))
    return child


def two_at_home(world: World) -> tuple[UUID, list[identity.GuardianContact]]:
    """A child with two guardians who have one address, told."""
    guardians = [world.guardian("email", email="hemma@example.se") for _ in range(2)]
    return tell_child(world, *guardians), guardians


def messages(world: World) -> list[str]:
    return [*world.sms.addresses, *world.email.addresses]


def again(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.make_due()
        world.send()


def bounces(world: World) -> set[str]:
    """Who learns that they could not be reached."""
    rows = world.rows("SELECT payload::json->>'person' FROM outbox WHERE type = 'address_bounced'")
    return {person for (person,) in rows}


# --- in a sender's hands --------------------------------------------------------------------------------------------


def test_who_becomes_inactive_while_their_choices_are_asked_for_is_told_by_no_channel(world: World) -> None:
    """R-NOT-4: neither by the channel that was queued nor by the second one, of which there was no delivery yet."""
    resident = tell_resident(world, "sms", "email")
    meanwhile(world, lambda: becomes_inactive(world, resident))
    world.send()
    assert messages(world) == []


def test_no_guardian_is_told_of_a_child_that_becomes_inactive_while_choices_are_asked_for(world: World) -> None:
    """R-NOT-4, R-NOT-8."""
    child = tell_child(world, world.guardian("sms"))
    meanwhile(world, lambda: becomes_inactive(world, child))
    world.send()
    assert messages(world) == []


def test_who_becomes_inactive_just_when_a_guardian_s_delivery_is_made_stops_that_too(world: World) -> None:
    """R-NOT-4, R-NOT-8: it waits for the sender that is at it, and sees what that has made."""
    child = tell_child(world, world.guardian("sms"))
    with world.database.transaction() as tx:
        claimed = delivering.claim(tx, uuid4(), 10, timedelta(seconds=60))
    choices = addressing.choices_from(world.ask(identity.CONTACTS, identity.Contacts(residents=[child], staff=[])))
    with ThreadPoolExecutor(1) as other, world.database.transaction() as tx:
        [made] = addressing.address(tx, claimed, choices, timedelta(seconds=60))
        withdrawing = other.submit(becomes_inactive, world, child)
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not world.rows(waits) and not withdrawing.done():
            time.sleep(0.01)
    withdrawing.result()
    states = world.rows("SELECT state FROM deliveries WHERE delivery = %s", made.claimed.delivery)
    assert states == [("withdrawn",)]


def test_one_who_is_withdrawn_takes_no_address_s_place(world: World) -> None:
    """R-NOT-6."""
    resident = tell_resident(world, "email")
    meanwhile(world, lambda: becomes_inactive(world, resident))
    world.send()
    assert world.rows("SELECT state, address_hash FROM deliveries") == [("withdrawn", None)]


def test_a_sender_that_stood_still_tells_no_guardian_whom_another_has_told(world: World) -> None:
    """R-NOT-7, R-NOT-8: also where the guardian has changed channel meanwhile."""
    anna = world.guardian("sms")
    child = tell_child(world, anna)

    def passes() -> None:
        world.guardians(child, anna.model_copy(update={"notify_by": ["email"]}))
        is_taken_over(world)

    meanwhile(world, passes)
    world.sender().round()
    assert messages(world) == [anna.email]


def test_a_sender_that_stood_still_changes_nothing_of_what_another_has_sent(world: World) -> None:
    """R-NOT-6: the place stays that of the address to which it went."""
    resident = tell_resident(world, "email")
    where = "SELECT state, address_hash, contact_version FROM deliveries"
    sent: list[Any] = []

    def passes() -> None:
        moved = {"email": "ny@example.se", "version": 7}
        world.residents[resident] = world.residents[resident].model_copy(update=moved)
        is_taken_over(world)
        sent.extend(world.rows(where))

    meanwhile(world, passes)
    world.sender().round()
    assert (messages(world), world.rows(where)) == (["ny@example.se"], sent)


def test_who_loses_the_right_while_the_first_provider_hangs_is_told_by_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-NOT-5: what identity said is too old then."""
    monkeypatch.setattr(sending, "CHOICES_ARE_FRESH_SECONDS", 0.2)
    world.second_sms = FakeChannel()
    person = world.person(Role.CASE_HANDLER, notify_by=("sms",))
    assigned = cases.CaseAssignedEvent(case=uuid4(), clinic=world.clinic, resident=uuid4(), handler=person, version=1)
    world.hear(cases.CASE_ASSIGNED, assigned)

    def hangs(address: str) -> NotAccepted:
        time.sleep(0.3)
        world.give(person)
        return DOWN

    world.sms.prepare = hangs  # type: ignore[method-assign]
    world.send()
    assert world.second_sms.sent == []
    assert [state for _, state, _ in world.states()] == ["withdrawn"]


def test_a_provider_that_is_slower_than_choices_are_fresh_gets_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-NOT-4: it counts as an attempt at a provider that is down, so that it ends some time (R-NOT-7)."""
    monkeypatch.setattr(sending, "CHOICES_ARE_FRESH_SECONDS", 2.0)
    tell_resident(world, "email")
    world.email.prepare = lambda letter: time.sleep(2.1)  # type: ignore[method-assign]
    world.sender().round()
    assert messages(world) == []
    assert world.states() == [("resident", "waiting", "provider_too_slow")]
    assert world.rows("SELECT attempts FROM deliveries") == [(1,)]


# --- tried again ----------------------------------------------------------------------------------------------------


def test_a_guardian_who_was_told_is_not_told_anew_when_another_s_message_fails(world: World) -> None:
    """R-NOT-6, R-NOT-8: not by the channel either that they have chosen since."""
    anna, bo = world.guardian("sms"), world.guardian("email")
    child = tell_child(world, anna, bo)
    world.email.refuse = LATER
    world.send()
    world.guardians(child, anna.model_copy(update={"notify_by": ["email"]}), bo)
    world.email.refuse = None
    world.email.prepare = lambda letter: (  # type: ignore[method-assign]
        NotAccepted("smtp_recipient_550", permanent=True) if letter.address == bo.email else None
    )
    again(world, 2)
    assert messages(world) == [anna.mobile]


def test_who_stood_back_for_a_message_that_no_provider_took_for_a_day_gets_their_turn(world: World) -> None:
    """R-NOT-6, R-NOT-7."""
    two_at_home(world)
    world.email.refuse = DOWN
    world.send()
    world.rows("UPDATE deliveries SET unasked_since = created_at - interval '2 days'")
    world.make_due()
    with world.database.transaction() as tx:
        for one in delivering.claim(tx, uuid4(), 10, timedelta(seconds=60)):
            delivering.put_off(tx, one, "no_provider", timedelta(seconds=1))
    world.email.refuse = None
    world.send()
    assert messages(world) == ["hemma@example.se"]


def test_who_stood_back_for_an_address_that_is_given_up_gets_their_turn(world: World) -> None:
    """R-NOT-6: of two with one address, one of whom moves while it is tried again, both are told."""
    child, both = two_at_home(world)
    world.email.refuse = DOWN
    world.send()
    [(first,)] = world.rows("SELECT recipient FROM deliveries WHERE state = 'waiting' AND about IS NOT NULL")
    moved = [one.model_copy(update={"email": "ny@example.se"}) if str(one.guardian) == first else one for one in both]
    world.guardians(child, *moved)
    world.email.refuse = None
    again(world, 2)
    assert sorted(messages(world)) == ["hemma@example.se", "ny@example.se"]


def test_who_changes_channel_there_and_back_while_it_is_tried_again_is_told(world: World) -> None:
    """R-NOT-7: by the one that they have chosen last, once."""
    resident = tell_resident(world, "sms")

    def chooses(channel: str) -> None:
        world.residents[resident] = world.residents[resident].model_copy(update={"notify_by": [channel]})

    world.sms.refuse = world.email.refuse = LATER
    world.send()
    chooses("email")
    again(world)
    chooses("sms")
    world.sms.refuse = world.email.refuse = None
    again(world, 2)
    assert messages(world) == [world.residents[resident].mobile]


# --- one message for several ----------------------------------------------------------------------------------------


def test_everyone_whose_address_it_is_learns_that_a_mail_came_back(world: World) -> None:
    """R-NOT-6: one mail was sent for both guardians, and both have the address."""
    _, both = two_at_home(world)
    world.send()
    [(sent,)] = world.rows("SELECT delivery FROM deliveries WHERE state = 'sent'")
    with world.database.transaction() as tx:
        reports.take(tx, f"{sent}.0", "undelivered")
    assert messages(world) == ["hemma@example.se"]
    assert bounces(world) == {str(one.guardian) for one in both}


def test_who_has_the_address_no_longer_learns_nothing_of_it(world: World) -> None:
    """R-NOT-6: who stood back once and was told elsewhere since has no part in what comes back."""
    child, both = two_at_home(world)
    world.email.refuse = DOWN
    world.send()
    [(first,)] = world.rows("SELECT recipient FROM deliveries WHERE state = 'waiting' AND about IS NOT NULL")
    becomes_inactive(world, UUID(first))
    other = next(one for one in both if str(one.guardian) != first)
    world.guardians(child, other.model_copy(update={"email": "ny@example.se"}))
    world.email.refuse = None
    again(world, 2)
    [(sent,)] = world.rows("SELECT delivery FROM deliveries WHERE state = 'sent'")
    with world.database.transaction() as tx:
        reports.take(tx, f"{sent}.0", "undelivered")
    assert bounces(world) == {str(other.guardian)}


def test_a_message_that_arrived_whatever_the_provider_answered_is_not_sent_to_the_other_owner_too(
    world: World,
) -> None:
    """R-NOT-6, R-NOT-7: the report was here before the refusal."""
    number = "+46701740605"
    tell_child(world, *[world.guardian("sms", mobile=number) for _ in range(2)])

    def reported() -> None:
        world.sms.during = lambda: None
        [(sending,)] = world.rows("SELECT delivery FROM deliveries WHERE state = 'sending'")
        with world.database.transaction() as tx:
            reports.take(tx, f"{sending}.0", "delivered")

    world.sms.during = reported
    world.sms.script = [NotAccepted("sms_http_400", permanent=True)]
    world.send()
    assert world.sms.tried == 1
    assert [state for _, state, _ in world.states()].count("sent") == 1
