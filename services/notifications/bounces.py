"""An address at which nobody could be reached: the clinic sees it, and a person is told at the next login."""

from __future__ import annotations

import re
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import select, update

from services.notifications.tables import clinic_addresses, deliveries
from shared.contracts.notifications import ADDRESS_BOUNCED, AddressBounced, DeliveryState, RecipientKind
from shared.database.transaction import Transaction

STATUS_OF_ADDRESS = r"5\.1\.(?:[012346]|10)"
"""The enhanced status codes by which it is the recipient's address that is bad (RFC 3463, 3.2; RFC 7505). Not 5.1.7 and
5.1.8, which are about the sender's, nor 5.7.x: a policy that refuses us refuses everybody."""


def is_about_the_address(status: str) -> bool:
    """Whether this enhanced status code says that nobody can be reached at the address, ever."""
    return re.fullmatch(STATUS_OF_ADDRESS, status) is not None


class Bounced(Protocol):
    """A delivery that could not reach its address for good."""

    @property
    def delivery(self) -> UUID: ...
    @property
    def event_id(self) -> UUID: ...
    @property
    def recipient_kind(self) -> Any: ...
    @property
    def recipient(self) -> str: ...
    @property
    def about(self) -> str | None: ...
    @property
    def channel(self) -> Any: ...
    @property
    def contact_version(self) -> int | None: ...


BOUNCED = tuple(
    deliveries.c[name]
    for name in ("delivery", "event_id", "recipient_kind", "recipient", "about", "channel", "contact_version")
)
"""The same of a delivery in the database."""


def bounced(tx: Transaction, one: Bounced) -> None:
    """Marks a clinic's own address; tells identity of a person's, without the address itself (R-SYS-3)."""
    if one.recipient_kind == RecipientKind.CLINIC:
        tx.execute(
            update(clinic_addresses)
            .where(clinic_addresses.c.address_id == UUID(one.recipient))
            .values(bounced_at=tx.now)
        )
        return
    _tell_owner(tx, one, one.channel)


def came_back(tx: Transaction, one: Bounced) -> None:
    """The same for a message that was taken and could not be delivered: also for those who stood back for it, since the
    address is theirs too (R-NOT-6)."""
    bounced(tx, one)
    stood_back = select(*BOUNCED).where(
        deliveries.c.event_id == one.event_id,
        deliveries.c.merged_into == one.delivery,
        deliveries.c.state == DeliveryState.MERGED,
    )
    for row in tx.execute(stood_back.order_by(deliveries.c.recipient)).all():
        _tell_owner(tx, row, one.channel)


def _tell_owner(tx: Transaction, one: Any, channel: Any) -> None:
    event = AddressBounced(
        kind="staff" if one.recipient_kind == RecipientKind.STAFF else "resident",
        person=one.recipient,
        child=UUID(one.about) if one.about else None,
        channel=channel,
        contact_version=one.contact_version or 0,
    )
    tx.publish(ADDRESS_BOUNCED, event, aggregate=f"address {one.recipient}")
