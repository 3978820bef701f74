"""Addresses at which nobody could be reached: noted when notifications tells, shown to their owner at the next login.

The note is about what the person had set then: once they set or verify something anew it says nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import and_, func, select
from sqlalchemy.dialects.postgresql import insert

from services.identity.tables import contacts, unreachable_addresses
from shared.contracts import identity
from shared.contracts.notifications import AddressBounced

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_NOTES = unreachable_addresses.c


def note(tx: Transaction, event: AddressBounced) -> None:
    """Notes that this address of the person's could not be reached; a guardian's by the child whose inbox it is for."""
    kind, person = _owner(event.kind, event.person, event.child)
    row = {
        "kind": kind,
        "person": person,
        "channel": str(event.channel),
        "contact_version": event.contact_version,
        "noted_at": tx.now,
    }
    tx.execute(
        insert(unreachable_addresses)
        .values(row)
        .on_conflict_do_update(
            index_elements=["kind", "person", "channel"],
            set_={"contact_version": row["contact_version"], "noted_at": tx.now},
            where=_NOTES.contact_version <= event.contact_version,
        )
    )


def channels(
    tx: Transaction, kind: identity.PersonKind, person: str, child: UUID | None = None
) -> list[identity.Channel]:
    """By which channels the person could not be reached at what they have set now. `child`: whose inbox it is for."""
    owner = _owner(kind, person, child)
    mine = and_(_NOTES.kind == owner[0], _NOTES.person == owner[1])
    set_now = and_(contacts.c.kind == _NOTES.kind, contacts.c.person == _NOTES.person)
    current = _NOTES.contact_version >= func.coalesce(contacts.c.version, 0)
    rows = tx.execute(
        select(_NOTES.channel)
        .select_from(unreachable_addresses.outerjoin(contacts, set_now))
        .where(mine, current)
        .order_by(_NOTES.channel)
    )
    return list(rows.scalars())


def _owner(kind: identity.PersonKind, person: str, child: UUID | None) -> tuple[str, str]:
    """As the contacts of that person are kept."""
    return (kind, person) if child is None else ("guardian", f"{person} {child}")
