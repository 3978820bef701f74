"""What administrators and operators see and do: whose addresses there are, test messages, statistics, old records."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from services.notifications import clinic_settings, former_staff, listing, resealing, rules, statistics
from services.notifications.channels.outcome import NotAccepted
from shared.contracts import cases, identity
from shared.contracts.base import Role
from shared.contracts.notifications import (
    ClinicSettings,
    DeliveryStatistics,
    GetClinicSettings,
    ListClinicDeliveries,
    ResendDelivery,
    ResendFailed,
    SendTestMessage,
    SetClinicSettings,
)
from shared.messaging.errors import Forbidden, Invalid, LimitExceeded, NotFound
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from tests.integration.notifications_support import World, only_delivery

OPERATOR = Caller("operator")
OTHER_CLINIC = "SE2321000131-E000000009999"


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


def settle(world: World, *new_case: str, reminder: tuple[str, ...] = ()) -> ClinicSettings:
    request = SetClinicSettings(
        request_id=uuid4(), clinic=world.clinic, new_case_addresses=list(new_case), reminder_addresses=list(reminder)
    )
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        return clinic_settings.set_settings(tx, request)


def held(world: World, person: str, *roles: Role) -> None:
    """These are the person's roles at the clinic now; heard as the service hears it."""
    world.give(person, *roles)
    change = identity.RightsChanged(number=0, subject=person, version=0, roles=world.staff[person].roles)
    with world.database.transaction() as tx:
        former_staff.note_staff(tx, change)


def test_a_clinic_sees_which_of_its_addresses_belong_to_someone_whose_right_has_gone(world: World) -> None:
    """R-ID-10, R-NOT-5: they stay, and get mail, until they are removed."""
    settings = settle(world, "Anna@vgregion.example", reminder=("bo@vgregion.example", "box@vgregion.example"))
    anna, bo = world.person(email="anna@vgregion.example"), world.person(email="bo@vgregion.example")
    for person in (anna, bo):
        held(world, person, Role.CASE_HANDLER)
    held(world, bo)
    asked = GetClinicSettings(clinic=world.clinic)
    with world.database.transaction() as tx:
        assert former_staff.former_staff(tx, asked) == [bo]
        assert former_staff.former_staff(tx, GetClinicSettings(clinic=OTHER_CLINIC)) == []
    assert former_staff.of_former_staff(settings, [world.staff[bo]]) == ["bo@vgregion.example"]
    held(world, bo, Role.LOCAL_ADMIN)
    with world.database.transaction() as tx:
        assert former_staff.former_staff(tx, asked) == []


def test_one_who_has_left_hsa_too_is_still_known_by_the_address_that_they_had(world: World) -> None:
    """R-ID-10, R-NOT-5: nothing personal is sent to them, but the clinic's mail is."""
    settings = settle(world, "Bo@vgregion.example", "box@vgregion.example")
    bo = world.person(email="bo@vgregion.example")
    gone = world.staff[bo].model_copy(update={"email": None, "mobile": None})
    assert former_staff.of_former_staff(settings, [gone]) == ["Bo@vgregion.example"]


def forget(world: World, after: timedelta = timedelta()) -> int:
    with world.database.transaction() as tx:
        now = tx.now + after
    run = SimpleNamespace(now=now, transaction=world.database.transaction, stopping=threading.Event(), ask=world.ask)
    return former_staff.forget(run)


