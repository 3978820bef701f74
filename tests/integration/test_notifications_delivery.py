"""Deliveries from the event to the provider, on a real database; the neighbours and the providers are in memory."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.notifications import clinic_settings, delivering, listing, pace, queueing, rules
from services.notifications.channels.outcome import Accepted, NotAccepted, Unknown
from services.notifications.sending import Provider
from shared.contracts import cases, identity
from shared.contracts.base import Role
from shared.contracts.notifications import (
    Channel,
    DeliveryState,
    GetClinicSettings,
    ListClinicDeliveries,
    ListDeliveries,
    OverlappingAddresses,
    ResendDelivery,
    SetClinicSettings,
)
from shared.database import migrate
from shared.messaging.errors import Conflict, Forbidden, Internal, Invalid, NotFound, Unavailable
from shared.security.caller import Caller
from tests.integration.notifications_support import DyingProcess, FailingDatabase, FakeChannel, Killed, World

RESIDENT_TEXT = "Du har ett meddelande i e-tjänsterna på 1177. Meddelandet finns i inkorgen när du loggat in på 1177."
LATER = NotAccepted("smtp_mail_451")


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


def set_addresses(world: World, *new_case: str) -> None:
    request = SetClinicSettings(request_id=uuid4(), clinic=world.clinic, new_case_addresses=list(new_case))
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        clinic_settings.set_settings(tx, request)


def tell_resident(world: World, *notify_by: str) -> UUID:
    resident = world.resident(*notify_by)
    world.hear(cases.MESSAGE_SENT, world.message(resident, "staff"))
    return resident


def resend(world: World, delivery: UUID, caller: Caller | None = None) -> None:
    with world.database.transaction(caller or Caller("operator")) as tx:
        listing.resend(tx, ResendDelivery(request_id=uuid4(), delivery=delivery))


def only_delivery(world: World) -> UUID:
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    return UUID(str(delivery))


def test_the_migration_makes_what_the_tables_say(notifications_database: str) -> None:
    assert migrate.differences("notifications", notifications_database) == []


# --- who is told ----------------------------------------------------------------------------------------------------


def test_a_new_case_reaches_the_clinics_addresses_and_the_receivers_who_chose_it(world: World) -> None:
    """R-NOT-1, R-NOT-2."""
    set_addresses(world, "brevlada@vgregion.example")
    chose = world.person(Role.CASE_RECEIVER)
    world.person(Role.CASE_RECEIVER, about=("case_assigned",))
    world.person(Role.CASE_HANDLER)
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert world.email.addresses == sorted(["brevlada@vgregion.example", str(world.staff[chose].email)])
    assert all("Björkskogens vårdcentral" in words.text for _, words in world.email.sent)
    assert [state for _, state, _ in world.states()].count("not_wanted") == 1


def test_a_handler_is_told_of_a_case_and_of_what_the_resident_writes(world: World) -> None:
    """R-NOT-1."""
    handler = world.person(Role.CASE_HANDLER, notify_by=("sms",), mobile="070-174 06 07")
    event = cases.CaseAssignedEvent(
        case=uuid4(), clinic=world.clinic, resident=uuid4(), handler=handler, version=2, assigned_by=world.person()
    )
    world.hear(cases.CASE_ASSIGNED, event)
    world.hear(cases.CASE_ASSIGNED, event.model_copy(update={"version": 3, "assigned_by": handler}))
    world.hear(cases.MESSAGE_SENT, world.message(uuid4(), "resident", handler))
    world.send()
    assert world.sms.addresses == ["+46701740607"] * 2


def test_a_resident_gets_the_exact_text(world: World) -> None:
    """R-NOT-3."""
    tell_resident(world, "sms")
    world.send()
    assert [words.text for _, words in world.sms.sent] == [RESIDENT_TEXT]
    assert world.email.sent == []


def test_both_means_are_two_deliveries_and_each_arrives_once(world: World) -> None:
    """R-NOT-1: or both."""
    tell_resident(world, "sms", "email")
    world.send()
    assert (len(world.sms.sent), len(world.email.sent)) == (1, 1)
    assert world.send() == 0


def test_an_event_that_comes_twice_is_told_once(world: World) -> None:
    """R-NOT-7, R-SYS-5."""
    set_addresses(world, "brevlada@vgregion.example")
    world.person(Role.CASE_RECEIVER)
    event = world.case_started()
    world.hear(cases.CASE_STARTED, event)
    world.send()
    world.hear(cases.CASE_STARTED, event)
    world.send()
    assert len(world.email.sent) == 2


# --- one message for one address and event --------------------------------------------------------------------------


def test_the_same_address_in_two_places_gets_one_message(world: World) -> None:
    """R-NOT-6."""
    set_addresses(world, "Anna@vgregion.example")
    world.person(Role.CASE_RECEIVER, email="anna@VGREGION.example")
    world.person(Role.CASE_RECEIVER, email="anna@vgregion.example")
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert len(world.email.sent) == 1
    assert [state for _, state, _ in world.states()] == ["sent", "merged", "merged"]
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert len(world.email.sent) == 2


def test_one_who_stood_back_for_an_address_that_is_withdrawn_is_told_after_all(world: World) -> None:
    """R-NOT-5, R-NOT-6: the clinic removes its address while mail is down; the person's choice still stands."""
    set_addresses(world, "anna@vgregion.example")
    world.person(Role.CASE_RECEIVER, email="anna@vgregion.example")
    world.email.refuse = NotAccepted("smtp_connection", provider_down=True)
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    set_addresses(world)
    world.email.refuse = None
    world.make_due()
    world.send()
    assert sorted(world.states()) == [("clinic", "withdrawn", "address_removed"), ("staff", "sent", None)]
    assert world.email.addresses == ["anna@vgregion.example"]


