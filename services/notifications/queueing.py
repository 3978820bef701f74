"""From an event to deliveries that wait, in the transaction in which the event takes effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4, uuid5

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert

from services.notifications import delivering, rules
from services.notifications.clinic_settings import NEW_CASE
from services.notifications.tables import clinic_addresses, deliveries
from shared.contracts import cases
from shared.contracts.base import Event
from shared.contracts.notifications import Channel, DeliveryKind, DeliveryState, RecipientKind
from shared.database.transaction import Transaction
from shared.security.rights import people_with

_OCCASIONS = UUID("5b9e3a0e-6f0e-4a52-9d0f-3c1f9f0e7a51")


@dataclass(frozen=True)
class Recipient:
    kind: RecipientKind
    recipient: str
    channel: Channel | None = None
    address_hash: bytes | None = None


def queue(tx: Transaction, event: Event[Any], body: Any) -> int:
    """Queues what the table in rules.py says of this event; returns how many. Repeated, it adds nothing.

    A clinic's own addresses take their place per address at once, so that they are told whatever becomes of the rights
    of a person who has the same address (R-NOT-5, R-NOT-6). People find theirs when it is sent.
    """
    event_id = occasion_of(event, body)
    rows = [
        {
            "delivery": uuid4(),
            "event_id": event_id,
            "kind": notice.kind,
            "clinic": body.clinic,
            "recipient_kind": recipient.kind,
            "recipient": recipient.recipient,
            "channel": recipient.channel,
            "address_hash": recipient.address_hash,
            "state": DeliveryState.WAITING,
            "due_at": tx.now,
            "created_at": tx.now,
        }
        for notice in rules.notices(event, body)
        for recipient in _recipients(tx, notice.told, body)
    ]
    if rows:
        tx.execute(insert(deliveries).on_conflict_do_nothing(), rows)
    return len(rows)


def occasion_of(event: Event[Any], body: Any) -> UUID:
    """What happened, as one id, the same however often and by whatever way it is told."""
    what = f"{body.case}/{body.version}" if event is cases.CASE_ASSIGNED else str(body.message)
    return occasion(f"{event.name}/{what}")


def occasion(what: str) -> UUID:
    """What happened, named in words, as one id."""
    return uuid5(_OCCASIONS, what)


def withdraw_residents(tx: Transaction, resident: UUID) -> int:
    """Ends all that is queued for a resident who has become inactive, and for a child's guardians (R-NOT-4, R-NOT-8).

    Returns how many.
    """
    held, before = _queued_for(tx, resident), None
    while held != before:  # a sender we waited for may have made more of it meanwhile
        held, before = _queued_for(tx, resident), held
    withdrawn = tx.execute(
        update(deliveries)
        .where(deliveries.c.delivery.in_(held))
        .values(state=DeliveryState.WITHDRAWN, reason="inactive", ended_at=tx.now)
        .returning(deliveries.c.delivery, deliveries.c.event_id, deliveries.c.address_hash)
    ).all()
    places = [row for row in withdrawn if row.address_hash is not None]
    if places:
        freed = deliveries.c.delivery.in_([row.delivery for row in places])
        tx.execute(update(deliveries).where(freed).values(address_hash=None))
        delivering.wake_merged(tx, sorted({row.event_id for row in places}))
    return len(withdrawn)


def _queued_for(tx: Transaction, resident: UUID) -> list[UUID]:
    """What is queued for the resident, or about the child, held against senders until the end of the transaction."""
    queued = (
        select(deliveries.c.delivery)
        .where(
            or_(deliveries.c.recipient == str(resident), deliveries.c.about == str(resident)),
            deliveries.c.recipient_kind == RecipientKind.RESIDENT,
            deliveries.c.state.in_([DeliveryState.WAITING, DeliveryState.CLAIMED]),
        )
        .order_by(deliveries.c.delivery)
        .with_for_update()
    )
    return list(tx.execute(queued).scalars())


def _recipients(tx: Transaction, told: rules.Told, body: Any) -> list[Recipient]:
    if told is rules.Told.NEW_CASE_ADDRESSES:
        found = tx.execute(
            select(clinic_addresses.c.address_id, clinic_addresses.c.address_hash).where(
                clinic_addresses.c.clinic == body.clinic, clinic_addresses.c.purpose == NEW_CASE
            )
        )
        return [
            Recipient(RecipientKind.CLINIC, str(row.address_id), Channel.EMAIL, row.address_hash) for row in found.all()
        ]
    if told is rules.Told.CASE_RECEIVERS:
        role = rules.STAFF_RULES[DeliveryKind.NEW_CASE].role
        return [Recipient(RecipientKind.STAFF, person) for person in people_with(tx.connection, body.clinic, role)]
    if told is rules.Told.HANDLER:
        return [Recipient(RecipientKind.STAFF, body.handler)]
    return [Recipient(RecipientKind.RESIDENT, str(body.resident))]