def test_who_left_is_forgotten_unless_the_clinic_still_has_their_address(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-10: its administrators are told of it for as long as it gets mail."""
    monkeypatch.setattr(identity, "MANY", 2)  # in several lots
    settle(world, "bo@vgregion.example")
    stays, back, bo, *others = (
        world.person(email=f"{name}@vgregion.example") for name in ("anna", "carl", "bo", "david", "eva", "filip")
    )
    everyone = [stays, back, bo, *others]
    for person in everyone:
        held(world, person, Role.CASE_HANDLER)
    for person in (back, bo, *others):
        held(world, person)

    def known() -> set[str]:
        return {person for (person,) in world.rows("SELECT person FROM clinic_staff")}

    assert forget(world) == 0
    held(world, back, Role.CASE_RECEIVER)
    long_after = rules.FORMER_STAFF_IS_KEPT + timedelta(minutes=1)
    assert forget(world, rules.FORMER_STAFF_IS_KEPT - timedelta(minutes=1)) == 0
    assert known() == set(everyone)
    assert forget(world, long_after) == len(others)
    assert known() == {stays, back, bo}
    settle(world, "box@vgregion.example")
    assert forget(world, long_after) == 1
    assert known() == {stays, back}
    held(world, back)
    assert forget(world, long_after) == 0, "they have just left"


def read(world: World) -> ClinicSettings:
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        return clinic_settings.get_settings(tx, GetClinicSettings(clinic=world.clinic))


def test_an_address_that_can_not_be_read_hides_no_other(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """R-NOT-2: it is counted, told in the log, and readable again when it is entered again."""
    settle(world, "a@vgregion.example", "b@vgregion.example", reminder=("c@vgregion.example",))
    world.hear(cases.CASE_STARTED, world.case_started())
    world.rows("UPDATE clinic_addresses SET address = 'lost' WHERE position = 0 AND purpose = 'new_case'")
    shown = read(world)
    assert (shown.new_case_addresses, shown.unreadable) == (["b@vgregion.example"], 1)
    assert shown.reminder_addresses == ["c@vgregion.example"]
    assert "address_unreadable" in capsys.readouterr().out
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        listed = listing.list_clinic_deliveries(tx, ListClinicDeliveries(clinic=world.clinic)).deliveries
    assert sorted(str(one.address) for one in listed) == ["None", "b@vgregion.example"]
    again = settle(world, "a@vgregion.example", "b@vgregion.example")
    assert (again.new_case_addresses, again.unreadable) == (["a@vgregion.example", "b@vgregion.example"], 0)
    world.send()
    assert world.email.addresses == ["a@vgregion.example", "b@vgregion.example"]


def test_r_sys_2_after_a_change_of_keys_the_addresses_are_sealed_with_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-SYS-2: so that the old one can go out of the ring; what does not open is left as it is, and told."""
    monkeypatch.setattr(resealing, "AT_ONCE", 2)  # in several lots
    told = [f"brevlada{number}@vgregion.example" for number in range(5)]
    settle(world, *told)
    world.rows("UPDATE clinic_addresses SET address = 'lost' WHERE position = 4")
    both = World(world.url, Sealer("new", {"test": b"k" * 32, "new": b"n" * 32}))
    alone = World(world.url, Sealer("new", {"new": b"n" * 32}))
    both.clinic = alone.clinic = world.clinic

    def reseal() -> int:
        run = SimpleNamespace(transaction=both.database.transaction, stopping=threading.Event())
        return resealing.reseal_all(run)

    assert read(alone).unreadable == 5
    capsys.readouterr()
    assert reseal() == 4
    assert "address_unreadable" in capsys.readouterr().out
    assert reseal() == 0, "nothing has changed"
    assert (read(alone).new_case_addresses, read(alone).unreadable) == (told[:4], 1)
    for one in (both, alone):
        one.database.dispose()


# --- test messages --------------------------------------------------------------------------------------------------


def send_test(world: World, address: str, *roles: Role, clinic: str | None = None) -> Any:
    request = SendTestMessage(request_id=uuid4(), clinic=clinic or world.clinic, address=address)
    with world.database.transaction(world.caller(*roles)) as tx:
        return clinic_settings.send_test(tx, request).delivery


def test_an_administrator_sends_a_test_message_to_an_address_of_the_clinics(world: World) -> None:
    settle(world, "a@vgregion.example", "b@vgregion.example")
    delivery = send_test(world, " A@vgregion.example", Role.LOCAL_ADMIN)
    world.send()
    [(address, words)] = world.email.sent
    assert address == "a@vgregion.example"
    assert words.subject == "Testmeddelande till Björkskogens vårdcentral"
    assert world.rows("SELECT delivery, state FROM deliveries") == [(delivery, "sent")]


def test_a_test_message_goes_nowhere_else(world: World) -> None:
    """R-SYS-1: neither to any address, nor from anyone, nor without end."""
    settle(world, "a@vgregion.example")
    with pytest.raises(NotFound):
        send_test(world, "annan@vgregion.example", Role.LOCAL_ADMIN)
    with pytest.raises(Invalid):
        send_test(world, "a@vgregion.example\nBcc: b@x.se", Role.LOCAL_ADMIN)
    with pytest.raises(Forbidden):
        send_test(world, "a@vgregion.example", Role.CASE_RECEIVER)
    with pytest.raises(Forbidden):
        send_test(world, "a@vgregion.example", Role.LOCAL_ADMIN, clinic=OTHER_CLINIC)
    for _ in range(rules.TEST_MESSAGES_AN_HOUR):
        send_test(world, "a@vgregion.example", Role.LOCAL_ADMIN)
    with pytest.raises(LimitExceeded):
        send_test(world, "a@vgregion.example", Role.LOCAL_ADMIN)


def test_two_test_messages_at_one_moment_do_not_both_pass_the_limit(world: World) -> None:
    """R-SYS-1: the second waits for the first, and counts it."""
    settle(world, "a@vgregion.example")
    for _ in range(rules.TEST_MESSAGES_AN_HOUR - 1):
        send_test(world, "a@vgregion.example", Role.LOCAL_ADMIN)
    request = SendTestMessage(request_id=uuid4(), clinic=world.clinic, address="a@vgregion.example")
    with ThreadPoolExecutor(1) as other:
        with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
            clinic_settings.send_test(tx, request)
            second = other.submit(send_test, world, "a@vgregion.example", Role.LOCAL_ADMIN)
            with pytest.raises(TimeoutError):
                second.result(0.5)
        with pytest.raises(LimitExceeded):
            second.result(10)


# --- statistics, sending again after an outage, old records ---------------------------------------------------------


def a_day(world: World, **changes: Any) -> DeliveryStatistics:
    with world.database.transaction() as tx:
        span = {"since": tx.now - timedelta(hours=1), "until": tx.now + timedelta(hours=1)}
    return DeliveryStatistics(**span | changes)


def some_deliveries(world: World) -> None:
    settle(world, "a@vgregion.example", "b@vgregion.example")
    world.email.script = [NotAccepted("smtp_mail_552", permanent=True)]
    world.hear(cases.CASE_STARTED, world.case_started())
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("sms"), "staff"))
    world.send()