# --- who is no longer told ------------------------------------------------------------------------------------------


def test_an_inactive_resident_gets_none_not_even_those_already_queued(world: World) -> None:
    """R-NOT-4."""
    resident = tell_resident(world, "sms")
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)] * 2
    world.send()
    world.residents[resident] = world.residents[resident].model_copy(update={"active": False})
    world.make_due()
    world.send()
    assert world.sms.sent == []
    assert world.states() == [("resident", "withdrawn", "inactive")]


def test_learning_that_a_resident_is_inactive_ends_what_is_queued_at_once(world: World) -> None:
    """R-NOT-4."""
    resident = tell_resident(world, "sms")
    other = tell_resident(world, "sms")
    with world.database.transaction() as tx:
        assert queueing.withdraw_residents(tx, resident) == 1
    world.send()
    assert len(world.sms.sent) == 1
    assert {str(row[0]) for row in world.rows("SELECT recipient FROM deliveries WHERE state = 'sent'")} == {str(other)}


def test_a_right_that_is_gone_ends_personal_notifications_but_not_the_clinics(world: World) -> None:
    """R-NOT-5, with the very same address."""
    set_addresses(world, "anna@vgregion.example")
    person = world.person(Role.CASE_RECEIVER, email="anna@vgregion.example")
    other = world.person(Role.CASE_RECEIVER)
    world.hear(cases.CASE_STARTED, world.case_started())
    world.give(person)
    world.give(other)
    world.send()
    assert world.email.addresses == ["anna@vgregion.example"]
    assert sorted(world.states()) == [
        ("clinic", "sent", None),
        ("staff", "withdrawn", "right_gone"),
        ("staff", "withdrawn", "right_gone"),
    ]


def test_whether_the_right_is_gone_is_what_identity_says_now(world: World) -> None:
    """R-NOT-5, R-ID-10: this service's copy of the rights may be late, in both directions."""
    gone, fresh, elsewhere = (world.person(Role.CASE_HANDLER) for _ in range(3))
    handler = identity.HeldRole(clinic=world.clinic, role=Role.CASE_HANDLER)
    other_clinic = identity.HeldRole(clinic="SE2321000131-E000000000099", role=Role.CASE_HANDLER)
    world.give(fresh)
    for person, roles in ((gone, []), (fresh, [handler]), (elsewhere, [other_clinic])):
        world.staff[person] = world.staff[person].model_copy(update={"roles": roles})
        world.hear(cases.MESSAGE_SENT, world.message(uuid4(), "resident", person))
    world.send()
    assert world.email.addresses == [str(world.staff[fresh].email)]
    assert sorted(reason or state for _, state, reason in world.states()) == ["right_gone", "right_gone", "sent"]


