"""Who is told of what, on a real database; the neighbours and the providers are in memory."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.notifications import clinic_settings, queueing
from services.notifications.channels.outcome import NotAccepted
from shared.contracts import cases, identity
from shared.contracts.base import Role
from shared.contracts.notifications import OverlappingAddresses
from shared.database import migrate
from tests.integration.notifications_support import (
    World,
    set_addresses,
    tell_resident,
)

RESIDENT_TEXT = "Du har ett meddelande i e-tjänsterna på 1177. Meddelandet finns i inkorgen när du loggat in på 1177."


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


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


@pytest.mark.parametrize(
    ("clinics", "persons"),
    [
        ("post@räksmörgås.se", "Post@xn--rksmrgs-5wao1o.se"),
        ("post@xn--rksmrgs-5wao1o.se", "Post@RÄKSMÖRGÅS.se"),
        ("post@räksmörgås.se", "post@ra\u0308ksmo\u0308rga\u030as.se"),
    ],
)
def test_an_address_in_letters_and_in_ascii_is_one(world: World, clinics: str, persons: str) -> None:
    """R-NOT-6, R-NOT-9: one message, shown as overlapping, and refused as somebody's personal one."""
    set_addresses(world, clinics)
    world.person(Role.CASE_RECEIVER, email=persons)
    world.hear(cases.CASE_STARTED, world.case_started())
    world.send()
    assert world.email.addresses == ["post@xn--rksmrgs-5wao1o.se"]
    asked = OverlappingAddresses(clinic=None, addresses=[persons])
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        settings = clinic_settings.read_settings(tx, world.clinic)
        assert clinic_settings.overlapping_addresses(tx, asked).overlapping == asked.addresses
    assert clinic_settings.overlapping_with(settings, list(world.staff.values())) == settings.new_case_addresses


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
