"""Verification codes on their way: no notifications (R-NOT-3), so they stand apart from the deliveries.

A code is sent as soon as may be and tried again, with growing pauses, while it is worth something. It may arrive twice,
which does no harm; it is removed, address and all, when a provider has it or it is worth nothing any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select, update

from services.notifications import addresses, pace
from services.notifications.channels.outcome import Letter, NotAccepted, Outcome
from services.notifications.providers import Provider
from services.notifications.rendering import code_words
from services.notifications.tables import codes
from shared.contracts.base import Done
from shared.contracts.notifications import Channel, SendCode
from shared.messaging.errors import Invalid
from shared.operations.logs import log
from shared.security.sealing import SealBroken

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_WORTH = timedelta(minutes=15)
_PAUSES_SECONDS = (2, 5, 15, 30, 60, 120)


def queue(tx: Transaction, request: SendCode) -> Done:
    """Puts a code on its way; an earlier one to the same address that has not left is replaced."""
    try:
        address = addresses.email(request.address) if request.channel is Channel.EMAIL else request.address
    except addresses.NotAnAddress:
        raise Invalid(fields=[("address", "är ingen e-postadress")]) from None
    hashed = addresses.address_hash(tx.settings.address_key, request.channel, address)
    tx.execute(delete(codes).where(codes.c.address_hash == hashed))
    code_id = uuid4()
    tx.execute(
        insert(codes).values(
            code_id=code_id,
            channel=request.channel.value,
            address_hash=hashed,
            sealed=tx.sealer.seal(json.dumps([address, request.code]).encode(), _context(code_id)),
            worth_until=tx.now + _WORTH,
            due_at=tx.now,
            attempts=0,
        )
    )
    return Done()


def forget_worthless(tx: Transaction) -> None:
    """Removes what nobody can use any more, also where no sender runs that would."""
    tx.execute(delete(codes).where(codes.c.worth_until <= tx.now))


class CodeSender:
    """Sends the codes of one channel that are due, one after the other. For one thread.

    With the same providers as deliveries: one that is down is left alone, and none gets more than it takes.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Transaction]],
        channel: Channel,
        providers: Sequence[Provider],
    ) -> None:
        self._transaction = transaction
        self._channel = channel
        self._providers = [(one, one.talk()) for one in providers]

    def round(self) -> bool:
        """Tries one; False: none is due, or no provider can be asked now."""
        with self._transaction() as tx:
            mine = codes.c.channel == self._channel
            tx.execute(delete(codes).where(mine, codes.c.worth_until <= tx.now))
            if all(one.circuit.opens_in() for one, _ in self._providers):
                return False
            due = (
                select(codes.c.code_id)
                .where(mine, codes.c.due_at <= tx.now)
                .order_by(codes.c.due_at)
                .limit(1)
                .with_for_update(skip_locked=True)
                .cte("due")  # run once: a plan may run a subquery anew for each row, and take them all
            )
            # Taken until its next attempt is due: a process that dies with it costs a pause, and no code.
            row = tx.execute(
                update(codes)
                .where(codes.c.code_id.in_(select(due.c.code_id)))
                .values(attempts=codes.c.attempts + 1, due_at=tx.now + timedelta(seconds=_PAUSES_SECONDS[-1]))
                .returning(codes)
            ).one_or_none()
            if row is None:
                return False
            try:
                address, code = json.loads(tx.sealer.open(bytes(row.sealed), _context(row.code_id)))
            except SealBroken as error:
                # Nobody can ever send it: the person asks for another, and those behind it get theirs.
                tx.execute(delete(codes).where(codes.c.code_id == row.code_id))
                log.error("code_unreadable", exc_info=error)
                return True
        letter = Letter(str(row.code_id), str(row.code_id), address, code_words(self._channel, code))
        refused = self._send(letter)
        if refused is not None:
            log.warning("code_not_sent", channel=self._channel, reason=refused.reason, attempt=row.attempts)
        with self._transaction() as tx:
            if refused is None or refused.permanent:
                tx.execute(delete(codes).where(codes.c.code_id == row.code_id))
            else:
                pause = timedelta(seconds=_PAUSES_SECONDS[min(row.attempts, len(_PAUSES_SECONDS)) - 1])
                tx.execute(update(codes).where(codes.c.code_id == row.code_id).values(due_at=tx.now + pause))
        return True

    def _send(self, letter: Letter) -> NotAccepted | None:
        """None: a provider has it, or may have it; then it is for the person to ask for another."""
        refused = NotAccepted("no_provider", provider_down=True)
        for provider, talk in self._providers:
            if provider.circuit.opens_in():
                continue
            if not pace.wait_for_turn(self._transaction, self._channel, provider, pace.LONGEST_WAIT_OF_CODE):
                continue
            if not provider.circuit.lets_through():
                continue
            outcome: Outcome | None = None
            try:
                outcome = talk.prepare(letter) or talk.send()
            except BaseException:
                talk.abandon()  # whatever had been said, the next begins anew
                raise
            finally:
                provider.learn(outcome)
            if not isinstance(outcome, NotAccepted):
                return None
            refused = outcome
            if not refused.provider_down:
                break  # else the next one may take it
        return refused

    def close(self) -> None:
        """Ends the conversations."""
        for _, talk in self._providers:
            talk.close()


def _context(code_id: UUID) -> bytes:
    return b"code:" + str(code_id).encode()
