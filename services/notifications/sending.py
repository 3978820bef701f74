"""One round of one sender: take what is due, find out where it goes now, send it, record how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError

from services.notifications import addressing, delivering, pace, reports
from services.notifications.addressing import Addressed
from services.notifications.asking import Ask, Neighbours
from services.notifications.channels.outcome import Accepted, ChannelToProvider, Letter, NotAccepted, Outcome
from services.notifications.delivering import Claimed
from services.notifications.providers import Provider
from services.notifications.rendering import Words, words
from shared.contracts.notifications import Channel, DeliveryState, RecipientKind
from shared.database.transaction import Transaction
from shared.messaging.errors import Unavailable
from shared.operations.logs import log

CHOICES_ARE_FRESH_SECONDS = 10.0
"""How old an answer of identity's may be when something is sent by it (R-NOT-4)."""

_LAST_WORDS_SECONDS = 10.0
_BETWEEN_LAST_WORDS_SECONDS = 0.2

_NO_PROVIDER = "no_provider"
_OUT_OF_TURN_SECONDS = 0.5
"""So long a sender takes nothing of a channel whose next turn was too far ahead; less than that turn was."""
_PUT_OFF_AT_LEAST = timedelta(seconds=1)

T = TypeVar("T")


class Sender:
    """A conversation with each provider, and the rounds that use them. For one thread.

    `providers`: by channel, the first choice first; the next is asked when one is down.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Transaction]],
        ask: Ask,
        providers: Mapping[Channel, Sequence[Provider]],
        *,
        batch: int,
        lease: timedelta,
        stopping: Callable[[], bool] = lambda: False,
        sent: Callable[[Channel, str, str], None] = lambda channel, provider, outcome: None,
    ) -> None:
        self._transaction = transaction
        self._neighbours = Neighbours(transaction, ask)
        self._providers = providers
        self._talks: dict[tuple[Channel, str], ChannelToProvider] = {}
        self._batch = batch
        self._lease = lease
        self._stopping = stopping
        self._count = sent
        self._unwritten: list[Callable[[Transaction], object]] = []
        self._owed: _Attempt | None = None
        self._unclear: list[_Attempt] = []
        self._asked_at = 0.0
        self._out_of_turn_until: dict[Channel, float] = {}
        self.holds: UUID | None = None
        """The claim whose deliveries are in its hands now; renewed by the process for as long as it lives."""

    def round(self) -> int:
        """Returns how many deliveries were taken in hand; 0: time for a pause. What was not begun is given back.

        Goes on while as many are due as it takes at a time. Raises `Unavailable` while the database is away. What was
        to be written then is written first when it is back: nobody waits for the end of a lease because of that, and a
        send whose outcome is known is not uncertain.
        """
        self._catch_up()
        taken = 0
        claim_id, claimed = self._take()
        while claimed:
            taken += len(claimed)
            more = False
            try:
                self._handle(claimed)
                more = len(claimed) == self._batch and not self._stopping()
            except IntegrityError:
                # Another sender took the place of an address at the same moment. The next round sees that, after a
                # pause.
                return 0
            finally:
                if not more:
                    self._finish(claim_id)
            if not more:
                break
            claim_id, claimed = self._take(claim_id)
        return taken

    def _take(self, before: UUID | None = None) -> tuple[UUID, list[Claimed]]:
        """Claims what is due. In the same transaction, so that it costs none of its own, what is left of the claim
        before this one is given back, and recorded how its last delivery went."""
        claim_id = uuid4()
        shut = [channel for channel in self._providers if self._is_out_of_turn(channel) or self._is_shut(channel)]

        def take(tx: Transaction) -> list[Claimed]:
            if before is not None:
                delivering.give_back(tx, before)
            return delivering.claim(tx, claim_id, self._batch, self._lease, shut)

        def give_back(tx: Transaction) -> None:
            for one in (before, claim_id):
                if one is not None:
                    delivering.give_back(tx, one)

        self.holds = claim_id
        claimed = self._with_owed(take, otherwise=give_back)
        self._settle()
        return claim_id, claimed

    def close(self) -> None:
        """Ends the conversations. What a provider has answered is written, if the database comes back in time."""
        ends = time.monotonic() + _LAST_WORDS_SECONDS
        while True:
            try:
                self._catch_up()
                break
            except Unavailable as error:
                if time.monotonic() > ends:
                    log.error("outcomes_not_written", count=len(self._unwritten), exc_info=error)
                    break
                time.sleep(_BETWEEN_LAST_WORDS_SECONDS)
        for talk in self._talks.values():
            talk.close()

    # --- when the database is away ----------------------------------------------------------------------------------

    def _write(self, work: Callable[[Transaction], T], otherwise: Callable[[Transaction], object] | None = None) -> T:
        """Runs `work` in a transaction of its own.

        If the database is away it may have been committed or not: before the next round `otherwise` is run, else `work`
        once more.
        """
        try:
            with self._transaction() as tx:
                return work(tx)
        except Unavailable:
            self._unwritten.append(otherwise or work)
            raise

    def _catch_up(self) -> None:
        while self._unwritten:
            with self._transaction() as tx:
                self._unwritten[0](tx)
            del self._unwritten[0]
        self._settle()

    # --- where it goes ----------------------------------------------------------------------------------------------

    def _handle(self, claimed: list[Claimed]) -> None:
        claimed, names = self._neighbours.with_names(claimed)
        self._asked_at = time.monotonic()
        claimed, choices = self._neighbours.with_choices(claimed)
        if not claimed:
            return
        with self._transaction() as tx:
            ready = addressing.address(tx, claimed, choices, self._lease)
        for one, following in zip(ready, [*ready, None][1:], strict=True):
            if self._stopping() or self._too_late():
                return
            next_to = following.address if following and following.channel is one.channel else None
            self._send(one, names.get(one.claimed.clinic, one.claimed.clinic), next_to)

    # --- what can be sent now ---------------------------------------------------------------------------------------

    def _is_shut(self, channel: Channel) -> bool:
        """Whether all its providers are left alone."""
        return all(one.circuit.opens_in() for one in self._providers[channel])

    def _is_out_of_turn(self, channel: Channel) -> bool:
        """Whether there was no turn to be had a moment ago at any provider that could be asked."""
        return time.monotonic() < self._out_of_turn_until.get(channel, 0.0)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send(self, one: Addressed, clinic_name: str, next_to: str | None) -> None:
        """By the first provider that is not down. Another is asked only where it is certain that none has it."""
        if self._is_out_of_turn(one.channel):
            return  # given back at the end of the round, with the place in the row that it had
        text = words(one.claimed.kind, one.channel, clinic_name)
        failed: _Attempt | None = None
        out_of_turn = False
        for provider in self._providers[one.channel]:
            if failed is not None and self._too_late():
                break
            if provider.circuit.opens_in():
                continue
            if not self._turn(one.channel, provider):
                out_of_turn = True
                continue
            if not provider.circuit.lets_through():
                continue
            outcome = self._try(one, provider, text, next_to)
            if outcome is None:  # in other hands now, or the one before has it after all, as its report says
                if failed is not None:
                    self._record(failed)
                return
            if isinstance(outcome, Accepted):
                # Recorded together with the beginning of the next one: half the writing to the disk, and still no more
                # than one delivery of this conversation of which a crash would leave nobody knowing.
                self._owed = _Attempt(one, outcome, provider)
                return
            if not (isinstance(outcome, NotAccepted) and outcome.provider_down):
                self._record(_Attempt(one, outcome, provider))
                return
            failed = _Attempt(one, outcome, provider)
        if failed is not None:
            self._record(failed)
            return
        if out_of_turn:
            self._out_of_turn_until[one.channel] = time.monotonic() + _OUT_OF_TURN_SECONDS
            return
        opens = min(other.circuit.opens_in() for other in self._providers[one.channel])
        pause = max(_PUT_OFF_AT_LEAST, timedelta(seconds=opens))
        self._settle()
        self._write(lambda tx: delivering.put_off(tx, one.claimed, _NO_PROVIDER, pause))

    def _too_late(self) -> bool:
        """Whether what identity said is too old to send by: whoever is to be told may have changed since (R-NOT-4)."""
        return time.monotonic() - self._asked_at > CHOICES_ARE_FRESH_SECONDS

    def _turn(self, channel: Channel, provider: Provider) -> bool:
        """Waits for the sender's turn with a provider that takes only so many a second; False: that is too far off."""
        if provider.per_second is not None:
            self._settle()
        return pace.wait_for_turn(self._transaction, channel, provider)

    def _try(self, one: Addressed, provider: Provider, text: Words, next_to: str | None) -> Outcome | None:
        """One attempt with one provider, that its circuit has let through. None: it is not to be sent any more."""
        outcome: Outcome | None = None
        try:
            outcome = self._attempt(one, provider, text, next_to)
        finally:
            provider.learn(outcome)
        if outcome is not None:
            self._count(one.channel, provider.name, type(outcome).__name__)
        return outcome

    def _attempt(self, one: Addressed, provider: Provider, text: Words, next_to: str | None) -> Outcome | None:
        # A provider of mail may have the same name as one of SMS.
        which = (one.channel, provider.name)
        talk = self._talks.get(which) or self._talks.setdefault(which, provider.talk())
        try:
            refused = talk.prepare(_letter(one, provider, text, next_to))
            if refused is not None:
                return refused
            if self._too_late():
                talk.abandon()
                return NotAccepted("provider_too_slow", provider_down=True)
            if not self._begin(one, provider):
                talk.abandon()
                return None
            # It is on record: from here on a crash leaves an uncertain delivery, never a second one.
            return talk.send()
        except BaseException:
            talk.abandon()  # whatever had been said, the next begins anew
            raise

    def _begin(self, one: Addressed, provider: Provider) -> bool:
        """Records that it is about to be sent, and how the one before it went. False: it is not to be sent."""
        begun = self._with_owed(
            lambda tx: delivering.begin(tx, one.claimed, self._lease, provider.name),
            # whatever is on record: it was not sent
            otherwise=lambda tx: delivering.take_back(tx, one.claimed),
        )
        return bool(begun)

    def _finish(self, claim_id: UUID) -> None:
        """The end of a round: records how the last one went, and gives back what was not begun."""

        def give_back(tx: Transaction) -> None:
            delivering.give_back(tx, claim_id)

        self._with_owed(give_back, otherwise=give_back)
        self._settle()

    def _with_owed(self, work: Callable[[Transaction], T], otherwise: Callable[[Transaction], object]) -> T:
        """Runs `work` in one transaction with the record of how the one before it went."""
        owed, self._owed = self._owed, None

        def both(tx: Transaction) -> tuple[list[tuple[Any, ...]], T]:
            has_it = delivering.accept(tx, owed.one.claimed, owed.outcome) if owed else []
            return has_it, work(tx)

        def else_both(tx: Transaction) -> None:
            if owed:
                delivering.record(tx, owed.one.claimed, owed.outcome)
            otherwise(tx)

        has_it, done = self._write(both, otherwise=else_both)
        if owed and has_it:
            owed.tell(DeliveryState.SENT)
        elif owed:
            self._unclear.append(owed)
        return done

    def _settle(self) -> None:
        """Records how those went of which that has not been done."""
        if self._owed is not None:
            self._unclear.append(self._owed)
            self._owed = None
        while self._unclear:
            attempt = self._unclear.pop(0)  # what can't be written is written later by `_catch_up`
            attempt.tell(self._write(partial(_record, attempt)))

    def _record(self, attempt: _Attempt) -> None:
        self._settle()
        attempt.tell(self._write(partial(_record, attempt)))


