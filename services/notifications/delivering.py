"""The life of a delivery in the database: who has it in hand, how far it has come, when it is tried again.

    waiting --claim--> claimed --begin--> sending --record--> sent | failed | uncertain | waiting (again, later)
                          |                  '-- crash, found by the sweep --> uncertain
                          '-- given back, or crash, found by the sweep --> waiting

`begin` is committed before the provider may accept, and only a delivery that is still in this sender's hands begins.
So nothing is sent twice, and what a crash leaves between the two is never sent again by itself (R-NOT-7). Leases are
short, and renewed for as long as the sender lives, so that what a killed one had in hand is found within seconds; they
run by the database's clock, which is one for all senders. What is due goes by the clock that tests may move.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, literal, null, select, update

from services.notifications import rules
from services.notifications.bounces import bounced, came_back
from services.notifications.channels.outcome import Accepted, NotAccepted, Outcome
from services.notifications.tables import deliveries
from shared.contracts.base import HsaId
from shared.contracts.notifications import Channel, DeliveryKind, DeliveryState, RecipientKind
from shared.database.transaction import Transaction
from shared.operations.logs import log

# In SQL: of all that is done for each message, SQLAlchemy's putting together of these took longest.
_CLAIM = (
    b"WITH due AS (SELECT delivery FROM deliveries"
    b" WHERE state = 'waiting' AND due_at <= %s AND (channel IS NULL OR channel <> ALL(%s::text[]))"
    b" ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)"
    b" UPDATE deliveries SET state = 'claimed', claim = %s, lease_until = clock_timestamp() + %s"
    b" WHERE delivery IN (SELECT delivery FROM due)"
    b" RETURNING due_at, created_at, delivery, claim, event_id, kind, clinic, recipient_kind, recipient, about,"
    b" channel, address_hash, contact_version, attempts, resent"
)
_STILL_HELD = (
    b"SELECT delivery FROM deliveries WHERE claim = %s AND delivery = ANY(%s) AND state = 'claimed'"
    b" ORDER BY delivery FOR UPDATE"
)
_GIVE_BACK = b"UPDATE deliveries SET state = 'waiting', lease_until = NULL WHERE claim = %s AND state = 'claimed'"
_BEGIN = (
    b"UPDATE deliveries SET state = 'sending', lease_until = clock_timestamp() + %s, provider = %s,"
    b" report = NULLIF(report, 'undelivered')"  # of an attempt before this one
    b" WHERE delivery = %s AND claim = %s AND state IN ('claimed', 'sending') AND lease_until > clock_timestamp()"
    b" AND (report IS NULL OR report = 'undelivered')"  # else the provider before this one has it after all
    b" RETURNING 1"
)
_ACCEPT = (
    b"UPDATE deliveries SET state = 'sent', attempts = %s, reason = NULL, ended_at = %s, lease_until = NULL,"
    b" provider_reference = %s"
    b" WHERE delivery = %s AND claim = %s AND state IN ('claimed', 'sending', 'uncertain') AND report IS NULL"
    b" RETURNING 1"
)

_HAS_IT = deliveries.c.report.in_(["delivered", "on_its_way"])
"""A provider has it, as its report says."""


@dataclass(frozen=True)
class Claimed:
    """A delivery in the hands of one sender."""

    delivery: UUID
    claim: UUID
    event_id: UUID
    kind: DeliveryKind
    clinic: HsaId
    recipient_kind: RecipientKind
    recipient: str
    about: str | None
    channel: Channel | None
    address_hash: bytes | None
    contact_version: int | None
    attempts: int
    resent: int

    @property
    def asked_about(self) -> str:
        """The person whom identity is asked about: for a guardian, the child (R-NOT-8)."""
        return self.about or self.recipient


def lease_end(lease: timedelta) -> ColumnElement[Any]:
    """When a lease taken now ends."""
    return func.clock_timestamp() + literal(lease)


def claim(
    tx: Transaction, claim_id: UUID, most: int, lease: timedelta, without: Sequence[Channel] = ()
) -> list[Claimed]:
    """Takes up to `most` of what is due, the longest due first; others pass these by.

    `without`: channels of which no provider can be asked now; what is known to go by them stays where it is.
    """
    shut = [str(channel) for channel in without]
    taken = tx.ask(_CLAIM, (tx.now, shut, most, claim_id, lease))
    return [_claimed(*row[2:]) for row in sorted(taken, key=lambda row: row[:2])]


def still_held(tx: Transaction, claimed: Iterable[Claimed]) -> list[Claimed]:
    """Those that are in the hands of whoever claimed them, not begun, and stay there until this transaction ends: one
    who withdraws them waits for it."""
    claimed = list(claimed)
    if not claimed:
        return []
    held = tx.ask(_STILL_HELD, (claimed[0].claim, [one.delivery for one in claimed]))
    there = {delivery for (delivery,) in held}
    return [one for one in claimed if one.delivery in there]


def renew(tx: Transaction, claims: Sequence[UUID], lease: timedelta) -> None:
    """Their senders live: what is in their hands stays there for another lease.

    What a transaction holds just now is passed by: one that does not come on should not cost the others their leases.
    """
    if claims:
        held = (
            select(deliveries.c.delivery)
            .where(
                deliveries.c.claim.in_(claims),
                deliveries.c.state.in_([DeliveryState.CLAIMED, DeliveryState.SENDING]),
            )
            .with_for_update(skip_locked=True)
            .cte("held")
        )
        tx.execute(
            update(deliveries)
            .where(deliveries.c.delivery.in_(select(held.c.delivery)))
            .values(lease_until=lease_end(lease))
        )


def begin(tx: Transaction, one: Claimed, lease: timedelta, provider: str) -> list[tuple[Any, ...]]:
    """Records that it is about to be sent; to be committed before it is. Travels with COMMIT: after that there is a row
    in what is returned, or it is in other hands, or a report says that the provider before this one has it: not sent.

    Also where another provider has been asked already and certainly has not got it.
    """
    return tx.ahead(_BEGIN, (lease, provider, one.delivery, one.claim))


def take_back(tx: Transaction, one: Claimed) -> None:
    """It was to begin, and its sender knows that it has not been sent: others may take it at once. Not where a report
    says that the provider before this one has it."""
    known = (DeliveryState.CLAIMED, DeliveryState.SENDING, DeliveryState.UNCERTAIN)
    tx.execute(
        update(deliveries)
        .where(_in_hands(one, *known))
        .values(
            state=case((_HAS_IT, DeliveryState.SENT), else_=DeliveryState.WAITING),
            reason=None,
            ended_at=case((_HAS_IT, literal(tx.now)), else_=null()),
            lease_until=None,
        )
    )


def accept(tx: Transaction, one: Claimed, outcome: Outcome) -> list[tuple[Any, ...]]:
    """Records an `Accepted`. Travels with COMMIT: after that there is a row in what is returned, or there is
    more to it (a report came first, or it is in other hands), and `record` is to be called."""
    return tx.ahead(_ACCEPT, (one.attempts + 1, tx.now, getattr(outcome, "reference", None), one.delivery, one.claim))


def record(tx: Transaction, one: Claimed, outcome: Outcome) -> DeliveryState | None:
    """Records how the attempt went; returns the state it has now, None if it was in other hands.

    Also where the sweep was faster than a slow sender and called it uncertain: now it is known. Not where someone has
    sent it again by hand since; that has another claim.
    """
    attempts, reason = one.attempts + 1, getattr(outcome, "reason", None)
    nobody_has_it = False
    again: dict[str, Any] = {}
    if isinstance(outcome, Accepted):
        state = DeliveryState.SENT
    elif isinstance(outcome, NotAccepted):
        pause = rules.next_pause(outcome.failure, attempts, _chance(), outcome.pause)
        state = DeliveryState.FAILED if pause is None else DeliveryState.WAITING
        if pause is not None:
            again = {"due_at": tx.now + pause}
        nobody_has_it = pause is None
        if outcome.about_the_address:
            bounced(tx, one)
    else:
        state = DeliveryState.UNCERTAIN
    # A report can be here before the answer is, and says more.
    if nobody_has_it:
        again = {"address_hash": case((_HAS_IT, deliveries.c.address_hash), else_=null())}
    in_vain = (deliveries.c.report == "undelivered") & (not isinstance(outcome, NotAccepted))
    ended = tx.now if state in rules.ENDS else None
    known = (DeliveryState.CLAIMED, DeliveryState.SENDING, DeliveryState.UNCERTAIN)
    changed = tx.execute(
        update(deliveries)
        .where(_in_hands(one, *known))
        .values(
            attempts=attempts,
            state=case((_HAS_IT, DeliveryState.SENT), (in_vain, DeliveryState.FAILED), else_=state),
            reason=case((_HAS_IT, null()), (in_vain, "undelivered"), else_=reason),
            ended_at=case((_HAS_IT | in_vain, tx.now), else_=ended),
            lease_until=None,
            unasked_since=None,
            provider_reference=getattr(outcome, "reference", None),
            **again,
        )
        .returning(deliveries.c.state, in_vain.label("in_vain"))
    ).one_or_none()
    if changed is None:
        return None
    if changed.in_vain:
        came_back(tx, one)
    if nobody_has_it and changed.state == DeliveryState.FAILED:
        wake_merged(tx, [one.event_id])
    return DeliveryState(changed.state)


def end(tx: Transaction, one: Claimed, state: DeliveryState, reason: str) -> None:
    """Ends one that is not sent at all.

    If it gives up the place of its address, those that stood back for it get their turn (R-NOT-5, R-NOT-6).
    """
    tx.execute(
        update(deliveries)
        .where(_in_hands(one, DeliveryState.CLAIMED))
        .values(state=state, reason=reason, ended_at=tx.now, lease_until=None, address_hash=null())
    )
    if one.address_hash is not None and state is not DeliveryState.MERGED:
        wake_merged(tx, [one.event_id])


def stand_back(tx: Transaction, one: Claimed, merged_into: UUID | None, version: int) -> None:
    """Ends one whose address another delivery for the same event has, or whose person has another (R-NOT-6).

    `merged_into`: the delivery at the same address, of which it is learned later whether it came back; `version`: of
    what the person had set now.
    """
    end(tx, one, DeliveryState.MERGED, "same_address")
    tx.execute(
        update(deliveries)
        .where(_in_hands(one, DeliveryState.MERGED))
        .values(merged_into=merged_into, contact_version=version)
    )


def wake_merged(tx: Transaction, events: Sequence[UUID]) -> None:
    """A place has become free without a message: those that stood back, in these events, see whether it was theirs."""
    tx.execute(
        update(deliveries)
        .where(deliveries.c.event_id.in_(events), deliveries.c.state == DeliveryState.MERGED)
        .values(reason=None, ended_at=None, merged_into=None, **_again(tx, timedelta(0)))
    )


def postpone(tx: Transaction, some: Sequence[Claimed], reason: str) -> None:
    """Nothing could be tried, since someone who must be asked did not answer: later, and no attempt is counted."""
    for one in some:
        pause = rules.LOOKUP_PAUSE * (1 + rules.JITTER * _chance())
        tx.execute(
            update(deliveries)
            .where(_in_hands(one, DeliveryState.CLAIMED))
            .values(reason=reason, lease_until=None, unasked_since=None, **_again(tx, pause))
        )


def put_off(tx: Transaction, one: Claimed, reason: str, pause: timedelta) -> None:
    """No provider could be asked: later, and no attempt is counted. After a day of that: a failure that people see.

    The day begins when no provider could be asked for the first time: what waited for other reasons, a sender or
    identity, is no provider's failure.
    """
    since = func.coalesce(deliveries.c.unasked_since, literal(tx.now))
    waited = since < tx.now - rules.LONGEST_WAIT
    state = tx.execute(
        update(deliveries)
        .where(_in_hands(one, DeliveryState.CLAIMED, DeliveryState.SENDING))
        .values(
            state=case((waited, DeliveryState.FAILED), else_=DeliveryState.WAITING),
            ended_at=case((waited, literal(tx.now)), else_=null()),
            due_at=tx.now + pause * (1 + rules.JITTER * _chance()),
            reason=reason,
            lease_until=None,
            unasked_since=since,
            address_hash=case((waited, null()), else_=deliveries.c.address_hash),
        )
        .returning(deliveries.c.state)
    ).scalar_one_or_none()
    if state == DeliveryState.FAILED:
        wake_merged(tx, [one.event_id])


def give_back(tx: Transaction, claim_id: UUID) -> None:
    """What is still in this claim's hands, and was not begun, others may take at once. Travels with COMMIT."""
    tx.later(_GIVE_BACK, (claim_id,))