def test_who_changes_channel_while_it_is_retried_is_told_by_the_new_one(world: World) -> None:
    """R-NOT-1, R-NOT-7: not by the old one any more, and it is not lost."""
    resident = tell_resident(world, "sms")
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)] * 2
    world.send()
    world.residents[resident] = world.residents[resident].model_copy(update={"notify_by": ["email"]})
    world.make_due()
    world.send()
    assert (world.sms.sent, world.email.addresses) == ([], [world.residents[resident].email])
    assert sorted(world.states()) == [("resident", "sent", None), ("resident", "withdrawn", "no_longer_chosen")]
    assert world.send() == 0


def test_who_gives_up_the_one_of_two_channels_that_is_retried_is_not_told_twice_by_the_other(world: World) -> None:
    """R-NOT-7."""
    resident = tell_resident(world, "sms", "email")
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)] * 2
    world.send()
    world.residents[resident] = world.residents[resident].model_copy(update={"notify_by": ["email"]})
    world.make_due()
    world.send()
    assert (world.sms.sent, len(world.email.sent)) == ([], 1)
    assert sorted(world.states()) == [("resident", "sent", None), ("resident", "withdrawn", "no_longer_chosen")]


# --- each is sent once, none is lost --------------------------------------------------------------------------------


def test_a_failure_that_may_pass_is_tried_again_at_once_then_with_growing_pauses(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "email")
    world.email.script = [LATER, LATER]
    world.send()
    [(state, attempts, due, made)] = world.rows("SELECT state, attempts, due_at, created_at FROM deliveries")
    assert (state, attempts) == ("waiting", 2)
    assert (
        rules.PAUSES[LATER.failure][1]
        <= due - made
        <= rules.PAUSES[LATER.failure][1] * (1 + rules.JITTER) + timedelta(seconds=10)
    )
    world.make_due()
    world.send()
    assert len(world.email.sent) == 1
    assert world.states() == [("resident", "sent", None)]


def test_after_the_last_try_it_is_a_visible_failure_that_can_be_sent_again(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "email")
    world.email.script = [LATER] * (len(rules.PAUSES[LATER.failure]) + 1)
    for _ in range(len(rules.PAUSES[LATER.failure]) + 1):
        world.send()
        world.make_due()
    assert world.states() == [("resident", "failed", "smtp_mail_451")]
    assert world.email.script == []
    with world.database.transaction(Caller("operator")) as tx:
        [listed] = listing.list_deliveries(tx, ListDeliveries(state=DeliveryState.FAILED)).deliveries
    assert (listed.attempts, listed.reason) == (len(rules.PAUSES[LATER.failure]) + 1, "smtp_mail_451")
    resend(world, listed.delivery)
    world.send()
    assert len(world.email.sent) == 1


def test_a_permanent_failure_ends_at_once(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "email")
    world.email.script = [NotAccepted("smtp_recipient_550", permanent=True)]
    world.send()
    assert world.states() == [("resident", "failed", "smtp_recipient_550")]


def test_a_lost_answer_is_uncertain_and_not_sent_again_by_itself(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "email")
    world.email.script = [Unknown("smtp_no_answer")]
    world.send()
    world.rows("UPDATE deliveries SET due_at = created_at")
    assert world.send() == 0
    assert world.sweep().uncertain == 0
    assert world.states() == [("resident", "uncertain", "smtp_no_answer")]
    resend(world, only_delivery(world))
    world.send()
    assert len(world.email.sent) == 1


def test_a_crash_while_sending_leaves_an_uncertain_delivery_that_is_found(world: World) -> None:
    """R-NOT-7: the attempt is on record before the provider may have accepted."""
    tell_resident(world, "email")
    tell_resident(world, "email")

    process = DyingProcess(world.database)
    world.email.during = process.die
    with pytest.raises(Killed):
        world.sender(process=process).round()
    assert sorted(state for _, state, _ in world.states()) == ["claimed", "sending"]
    world.email.during = lambda: None
    assert world.send() == 0
    world.end_leases()
    swept = world.sweep()
    assert (swept.freed, swept.uncertain) == (1, 1)
    world.send()
    assert len(world.email.sent) == 1
    assert sorted(world.states(), key=str) == [("resident", "sent", None), ("resident", "uncertain", "interrupted")]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("at", range(1, 10))
