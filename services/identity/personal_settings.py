"""What people see of their own settings, in one view (R-ID-2, R-ID-3, R-ID-14, R-NOT-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select

from services.identity import contacts, resident_accounts, residents, roles
from services.identity.resident_accounts import NumberKey
from services.identity.tables import accepted_terms, identity_numbers
from services.identity.tables import residents as accounts
from shared.contracts import directory, identity, personal

if TYPE_CHECKING:
    from shared.database.transaction import Transaction


def from_hsa(found: directory.StaffFacts) -> personal.FromHsa:
    """What HSA says of the caller, for their own eyes."""
    return personal.FromHsa(**{name: getattr(found, name) for name in personal.FromHsa.model_fields})


def mine(
    tx: Transaction, _request: personal.MySettings, hsa: personal.FromHsa | None, key: NumberKey
) -> personal.Settings:
    """All of it. `hsa`: None for residents, and where the directory does not answer."""
    owner = contacts.owner_of(tx.caller)
    row, addresses = contacts.set_by(tx, owner)
    name, number, protected = None, None, hsa.protected if hsa else False
    held: list[identity.HeldRole] = []
    if tx.caller.kind == "resident":
        name, number, protected = _of_resident(tx, residents.whose(tx.caller))
    else:
        held = roles.held_by(tx, [tx.caller.subject]).get(tx.caller.subject, [])
    return personal.Settings(
        person=tx.caller.subject,
        acting_for=tx.caller.acting_for,
        name=name,
        identity_number=number,
        protected=protected,
        addresses=[
            personal.OwnAddress(
                channel=channel,
                address=addresses[field],
                verified=contacts.is_verified(tx, key, channel, addresses[field]),
            )
            for channel, field in contacts.FIELDS.items()
            if field in addresses
        ],
        notify_by=list(row.notify_by) if row else [],
        tell_me_about=list(row.tell_me_about) if row else [],
        accepted_terms=_accepted(tx),
        hsa=hsa,
        roles=held,
    )


def _of_resident(tx: Transaction, resident: UUID) -> tuple[str, str, bool]:
    row = tx.execute(
        select(accounts, identity_numbers.c.sealed)
        .join(identity_numbers, identity_numbers.c.resident == accounts.c.resident)
        .where(accounts.c.resident == resident, identity_numbers.c.current)
    ).one()
    return residents.particulars(tx, row).name, resident_accounts.opened_number(tx, row), row.protected


def _accepted(tx: Transaction) -> list[personal.AcceptedTerms]:
    kind, person = contacts.person_of(tx.caller)
    rows = tx.execute(
        select(accepted_terms.c.version, accepted_terms.c.accepted_at)
        .where(accepted_terms.c.kind == kind, accepted_terms.c.person == person)
        .order_by(accepted_terms.c.accepted_at.desc())
    )
    return [personal.AcceptedTerms(version=row.version, accepted_at=row.accepted_at) for row in rows]
