"""No more to a provider in a second than it allows, by all senders together."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, literal
from sqlalchemy.dialects.postgresql import insert

from services.notifications.tables import provider_pace
from shared.database.transaction import Transaction

LONGEST_WAIT = timedelta(seconds=1)
"""How far ahead a turn may lie; what would have to wait longer is put off, and takes no turn."""


def take_turn(tx: Transaction, provider: str, per_second: float) -> float | None:
    """Seconds until this sender's turn; None: it lies too far ahead. By the database's clock, which is one for all."""
    now, step = func.clock_timestamp(), literal(timedelta(seconds=1 / per_second))
    taken = tx.execute(
        insert(provider_pace)
        .values(provider=provider, next_at=now + step)
        .on_conflict_do_update(
            index_elements=["provider"],
            set_={"next_at": func.greatest(provider_pace.c.next_at, now) + step},
            where=provider_pace.c.next_at < now + literal(LONGEST_WAIT),
        )
        .returning(func.extract("epoch", provider_pace.c.next_at - step - now))
    ).scalar_one_or_none()
    return None if taken is None else max(0.0, float(taken))
