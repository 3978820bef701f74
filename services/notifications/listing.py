"""How deliveries went, for those who look after them; and sending one again by hand (R-NOT-7)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select, tuple_, update

from services.notifications import rules
from services.notifications.clinic_settings import open_address
from services.notifications.tables import clinic_addresses, deliveries
from shared.contracts.base import Done, Role
from shared.contracts.notifications import (
    Deliveries,
    Delivery,
    DeliveryState,
    FailedResent,
    ListClinicDeliveries,
    ListDeliveries,
    RecipientKind,
    ResendDelivery,
    ResendFailed,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, NotFound
from shared.operations.logs import log

_MOST_AT_ONCE = 1000


def list_deliveries(tx: Transaction, request: ListDeliveries) -> Deliveries:
    """All clinics' deliveries, without whom or where: the operator needs neither."""
    rows, more = _page(tx, [], request)
    shown = [_shown(row).model_copy(update={"provider": row.provider}) for row in rows]
    return Deliveries(deliveries=shown, more=more)


def list_clinic_deliveries(tx: Transaction, request: ListClinicDeliveries) -> Deliveries:
    """The clinic's and its staff's, with the clinic's own addresses and its staff's HSA-ids. Raises `Forbidden`."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    rows, more = _page(tx, [deliveries.c.clinic == request.clinic, _not_residents()], request)
    own = {row.recipient for row in rows if row.recipient_kind == RecipientKind.CLINIC}
    addresses = _addresses(tx, own)
    shown = [
        _shown(
            row,
            person=row.recipient if row.recipient_kind == RecipientKind.STAFF else None,
            address=addresses.get(row.recipient),
        )
        for row in rows
    ]
    return Deliveries(deliveries=shown, more=more)


def resend(tx: Transaction, request: ResendDelivery) -> Done:
    """Lets a failed or uncertain one wait to be sent again, at once, with all its attempts anew.

    Raises `NotFound` for what the caller may not know of, `Conflict` (`not_resendable`) in any other state.
    """
    row = tx.execute(
        select(deliveries).where(deliveries.c.delivery == request.delivery).with_for_update()
    ).one_or_none()
    if row is None or not _may_resend(tx, row):
        raise NotFound
    if row.state not in rules.RESENDABLE:
        raise Conflict(
            "Aviseringen går inte att skicka igen: den är varken misslyckad eller oviss.", reason="not_resendable"
        )
    tx.execute(update(deliveries).where(deliveries.c.delivery == request.delivery).values(_anew(tx)))
    log.info("delivery_sent_again", delivery=str(request.delivery), state=row.state, kind=row.kind)
    return Done()


def resend_failed(tx: Transaction, request: ResendFailed) -> FailedResent:
    """Lets all that failed within a time wait to be sent again, the longest failed first."""
    which = [deliveries.c.state == DeliveryState.FAILED, deliveries.c.ended_at.between(request.since, request.until)]
    if request.channel is not None:
        which.append(deliveries.c.channel == request.channel)
    some = (
        select(deliveries.c.delivery)
        .where(*which)
        .order_by(deliveries.c.ended_at)
        .limit(_MOST_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("some")  # run once: a plan may run a subquery anew for each row, and take more than the limit
    )
    taken = deliveries.c.delivery.in_(select(some.c.delivery))
    count = tx.execute(update(deliveries).where(taken).values(_anew(tx))).rowcount
    log.info("failed_deliveries_sent_again", count=count)
    return FailedResent(count=count, more=count == _MOST_AT_ONCE)


def _anew(tx: Transaction) -> dict[str, Any]:
    return {
        "state": DeliveryState.WAITING,
        "reason": None,
        "attempts": 0,
        "due_at": tx.now,
        "queued_at": tx.now,
        "unasked_since": None,
        "report": None,
        "reported_at": None,
        "claim": None,
        "lease_until": None,
        "ended_at": None,
        "resent": deliveries.c.resent + 1,
    }


def _may_resend(tx: Transaction, row: Row[Any]) -> bool:
    if tx.caller.kind == "operator":
        return True
    if row.recipient_kind == RecipientKind.RESIDENT:
        return False
    return Role.LOCAL_ADMIN in tx.caller.rights.roles_at(row.clinic)


def _page(
    tx: Transaction, conditions: list[ColumnElement[bool]], request: ListDeliveries | ListClinicDeliveries
) -> tuple[list[Row[Any]], bool]:
    key = tuple_(deliveries.c.created_at, deliveries.c.delivery)
    query = select(deliveries).where(*conditions).order_by(deliveries.c.created_at.desc(), deliveries.c.delivery.desc())
    if request.state is not None:
        query = query.where(deliveries.c.state == request.state)
    if request.after is not None:
        last = tx.execute(
            select(deliveries.c.created_at).where(deliveries.c.delivery == request.after, *conditions)
        ).scalar_one_or_none()
        if last is None:
            raise NotFound
        query = query.where(key < tuple_(last, request.after))
    rows = list(tx.execute(query.limit(request.limit + 1)).all())
    return rows[: request.limit], len(rows) > request.limit


def _not_residents() -> ColumnElement[bool]:
    return deliveries.c.recipient_kind != RecipientKind.RESIDENT


def _addresses(tx: Transaction, ids: set[str]) -> dict[str, str | None]:
    """Those that are still entered, by id; None for one that can't be read."""
    if not ids:
        return {}
    rows = tx.execute(
        select(clinic_addresses.c.address_id, clinic_addresses.c.address).where(
            clinic_addresses.c.address_id.in_([UUID(one) for one in ids])
        )
    ).all()
    return {str(row.address_id): open_address(tx, row.address_id, bytes(row.address)) for row in rows}


def _shown(row: Row[Any], person: str | None = None, address: str | None = None) -> Delivery:
    waits = row.state == DeliveryState.WAITING
    return Delivery(
        delivery=row.delivery,
        kind=row.kind,
        recipient_kind=row.recipient_kind,
        clinic=row.clinic,
        person=person,
        address=address,
        channel=row.channel,
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.due_at if waits else None,
        ended_at=row.ended_at,
        resent=row.resent,
        report=row.report,
    )
