"""No more to a provider in a second than it allows, by all senders together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

from sqlalchemy import func, literal
from sqlalchemy.dialects.postgresql import insert

from services.notifications.providers import Provider
from services.notifications.tables import provider_pace
from shared.contracts.notifications import Channel
from shared.database.transaction import Transaction

LONGEST_WAIT = timedelta(seconds=1)
"""How far ahead a turn may lie; what would have to wait longer takes no turn, and is left to wait where it is."""
LONGEST_WAIT_OF_CODE = timedelta(seconds=5)
"""The same for a verification code, whose owner sits and waits: it gets a turn behind those that are taken, however
many deliveries wait."""


def wait_for_turn(
    transaction: Callable[[], AbstractContextManager[Transaction]],
    channel: Channel,
    provider: Provider,
    longest: timedelta = LONGEST_WAIT,
) -> bool:
    """Waits for the caller's turn with a provider that takes only so many a second; False: it lies too far ahead."""
    if provider.per_second is None:
        return True
    with transaction() as tx:
        wait = take_turn(tx, f"{channel}:{provider.name}", provider.per_second, longest)
    if wait:
        time.sleep(wait)
    return wait is not None


def take_turn(tx: Transaction, provider: str, per_second: float, longest: timedelta = LONGEST_WAIT) -> float | None:
    """Seconds until this sender's turn; None: it lies too far ahead. By the database's clock, which is one for all."""
    now, step = func.clock_timestamp(), literal(timedelta(seconds=1 / per_second))
    taken = tx.execute(
        insert(provider_pace)
        .values(provider=provider, next_at=now + step)
        .on_conflict_do_update(
            index_elements=["provider"],
            set_={"next_at": func.greatest(provider_pace.c.next_at, now) + step},
            where=provider_pace.c.next_at < now + literal(longest),
        )
        .returning(func.extract("epoch", provider_pace.c.next_at - step - now))
    ).scalar_one_or_none()
    return None if taken is None else max(0.0, float(taken))
