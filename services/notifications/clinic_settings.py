"""What a clinic's administrators set: who is told of new cases, who is reminded and after how long (R-NOT-2)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from services.notifications import addresses
from services.notifications.tables import clinic_addresses, clinic_settings
from shared.contracts import identity
from shared.contracts.base import HsaId, Role
from shared.contracts.notifications import (
    Channel,
    ClinicSettings,
    GetClinicSettings,
    Overlapping,
    OverlappingAddresses,
    SetClinicSettings,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid
from shared.security.rights import people_with

NEW_CASE = "new_case"
REMINDER = "reminder"


def set_settings(tx: Transaction, request: SetClinicSettings) -> ClinicSettings:
    """Replaces the clinic's settings. Raises `Forbidden`, or `Invalid` that names every address that is none.

    An address that stays keeps its id, so that what is queued for it is still sent.
    """
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    problems: list[tuple[str, str]] = []
    wanted = {
        NEW_CASE: _normalised("new_case_addresses", request.new_case_addresses, problems),
        REMINDER: _normalised("reminder_addresses", request.reminder_addresses, problems),
    }
    if problems:
        raise Invalid(fields=problems)
    settings = {
        "clinic": request.clinic,
        "reminder_days": request.reminder_days,
        "changed_at": tx.now,
        "changed_by": tx.caller.subject,
    }
    statement = insert(clinic_settings).values(settings)
    # First of all: its row is what two administrators who save at once wait for each other at.
    tx.execute(statement.on_conflict_do_update(index_elements=["clinic"], set_=settings))
    for purpose, entered in wanted.items():
        _replace(tx, request.clinic, purpose, entered)
    return read_settings(tx, request.clinic)


def get_settings(tx: Transaction, request: GetClinicSettings) -> ClinicSettings:
    """The clinic's settings; empty if nothing was ever set. Raises `Forbidden`."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    return read_settings(tx, request.clinic)


def read_settings(tx: Transaction, clinic: HsaId) -> ClinicSettings:
    """As stored, whoever asks."""
    row = tx.execute(select(clinic_settings).where(clinic_settings.c.clinic == clinic)).one_or_none()
    return ClinicSettings(
        clinic=clinic,
        new_case_addresses=_stored(tx, clinic, NEW_CASE),
        reminder_addresses=_stored(tx, clinic, REMINDER),
        reminder_days=row.reminder_days if row else None,
        changed_at=row.changed_at if row else None,
    )


def case_receivers(tx: Transaction, request: GetClinicSettings) -> list[HsaId]:
    """Those who may be told of the clinic's new cases."""
    return people_with(tx.connection, request.clinic, Role.CASE_RECEIVER)


def overlapping_with(settings: ClinicSettings, staff: list[identity.StaffContact]) -> list[str]:
    """The new-case addresses that one of these has chosen to be told of new cases at (R-NOT-6)."""
    own = {
        person.email.casefold()
        for person in staff
        if person.email and "email" in person.notify_by and "new_case" in person.tell_me_about
    }
    return [address for address in settings.new_case_addresses if address.casefold() in own]


def overlapping_addresses(tx: Transaction, request: OverlappingAddresses) -> Overlapping:
    """Which of the addresses are a clinic's own. What is no mail address is none of them."""
    key = tx.settings.address_key
    hashes: dict[str, bytes] = {}
    for written in request.addresses:
        try:
            hashes[written] = addresses.address_hash(key, Channel.EMAIL, addresses.email(written))
        except addresses.NotAnAddress:
            continue
    query = select(clinic_addresses.c.address_hash).where(clinic_addresses.c.address_hash.in_(list(hashes.values())))
    if request.clinic is not None:
        query = query.where(clinic_addresses.c.clinic == request.clinic)
    entered = {bytes(found) for found in tx.execute(query).scalars()} if hashes else set()
    return Overlapping(overlapping=[written for written, hashed in hashes.items() if hashed in entered])


def open_address(tx: Transaction, address_id: UUID, sealed: bytes) -> str:
    """The address as it was entered, in normal form. Raises `SealBroken`."""
    return tx.sealer.open(sealed, _context(address_id)).decode()


def _normalised(field: str, entered: list[str], problems: list[tuple[str, str]]) -> list[str]:
    """Each address once, in normal form, in the order entered. What is none is added to the problems."""
    found: dict[str, str] = {}
    for position, value in enumerate(entered):
        try:
            address = addresses.email(value)
        except addresses.NotAnAddress:
            problems.append((f"{field}.{position}", "är ingen e-postadress"))
        else:
            found.setdefault(address.casefold(), address)
    return list(found.values())


def _replace(tx: Transaction, clinic: HsaId, purpose: str, entered: list[str]) -> None:
    key = tx.settings.address_key
    wanted = {addresses.address_hash(key, Channel.EMAIL, address): address for address in entered}
    mine = (clinic_addresses.c.clinic == clinic) & (clinic_addresses.c.purpose == purpose)
    tx.execute(delete(clinic_addresses).where(mine, clinic_addresses.c.address_hash.not_in(list(wanted))))
    there = {bytes(found) for found in tx.execute(select(clinic_addresses.c.address_hash).where(mine)).scalars()}
    for position, (found, address) in enumerate(wanted.items()):
        if found in there:
            tx.execute(
                update(clinic_addresses).where(mine, clinic_addresses.c.address_hash == found).values(position=position)
            )
            continue
        address_id = uuid4()
        row: dict[str, Any] = {
            "address_id": address_id,
            "clinic": clinic,
            "purpose": purpose,
            "address": tx.sealer.seal(address.encode(), _context(address_id)),
            "address_hash": found,
            "position": position,
            "added_at": tx.now,
            "added_by": tx.caller.subject,
        }
        tx.execute(insert(clinic_addresses).values(row))


def _stored(tx: Transaction, clinic: HsaId, purpose: str) -> list[str]:
    rows = tx.execute(
        select(clinic_addresses.c.address_id, clinic_addresses.c.address)
        .where(clinic_addresses.c.clinic == clinic, clinic_addresses.c.purpose == purpose)
        .order_by(clinic_addresses.c.position)
    ).all()
    return [open_address(tx, row.address_id, bytes(row.address)) for row in rows]


def _context(address_id: UUID) -> bytes:
    return b"clinic_address:" + str(address_id).encode()
