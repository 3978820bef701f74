"""Who acts for a child: guardians by the register's word, until the 13th birthday, unless a clinic blocks it
(R-ID-11, R-ID-13)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import insert, select, text, update

from services.identity import residents, rules
from services.identity.residents import NumberKey
from services.identity.tables import blocked_guardians
from shared.contracts import access
from shared.contracts.base import Done
from shared.operations.clock import SWEDEN

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_NOW = text(
    """SELECT guardianships.ends_on, guardians.protected OR children.protected AS protected, guardians.active,
              (SELECT coalesce(array_agg(DISTINCT blocked.clinic ORDER BY blocked.clinic), '{}')
               FROM blocked_guardians AS blocked
               WHERE blocked.lifted_at IS NULL
                 AND blocked.guardian IN (SELECT hash FROM identity_numbers WHERE resident = :guardian)
                 AND blocked.child IN (SELECT hash FROM identity_numbers WHERE resident = :child)) AS blocked_at
       FROM guardianships
       JOIN residents AS guardians ON guardians.resident = guardianships.guardian
       JOIN residents AS children ON children.resident = guardianships.child
       WHERE guardianships.guardian = :guardian AND guardianships.child = :child AND guardianships.ended_at IS NULL"""
)


def now(tx: Transaction, guardian: UUID, child: UUID) -> access.RepresentationNow:
    """Whether someone acts for a child at this moment, and where a clinic has blocked it; one statement."""
    row = tx.execute(_NOW, {"guardian": guardian, "child": child}).one_or_none()
    today = tx.now.astimezone(SWEDEN).date()
    if row is None or not row.active or row.protected or today >= row.ends_on:
        return access.RepresentationNow(acting=False)
    return access.RepresentationNow(acting=True, blocked_at=list(row.blocked_at))


def asked(tx: Transaction, request: access.Representation) -> access.RepresentationNow:
    """Answers another service."""
    return now(tx, request.guardian, request.child)


# --- blocking by a clinic -------------------------------------------------------------------------------------------


def block(tx: Transaction, request: access.BlockGuardian, key: NumberKey) -> Done:
    """Blocks a guardian of a child at the clinic, or takes that back; by number, since neither needs an account.

    Raises `Forbidden`, or `Invalid` for what is no identity number.
    """
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    guardian = residents.number_in(tx, "guardian_number", request.guardian_number)
    child = residents.number_in(tx, "child_number", request.child_number)
    this = (
        (blocked_guardians.c.clinic == request.clinic)
        & (blocked_guardians.c.guardian == key.hash(guardian))
        & (blocked_guardians.c.child == key.hash(child))
        & blocked_guardians.c.lifted_at.is_(None)
    )
    if not request.blocked:
        tx.execute(update(blocked_guardians).where(this).values(lifted_at=tx.now, lifted_by=tx.caller.subject))
    elif tx.execute(select(blocked_guardians.c.block).where(this)).first() is None:
        one = uuid4()
        tx.execute(
            insert(blocked_guardians).values(
                block=one,
                clinic=request.clinic,
                guardian=key.hash(guardian),
                child=key.hash(child),
                sealed=tx.sealer.seal(json.dumps([guardian, child]).encode(), _context(one)),
                blocked_at=tx.now,
                blocked_by=tx.caller.subject,
            )
        )
    return Done()


def list_blocked(tx: Transaction, request: access.ListBlockedGuardians) -> access.BlockedGuardians:
    """Whom the clinic has blocked. Raises `Forbidden`."""
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    rows = tx.execute(
        select(blocked_guardians)
        .where(blocked_guardians.c.clinic == request.clinic, blocked_guardians.c.lifted_at.is_(None))
        .order_by(blocked_guardians.c.blocked_at, blocked_guardians.c.block)
    )
    found = []
    for row in rows:
        guardian, child = json.loads(tx.sealer.open(row.sealed, _context(row.block)))
        found.append(
            access.BlockedGuardian(
                guardian_number=guardian, child_number=child, blocked_at=row.blocked_at, blocked_by=row.blocked_by
            )
        )
    return access.BlockedGuardians(blocked=found)


def _context(block_id: UUID) -> bytes:
    return b"blocked guardian " + block_id.bytes
