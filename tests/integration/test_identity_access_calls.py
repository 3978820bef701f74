"""Access to clinics over real RPC: cases asks, the listing system tells (R-ID-15, R-ID-22, R-ID-23)."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local.people import cast
from deploy.local.people.residents import named
from deploy.rabbitmq.permissions import exchange_of
from shared.contracts import access, cases, identity, logging_in, notifications, personal
from shared.contracts.base import Role
from shared.messaging.client import RpcClient
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated, Unavailable


def resident_of(system: Any, number: str) -> UUID:
    system.resident_token(number)
    request = identity.FindResident(identity_number=number)
    found: UUID = system.call(identity.FIND_RESIDENT, request, system.service_token("cases")).resident
    return found


def asked(system: Any, resident: UUID, *clinics: str) -> list[tuple[bool, str | None]]:
    request = access.AccessToClinics(resident=resident, clinics=list(clinics))
    found = system.call(access.ACCESS_TO_CLINICS, request, system.service_token("cases")).access
    assert [one.clinic for one in found] == list(clinics)
    return [(one.allowed, one.reason) for one in found]


def list_at(system: Any, number: str, clinic: str | None) -> None:
    line = access.Listing(identity_number=number, clinic=clinic, as_of=system.now() - timedelta(seconds=1))
    request = access.ImportListings(request_id=uuid4(), listings=[line])
    assert system.call(access.IMPORT_LISTINGS, request, system.system_token("listings")).refused == []


def test_r_id_15_a_protected_person_is_let_in_by_hand(system: Any) -> None:
    """R-ID-15: outside the county until approved; the county is that of the clinic where they are listed."""
    clinic = system.clinic().hsa_id
    resident = resident_of(system, cast.PROTECTED_RESIDENT)
    list_at(system, cast.PROTECTED_RESIDENT, None)
    assert asked(system, resident, clinic) == [(False, "protected_outside_county")]
    approve = access.ApproveResident(request_id=uuid4(), clinic=clinic, identity_number=cast.PROTECTED_RESIDENT)
    system.call(access.APPROVE_RESIDENT, approve, system.staff_token(cast.LOCAL_ADMIN))
    assert asked(system, resident, clinic, cast.SJOPORTEN) == [(True, None), (False, "protected_outside_county")]
    list_at(system, cast.PROTECTED_RESIDENT, cast.SJOPORTEN)
    # All of the cast's clinics lie in one county; one that the directory never had lies nowhere.
    assert asked(system, resident, cast.KVARNBACKEN, cast.SJOPORTEN, "SE2321000131-NOWHERE") == [
        (True, None),
        (True, None),
        (False, "protected_outside_county"),
    ]


def test_r_id_15_the_directory_need_not_answer_for_what_is_known(system: Any) -> None:
    """R-ID-15: it is paused; a county known from before will do, and nobody else needs it."""
    resident, ordinary = resident_of(system, cast.PROTECTED_RECORD), resident_of(system, cast.SECOND_RESIDENT)
    list_at(system, cast.PROTECTED_RECORD, cast.SJOPORTEN)
    assert asked(system, resident, cast.VISKAN) == [(True, None)]
    directory = system.process("directory")
    directory.pause()
    try:
        assert asked(system, resident, cast.VISKAN) == [(True, None)]
        assert asked(system, ordinary, system.unit().hsa_id) == [(True, None)]
    finally:
        directory.resume()


def test_r_id_22_r_id_23_residents_see_none_of_it_and_keep_their_own_list(system: Any) -> None:
    """R-ID-22, R-ID-23: only cases asks for access; only the listing system tells listings."""
    clinic, token = system.clinic().hsa_id, system.resident_token(cast.SECOND_RESIDENT)
    resident = resident_of(system, cast.SECOND_RESIDENT)
    question = access.AccessToClinics(resident=resident, clinics=[clinic])
    line = access.Listing(identity_number=cast.SECOND_RESIDENT, clinic=clinic, as_of=system.now())
    telling = access.ImportListings(request_id=uuid4(), listings=[line])
    for other in (token, system.staff_token(cast.REGIONAL_ADMIN), system.service_token("attachments")):
        for call, request in ((access.ACCESS_TO_CLINICS, question), (access.IMPORT_LISTINGS, telling)):
            with pytest.raises(Forbidden):
                system.call(call, request, other)
    with pytest.raises(NotAuthenticated):
        system.call(access.IMPORT_LISTINGS, telling)
    list_at(system, cast.SECOND_RESIDENT, clinic)
    add = access.AddMyClinic(request_id=uuid4(), clinic=cast.SJOPORTEN)
    with pytest.raises(Conflict):  # nobody has activated it
        system.call(access.ADD_MY_CLINIC, add.model_copy(update={"clinic": system.unit().hsa_id}), token)
    added = system.clinic().hsa_id
    mine = system.call(access.ADD_MY_CLINIC, access.AddMyClinic(request_id=uuid4(), clinic=added), token).clinics
    assert (clinic, True) in [(one.clinic, one.listed) for one in mine]
    assert (added, False) in [(one.clinic, one.listed) for one in mine]
    assert system.call(access.MY_CLINICS, access.MyClinics(), token).clinics == mine


def test_r_id_23_the_listing_system_has_a_user_of_its_own_at_the_broker(system: Any) -> None:
    """R-ID-23: by which it can tell listings and nothing else."""
    client = RpcClient(system.stack.broker_url("listings"), "listings.test", exchange=exchange_of("listings"))
    client.start()
    token = system.system_token("listings")

    def tell(lines: list[access.Listing], request_id: UUID) -> access.ListingsImported:
        request = access.ImportListings.model_construct(request_id=request_id, listings=lines)
        told: access.ListingsImported = client.ask(access.IMPORT_LISTINGS, request, token=token, timeout=10)
        return told

    try:
        line, first = access.Listing(identity_number=cast.RESIDENT, clinic=cast.SJOPORTEN, as_of=system.now()), uuid4()
        assert tell([line], first) == tell([line], first)
        assert tell([line], uuid4()).unchanged == 1
        with pytest.raises(Invalid):
            tell([], uuid4())
        with pytest.raises(Forbidden) as caught:
            client.ask(access.MY_CLINICS, access.MyClinics(), token=token, timeout=5)
        assert caught.value.reason == "refused_by_broker"
    finally:
        client.stop()


def test_r_id_11_r_id_13_a_guardian_acts_for_a_child_by_the_registers_word(system: Any) -> None:
    """R-ID-11, R-ID-13: not for one of 13, not where either is protected; until the guardian logs out."""
    session = system.accept_terms(system.login_resident(cast.GUARDIAN))

    def children_of(token: str) -> dict[str, UUID]:
        found = system.call(access.MY_CHILDREN, access.MyChildren(), token).children
        return {one.name: one.child for one in found}

    mine = children_of(session.access_token)
    assert "Ivar Holm" in mine
    assert "Hugo Holm" not in mine
    for protected in ("rebecka", "tomas"):  # herself, and his child
        assert children_of(system.resident_token(named(protected).number)) == {}

    def act(child: UUID) -> Any:
        return system.call(
            access.ACT_FOR_CHILD, access.ActForChild(request_id=uuid4(), child=child), session.access_token
        )

    acting = act(mine["Ivar Holm"]).access_token
    assert system.call(cases.LIST_INBOX, cases.ListInbox(), acting).cases == []
    with pytest.raises(Forbidden) as caught:
        system.call(access.MY_CHILDREN, access.MyChildren(), acting)
    assert caught.value.reason == "acting_for_child"
    with pytest.raises(Forbidden) as caught:
        act(resident_of(system, cast.SECOND_RESIDENT))
    assert caught.value.reason == "not_representative"
    question = access.Representation(guardian=resident_of(system, cast.GUARDIAN), child=mine["Ivar Holm"])
    assert system.call(access.REPRESENTATION, question, system.service_token("cases")).acting
    system.call(logging_in.LOG_OUT, logging_in.LogOut(request_id=uuid4()), session.access_token)
    ends = time.monotonic() + 1.0
    while True:
        asked_at = time.monotonic()
        try:
            system.call(cases.LIST_INBOX, cases.ListInbox(), acting)
        except (NotAuthenticated, Unavailable):
            break
        assert asked_at < ends, "the child's inbox was read more than a second after the guardian had logged out"


def test_r_not_9_the_address_of_a_clinic_is_nobodys_own(system: Any) -> None:
    """R-NOT-9: as notifications has it now, whatever its letter case."""
    clinic = system.clinic().hsa_id
    settings = notifications.SetClinicSettings(
        request_id=uuid4(), clinic=clinic, new_case_addresses=["gemensam@vgregion.example.org"]
    )
    system.call(notifications.SET_CLINIC_SETTINGS, settings, system.staff_token(cast.LOCAL_ADMIN))
    for token in (system.resident_token(cast.SECOND_RESIDENT), system.staff_token(cast.OUTSIDER)):
        contact = identity.SetContact(request_id=uuid4(), email="Gemensam@vgregion.example.org")
        with pytest.raises(Invalid) as caught:
            system.call(identity.SET_CONTACT, contact, token)
        assert caught.value.reason == "address_of_a_clinic"


def test_r_not_9_an_address_that_a_clinic_has_entered_since_it_was_set_is_not_verified(system: Any) -> None:
    """R-NOT-9: it becomes personal when the code comes back, and not if it is a clinic's by then."""
    mail, token = f"egen{uuid4().hex[:8]}@example.org", system.resident_token(cast.SECOND_RESIDENT)
    clinic, admin = system.clinic().hsa_id, system.staff_token(cast.LOCAL_ADMIN)

    def entered(*addresses: str) -> None:
        settings = notifications.SetClinicSettings(
            request_id=uuid4(), clinic=clinic, new_case_addresses=list(addresses)
        )
        system.call(notifications.SET_CLINIC_SETTINGS, settings, admin)

    system.call(identity.SET_CONTACT, identity.SetContact(request_id=uuid4(), email=mail), token)
    [sent] = system.mail(to=mail, wait=15)
    [code] = re.findall(r"\b\d{6}\b", sent["text"])
    entered(mail.upper())
    back = personal.VerifyAddress(request_id=uuid4(), channel="email", code=code)
    another = personal.SendVerificationCode(request_id=uuid4(), channel="email")
    for call, request in ((personal.VERIFY_ADDRESS, back), (personal.SEND_VERIFICATION_CODE, another)):
        with pytest.raises(Invalid) as caught:
            system.call(call, request, token)
        assert caught.value.reason == "address_of_a_clinic"
    for _ in range(5):  # as many as are allowed: none of them is counted, since no code was looked at
        with pytest.raises(Invalid):
            system.call(personal.VERIFY_ADDRESS, back.model_copy(update={"request_id": uuid4()}), token)
    entered()
    system.call(personal.VERIFY_ADDRESS, back.model_copy(update={"request_id": uuid4()}), token)
    entered(mail)
    contact = identity.SetContact(request_id=uuid4(), email=mail, notify_by=["email"])
    with pytest.raises(Invalid):
        system.call(identity.SET_CONTACT, contact, token)