def test_while_the_database_is_away_nothing_is_lost_or_late(world: World, at: int, committed: bool) -> None:
    """R-NOT-7: whichever write the outage hits, all is sent once as soon as it is over, and nothing is uncertain."""
    set_addresses(world, "brevlada@vgregion.example")
    world.hear(cases.CASE_STARTED, world.case_started())
    tell_resident(world, "email", "sms")
    database = FailingDatabase(world.database, at, committed=committed)
    sender = world.sender(process=database)
    with contextlib.suppress(Unavailable):
        while sender.round():
            pass
    assert database.went_away
    with contextlib.suppress(Unavailable):
        sender.round()  # it is still away
    database.back = True
    while sender.round():
        pass
    assert (len(world.email.sent), len(world.sms.sent)) == (2, 1)
    assert [state for _, state, _ in world.states()] == ["sent"] * 3


@pytest.mark.parametrize("at", range(1, 10))
def test_what_is_known_at_stop_is_written_before_the_end(world: World, at: int) -> None:
    """R-NOT-7: a sender that is told to stop while the database is away leaves nothing unsure that it knows."""
    set_addresses(world, "brevlada@vgregion.example")
    world.hear(cases.CASE_STARTED, world.case_started())
    tell_resident(world, "email")
    database = FailingDatabase(world.database, at, committed=False)
    sender = world.sender(process=database)
    with contextlib.suppress(Unavailable):
        while sender.round():
            pass
    comes_back = threading.Timer(0.3, setattr, (database, "back", True))
    comes_back.start()
    sender.close()
    comes_back.join()
    world.end_leases()
    assert world.sweep() == delivering.Swept(0, 0)
    assert sum(state == "sent" for _, state, _ in world.states()) == len(world.email.sent)


def test_a_lease_is_renewed_past_a_transaction_that_does_not_come_on(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "email")
    tell_resident(world, "email")
    mine = uuid4()
    with world.database.transaction() as tx:
        [first, second] = delivering.claim(tx, mine, 2, timedelta(seconds=2))
    with world.database.transaction() as stuck:
        stuck.execute(text("SELECT 1 FROM deliveries WHERE delivery = :it FOR UPDATE"), {"it": first.delivery})
        with world.database.transaction() as tx:
            delivering.renew(tx, [mine], timedelta(hours=1))
    leases = dict(world.rows("SELECT delivery, lease_until > now() + interval '1 minute' FROM deliveries"))
    assert (leases[first.delivery], leases[second.delivery]) == (False, True)


def test_a_sender_that_was_thought_dead_tells_how_it_went_after_all(world: World) -> None:
    """R-NOT-7: the sweep called it uncertain; the answer came late, and counts."""
    tell_resident(world, "email")

    def slow() -> None:
        world.end_leases()
        assert world.sweep().uncertain == 1

    world.email.during = slow
    world.send()
    assert world.states() == [("resident", "sent", None)]
    assert len(world.email.sent) == 1


def test_a_late_answer_does_not_touch_what_was_sent_again_by_hand(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "email")

    def slow() -> None:
        world.end_leases()
        world.sweep()
        resend(world, only_delivery(world))

    world.email.during = slow
    world.sender().round()
    assert world.states() == [("resident", "waiting", None)]


def test_a_sender_whose_lease_has_run_out_leaves_it_to_the_next(world: World) -> None:
    """R-NOT-7: nothing is begun by one who no longer holds it."""
    tell_resident(world, "email")
    world.sender(lease=timedelta(seconds=-1)).round()
    assert world.email.sent == []
    world.send()
    assert len(world.email.sent) == 1


def test_a_sender_that_lives_keeps_what_it_holds_however_slow_the_provider(world: World) -> None:
    """R-NOT-7: leases are short, and renewed."""
    tell_resident(world, "email")
    sender = world.sender()

    def slow() -> None:
        world.end_leases()
        with world.database.transaction() as tx:
            assert sender.holds is not None
            delivering.renew(tx, [sender.holds], timedelta(seconds=8))
        assert world.sweep() == delivering.Swept(0, 0)

    world.email.during = slow
    sender.round()
    assert world.states() == [("resident", "sent", None)]


