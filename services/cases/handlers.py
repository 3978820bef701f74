"""Who can be given a clinic's cases: the handlers there, by this service's copy of the rights (R-CASE-4, R-ID-10)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, literal, select

from services.cases.rules import may_be_assigned
from shared.contracts.base import HsaId, Role
from shared.contracts.identity import RightsNow
from shared.database.kernel_tables import rights_state, rights_subjects
from shared.database.transaction import Transaction
from shared.security.caller import Rights
from shared.security.rights import rights_from


def rights_in_copy(tx: Transaction, person: HsaId) -> tuple[Rights, int]:
    """The person's rights as last told by identity, and up to which change of them they are known.

    A change of theirs may have come before others of lower numbers.
    """
    applied = select(rights_state.c.applied).scalar_subquery()
    one = select(literal(1)).subquery()
    query = select(rights_subjects.c.roles, func.greatest(applied, rights_subjects.c.version, -1).label("number"))
    theirs = one.outerjoin(rights_subjects, rights_subjects.c.subject == person)
    row = tx.execute(query.select_from(theirs)).one()
    return rights_from(row.roles or [], False), row.number


@dataclass(frozen=True)
class Entitled:
    """Someone may handle a clinic's cases. `rights_number`: up to which change, where the copy does not know it yet."""

    rights_number: int | None = None


def entitled(tx: Transaction, person: HsaId, clinic: HsaId, told: RightsNow | None = None) -> Entitled | None:
    """Whether the person is a handler there, by the copy or by what identity told: the newer of them (R-ID-10)."""
    copy, number = rights_in_copy(tx, person)
    if told is not None and told.number > number:
        return Entitled(told.number) if told_to_handle(told, clinic) else None
    return Entitled() if may_be_assigned(copy.roles_at(clinic)) else None


def told_to_handle(told: RightsNow, clinic: HsaId) -> bool:
    """Whether someone is a handler there by what identity told."""
    return may_be_assigned(frozenset(Role(held.role) for held in told.roles if held.clinic == clinic))


def hold_rights_of(tx: Transaction, person: HsaId) -> None:
    """Keeps a change of the person's rights from taking effect on their cases until this transaction ends.

    Without it, a case could be given to someone just after their cases were taken from them.
    """
    tx.execute(select(func.pg_advisory_xact_lock_shared(_lock(person))))


def change_rights_of(tx: Transaction, person: HsaId) -> None:
    """Waits for those who are just giving the person a case, and lets no one begin to until this transaction ends."""
    tx.execute(select(func.pg_advisory_xact_lock(_lock(person))))


def _lock(person: HsaId) -> object:
    return func.hashtextextended(literal(f"cases of handler {person}"), 0)
