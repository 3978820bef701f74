"""Taking apart what the register had told to be one person's by mistake (R-SYS-1, R-ID-24).

A number that was added to an account, and a link between two accounts, stay when the register tells no more of them: it
tells less of a protected person too, and nobody may become unprotected or unlocked by that. So people have to decide.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, update

from services.identity import resident_accounts, residents, sessions
from services.identity.resident_accounts import NumberKey
from services.identity.tables import guardianships, identity_numbers, linked_accounts, reports, taken_apart
from services.identity.tables import residents as accounts
from shared.contracts import identity
from shared.messaging.errors import Conflict
from shared.operations.logs import log

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def take_apart(tx: Transaction, request: identity.TakeApart, key: NumberKey) -> identity.TakenApart:
    """Takes the number out of the account, or the account by that number away from those that are linked with it.

    All that rested on the two being one person ends: sessions, custody until the register has told of it again, subject
    access reports. Raises `Conflict` with reason `not_together` or `only_number`, `Invalid` for what is no number.
    """
    number = key.hash(residents.number_in(tx, "identity_number", request.identity_number))
    holder = resident_accounts.hold_account_of(tx, number)
    concerned = [one.resident for one in resident_accounts.hold_every_account(tx, request.resident)]
    if holder is None or holder not in concerned:
        raise Conflict("Numret hör inte till det kontot eller något som är kopplat till det.", reason="not_together")
    if holder == request.resident:
        _take_out(tx, holder, number)
    else:
        _unlink(tx, holder)
    _end_what_rested_on_it(tx, concerned)
    other = None if holder == request.resident else holder
    tx.execute(
        insert(taken_apart).values(
            at=tx.now, resident=request.resident, other=other, number=number, by=tx.caller.identity
        )
    )
    log.warning("taken_apart", resident=str(request.resident), other=str(other or ""))
    return identity.TakenApart(residents=concerned)


def _take_out(tx: Transaction, resident: UUID, number: bytes) -> None:
    """Of the numbers that are left, the one that was added last is in force until the register is asked again."""
    own = identity_numbers.c.resident == resident
    rows = tx.execute(select(identity_numbers).where(own).order_by(identity_numbers.c.added_at.desc())).all()
    left = [row for row in rows if row.hash != number]
    if not left:
        raise Conflict("Det är kontots enda nummer.", reason="only_number")
    tx.execute(delete(identity_numbers).where(identity_numbers.c.hash == number))
    if not any(row.current for row in left):
        tx.execute(update(identity_numbers).where(identity_numbers.c.hash == left[0].hash).values(current=True))


def _unlink(tx: Transaction, resident: UUID) -> None:
    linked = linked_accounts.c
    person = tx.execute(select(linked.person).where(linked.resident == resident)).scalar_one()
    tx.execute(delete(linked_accounts).where(linked.resident == resident))
    left = tx.execute(select(linked.resident).where(linked.person == person)).scalars().all()
    if len(left) == 1:
        tx.execute(delete(linked_accounts).where(linked.resident == left[0]))


def _end_what_rested_on_it(tx: Transaction, concerned: Collection[UUID]) -> None:
    for one in concerned:
        sessions.end_all(tx, str(one), "taken_apart")
        sessions.end_acting(tx, one, "taken_apart")
    family = or_(guardianships.c.guardian.in_(concerned), guardianships.c.child.in_(concerned))
    tx.execute(update(guardianships).where(family, guardianships.c.ended_at.is_(None)).values(ended_at=tx.now))
    # What was gathered is about both.
    tx.execute(delete(reports).where(reports.c.resident.in_(concerned)))
    # Names, protection and whether they live may be the other's: the register is asked at the next run.
    tx.execute(update(accounts).where(accounts.c.resident.in_(concerned)).values(looked_up_at=_LONG_AGO))
