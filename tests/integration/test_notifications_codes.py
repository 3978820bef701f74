"""Verification codes on their way (R-NOT-9)."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from services.notifications import codes, pace, rules
from services.notifications.channels.outcome import NotAccepted
from services.notifications.codes import CodeSender
from services.notifications.providers import Circuit, Provider
from shared.contracts.notifications import Channel, SendCode
from shared.messaging.errors import Invalid
from tests.integration.notifications_support import World, tell_resident

MOBILE, EMAIL = "+46701740605", "eva@example.org"


def queue(world: World, channel: Channel, address: str, code: str = "123456") -> None:
    request = SendCode(request_id=uuid4(), channel=channel, address=address, code=code)
    with world.database.transaction() as tx:
        codes.queue(tx, request)


def sender(world: World, channel: Channel = Channel.SMS) -> CodeSender:
    return CodeSender(world.database.transaction, channel, world.providers()[channel])


def waiting(world: World) -> int:
    [(count,)] = world.rows("SELECT count(*) FROM codes")
    return int(count)


@pytest.fixture
def world(notifications_world: World) -> World:
    notifications_world.rows("TRUNCATE codes")
    return notifications_world


def test_r_not_9_a_code_is_sent_and_kept_nowhere(world: World) -> None:
    """R-NOT-9, R-SYS-3: by mail and by SMS; of address and code nothing stands in clear."""
    queue(world, Channel.SMS, MOBILE)
    queue(world, Channel.EMAIL, EMAIL)
    stored = str(world.rows("SELECT c::text FROM codes AS c"))
    assert all(secret not in stored and secret.encode().hex() not in stored for secret in (MOBILE, EMAIL, "123456"))
    for channel in (Channel.SMS, Channel.EMAIL):
        assert sender(world, channel).round()
        assert not sender(world, channel).round()
    assert [(to, "123456" in words.text) for to, words in (*world.sms.sent, *world.email.sent)] == [
        (MOBILE, True),
        (EMAIL, True),
    ]
    assert "123456" in world.email.sent[0][1].html
    assert waiting(world) == 0


def test_r_not_9_a_provider_that_is_down_delays_it_and_no_longer_than_it_is_worth(world: World) -> None:
    """R-NOT-9: an address that is none ends it at once."""
    world.sms.script = [NotAccepted("busy"), NotAccepted("busy")]
    queue(world, Channel.SMS, MOBILE)
    for attempt in range(3):
        assert sender(world).round(), attempt
        assert not sender(world).round(), "not at once again"
        world.rows("UPDATE codes SET due_at = now()")
    assert [to for to, _ in world.sms.sent] == [MOBILE]
    queue(world, Channel.SMS, MOBILE)
    world.rows("UPDATE codes SET worth_until = worth_until - interval '15 minutes'")
    assert not sender(world).round()
    assert waiting(world) == 0
    world.email.refuse = NotAccepted("no_such_mailbox", permanent=True)
    queue(world, Channel.EMAIL, EMAIL)
    assert sender(world, Channel.EMAIL).round()
    assert waiting(world) == 0
    with pytest.raises(Invalid):
        queue(world, Channel.EMAIL, "nobody")


def test_r_not_9_a_code_that_can_not_be_read_holds_up_no_other(world: World) -> None:
    queue(world, Channel.SMS, MOBILE)
    world.rows("UPDATE codes SET sealed = 'broken', due_at = due_at - interval '1 second'")
    queue(world, Channel.SMS, "+46701740606")
    assert sender(world).round()
    assert sender(world).round()
    assert [to for to, _ in world.sms.sent] == ["+46701740606"]
    assert waiting(world) == 0


def test_r_not_9_a_code_that_is_worth_nothing_is_kept_nowhere_also_without_a_sender(world: World) -> None:
    """R-NOT-9, R-SYS-3: the service's job removes it."""
    queue(world, Channel.SMS, MOBILE)
    queue(world, Channel.EMAIL, EMAIL)
    world.rows("UPDATE codes SET worth_until = now() WHERE channel = 'sms'")
    with world.database.transaction() as tx:
        codes.forget_worthless(tx)
    assert world.rows("SELECT channel FROM codes") == [("email",)]