def late(tx: Transaction) -> timedelta:
    """How long what is due, and has waited longest for a sender, has been due."""
    since = tx.execute(
        select(func.min(deliveries.c.due_at)).where(
            deliveries.c.state == DeliveryState.WAITING, deliveries.c.due_at <= tx.now
        )
    ).scalar_one()
    return timedelta(0) if since is None else tx.now - since


@dataclass(frozen=True)
class Swept:
    """How many a sweep has found."""

    freed: int
    uncertain: int

    def tell(self) -> None:
        """In the log, if there were any."""
        if self.freed or self.uncertain:
            log.warning("unfinished_deliveries_found", count=self.uncertain, total=self.uncertain + self.freed)


def sweep(tx: Transaction, most: int = 500) -> Swept:
    """Finds what crashed senders left. Not begun: free for others. Begun: uncertain, for people to see (R-NOT-7)."""
    left = (
        select(deliveries.c.delivery)
        .where(
            deliveries.c.state.in_([DeliveryState.CLAIMED, DeliveryState.SENDING]),
            deliveries.c.lease_until < func.clock_timestamp(),
        )
        .order_by(deliveries.c.lease_until)
        .limit(most)
        .with_for_update(skip_locked=True)
        .cte("left_behind")
    )
    begun = deliveries.c.state == DeliveryState.SENDING
    in_vain = begun & (deliveries.c.report == "undelivered")
    found = tx.execute(
        update(deliveries)
        .where(deliveries.c.delivery.in_(select(left.c.delivery)))
        .values(
            state=case(
                (begun & _HAS_IT, DeliveryState.SENT),
                (in_vain, DeliveryState.FAILED),
                (begun, DeliveryState.UNCERTAIN),
                else_=DeliveryState.WAITING,
            ),
            reason=case((in_vain, "undelivered"), (begun, "interrupted"), else_=deliveries.c.reason),
            attempts=deliveries.c.attempts + case((begun, 1), else_=0),
            ended_at=case((begun, literal(tx.now)), else_=null()),
            lease_until=None,
        )
        .returning(deliveries)
    ).all()
    for row in found:
        if row.state == DeliveryState.FAILED:
            came_back(tx, row)
    states = [row.state for row in found]
    return Swept(freed=states.count(DeliveryState.WAITING), uncertain=states.count(DeliveryState.UNCERTAIN))


def _again(tx: Transaction, pause: timedelta) -> dict[str, Any]:
    return {"state": DeliveryState.WAITING, "due_at": tx.now + pause}


def _chance() -> float:
    return random.random()  # noqa: S311 - no secret


def _in_hands(one: Claimed, *states: DeliveryState) -> ColumnElement[bool]:
    mine: ColumnElement[bool] = (deliveries.c.delivery == one.delivery) & (deliveries.c.claim == one.claim)
    return mine & deliveries.c.state.in_(states)


def _claimed(
    delivery: UUID,
    claim_id: UUID,
    event_id: UUID,
    kind: str,
    clinic: HsaId,
    recipient_kind: str,
    recipient: str,
    about: str | None,
    channel: str | None,
    address_hash: bytes | None,
    contact_version: int | None,
    attempts: int,
    resent: int,
) -> Claimed:
    return Claimed(
        delivery,
        claim_id,
        event_id,
        DeliveryKind(kind),
        clinic,
        RecipientKind(recipient_kind),
        recipient,
        about,
        Channel(channel) if channel else None,
        bytes(address_hash) if address_hash is not None else None,
        contact_version,
        attempts,
        resent,
    )
