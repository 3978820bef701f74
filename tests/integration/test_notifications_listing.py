"""A clinic's settings, lists of deliveries, sending again: on a real database."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from services.notifications import clinic_settings, listing
from services.notifications.channels.outcome import NotAccepted
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import (
    GetClinicSettings,
    ListClinicDeliveries,
    ListDeliveries,
    OverlappingAddresses,
    SetClinicSettings,
)
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotFound
from shared.security.caller import Caller
from tests.integration.notifications_support import (
    World,
    only_delivery,
    resend,
    set_addresses,
    tell_resident,
)


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


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
