"""What notifications holds about a resident, for the subject access report (R-ID-19): when they were told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, or_, select

from services.notifications.tables import deliveries
from shared.contracts.notifications import Channel, DeliveryState, RecipientKind
from shared.contracts.subject_access import Held, HeldPage, HeldValue, SubjectAccess
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid

PAGE = 200
STATES: dict[str, str] = {
    DeliveryState.WAITING: "väntar på att skickas",
    DeliveryState.CLAIMED: "ska just skickas",
    DeliveryState.SENDING: "skickas",
    DeliveryState.SENT: "skickad",
    DeliveryState.UNCERTAIN: "kanske skickad",
    DeliveryState.FAILED: "inte skickad",
    DeliveryState.WITHDRAWN: "inte längre aktuell",
    DeliveryState.NOT_WANTED: "inte vald",
    DeliveryState.MERGED: "skickad med en annan till samma adress",
}
CHANNELS: dict[str, str] = {Channel.EMAIL: "e-post", Channel.SMS: "sms"}


def page(tx: Transaction, request: SubjectAccess) -> HeldPage:
    """A page of the deliveries to the resident, or to guardians about them. No care provider controls these.

    Raises `Invalid` for a cursor that is none.
    """
    if request.care_provider is not None:
        return HeldPage(held=[])
    person = str(request.resident)
    to_them = (deliveries.c.recipient_kind == RecipientKind.RESIDENT) & (deliveries.c.recipient == person)
    query = select(deliveries).where(or_(to_them, deliveries.c.about == person))
    if request.after is not None:
        query = query.where(deliveries.c.delivery > _cursor(request.after))
    rows = tx.execute(query.order_by(deliveries.c.delivery).limit(PAGE + 1)).all()
    after = str(rows[PAGE - 1].delivery) if len(rows) > PAGE else None
    return HeldPage(held=[_held(row, person) for row in rows[:PAGE]], after=after)


def _cursor(after: str) -> UUID:
    try:
        return UUID(after)
    except ValueError:
        raise Invalid(fields=[("after", "är ingen fortsättning")]) from None


def _held(row: Row[Any], person: str) -> Held:
    values = {
        "Till": "dig" if row.recipient == person else "en vårdnadshavare",
        "Sätt": CHANNELS.get(row.channel),
        "Tillstånd": STATES[row.state],
        "Orsakskod": row.reason,
        "Försök": str(row.attempts),
        "Klart": row.ended_at.isoformat(timespec="seconds") if row.ended_at else None,
    }
    return Held(
        kind="Aviseringar",
        at=row.created_at,
        values=[HeldValue(name=name, value=value) for name, value in values.items() if value is not None],
    )
