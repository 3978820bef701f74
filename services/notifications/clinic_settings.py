"""What a clinic's administrators set: who is told of new cases, who is reminded and after how long (R-NOT-2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from services.notifications import addresses, rules
from services.notifications.tables import clinic_addresses, clinic_settings, deliveries
from shared.contracts import identity
from shared.contracts.base import HsaId, Role
from shared.contracts.notifications import (
    Channel,
    ClinicSettings,
    DeliveryKind,
    DeliveryState,
    GetClinicSettings,
    Overlapping,
    OverlappingAddresses,
    RecipientKind,
    SendTestMessage,
    SetClinicSettings,
    TestMessageQueued,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid, LimitExceeded, NotFound
from shared.operations.logs import log
from shared.security.rights import people_with
from shared.security.sealing import SealBroken

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
    stored = _stored(tx, clinic)

    def those(condition: Callable[[_Stored], bool]) -> list[str]:
        return list(dict.fromkeys(one.address for one in stored if one.address is not None and condition(one)))

    return ClinicSettings(
        clinic=clinic,
        new_case_addresses=those(lambda one: one.purpose == NEW_CASE),
        reminder_addresses=those(lambda one: one.purpose == REMINDER),
        reminder_days=row.reminder_days if row else None,
        changed_at=row.changed_at if row else None,
        unreachable=those(lambda one: one.bounced),
        unreadable=sum(one.address is None for one in stored),
    )


def case_receivers(tx: Transaction, request: GetClinicSettings) -> list[HsaId]:
    """Those who may be told of the clinic's new cases."""
    return people_with(tx.connection, request.clinic, Role.CASE_RECEIVER)


def overlapping_with(settings: ClinicSettings, staff: list[identity.StaffContact]) -> list[str]:
    """The new-case addresses that one of these has chosen to be told of new cases at (R-NOT-6)."""
    own = {
        addresses.compared(person.email)
        for person in staff
        if person.email and "email" in person.notify_by and "new_case" in person.tell_me_about
    }
    return [address for address in settings.new_case_addresses if addresses.compared(address) in own]


def send_test(tx: Transaction, request: SendTestMessage) -> TestMessageQueued:
    """Queues a test message to one of the clinic's own addresses.

    Raises `Forbidden`, `NotFound`, and `LimitExceeded` for too many within an hour.
    """
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    try:
        hashed = addresses.address_hash(tx.settings.address_key, Channel.EMAIL, addresses.email(request.address))
    except addresses.NotAnAddress:
        raise Invalid(fields=[("address", "är ingen e-postadress")]) from None
    entered = clinic_addresses.c.clinic == request.clinic, clinic_addresses.c.address_hash == hashed
    address_id = tx.execute(select(clinic_addresses.c.address_id).where(*entered).limit(1)).scalar_one_or_none()
    if address_id is None:
        raise NotFound
    # Two who ask at the same moment wait for each other here, as those who save do: each sees what the other has sent.
    tx.execute(select(clinic_settings.c.clinic).where(clinic_settings.c.clinic == request.clinic).with_for_update())
    lately = deliveries.c.created_at > tx.now - timedelta(hours=1)
    tests = (deliveries.c.clinic == request.clinic) & (deliveries.c.kind == DeliveryKind.CLINIC_TEST) & lately
    if tx.execute(select(func.count()).where(tests)).scalar_one() >= rules.TEST_MESSAGES_AN_HOUR:
        raise LimitExceeded("Mottagningen har skickat många testmeddelanden den senaste timmen. Försök igen senare.")
    delivery = uuid4()
    row = {
        "delivery": delivery,
        "event_id": uuid4(),
        "kind": DeliveryKind.CLINIC_TEST,
        "clinic": request.clinic,
        "recipient_kind": RecipientKind.CLINIC,
        "recipient": str(address_id),
        "channel": Channel.EMAIL,
        "address_hash": hashed,
        "state": DeliveryState.WAITING,
        "due_at": tx.now,
        "created_at": tx.now,
    }
    tx.execute(insert(deliveries).values(row))
    return TestMessageQueued(delivery=delivery)


def overlapping_addresses(tx: Transaction, request: OverlappingAddresses) -> Overlapping:
    """Which of the addresses are a clinic's own. What is no mail address is none of them."""
    hashes = addresses.mail_hashes(tx.settings.address_key, request.addresses)
    query = select(clinic_addresses.c.address_hash).where(clinic_addresses.c.address_hash.in_(list(hashes.values())))
    if request.clinic is not None:
        query = query.where(clinic_addresses.c.clinic == request.clinic)
    entered = {bytes(found) for found in tx.execute(query).scalars()} if hashes else set()
    return Overlapping(overlapping=[written for written, hashed in hashes.items() if hashed in entered])


def seal_address(tx: Transaction, address_id: UUID, address: str) -> bytes:
    """The address as it is kept."""
    return tx.sealer.seal(address.encode(), _context(address_id))


def open_address(tx: Transaction, address_id: UUID, sealed: bytes) -> str | None:
    """The address as it was entered, in normal form. None, and a line in the log: its key is gone, or it is broken."""
    try:
        return tx.sealer.open(sealed, _context(address_id)).decode()
    except SealBroken as error:
        log.error("address_unreadable", key_id=getattr(error, "key", None), exc_info=error)
        return None


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
    kept = tx.execute(select(clinic_addresses.c.address_hash, clinic_addresses.c.address_id).where(mine)).all()
    there = {bytes(row.address_hash): row.address_id for row in kept}
    for position, (found, address) in enumerate(wanted.items()):
        if found in there:
            # Sealed anew: what could not be read can be, when it is entered again.
            sealed = seal_address(tx, there[found], address)
            tx.execute(
                update(clinic_addresses)
                .where(clinic_addresses.c.address_id == there[found])
                .values(position=position, bounced_at=None, address=sealed)
            )
            continue
        address_id = uuid4()
        row: dict[str, Any] = {
            "address_id": address_id,
            "clinic": clinic,
            "purpose": purpose,
            "address": seal_address(tx, address_id, address),
            "address_hash": found,
            "position": position,
            "added_at": tx.now,
            "added_by": tx.caller.subject,
        }
        tx.execute(insert(clinic_addresses).values(row))


@dataclass(frozen=True)
class _Stored:
    """An address of a clinic's; None: it can't be read. `bounced`: mail came back from it."""

    purpose: str
    address: str | None
    bounced: bool


def _stored(tx: Transaction, clinic: HsaId) -> list[_Stored]:
    rows = tx.execute(
        select(clinic_addresses)
        .where(clinic_addresses.c.clinic == clinic)
        .order_by(clinic_addresses.c.purpose, clinic_addresses.c.position)
    ).all()
    return [
        _Stored(row.purpose, open_address(tx, row.address_id, bytes(row.address)), row.bounced_at is not None)
        for row in rows
    ]


def _context(address_id: UUID) -> bytes:
    return b"clinic_address:" + str(address_id).encode()