@dataclass(frozen=True)
class _Attempt:
    one: Addressed
    outcome: Outcome
    provider: Provider

    def tell(self, state: DeliveryState | None) -> None:
        """In the log; not if someone else has recorded it meanwhile."""
        if state is None:
            return
        claimed = self.one.claimed
        tell = log.info if state is DeliveryState.SENT else log.warning
        tell(
            "delivery_attempted",
            delivery=str(claimed.delivery),
            kind=claimed.kind,
            channel=self.one.channel,
            provider=self.provider.name,
            state=state,
            attempt=claimed.attempts + 1,
            reason=getattr(self.outcome, "reason", None),
        )


def _record(attempt: _Attempt, tx: Transaction) -> DeliveryState | None:
    return delivering.record(tx, attempt.one.claimed, attempt.outcome)


def _letter(one: Addressed, provider: Provider, text: Words, next_to: str | None) -> Letter:
    claimed = one.claimed
    reference = reports.reference_of(claimed.delivery, claimed.resent, claimed.attempts + 1, provider.name)
    return Letter(
        str(claimed.delivery),
        reference,
        one.address,
        text,
        to_staff=claimed.recipient_kind is not RecipientKind.RESIDENT,
        report_to=provider.report_to(reference),
        sending=claimed.resent,
        followed_by=next_to,
    )
