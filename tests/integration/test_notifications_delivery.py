"""Each is sent once and none is lost: deliveries on a real database; the neighbours and the providers are in memory."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from services.notifications import asking, delivering, listing, pace, reports, rules
from services.notifications.channels.outcome import Accepted, NotAccepted, Unknown
from services.notifications.providers import Circuit, Provider
from services.notifications.sending import Sender
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import (
    Channel,
    DeliveryState,
    ListDeliveries,
)
from shared.messaging.errors import Internal, Unavailable
from shared.security.caller import Caller
from tests.integration.notifications_support import (
    LEASE,
    DyingProcess,
    FailingDatabase,
    FakeChannel,
    Killed,
    World,
    only_delivery,
    resend,
    set_addresses,
    tell_resident,
)

LATER = NotAccepted("smtp_mail_451")


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


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


def test_a_round_goes_on_while_there_is_as_much_as_it_takes_at_a_time(world: World) -> None:
    """R-NOT-7: and stops between two when it is told to; what it has not begun others may take."""
    for _ in range(5):
        tell_resident(world, "email")
    assert world.sender(batch=2).round() == 5
    assert len(world.email.sent) == 5
    assert {state for _, state, _ in world.states()} == {"sent"}
    for _ in range(4):
        tell_resident(world, "email")
    stopping = threading.Event()
    world.email.during = stopping.set
    sender = Sender(
        world.database.transaction, world.ask, world.providers(), batch=2, lease=LEASE, stopping=stopping.is_set
    )
    assert sender.round() == 2
    assert sorted(state for _, state, _ in world.states()).count("waiting") == 3


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


def test_what_a_clinic_is_called_is_not_looked_up_for_each_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a directory that is away waited for by each; a new name is seen a little later (R-DIR-2)."""
    set_addresses(world, "brevlada@vgregion.example")
    sender = world.sender()

    def told() -> str:
        world.hear(cases.CASE_STARTED, world.case_started())
        sender.round()
        return world.email.sent[-1][1].subject

    assert "Björkskogens" in told()
    world.rows("UPDATE clinic_names SET asked_at = asked_at - interval '1 day'")
    world.names[world.clinic] = "Nya namnets vårdcentral"
    assert "Björkskogens" in told()
    assert world.asked.count("get_clinics") == 1
    monkeypatch.setattr(asking, "NAMES_ARE_KEPT_SECONDS", 0.0)
    sender = world.sender()
    assert "Nya namnets" in told()


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


def _opened(world: World, per_second: float | None = None) -> Circuit:
    """The circuit of the only mail provider of senders made from now on: open, and due for a trial."""
    now = 0.0
    circuit = Circuit(now=lambda: now)
    for _ in range(rules.CIRCUIT_OPENS_AFTER):
        circuit.tell(failed=True)
    now = 1.0
    mail = Provider("mail.example", lambda: world.email, circuit, per_second)
    world.providers = lambda: {Channel.EMAIL: [mail], Channel.SMS: []}  # type: ignore[method-assign]
    return circuit


def test_a_trial_is_not_used_up_by_a_delivery_that_is_out_of_turn(world: World) -> None:
    """R-NOT-7: the provider was not asked, so the next may ask it at once."""
    circuit = _opened(world, per_second=1.0)
    world.rows("INSERT INTO provider_pace VALUES ('email:mail.example', now() + interval '1 minute')")
    tell_resident(world, "email")
    world.sender().round()
    assert world.states() == [("resident", "waiting", None)]
    assert circuit.lets_through()


def test_what_a_busy_provider_has_no_turn_for_keeps_its_place_and_is_not_taken_in_hand_again_and_again(
    world: World,
) -> None:
    """R-NOT-7: the first to come is the first to leave, and however long it takes that is no failure."""
    mail = Provider("mail.example", lambda: world.email, per_second=5.0)
    world.providers = lambda: {  # type: ignore[method-assign]
        Channel.EMAIL: [mail],
        Channel.SMS: [Provider("sms.example", lambda: world.sms)],
    }
    told = [tell_resident(world, "email") for _ in range(5)]
    tell_resident(world, "sms")
    world.rows("UPDATE deliveries SET due_at = due_at - interval '2 days', created_at = created_at - interval '2 days'")
    before = world.rows("SELECT delivery, due_at FROM deliveries ORDER BY delivery")
    world.rows("INSERT INTO provider_pace VALUES ('email:mail.example', clock_timestamp() + interval '1.4 seconds')")
    sender = world.sender()
    assert sender.round() == 6
    assert (len(world.email.sent), len(world.sms.sent)) == (0, 1)
    assert world.rows("SELECT delivery, due_at FROM deliveries ORDER BY delivery") == before
    assert sender.round() == 0, "it has just seen that there is no turn"
    ends = time.monotonic() + 10
    while len(world.email.sent) < 5 and time.monotonic() < ends:
        sender.round()
        time.sleep(0.05)
    sender.close()
    assert [to for to, _ in world.email.sent] == [world.residents[one].email for one in told]
    assert {state for _, state, _ in world.states()} == {"sent"}


