"""What identity asks of the other services and of the population register, always outside any transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid5

from services.identity import (
    contacts,
    logins,
    personal_settings,
    representation,
    residents,
    roles,
    subject_access,
    verification,
)
from services.identity.desk import desk_of
from services.identity.population_register import RegisteredPerson
from shared.contracts import access, directory, identity, notifications, personal
from shared.contracts.base import HsaId, Role
from shared.messaging.errors import Refused
from shared.messaging.server import OngoingCall
from shared.operations.clock import today

OVERLAP_SECONDS = 2.0


def registered(call: OngoingCall[Any, Any], claims: dict[str, Any]) -> RegisteredPerson:
    """The living person whom the register has for the number in the ID token, by the number now in force."""
    desk = desk_of(call.settings)
    person = logins.require_registered(desk.register.look_up_current(logins.number_of(claims, today())))
    if logins.has_died(person):
        # In a transaction of its own: what was learnt stays, although the login is refused (R-ID-17).
        call.read(residents.bring_up_to_date, person, desk.number_key)
        raise residents.account_inactive()
    return person


def family(call: OngoingCall[Any, Any]) -> access.ChildrenFound:
    """The children whom the caller may act for, as the register has it now; what it said is kept (R-ID-11, R-ID-13)."""
    desk = desk_of(call.settings)
    found = representation.look_up(desk.register, call.read(representation.require_oneself), call.now)
    return call.read(representation.take_in, found, desk.number_key)


def care_provider(call: OngoingCall[Any, Any], clinic: str) -> str:
    """Whose the clinic is; asked only for those who may release there, before anything is told of it."""
    call.caller.require(clinic, *subject_access.RELEASES)
    facts = call.ask(directory.GET_CLINICS, directory.GetClinics(clinics=[clinic])).clinics
    return subject_access.care_provider_of(clinic, facts)


def clinics(call: OngoingCall[Any, Any], asked: Sequence[HsaId], seconds: float) -> directory.Clinics:
    """What the directory says of these clinics, however many, each answer within `seconds`."""
    found = [
        one
        for some in _in_parts(asked, directory.CLINICS_AT_ONCE)
        for one in call.ask(directory.GET_CLINICS, directory.GetClinics(clinics=some), timeout=seconds).clinics
    ]
    return directory.Clinics(clinics=found)


def staff(
    call: OngoingCall[Any, Any], people: Sequence[HsaId], seconds: float | None = None
) -> list[directory.StaffFacts]:
    """What the directory says of these people, however many; each answer within `seconds`, if given."""
    return [
        one
        for some in _in_parts(people, directory.STAFF_AT_ONCE)
        for one in call.ask(directory.GET_STAFF, directory.GetStaff(people=some), timeout=seconds).staff
    ]


def missing_administrators(call: OngoingCall[identity.TakeRole, identity.RoleTaken]) -> set[HsaId]:
    """The local administrators of the clinic whom the directory calls missing; nobody where it does not answer.

    Asked only where one is about to be taken by somebody who may not take the last one (R-ID-6): all else works without
    the directory (R-ID-10).
    """
    if call.request.role is not Role.LOCAL_ADMIN or call.caller.rights.is_regional_admin:
        return set()
    try:
        found = staff(call, sorted(call.read(roles.local_administrators)), OVERLAP_SECONDS)
    except Refused:
        return set()
    return {one.person for one in found if one.status == "missing"}


def send_code(call: OngoingCall[Any, Any], channel: identity.Channel) -> None:
    """Has the code of this request sent to the caller's address; once, however often the request comes."""
    found = call.read(verification.to_send, channel, desk_of(call.settings).number_key)
    if found is None:
        return
    call.ask(
        notifications.SEND_CODE,
        notifications.SendCode(
            request_id=uuid5(call.request.request_id, channel),
            channel=notifications.Channel(channel),
            address=found.address,
            code=found.code,
        ),
    )


def require_own(call: OngoingCall[Any, Any], email: str | None) -> None:
    """Raises `Invalid` if a clinic has entered the address as its own by now (R-NOT-9), and as `ask` does."""
    if email is not None:
        question = notifications.OverlappingAddresses(clinic=None, addresses=[email])
        contacts.require_own(call.ask(notifications.OVERLAPPING_ADDRESSES, question).overlapping)


def known_of_hsa(call: OngoingCall[Any, Any]) -> personal.FromHsa | None:
    """What the directory knows of the caller from HSA; None for residents, and where it does not answer."""
    if call.caller.kind != "staff":
        return None
    try:
        question = directory.GetStaff(people=[call.caller.subject])
        [found] = call.ask(directory.GET_STAFF, question, timeout=OVERLAP_SECONDS).staff
    except Refused:
        return None
    return personal_settings.from_hsa(found)


def overlapping_of(call: OngoingCall[identity.TakeRole, identity.RoleTaken], person: str) -> list[str] | None:
    """Which of the clinic's notification addresses equal the person's own; None: nobody could tell."""
    try:
        found = call.ask(directory.GET_STAFF, directory.GetStaff(people=[person]), timeout=OVERLAP_SECONDS).staff
    except Refused:
        return None
    own = call.read(contacts.own_mail, found, desk_of(call.settings).number_key)
    return overlapping(call, call.request.clinic, own)


def overlapping(call: OngoingCall[Any, Any], clinic: str, own: Mapping[HsaId, Sequence[str]]) -> list[str] | None:
    """Which of people's own addresses the clinic has entered as its own; None: notifications could not tell in time
    (R-ID-10)."""
    found: list[str] = []
    addresses = sorted({address for some in own.values() for address in some})
    try:
        for some in _in_parts(addresses, notifications.MOST_ADDRESSES):
            question = notifications.OverlappingAddresses(clinic=clinic, addresses=some)
            found += call.ask(notifications.OVERLAPPING_ADDRESSES, question, timeout=OVERLAP_SECONDS).overlapping
    except Refused:
        return None
    return found


def _in_parts(values: Sequence[str], size: int) -> Iterator[list[str]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))
