"""Whom a clinic is open to: its catchment, and the residents that it lets in one by one (R-ID-15, R-ID-22)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as insert_or_update

from services.identity import resident_accounts, residents, rules
from services.identity.resident_accounts import NumberKey
from services.identity.tables import approvals, catchments, identity_numbers
from services.identity.tables import residents as accounts
from shared.contracts import access
from shared.messaging.errors import Invalid, NotFound
from shared.operations.clock import SWEDEN

if TYPE_CHECKING:
    from shared.database.transaction import Transaction


def set_catchment(tx: Transaction, request: access.SetCatchment) -> access.Catchment:
    """Limits the clinic to an area, or opens it to all. Raises `Forbidden`."""
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    counties, municipalities = sorted(set(request.counties)), sorted(set(request.municipalities))
    if not counties and not municipalities:
        tx.execute(delete(catchments).where(catchments.c.clinic == request.clinic))
    else:
        values = {
            "counties": counties,
            "municipalities": municipalities,
            "changed_at": tx.now,
            "changed_by": tx.caller.subject,
        }
        tx.execute(
            insert_or_update(catchments)
            .values(clinic=request.clinic, **values)
            .on_conflict_do_update(index_elements=["clinic"], set_=values)
        )
    return access.Catchment(clinic=request.clinic, counties=counties, municipalities=municipalities)


def get_catchment(tx: Transaction, request: access.GetCatchment) -> access.Catchment:
    """The clinic's catchment. Raises `Forbidden`."""
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    row = tx.execute(select(catchments).where(catchments.c.clinic == request.clinic)).one_or_none()
    return access.Catchment(
        clinic=request.clinic,
        counties=list(row.counties) if row else [],
        municipalities=list(row.municipalities) if row else [],
    )


def approve(tx: Transaction, request: access.ApproveResident, key: NumberKey) -> access.ResidentApproved:
    """Lets a resident in, by number; an earlier approval of theirs, by any of their numbers, is replaced (R-ID-24).

    Raises `Forbidden`, or `Invalid` for what is no identity number and for a last day that has passed.
    """
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    number = residents.number_in(tx, "identity_number", request.identity_number)
    if request.last_day is not None and request.last_day < tx.now.astimezone(SWEDEN).date():
        raise Invalid(fields=[("last_day", "har passerat")])
    approval = uuid4()
    [numbers] = resident_accounts.hold_every_number(tx, key.hash(number))
    # Approved anew is another approval: the list of what was once taken back, or replaced, stays as it was.
    tx.execute(
        update(approvals)
        .where(
            approvals.c.number.in_(numbers),
            approvals.c.clinic == request.clinic,
            approvals.c.withdrawn_at.is_(None),
        )
        .values(withdrawn_at=tx.now, withdrawn_by=tx.caller.subject)
    )
    tx.execute(
        insert(approvals).values(
            approval=approval,
            clinic=request.clinic,
            number=key.hash(number),
            sealed=tx.sealer.seal(number.encode(), _context(approval)),
            case_types=None if request.case_types is None else sorted(set(request.case_types)),
            last_day=request.last_day,
            approved_at=tx.now,
            approved_by=tx.caller.subject,
        )
    )
    return access.ResidentApproved(approval=approval)


def withdraw(tx: Transaction, request: access.WithdrawApprovals) -> access.ApprovalsWithdrawn:
    """Takes approvals of the clinic back. Raises `Forbidden`."""
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    withdrawn = tx.execute(
        update(approvals)
        .where(
            approvals.c.approval.in_(request.approvals),
            approvals.c.clinic == request.clinic,
            approvals.c.withdrawn_at.is_(None),
        )
        .values(withdrawn_at=tx.now, withdrawn_by=tx.caller.subject)
        .returning(approvals.c.approval)
    ).scalars()
    return access.ApprovalsWithdrawn(withdrawn=sorted(withdrawn))


def list_approvals(tx: Transaction, request: access.ListApprovals) -> access.Approvals:
    """A page of the clinic's approvals, the newest first. Raises `Forbidden`, `NotFound` for a strange cursor."""
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    mine = (approvals.c.clinic == request.clinic) & approvals.c.withdrawn_at.is_(None)
    newest_first = tuple_(approvals.c.approved_at, approvals.c.approval)
    query = (
        select(approvals, accounts.c.resident, accounts.c.particulars, accounts.c.protected)
        .outerjoin(identity_numbers, identity_numbers.c.hash == approvals.c.number)
        .outerjoin(accounts, accounts.c.resident == identity_numbers.c.resident)
        .where(mine)
        .order_by(newest_first.desc())
        .limit(request.limit + 1)
    )
    if request.after is not None:
        query = query.where(newest_first < tuple_(*_place_of(tx, request, request.after)))
    rows = tx.execute(query).all()
    today = tx.now.astimezone(SWEDEN).date()
    page = [
        access.Approval(
            approval=row.approval,
            identity_number=tx.sealer.open(row.sealed, _context(row.approval)).decode(),
            name=residents.particulars(tx, row).name if row.resident else None,
            protected=bool(row.protected),
            case_types=row.case_types,
            last_day=row.last_day,
            holds=rules.LetIn(last_day=row.last_day).holds(today),
            approved_at=row.approved_at,
            approved_by=row.approved_by,
        )
        for row in rows[: request.limit]
    ]
    return access.Approvals(approvals=page, more=len(rows) > request.limit)


def _place_of(tx: Transaction, request: access.ListApprovals, approval: UUID) -> tuple[object, UUID]:
    """Where an approval stands in the order; one that was taken back meanwhile still does."""
    at = tx.execute(
        select(approvals.c.approved_at).where(approvals.c.approval == approval, approvals.c.clinic == request.clinic)
    ).scalar_one_or_none()
    if at is None:
        raise NotFound(reason="unknown_cursor")
    return at, approval


def _context(approval: UUID) -> bytes:
    return b"approval " + approval.bytes