def test_many_senders_side_by_side_send_each_once(world: World) -> None:
    """R-NOT-7."""
    set_addresses(world, *[f"brevlada{number}@vgregion.example" for number in range(20)])
    for _ in range(5):
        world.person(Role.CASE_RECEIVER, notify_by=("sms", "email"), email="delad@vgregion.example")
    events = [world.case_started() for _ in range(10)]
    for event in events:
        world.hear(cases.CASE_STARTED, event)

    def work() -> None:
        sender, quiet = world.sender(batch=7), 0
        while quiet < 3:
            quiet = 0 if sender.round() else quiet + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.send()
    # 20 clinic addresses, one shared mailbox of five people, one shared telephone
    assert len(world.email.sent) == 10 * 21
    assert len(world.sms.sent) == 10
    assert {state for _, state, _ in world.states()} == {"sent", "merged"}


def test_nothing_is_lost_while_identity_or_the_directory_is_away(world: World) -> None:
    """R-NOT-7: it waits, and no attempt is counted."""
    set_addresses(world, "brevlada@vgregion.example")
    world.person(Role.CASE_RECEIVER)
    tell_resident(world, "sms")
    world.hear(cases.CASE_STARTED, world.case_started())
    world.faults = {"contacts": Unavailable(), "get_clinics": Unavailable()}
    world.send()
    assert world.email.sent == world.sms.sent == []
    waiting = world.rows("SELECT DISTINCT state, attempts, reason FROM deliveries ORDER BY reason")
    assert waiting == [("waiting", 0, "directory_unavailable"), ("waiting", 0, "identity_unavailable")]
    world.faults = {"contacts": Unavailable()}
    world.make_due()
    world.send()
    assert world.email.addresses == ["brevlada@vgregion.example"]
    world.faults = {}
    world.make_due()
    world.send()
    assert (len(world.email.sent), len(world.sms.sent)) == (2, 1)


def test_a_kept_name_serves_while_the_directory_is_away(world: World) -> None:
    set_addresses(world, "brevlada@vgregion.example")
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    world.rows("UPDATE clinic_names SET asked_at = asked_at - interval '1 day'")
    world.faults = {"get_clinics": Unavailable()}
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert ["Björkskogens" in words.subject for _, words in world.email.sent] == [True, True]
    world.faults = {}
    world.names[world.clinic] = "Nya namnets vårdcentral"
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert "Nya namnets" in world.email.sent[-1][1].subject


def test_one_person_whom_identity_can_not_answer_for_does_not_hold_up_the_others(world: World) -> None:
    world.faults = {}
    bad = tell_resident(world, "sms")
    tell_resident(world, "sms")
    real = world.ask

    def ask(call, request, timeout=5.0):  # type: ignore[no-untyped-def]
        if call.name == "contacts" and bad in request.residents:
            raise Internal
        return real(call, request, timeout)

    world.ask = ask  # type: ignore[method-assign]
    world.send()
    assert len(world.sms.sent) == 1
    assert sorted(world.states()) == [("resident", "sent", None), ("resident", "waiting", "identity_internal")]


def test_a_provider_that_is_down_is_not_asked_for_each_one(world: World) -> None:
    """R-NOT-7: after three failures in a row the others wait without an attempt, and are not even taken in hand."""
    for _ in range(8):
        tell_resident(world, "email")
    world.email.refuse = NotAccepted("smtp_connection", provider_down=True)
    sender = world.sender()
    sender.round()
    assert world.email.tried == rules.CIRCUIT_OPENS_AFTER
    assert world.rows("SELECT state, attempts, reason, count(*) FROM deliveries GROUP BY 1, 2, 3 ORDER BY 2") == [
        ("waiting", 0, "no_provider", 5),
        ("waiting", 1, "smtp_connection", 3),
    ]
    world.rows("UPDATE deliveries SET due_at = created_at")
    assert sender.round() == 0


def test_a_mail_server_and_an_sms_provider_of_one_name_are_two(world: World) -> None:
    """R-NOT-7: nothing goes by the other's conversation."""
    providers = {
        Channel.EMAIL: [Provider("127.0.0.1", lambda: world.email)],
        Channel.SMS: [Provider("127.0.0.1", lambda: world.sms)],
    }
    world.providers = lambda: providers  # type: ignore[method-assign]
    tell_resident(world, "sms", "email")
    world.send()
    assert [address[0] for address in world.sms.addresses] == ["+"]
    assert ["@" in address for address in world.email.addresses] == [True]