def test_statistics_say_how_many_and_how_soon(world: World) -> None:
    some_deliveries(world)
    with world.database.transaction(OPERATOR) as tx:
        everything = statistics.statistics(tx, a_day(world)).counts
    assert [(one.kind, one.channel, one.state, one.count) for one in everything] == [
        ("clinic_new_case", "email", "failed", 1),
        ("clinic_new_case", "email", "sent", 1),
        ("inbox", "sms", "sent", 1),
    ]
    assert everything[0].median_seconds is None
    assert 0 <= everything[1].median_seconds <= everything[1].p99_seconds < 60  # type: ignore[operator]
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        own = statistics.statistics(tx, a_day(world, clinic=world.clinic)).counts
    assert {one.kind for one in own} == {"clinic_new_case"}


def test_statistics_are_for_administrators_of_the_clinic_and_for_a_month_at_most(world: World) -> None:
    """R-SYS-1."""
    for caller, clinic in (
        (world.caller(Role.LOCAL_ADMIN), None),
        (world.caller(Role.LOCAL_ADMIN), OTHER_CLINIC),
        (world.caller(Role.CASE_RECEIVER), world.clinic),
    ):
        with world.database.transaction(caller) as tx, pytest.raises(Forbidden):
            statistics.statistics(tx, a_day(world, clinic=clinic))
    request = a_day(world)
    for since in (request.until, request.until - timedelta(days=32)):
        with world.database.transaction(OPERATOR) as tx, pytest.raises(Invalid):
            statistics.statistics(tx, request.model_copy(update={"since": since}))


