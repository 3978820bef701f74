"""Where residents are listed, as the region's listing system tells it, and their own lists of clinics (R-ID-23)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from services.identity import representation
from services.identity.identity_numbers import NotANumber, parse
from services.identity.resident_accounts import NumberKey
from services.identity.residents import whose
from services.identity.rules import CLOCK_DIFFERENCE
from services.identity.tables import listings, my_clinics, numbers_of_person
from shared.contracts import access
from shared.contracts.base import HsaId
from shared.messaging.errors import Conflict, Forbidden, LimitExceeded
from shared.operations.clock import SWEDEN

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

# One statement for a batch: rows in the order of their numbers, so that two batches at once don't wait for each other.
_TAKE_IN = text(
    """INSERT INTO listings (number, clinic, as_of, imported_at)
       SELECT number, clinic, as_of, :now FROM unnest(
           CAST(:numbers AS bytea[]), CAST(:clinics AS text[]), CAST(:moments AS timestamptz[])
       ) AS told (number, clinic, as_of) ORDER BY number
       ON CONFLICT (number) DO UPDATE
       SET clinic = excluded.clinic, as_of = excluded.as_of, imported_at = excluded.imported_at
       WHERE listings.as_of < excluded.as_of
       RETURNING 1"""
)


def take_in(tx: Transaction, request: access.ImportListings, key: NumberKey) -> access.ListingsImported:
    """Keeps what is newer than what is known, of each person; names the lines that can't be used."""
    today = tx.now.astimezone(SWEDEN).date()
    newest: dict[bytes, access.Listing] = {}
    refused: list[access.RefusedListing] = []
    usable = 0
    for position, one in enumerate(request.listings):
        number: bytes
        try:
            number = key.hash(parse(one.identity_number, today).number)
        except NotANumber:
            refused.append(_refusal(position, "not_an_identity_number"))
            continue
        if one.as_of > tx.now + CLOCK_DIFFERENCE:
            # It would stand against everything that is told until then.
            refused.append(_refusal(position, "from_the_future"))
            continue
        usable += 1
        if number not in newest or newest[number].as_of < one.as_of:
            newest[number] = one
    changed = 0
    if newest:
        told: dict[str, list[Any]] = {
            "numbers": list(newest),
            "clinics": [one.clinic for one in newest.values()],
            "moments": [one.as_of for one in newest.values()],
        }
        changed = len(tx.execute(_TAKE_IN, {"now": tx.now, **told}).all())
    return access.ListingsImported(changed=changed, unchanged=usable - changed, refused=refused)


def _refusal(position: int, reason: Literal["not_an_identity_number", "from_the_future"]) -> access.RefusedListing:
    return access.RefusedListing(position=position, reason=reason)


def listed_at(tx: Transaction, resident: UUID) -> HsaId | None:
    """Where the resident is listed, by the newest that was told of any of their numbers."""
    found: HsaId | None = tx.execute(
        select(listings.c.clinic)
        .join(numbers_of_person, numbers_of_person.c.hash == listings.c.number)
        .where(numbers_of_person.c.resident == resident)
        .order_by(listings.c.as_of.desc())
        .limit(1)
    ).scalar_one_or_none()
    return found


def mine(tx: Transaction, _request: object) -> access.MyClinicsFound:
    """The resident's list: where they are listed, then what they added themselves.

    A guardian sees nothing there of a clinic that has blocked them (R-ID-13). Raises `Forbidden` for a guardian who may
    no longer act for the child.
    """
    return _shown(tx, _hidden(tx))


def _hidden(tx: Transaction) -> frozenset[HsaId]:
    """The clinics of which the caller sees and changes nothing: those that have blocked the guardian (R-ID-13).

    Raises `Forbidden` with reason `not_representative` for one who acts for a child whom they no longer may act for.
    """
    if tx.caller.acting_for is None:
        return frozenset()
    now = representation.now(tx, UUID(tx.caller.subject), tx.caller.acting_for)
    if not now.acting:
        raise Forbidden("Du kan inte agera ombud för den personen.", reason="not_representative")
    return frozenset(now.blocked_at)


def _shown(tx: Transaction, hidden: frozenset[HsaId]) -> access.MyClinicsFound:
    resident = whose(tx.caller)
    listed = listed_at(tx, resident)
    added = [clinic for clinic, _ in _added(tx, resident) if clinic != listed]
    found = [(listed, True)] if listed else []
    found += [(one, False) for one in added]
    return access.MyClinicsFound(
        clinics=[access.MyClinic(clinic=one, listed=is_listed) for one, is_listed in found if one not in hidden]
    )


def add(tx: Transaction, request: access.AddMyClinic) -> access.MyClinicsFound:
    """Adds a clinic, which the directory has said is active. There already, nothing changes.

    Nor does anything for a guardian whom the clinic has blocked: the answer is as if it were in no list (R-ID-13).
    Raises `LimitExceeded` for more than a hundred, `Forbidden` for a guardian who may no longer act for the child.
    """
    resident, hidden = whose(tx.caller), _hidden(tx)
    if request.clinic in hidden:
        return _shown(tx, hidden)
    # Two that add at once must not get past the limit together.
    tx.connection.execute(select(func.pg_advisory_xact_lock(int.from_bytes(resident.bytes[:8], "big", signed=True))))
    there = {clinic for clinic, _ in _added(tx, resident)}
    if request.clinic not in there and len(there) >= access.MOST_CLINICS:
        raise LimitExceeded("Du har redan så många mottagningar som går att ha.", reason="too_many_clinics")
    row = {"resident": resident, "clinic": request.clinic, "added_at": tx.now}
    tx.execute(insert(my_clinics).values(row).on_conflict_do_nothing())
    return _shown(tx, hidden)


def remove(tx: Transaction, request: access.RemoveMyClinic) -> access.MyClinicsFound:
    """Removes a clinic. For a guardian whom it has blocked nothing changes, whether it is in the list or not (R-ID-13).

    Raises `Conflict` with reason `listed_there` for the one where the resident is listed, `Forbidden` for a guardian
    who may no longer act for the child.
    """
    resident, hidden = whose(tx.caller), _hidden(tx)
    if request.clinic in hidden:
        return _shown(tx, hidden)
    if listed_at(tx, resident) == request.clinic:
        raise Conflict("Du är listad på mottagningen, så den finns alltid med.", reason="listed_there")
    this = (my_clinics.c.resident == resident) & (my_clinics.c.clinic == request.clinic)
    tx.execute(delete(my_clinics).where(this))
    return _shown(tx, hidden)


def _added(tx: Transaction, resident: UUID) -> Sequence[tuple[HsaId, datetime]]:
    query = select(my_clinics.c.clinic, my_clinics.c.added_at).where(my_clinics.c.resident == resident)
    return [
        (row.clinic, row.added_at) for row in tx.execute(query.order_by(my_clinics.c.added_at, my_clinics.c.clinic))
    ]