def test_r_not_9_what_breaks_in_a_conversation_ends_it(world: World) -> None:
    """R-NOT-9, R-NOT-7: nothing of the next message is said into it; of codes and of deliveries."""
    world.sms.script = [RuntimeError(), RuntimeError()]
    queue(world, Channel.SMS, MOBILE)
    tell_resident(world, "sms")
    for one in (sender(world), world.sender()):
        with pytest.raises(RuntimeError):
            one.round()
    assert world.sms.abandoned == 2
    assert [state for _, state, _ in world.states()] == ["sending"], "found by the sweep, and uncertain"


def test_r_not_9_only_the_latest_code_to_an_address_leaves(world: World) -> None:
    """R-NOT-9: the earlier one is worth nothing."""
    queue(world, Channel.SMS, MOBILE, "111111")
    queue(world, Channel.SMS, MOBILE, "222222")
    while sender(world).round():
        pass
    assert ["222222" in words.text for _, words in world.sms.sent] == [True]


def test_r_not_9_mail_that_hangs_holds_up_no_code_to_a_telephone(world: World) -> None:
    """R-NOT-9: each channel's codes are sent by themselves."""
    answered = threading.Event()
    world.email.during = lambda: assert_soon(answered)
    queue(world, Channel.EMAIL, EMAIL)
    queue(world, Channel.SMS, MOBILE)
    with ThreadPoolExecutor(1) as other:
        hangs = other.submit(sender(world, Channel.EMAIL).round)
        while not world.email.tried:
            time.sleep(0.01)
        assert sender(world).round()
        assert (len(world.sms.sent), len(world.email.sent)) == (1, 0)
        answered.set()
        assert hangs.result(10)
    assert len(world.email.sent) == 1


def test_r_not_9_each_code_is_taken_by_itself_whatever_plan_the_database_chooses(world: World) -> None:
    """R-NOT-9: statistics of a table of one row let a plan run a subquery of the statement for each row that there is;
    it took them all."""
    queue(world, Channel.SMS, MOBILE)
    world.rows("ANALYZE codes")
    world.rows("DELETE FROM codes")
    people = [f"+467017406{number:02}" for number in range(4)]
    for mobile in people:
        queue(world, Channel.SMS, mobile)
    for sent in range(1, 5):
        assert sender(world).round()
        assert (len(world.sms.sent), waiting(world)) == (sent, 4 - sent)
    assert world.sms.addresses == people


def assert_soon(event: threading.Event) -> None:
    assert event.wait(10)


def test_r_not_9_a_provider_that_is_left_alone_gets_no_codes_either_and_they_wait(world: World) -> None:
    """R-NOT-9, R-NOT-7: what failed for deliveries is not asked for a code; one that goes well opens it for both."""
    now = 0.0
    provider = Provider("sms.example", lambda: world.sms, Circuit(now=lambda: now))
    codes_of_sms = CodeSender(world.database.transaction, Channel.SMS, [provider])
    for _ in range(rules.CIRCUIT_OPENS_AFTER):
        provider.circuit.tell(failed=True)
    queue(world, Channel.SMS, MOBILE)
    assert not codes_of_sms.round()
    assert (world.sms.tried, waiting(world)) == (0, 1)
    now = 1.0
    assert codes_of_sms.round()
    assert (len(world.sms.sent), waiting(world)) == (1, 0)
    assert provider.circuit.opens_in() == 0.0
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)] * rules.CIRCUIT_OPENS_AFTER
    for _ in range(rules.CIRCUIT_OPENS_AFTER):
        queue(world, Channel.SMS, MOBILE)
        assert codes_of_sms.round()
    assert provider.circuit.opens_in() > 0.0, "what fails for codes counts for deliveries"
    world.rows("UPDATE codes SET worth_until = now()")
    assert not codes_of_sms.round()
    assert waiting(world) == 0, "nor is it kept longer than it is worth something"


def test_r_not_9_a_code_gets_its_turn_at_a_provider_that_is_busy_with_deliveries(world: World) -> None:
    """R-NOT-9: what a provider takes in a second holds for codes too; they stand behind what has a turn already."""
    provider = Provider("sms.example", lambda: world.sms, per_second=2.0)
    world.rows("INSERT INTO provider_pace VALUES ('sms:sms.example', clock_timestamp() + interval '1.2 seconds')")
    assert not pace.wait_for_turn(world.database.transaction, Channel.SMS, provider)
    queue(world, Channel.SMS, MOBILE)
    began = time.monotonic()
    assert CodeSender(world.database.transaction, Channel.SMS, [provider]).round()
    assert time.monotonic() - began >= 0.8
    assert len(world.sms.sent) == 1
