"""Addresses at which nobody could be reached: noted when notifications tells, shown to their owner at the next login.

The note is about what the person had set then: once they set or verify something anew it says nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from services.identity.tables import unreachable_addresses
from shared.contracts import identity
from shared.contracts.notifications import AddressBounced

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_NOTES = unreachable_addresses.c
_CHANNELS = b"""SELECT note.person, note.channel
    FROM unreachable_addresses AS note LEFT JOIN contacts USING (kind, person)
    WHERE note.kind = %s AND note.person = ANY(%s) AND note.contact_version >= coalesce(contacts.version, 0)
    ORDER BY note.channel"""


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
    tx: Transaction, kind: identity.PersonKind, people: Sequence[str], child: UUID | None = None
) -> dict[str, list[identity.Channel]]:
    """By which channels people could not be reached at what they have set now. `child`: whose inbox it is for."""
    owners = {_owner(kind, person, child): person for person in people}
    kept_as = next((kept_kind for kept_kind, _ in owners), kind)
    found: dict[str, list[identity.Channel]] = {}
    for person, channel in tx.look(_CHANNELS, (kept_as, [owner for _, owner in owners])):
        found.setdefault(owners[kept_as, person], []).append(channel)
    return found


def _owner(kind: identity.PersonKind, person: str, child: UUID | None) -> tuple[str, str]:
    """As the contacts of that person are kept."""
    return (kind, person) if child is None else ("guardian", f"{person} {child}")
