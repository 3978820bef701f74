"""Verification codes on their way (R-NOT-9)."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.notifications import codes
from services.notifications.channels.outcome import NotAccepted
from services.notifications.codes import CodeSender
from shared.contracts.notifications import Channel, SendCode
from shared.messaging.errors import Invalid
from tests.integration.notifications_support import World

MOBILE, EMAIL = "+46701740605", "eva@example.org"


def queue(world: World, channel: Channel, address: str, code: str = "123456") -> None:
    request = SendCode(request_id=uuid4(), channel=channel, address=address, code=code)
    with world.database.transaction() as tx:
        codes.queue(tx, request)


def sender(world: World) -> CodeSender:
    return CodeSender(world.database.transaction, {Channel.EMAIL: [world.email], Channel.SMS: [world.sms]})


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
    assert sender(world).round()
    assert sender(world).round()
    assert not sender(world).round()
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
    assert sender(world).round()
    assert waiting(world) == 0
    with pytest.raises(Invalid):
        queue(world, Channel.EMAIL, "nobody")


def test_r_not_9_a_code_that_can_not_be_read_holds_up_no_other(world: World) -> None:
    queue(world, Channel.SMS, MOBILE)
    world.rows("UPDATE codes SET sealed = 'broken', due_at = due_at - interval '1 second'")
    queue(world, Channel.EMAIL, EMAIL)
    assert sender(world).round()
    assert sender(world).round()
    assert [to for to, _ in world.email.sent] == [EMAIL]
    assert (world.sms.sent, waiting(world)) == ([], 0)


def test_r_not_9_only_the_latest_code_to_an_address_leaves(world: World) -> None:
    """R-NOT-9: the earlier one is worth nothing."""
    queue(world, Channel.SMS, MOBILE, "111111")
    queue(world, Channel.SMS, MOBILE, "222222")
    while sender(world).round():
        pass
    assert ["222222" in words.text for _, words in world.sms.sent] == [True]