def test_after_an_outage_all_that_failed_is_sent_again_at_once_and_nothing_that_is_uncertain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-NOT-7."""
    monkeypatch.setattr(listing, "_MOST_AT_ONCE", 2)
    for _ in range(4):
        world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.email.script = [NotAccepted("smtp_mail_552", permanent=True)] * 4
    world.send()
    world.rows("UPDATE deliveries SET state = 'uncertain' WHERE ctid = (SELECT min(ctid) FROM deliveries)")
    span = a_day(world)
    request = ResendFailed(request_id=uuid4(), since=span.since, until=span.until)
    with world.database.transaction(OPERATOR) as tx:
        first = listing.resend_failed(tx, request)
    with world.database.transaction(OPERATOR) as tx:
        second = listing.resend_failed(tx, request)
    assert [(one.count, one.more) for one in (first, second)] == [(2, True), (1, False)]
    world.send()
    assert len(world.email.sent) == 3
    assert world.rows("SELECT count(*) FROM deliveries WHERE state = 'uncertain'") == [(1,)]


def test_no_more_are_sent_again_at_once_than_so_many_whatever_the_database_believes_of_how_many_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-NOT-7: statistics of a table of one row let a plan run a subquery of the statement for each row that there is;
    it took more than two, and said that there were no more."""
    monkeypatch.setattr(listing, "_MOST_AT_ONCE", 2)
    for number in range(6):
        world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
        if number == 0:
            world.rows("UPDATE deliveries SET state = 'failed', ended_at = now()")
            world.rows("ANALYZE deliveries")
    world.rows("UPDATE deliveries SET state = 'failed', ended_at = now()")
    span = a_day(world)
    request = ResendFailed(request_id=uuid4(), since=span.since, until=span.until)
    with world.database.transaction(OPERATOR) as tx:
        first = listing.resend_failed(tx, request)
    assert (first.count, first.more) == (2, True)
    assert world.rows("SELECT count(*) FROM deliveries WHERE state = 'waiting'") == [(2,)]


def test_records_are_removed_when_they_have_been_kept_long_enough(world: World) -> None:
    some_deliveries(world)
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("sms"), "staff"))
    world.rows("UPDATE deliveries SET ended_at = ended_at - interval '90 days 1 minute' WHERE state = 'sent'")
    with world.database.transaction() as tx:
        now = tx.now
    run = SimpleNamespace(now=now, transaction=world.database.transaction, stopping=threading.Event())
    assert statistics.forget_old(run) == 2
    assert sorted(state for _, state, _ in world.states()) == ["failed", "waiting"]


def test_r_sys_5_what_is_sent_again_while_old_records_are_removed_is_kept_and_sent(world: World) -> None:
    """R-SYS-5, R-NOT-7: whoever sent it again has been told that it is done."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.rows("UPDATE deliveries SET state = 'failed', ended_at = now() - interval '90 days 1 minute'")
    with ThreadPoolExecutor(1) as other:
        with world.database.transaction(OPERATOR) as tx:
            run = SimpleNamespace(now=tx.now, transaction=world.database.transaction, stopping=threading.Event())
            listing.resend(tx, ResendDelivery(request_id=uuid4(), delivery=only_delivery(world)))
            removing = other.submit(statistics.forget_old, run)
            wait([removing], timeout=1)  # one that waits for the row sees what became of it
        assert removing.result(10) == 0
    world.send()
    assert (world.states(), len(world.email.sent)) == ([("resident", "sent", None)], 1)