def test_what_no_provider_could_be_asked_to_take_for_a_day_is_a_visible_failure(world: World) -> None:
    """R-NOT-7: and can be sent again, with another day."""
    for _ in range(4):
        tell_resident(world, "email")
    world.rows("UPDATE deliveries SET created_at = created_at - interval '25 hours'")
    world.email.refuse = NotAccepted("smtp_connection", provider_down=True)
    world.sender().round()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries WHERE state = 'failed' AND reason = 'no_provider'")
    resend(world, delivery)
    world.sender().round()
    assert world.rows("SELECT count(*) FROM deliveries WHERE state = 'failed'") == [(0,)]


def test_the_second_provider_takes_what_the_first_certainly_has_not(world: World) -> None:
    """R-NOT-7: refused as down by the first, asked again in the same attempt; never where its answer was lost."""
    world.second_sms = FakeChannel()
    for _ in range(3):
        tell_resident(world, "sms")
    world.sms.script = [
        NotAccepted("sms_http_503", provider_down=True),
        Unknown("sms_no_answer"),
        NotAccepted("sms_http_400", permanent=True),
    ]
    world.sender().round()
    assert (len(world.sms.sent), len(world.second_sms.sent)) == (0, 1)
    assert sorted(world.rows("SELECT state, provider, attempts FROM deliveries")) == [
        ("failed", "sms0.example", 1),
        ("sent", "sms1.example", 1),
        ("uncertain", "sms0.example", 1),
    ]


def test_what_was_taken_over_by_hand_while_the_first_said_no_is_not_sent_by_the_second(world: World) -> None:
    """R-NOT-7: the sweep called it uncertain, someone sent it again, and only then the first answered."""
    world.second_sms = FakeChannel()
    tell_resident(world, "sms")

    def slow() -> None:
        world.end_leases()
        world.sweep()
        resend(world, only_delivery(world))

    world.sms.during = slow
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)]
    world.sender().round()
    assert (len(world.sms.sent), len(world.second_sms.sent)) == (0, 0)
    world.sms.during = lambda: None
    world.send()
    assert len(world.sms.sent) == 1


def test_all_senders_together_keep_to_a_providers_pace(world: World) -> None:
    """No more a second than it takes; what would wait for long is put off, and counts no attempt."""
    turns: list[float | None] = []

    def take() -> None:
        for _ in range(8):
            with world.database.transaction() as tx:
                turns.append(pace.take_turn(tx, "sms.example", 10.0))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = sorted(turn for turn in turns if turn is not None)
    assert 10 <= len(taken) <= 13
    assert len(taken) + turns.count(None) == 24
    with world.database.transaction() as tx:
        assert pace.take_turn(tx, "other.example", 10.0) == 0.0


def test_who_stood_back_for_one_that_fails_for_good_gets_their_turn(world: World) -> None:
    """R-NOT-6, R-NOT-7: nobody has been told by it; and sent again by hand it does not become a second one."""
    set_addresses(world, "anna@vgregion.example")
    world.person(Role.CASE_RECEIVER, email="Anna@vgregion.example")
    world.hear(cases.CASE_STARTED, world.case_started())
    world.email.script = [NotAccepted("smtp_data_554", permanent=True)]
    world.send()
    assert sorted(world.states(), key=str) == [("clinic", "failed", "smtp_data_554"), ("staff", "sent", None)]
    [(failed,)] = world.rows("SELECT delivery FROM deliveries WHERE state = 'failed'")
    resend(world, failed)
    world.send()
    assert len(world.email.sent) == 1
    assert sorted(world.states(), key=str) == [("clinic", "merged", "same_address"), ("staff", "sent", None)]


def test_an_address_that_can_not_be_opened_is_a_visible_failure_and_holds_up_nobody(world: World) -> None:
    set_addresses(world, "a@vgregion.example", "b@vgregion.example")
    world.rows("UPDATE clinic_addresses SET address = 'lost' WHERE position = 0")
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert world.email.addresses == ["b@vgregion.example"]
    assert sorted(world.states(), key=str) == [("clinic", "failed", "address_unreadable"), ("clinic", "sent", None)]


