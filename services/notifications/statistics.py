"""How many deliveries came to what, and how soon; and how long their records are kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select

from services.notifications import rules
from services.notifications.tables import deliveries
from shared.contracts.base import Role
from shared.contracts.notifications import (
    DeliveryCount,
    DeliveryCounts,
    DeliveryState,
    DeliveryStatistics,
    RecipientKind,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Forbidden, Invalid

_AT_A_TIME = 2000


def statistics(tx: Transaction, request: DeliveryStatistics) -> DeliveryCounts:
    """By kind, channel and state. Raises `Forbidden`, and `Invalid` for a time that is too long or ends too early."""
    conditions = [deliveries.c.created_at >= request.since, deliveries.c.created_at < request.until]
    if not request.since < request.until <= request.since + rules.LONGEST_STATISTICS:
        raise Invalid(fields=[("until", "ska vara efter since, högst 31 dagar")])
    if request.clinic is not None:
        conditions.append(deliveries.c.clinic == request.clinic)
    if tx.caller.kind != "operator":
        if request.clinic is None:
            raise Forbidden
        tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
        conditions.append(deliveries.c.recipient_kind != RecipientKind.RESIDENT)
    kind, channel, state = deliveries.c.kind, deliveries.c.channel, deliveries.c.state
    since = func.coalesce(deliveries.c.queued_at, deliveries.c.created_at)
    seconds = func.extract("epoch", deliveries.c.ended_at - since)
    sent = state == DeliveryState.SENT

    def share(of: float) -> Any:
        return func.percentile_cont(of).within_group(seconds).filter(sent)

    rows = tx.execute(
        select(kind, channel, state, func.count().label("count"), share(0.5).label("median"), share(0.99).label("p99"))
        .where(*conditions)
        .group_by(kind, channel, state)
        .order_by(kind, channel, state)
    )
    return DeliveryCounts(
        counts=[
            DeliveryCount(
                kind=row.kind,
                channel=row.channel,
                state=row.state,
                count=row.count,
                median_seconds=row.median,
                p99_seconds=row.p99,
            )
            for row in rows
        ]
    )


def forget_old(run: Any) -> int:
    """Removes the records of deliveries that ended long ago, some at a time; returns how many."""
    removed, lot = 0, _AT_A_TIME
    while lot == _AT_A_TIME and not run.stopping.is_set():
        with run.transaction() as tx:
            old = (
                select(deliveries.c.delivery)
                .where(deliveries.c.ended_at < run.now - rules.RECORDS_ARE_KEPT)
                .order_by(deliveries.c.ended_at)
                .limit(_AT_A_TIME)
                # One that is being sent again at this moment is old no more.
                .with_for_update(skip_locked=True)
                .cte("old")
            )
            lot = tx.execute(delete(deliveries).where(deliveries.c.delivery.in_(select(old.c.delivery)))).rowcount
        removed += lot
    return removed
