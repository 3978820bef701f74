"""Disturbances: written by regional administrators and the operator, read by everyone before logging in (R-ID-20)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Row, Select, insert, or_, select, update

from services.identity.tables import disturbances
from shared.contracts import disturbances as contract
from shared.messaging.errors import Invalid, NotFound
from shared.security.caller import Caller

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

MOST_SHOWN = 20


def require_may_write(caller: Caller) -> None:
    """Raises `Forbidden` for all but regional administrators and the operator."""
    if caller.kind != "operator":
        caller.require_regional_admin()


def publish(tx: Transaction, request: contract.PublishDisturbance) -> contract.Disturbance:
    """Publishes one. Raises `Forbidden`, or `Invalid` where it would never be shown."""
    require_may_write(tx.caller)
    shown_from = request.shown_from or tx.now
    if request.shown_until is not None and request.shown_until <= max(shown_from, tx.now):
        raise Invalid(fields=[("shown_until", "har passerat, eller ligger före början")])
    values = {
        "disturbance": uuid4(),
        **_values(tx, request, shown_from),
        "published_at": tx.now,
    }
    return _shown(tx.execute(insert(disturbances).values(values).returning(disturbances)).one())


def change(tx: Transaction, request: contract.ChangeDisturbance) -> contract.Disturbance:
    """Replaces what one says, or ends it. Raises `Forbidden`, `NotFound`."""
    require_may_write(tx.caller)
    this = disturbances.c.disturbance == request.disturbance
    row = tx.execute(select(disturbances).where(this).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(reason="unknown_disturbance")
    values = _values(tx, request, request.shown_from or row.shown_from)
    return _shown(tx.execute(update(disturbances).where(this).values(values).returning(disturbances)).one())


def shown_now(tx: Transaction, _request: contract.Disturbances) -> contract.DisturbancesShown:
    """What the start page shows."""
    until = disturbances.c.shown_until
    query = select(disturbances).where(disturbances.c.shown_from <= tx.now, or_(until.is_(None), until > tx.now))
    return _list(tx, query.limit(MOST_SHOWN))


def all_of_them(tx: Transaction, request: contract.AllDisturbances) -> contract.DisturbancesShown:
    """Also those to come and those that are over. Raises `Forbidden`."""
    require_may_write(tx.caller)
    return _list(tx, select(disturbances).limit(request.limit))


def _list(tx: Transaction, query: Select[Any]) -> contract.DisturbancesShown:
    rows = tx.execute(query.order_by(disturbances.c.shown_from.desc(), disturbances.c.disturbance))
    return contract.DisturbancesShown(
        disturbances=[_shown(row) for row in rows], status_page=tx.settings.status_page_url
    )


def _values(
    tx: Transaction, request: contract.PublishDisturbance | contract.ChangeDisturbance, shown_from: datetime
) -> dict[str, Any]:
    return {
        "title": request.title,
        "text": request.text,
        "shown_from": shown_from,
        "shown_until": request.shown_until,
        "changed_at": tx.now,
        "changed_by": tx.caller.identity,
    }


def _shown(row: Row[Any]) -> contract.Disturbance:
    return contract.Disturbance(
        disturbance=row.disturbance,
        title=row.title,
        text=row.text,
        shown_from=row.shown_from,
        shown_until=row.shown_until,
        changed_at=row.changed_at,
    )
