"""Who is told of a child's inbox, and everything that stops it (R-NOT-8)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from services.notifications import listing, queueing
from services.notifications.channels.outcome import NotAccepted
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import ListClinicDeliveries
from tests.integration.notifications_support import World

DOWN = NotAccepted("smtp_connection", provider_down=True)


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


def tell(world: World, child: UUID) -> None:
    world.hear(cases.MESSAGE_SENT, world.message(child, "staff"))


def outcomes(world: World) -> list[tuple[Any, ...]]:
    """What became of each, guardians' marked."""
    return sorted(world.rows("SELECT about IS NOT NULL, state, reason FROM deliveries"), key=str)


def test_guardians_are_told_by_what_they_chose_for_the_childs_inbox_and_the_child_is_not(world: World) -> None:
    """R-NOT-8: the child's own choices do not count before 13."""
    anna, bo, carl = world.guardian("sms"), world.guardian("sms", "email"), world.guardian()
    tell(world, world.child(anna, bo, carl))
    world.send()
    assert world.sms.addresses == sorted([str(anna.mobile), str(bo.mobile)])
    assert world.email.addresses == [bo.email]
    assert outcomes(world) == [
        (False, "merged", "guardians_told"),
        (True, "not_wanted", "not_chosen"),
        *[(True, "sent", None)] * 3,
    ]
    assert world.send() == 0


def test_guardians_with_one_address_get_one_message(world: World) -> None:
    """R-NOT-6, R-NOT-8."""
    tell(world, world.child(*[world.guardian("email", email="hemma@example.se") for _ in range(2)]))
    world.send()
    assert world.email.addresses == ["hemma@example.se"]


def test_who_stood_back_for_a_guardian_who_is_withdrawn_gets_their_turn(world: World) -> None:
    """R-NOT-4, R-NOT-6, R-NOT-8."""
    tell(world, world.child(*[world.guardian("email", email="hemma@example.se") for _ in range(2)]))
    world.email.refuse = DOWN
    world.send()
    [(first,)] = world.rows("SELECT recipient FROM deliveries WHERE state = 'waiting'")
    with world.database.transaction() as tx:
        queueing.withdraw_residents(tx, UUID(first))
    world.email.refuse = None
    world.send()
    assert world.email.addresses == ["hemma@example.se"]
    assert (True, "withdrawn", "inactive") in outcomes(world)


def test_an_event_that_comes_again_tells_no_guardian_again(world: World) -> None:
    """R-NOT-7, R-NOT-8."""
    child = world.child(world.guardian("sms"))
    message = world.message(child, "staff")
    for _ in range(2):
        world.hear(cases.MESSAGE_SENT, message)
        world.send()
    assert len(world.sms.sent) == 1


def test_from_the_13th_birthday_the_child_is_told_and_what_is_queued_for_guardians_is_not_sent(world: World) -> None:
    """R-NOT-8, R-ID-11."""
    child = world.child(world.guardian("email"))
    world.email.refuse = DOWN
    tell(world, child)
    world.send()
    world.residents[child] = world.residents[child].model_copy(update={"guardians": None})
    world.email.refuse = None
    world.make_due()
    world.send()
    assert (True, "withdrawn", "no_longer_guardian") in outcomes(world)
    assert world.email.addresses == [world.residents[child].email]
    assert world.sms.addresses == [world.residents[child].mobile]


@pytest.mark.parametrize("blocked", [False, True])
def test_protection_and_blocking_stop_what_is_queued(world: World, blocked: bool) -> None:
    """R-NOT-8, R-ID-13: at protection nobody acts for the child; a clinic blocks for itself alone."""
    guardian = world.guardian("email")
    child = world.child(guardian)
    world.email.refuse = DOWN
    tell(world, child)
    world.send()
    world.guardians(child, *([guardian.model_copy(update={"blocked_at": [world.clinic]})] if blocked else []))
    world.email.refuse = None
    world.make_due()
    world.send()
    assert world.email.sent == world.sms.sent == []
    assert (True, "withdrawn", "guardian_blocked" if blocked else "no_longer_guardian") in outcomes(world)


def test_what_comes_later_is_told_to_nobody_where_no_guardian_is_left(world: World) -> None:
    """R-NOT-8: elsewhere the blocked guardian is told as before."""
    tell(world, world.child())
    here = world.guardian("sms", blocked_at=[world.clinic])
    tell(world, world.child(here))
    elsewhere = world.guardian("sms", blocked_at=["SE2321000131-E000000009999"])
    tell(world, world.child(elsewhere))
    world.send()
    assert world.sms.addresses == [elsewhere.mobile]
    assert outcomes(world).count((False, "withdrawn", "no_guardian")) == 2


def test_an_inactive_childs_guardians_get_nothing_queued_either(world: World) -> None:
    """R-NOT-4, R-NOT-8: by the event, and again by what identity says when it is sent."""
    child = world.child(world.guardian("email"))
    world.email.refuse = DOWN
    tell(world, child)
    world.send()
    with world.database.transaction() as tx:
        assert queueing.withdraw_residents(tx, child) == 1
    world.residents[child] = world.residents[child].model_copy(update={"active": False})
    tell(world, child)
    world.email.refuse = None
    world.make_due()
    world.send()
    assert world.email.sent == world.sms.sent == []


def test_the_clinics_administrators_see_nothing_of_guardians(world: World) -> None:
    """R-NOT-8, R-SYS-1."""
    tell(world, world.child(world.guardian("sms")))
    world.send()
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        assert listing.list_clinic_deliveries(tx, ListClinicDeliveries(clinic=world.clinic)).deliveries == []