def test_one_who_stood_back_and_changed_address_meanwhile_is_not_told_twice(world: World) -> None:
    """R-NOT-6: told by mail already, they can not be told by mail again because the address is new."""
    resident = tell_resident(world, "sms", "email")
    world.sms.refuse = NotAccepted("sms_http_503", provider_down=True)
    world.send()
    world.rows("UPDATE deliveries SET channel = NULL, address_hash = NULL WHERE channel = 'sms'")
    changed = {"notify_by": ["email"], "email": "ny@example.se"}
    world.residents[resident] = world.residents[resident].model_copy(update=changed)
    world.make_due()
    assert world.send() == 1
    assert len(world.email.sent) == 1
    assert sorted(state for _, state, _ in world.states()) == ["merged", "sent"]


def test_events_about_unknown_clinics_and_people_send_nothing(world: World) -> None:
    """R-NOT-4: nor does one that comes after the resident has become inactive."""
    elsewhere = "SE2321000131-E000000009999"
    world.hear(cases.CASE_STARTED, world.case_started().model_copy(update={"clinic": elsewhere}))
    world.hear(cases.MESSAGE_SENT, world.message(uuid4(), "staff"))
    world.hear(cases.MESSAGE_SENT, world.message(uuid4(), "resident", "SE2321000131-P000000000000"))
    inactive = world.resident("sms", "email")
    world.residents[inactive] = world.residents[inactive].model_copy(update={"active": False})
    world.hear(cases.MESSAGE_SENT, world.message(inactive, "staff"))
    world.send()
    assert world.email.tried == world.sms.tried == 0
    assert sorted(reason or "" for _, _, reason in world.states()) == ["inactive", "unknown_person", "unknown_person"]


def test_a_clinic_that_the_directory_does_not_know_goes_by_its_id(world: World) -> None:
    set_addresses(world, "brevlada@vgregion.example")
    world.names.clear()
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert world.clinic in world.email.sent[0][1].subject


def test_no_address_of_a_person_is_stored(world: World) -> None:
    """R-SYS-3: only keyed hashes; a clinic's own addresses are sealed."""
    set_addresses(world, "brevlada@vgregion.example")
    person = world.person(Role.CASE_RECEIVER)
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    stored = str(world.rows("SELECT deliveries::text FROM deliveries UNION ALL SELECT c::text FROM clinic_addresses c"))
    assert "vgregion.example" not in stored
    assert b"vgregion.example".hex() not in stored
    assert str(world.staff[person].email).encode().hex() not in stored


# --- the clinic's settings, lists, sending again --------------------------------------------------------------------


def test_settings_are_kept_in_normal_form_and_each_address_once(world: World) -> None:
    """R-NOT-2."""
    admin = world.caller(Role.LOCAL_ADMIN)
    request = SetClinicSettings(
        request_id=uuid4(),
        clinic=world.clinic,
        new_case_addresses=["b@VGregion.example", " a@vgregion.example", "B@vgregion.example"],
        reminder_addresses=["c@vgregion.example"],
        reminder_days=3,
    )
    with world.database.transaction(admin) as tx:
        answered = clinic_settings.set_settings(tx, request)
    with world.database.transaction(admin) as tx:
        read = clinic_settings.get_settings(tx, GetClinicSettings(clinic=world.clinic))
    assert answered.new_case_addresses == read.new_case_addresses == ["b@vgregion.example", "a@vgregion.example"]
    assert (read.reminder_addresses, read.reminder_days) == (["c@vgregion.example"], 3)


def test_an_address_that_is_none_is_named_by_its_place_and_never_repeated(world: World) -> None:
    """R-SYS-3: the error holds no value."""
    with pytest.raises(Invalid) as refused:
        set_addresses(world, "bra@vgregion.example", "nej", "a@x.se\r\nBcc: b@x.se")
    assert [name for name, _ in refused.value.fields] == ["new_case_addresses.1", "new_case_addresses.2"]
    assert "nej" not in str(refused.value)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.LOCAL_ADMIN])
def test_only_local_administrators_set_read_and_list(world: World, role: Role) -> None:
    """R-NOT-2."""
    with world.database.transaction(world.caller(role)) as tx:
        with pytest.raises(Forbidden):
            clinic_settings.get_settings(tx, GetClinicSettings(clinic=world.clinic))
        with pytest.raises(Forbidden):
            listing.list_clinic_deliveries(tx, ListClinicDeliveries(clinic=world.clinic))
        with pytest.raises(Forbidden):
            clinic_settings.set_settings(
                tx, SetClinicSettings(request_id=uuid4(), clinic=world.clinic, new_case_addresses=[])
            )