def test_r_id_10_an_address_that_someone_has_verified_overlaps_as_that_of_hsa_does(system: Any) -> None:
    """R-ID-10, R-NOT-9: where the clinic has entered it since; in the list of rights, and when a role is taken."""
    clinic, admin = system.clinic().hsa_id, system.staff_token(cast.LOCAL_ADMIN)
    mail, person = f"egen{uuid4().hex[:8]}@example.org", cast.RECEIVER
    give = identity.GiveRole(request_id=uuid4(), clinic=clinic, person=person, role=Role.RIGHTS_ADMIN)
    system.call(identity.GIVE_ROLE, give, admin)
    token = system.staff_token(person)
    system.call(identity.SET_CONTACT, identity.SetContact(request_id=uuid4(), email=mail), token)
    [sent] = system.mail(to=mail, wait=15)
    [code] = re.findall(r"\b\d{6}\b", sent["text"])
    system.call(personal.VERIFY_ADDRESS, personal.VerifyAddress(request_id=uuid4(), channel="email", code=code), token)
    settings = notifications.SetClinicSettings(
        request_id=uuid4(), clinic=clinic, new_case_addresses=[mail.upper(), cast.mail_of(person)]
    )
    system.call(notifications.SET_CLINIC_SETTINGS, settings, admin)
    listed = system.call(identity.LIST_RIGHTS, identity.ListRights(clinic=clinic), admin).people
    [receiver] = [one for one in listed if one.person == person]
    take = identity.TakeRole(request_id=uuid4(), clinic=clinic, person=person, role=Role.RIGHTS_ADMIN)
    taken = system.call(identity.TAKE_ROLE, take, admin)
    for found in (receiver.overlapping_addresses, taken.overlapping_addresses):
        assert {one.lower() for one in found} == {mail, cast.mail_of(person).lower()}
    system.call(identity.SET_CONTACT, identity.SetContact(request_id=uuid4()), token)


def test_r_id_10_whose_addresses_overlap_is_unknown_while_notifications_is_down(system: Any) -> None:
    """R-ID-9, R-ID-10: the rights list is there all the same."""
    clinic = system.clinic()
    mail = cast.mail_of(cast.RECEIVER)
    settings = notifications.SetClinicSettings(request_id=uuid4(), clinic=clinic.hsa_id, new_case_addresses=[mail])
    admin = system.staff_token(cast.LOCAL_ADMIN)
    system.call(notifications.SET_CLINIC_SETTINGS, settings, admin)

    def overlapping() -> Any:
        listed = system.call(identity.LIST_RIGHTS, identity.ListRights(clinic=clinic.hsa_id), admin).people
        [receiver] = [one for one in listed if one.person == cast.RECEIVER]
        assert receiver.directory_status == "fine"
        return receiver.overlapping_addresses

    assert [one.lower() for one in overlapping()] == [mail.lower()]
    notifications_service = system.process("notifications")
    notifications_service.pause()
    try:
        assert overlapping() is None
    finally:
        notifications_service.resume()