def test_a_trial_is_not_used_up_by_a_delivery_that_is_in_other_hands(world: World) -> None:
    """R-NOT-7."""
    circuit = _opened(world)
    tell_resident(world, "email")
    world.sender(lease=timedelta(seconds=-1)).round()
    assert world.email.sent == []
    assert circuit.lets_through()


def test_a_trial_is_not_used_up_while_the_database_is_away(world: World) -> None:
    """R-NOT-7."""
    circuit = _opened(world)
    tell_resident(world, "email")
    database = FailingDatabase(world.database, 3, committed=False)
    with contextlib.suppress(Unavailable):
        world.sender(process=database).round()
    assert database.went_away
    assert world.email.sent == []
    assert circuit.lets_through()


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
    world.email.refuse = NotAccepted("smtp_connection", provider_down=True)
    world.sender().round()  # three fail, and there is no provider to ask for the fourth
    world.rows(
        "UPDATE deliveries SET due_at = now(), unasked_since = unasked_since - interval '25 hours' WHERE attempts = 0"
    )
    world.sender().round()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries WHERE state = 'failed' AND reason = 'no_provider'")
    resend(world, delivery)
    world.sender().round()
    assert world.rows("SELECT count(*) FROM deliveries WHERE state = 'failed'") == [(0,)]


def test_r_not_7_the_day_without_a_provider_ends_when_one_has_been_asked(world: World) -> None:
    """R-NOT-7: what is greylisted for long does not fail because a provider is left alone for a moment."""
    for _ in range(4):
        tell_resident(world, "email")
    world.email.refuse = NotAccepted("smtp_connection", provider_down=True)
    world.sender().round()  # three fail, and there is no provider to ask for the fourth
    world.rows("DELETE FROM deliveries WHERE attempts > 0")
    world.email.refuse = NotAccepted("smtp_recipient_451")
    world.make_due()
    world.sender().round()
    found = "SELECT state, reason, unasked_since IS NULL FROM deliveries"
    assert world.rows(found) == [("waiting", "smtp_recipient_451", True)]


def test_what_waited_long_for_something_else_does_not_fail_because_a_provider_is_left_alone(world: World) -> None:
    """R-NOT-7: a day without a sender, or without identity, is no day without a provider."""
    for _ in range(4):
        tell_resident(world, "email")
    world.email.refuse = NotAccepted("smtp_connection", provider_down=True)
    world.rows("UPDATE deliveries SET created_at = created_at - interval '2 days', due_at = due_at - interval '2 days'")
    world.sender().round()
    fourth = "SELECT state, reason, unasked_since IS NULL FROM deliveries WHERE attempts = 0"
    assert world.rows(fourth) == [("waiting", "no_provider", False)]
    world.faults = {"contacts": Unavailable()}
    world.make_due()
    world.sender().round()
    assert world.rows(fourth) == [("waiting", "identity_unavailable", True)]


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


@pytest.mark.parametrize("judgement", ["delivered", "on_its_way"])
def test_r_not_7_what_the_first_has_after_all_as_its_report_says_the_second_is_not_given(
    world: World, judgement: reports.Judgement
) -> None:
    """R-NOT-7: a gateway answered for a provider that had taken it; the report was here before the second was asked."""
    first_says_no_and_reports(world, judgement)
    world.send()
    assert (world.sms.tried, world.second_sms and world.second_sms.tried) == (1, 0)
    assert world.states() == [("resident", "sent", None)]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("at", range(4, 9))
def test_r_not_7_nor_is_it_sent_again_where_the_database_goes_away_meanwhile(
    world: World, at: int, committed: bool
) -> None:
    """R-NOT-7: at whichever write, from the beginning of the first attempt."""
    first_says_no_and_reports(world, "delivered")
    database = FailingDatabase(world.database, at, committed=committed)
    sender = world.sender(process=database)
    with contextlib.suppress(Unavailable):
        sender.round()
    database.back = True
    while sender.round():
        pass
    assert (world.sms.tried, world.second_sms and world.second_sms.tried) == (1, 0)
    assert world.states() == [("resident", "sent", None)]


def first_says_no_and_reports(world: World, judgement: reports.Judgement) -> None:
    """A resident is told by SMS, and the first of two providers has it, though it says that it has not."""
    world.second_sms = FakeChannel()
    tell_resident(world, "sms")

    def report() -> None:
        with world.database.transaction() as tx:
            assert reports.take(tx, reports.reference_of(only_delivery(world), 0, 1, "sms0.example"), judgement)

    world.sms.during = report
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)]


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


def test_the_providers_reference_is_kept(world: World) -> None:
    tell_resident(world, "sms")
    world.sms.script = [Accepted("s123")]
    world.send()
    assert world.rows("SELECT provider_reference FROM deliveries") == [("s123",)]