def test_overlaps_are_told_as_they_were_written(world: World) -> None:
    """R-ID-10, R-NOT-6, R-NOT-9."""
    set_addresses(world, "anna@vgregion.example", "brevlada@vgregion.example")
    asked = ["Anna@vgregion.example", "annan@vgregion.example", "ingen adress"]
    with world.database.transaction(Caller("service", "identity")) as tx:
        here = clinic_settings.overlapping_addresses(tx, OverlappingAddresses(clinic=world.clinic, addresses=asked))
        elsewhere = clinic_settings.overlapping_addresses(
            tx, OverlappingAddresses(clinic="SE2321000131-E000000009999", addresses=asked)
        )
        anywhere = clinic_settings.overlapping_addresses(tx, OverlappingAddresses(clinic=None, addresses=asked))
        settings = clinic_settings.read_settings(tx, world.clinic)
    assert here.overlapping == anywhere.overlapping == ["Anna@vgregion.example"]
    assert elsewhere.overlapping == []
    world.person(Role.CASE_RECEIVER, email="Anna@VGregion.example")
    assert clinic_settings.overlapping_with(settings, list(world.staff.values())) == ["anna@vgregion.example"]


def test_the_clinics_list_has_its_own_and_no_residents(world: World) -> None:
    set_addresses(world, "brevlada@vgregion.example")
    person = world.person(Role.CASE_RECEIVER)
    world.hear(cases.CASE_STARTED, world.case_started())
    tell_resident(world, "sms")
    world.send()
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        page = listing.list_clinic_deliveries(tx, ListClinicDeliveries(clinic=world.clinic))
    assert {(one.address, one.person) for one in page.deliveries} == {
        ("brevlada@vgregion.example", None),
        (None, person),
    }
    with world.database.transaction(Caller("operator")) as tx:
        everything = listing.list_deliveries(tx, ListDeliveries())
    assert len(everything.deliveries) == 3
    assert all(one.address is None and one.person is None for one in everything.deliveries)


def test_lists_page_by_key_through_all_and_each_once(world: World) -> None:
    for _ in range(7):
        tell_resident(world, "sms")
    seen: list[UUID] = []
    after, more = None, True
    with world.database.transaction(Caller("operator")) as tx:
        while more:
            page = listing.list_deliveries(tx, ListDeliveries(limit=3, after=after))
            seen += [one.delivery for one in page.deliveries]
            after, more = page.deliveries[-1].delivery, page.more
    assert len(seen) == len(set(seen)) == 7


def test_only_failed_and_uncertain_ones_can_be_sent_again(world: World) -> None:
    """R-NOT-7."""
    tell_resident(world, "sms")
    with pytest.raises(Conflict) as refused:
        resend(world, only_delivery(world))
    assert refused.value.reason == "not_resendable"
    world.send()
    with pytest.raises(Conflict):
        resend(world, only_delivery(world))


def test_a_clinics_administrator_sends_its_own_again_and_knows_of_no_others(world: World) -> None:
    """R-NOT-7, R-SYS-1."""
    set_addresses(world, "brevlada@vgregion.example")
    world.hear(cases.CASE_STARTED, world.case_started())
    world.email.script = [NotAccepted("smtp_recipient_550", permanent=True)]
    world.send()
    delivery = only_delivery(world)
    for stranger in (world.caller(Role.CASE_RECEIVER), world.caller(Role.LOCAL_ADMIN, clinic="SE2321000131-E1")):
        with pytest.raises(NotFound):
            resend(world, delivery, stranger)
    resend(world, delivery, world.caller(Role.LOCAL_ADMIN))
    world.send()
    assert len(world.email.sent) == 1

    world.sms.script = [NotAccepted("sms_http_400", permanent=True)]
    tell_resident(world, "sms")
    world.send()
    [(residents,)] = world.rows("SELECT delivery FROM deliveries WHERE recipient_kind = 'resident'")
    with pytest.raises(NotFound):
        resend(world, residents, world.caller(Role.LOCAL_ADMIN))


def test_the_providers_reference_is_kept(world: World) -> None:
    tell_resident(world, "sms")
    world.sms.script = [Accepted("s123")]
    world.send()
    assert world.rows("SELECT provider_reference FROM deliveries") == [("s123",)]
