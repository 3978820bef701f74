"""One round of one sender: take what is due, find out where it goes now, send it, record how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError

from services.notifications import addressing, delivering, rules
from services.notifications.addressing import Addressed
from services.notifications.channels.outcome import ChannelToProvider, NotAccepted, Outcome
from services.notifications.delivering import Claimed
from services.notifications.rendering import words
from shared.contracts import directory, identity
from shared.contracts.base import Answered, Asked, Call, HsaId
from shared.contracts.notifications import Channel, DeliveryKind, DeliveryState, RecipientKind
from shared.database.transaction import Transaction
from shared.messaging.errors import DeadlineExceeded, Refused, Unavailable
from shared.operations.logs import log

ASK_SECONDS = 5.0
CHOICES_ARE_FRESH_SECONDS = 10.0
"""How old an answer of identity's may be when something is sent by it (R-NOT-4)."""

_NAMELESS = frozenset({DeliveryKind.INBOX})


T = TypeVar("T")


class Ask(Protocol):
    """Calls another service as this one."""

    def __call__(self, call: Call[Asked, Answered], request: Asked, timeout: float = ...) -> Answered: ...


class Sender:
    """A conversation with each provider, and the rounds that use them. For one thread."""

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Transaction]],
        ask: Ask,
        channels: Mapping[Channel, ChannelToProvider],
        *,
        batch: int,
        lease: timedelta,
        stopping: Callable[[], bool] = lambda: False,
        sent: Callable[[Channel, str], None] = lambda channel, outcome: None,
    ) -> None:
        self._transaction = transaction
        self._ask = ask
        self._channels = channels
        self._batch = batch
        self._lease = lease
        self._stopping = stopping
        self._count = sent
        self._unwritten: list[Callable[[Transaction], object]] = []
        self.holds: UUID | None = None
        """The claim whose deliveries are in its hands now; renewed by the process for as long as it lives."""

    def round(self) -> int:
        """Returns how many deliveries were taken in hand; 0: time for a pause. What was not begun is given back.

        Raises `Unavailable` while the database is away. What was to be written then is written first when it is back:
        nobody waits for the end of a lease because of that, and a send whose outcome is known is not uncertain.
        """
        self._catch_up()
        claim_id = uuid4()

        def give_back(tx: Transaction) -> None:
            delivering.give_back(tx, claim_id)

        self.holds = claim_id
        claimed = self._write(lambda tx: delivering.claim(tx, claim_id, self._batch, self._lease), otherwise=give_back)
        if not claimed:
            return 0
        try:
            self._handle(claimed)
        except IntegrityError:
            # Another sender took the place of an address at the same moment. The next round sees that, after a pause.
            return 0
        finally:
            self._write(give_back)
        return len(claimed)

    def close(self) -> None:
        """Ends the conversations."""
        for channel in self._channels.values():
            channel.close()

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

    # --- where it goes ----------------------------------------------------------------------------------------------

    def _handle(self, claimed: list[Claimed]) -> None:
        claimed, names = self._with_names(claimed)
        asked_at = time.monotonic()
        claimed, choices = self._with_choices(claimed)
        if not claimed:
            return
        with self._transaction() as tx:
            ready = addressing.address(tx, claimed, choices, self._lease)
        down: dict[Channel, NotAccepted] = {}
        for one in ready:
            if self._stopping() or time.monotonic() - asked_at > CHOICES_ARE_FRESH_SECONDS:
                return
            failed = down.get(one.channel)
            outcome = failed or self._send(one, names.get(one.claimed.clinic, one.claimed.clinic))
            if failed is not None:
                self._record(one, failed)
            if isinstance(outcome, NotAccepted) and outcome.provider_down:
                down[one.channel] = outcome

    def _with_choices(self, claimed: list[Claimed]) -> tuple[list[Claimed], dict[str, rules.Choice]]:
        """Those for whom identity has said what they have chosen, and what; the others are put off."""
        people = [one for one in claimed if one.recipient_kind is not RecipientKind.CLINIC]
        if not people:
            return claimed, {}
        try:
            return claimed, self._choices(people)
        except (Unavailable, DeadlineExceeded):
            reached = [one for one in claimed if one.recipient_kind is RecipientKind.CLINIC]
            self._postpone(people, "identity_unavailable")
            return reached, {}
        except Refused as error:
            if len(people) == 1:
                return self._give_up_for_now(claimed, people[0], error), {}
            return self._one_by_one(claimed, people)

    def _one_by_one(
        self, claimed: list[Claimed], people: list[Claimed]
    ) -> tuple[list[Claimed], dict[str, rules.Choice]]:
        """One of them is what identity can't answer for; the others should not suffer for it."""
        choices: dict[str, rules.Choice] = {}
        for one in people:
            try:
                choices |= self._choices([one])
            except (Unavailable, DeadlineExceeded):
                self._postpone([one], "identity_unavailable")
                claimed = [other for other in claimed if other is not one]
            except Refused as error:
                claimed = self._give_up_for_now(claimed, one, error)
        return claimed, choices

    def _choices(self, people: Iterable[Claimed]) -> dict[str, rules.Choice]:
        def of(kind: RecipientKind) -> list[str]:
            return sorted({one.asked_about for one in people if one.recipient_kind is kind})

        question = identity.Contacts(
            residents=[UUID(resident) for resident in of(RecipientKind.RESIDENT)], staff=of(RecipientKind.STAFF)
        )
        return addressing.choices_from(self._ask(identity.CONTACTS, question, timeout=ASK_SECONDS))

    def _give_up_for_now(self, claimed: list[Claimed], one: Claimed, error: Refused) -> list[Claimed]:
        """Identity has answered, with a fault: tried again like a send, in the end a failure that people see."""
        with self._transaction() as tx:
            delivering.record(tx, one, NotAccepted(f"identity_{error.code}"))
        return [other for other in claimed if other is not one]

    def _with_names(self, claimed: list[Claimed]) -> tuple[list[Claimed], dict[HsaId, str]]:
        """Those whose text can be written, and the names for it; those that need a name that nobody knows are put off.

        A clinic that the directory has never heard of goes by its HSA-id.
        """
        needed = {one.clinic for one in claimed if one.kind not in _NAMELESS}
        if not needed:
            return claimed, {}
        with self._transaction() as tx:
            names, unsure = addressing.kept_names(tx, needed)
        if not unsure:
            return claimed, names
        try:
            found = self._ask(directory.GET_CLINICS, directory.GetClinics(clinics=sorted(unsure)), timeout=ASK_SECONDS)
        except Refused:
            nameless = [one for one in claimed if one.clinic in needed - set(names) and one.kind not in _NAMELESS]
            self._postpone(nameless, "directory_unavailable")
            return [one for one in claimed if one not in nameless], names
        with self._transaction() as tx:
            names |= addressing.keep_names(tx, found)
        return claimed, names

    def _postpone(self, some: list[Claimed], reason: str) -> None:
        if some:
            with self._transaction() as tx:
                delivering.postpone(tx, some, reason)
            log.warning("deliveries_postponed", count=len(some), reason=reason)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send(self, one: Addressed, clinic_name: str) -> Outcome | None:
        """None: it is in other hands now."""
        channel = self._channels[one.channel]
        text = words(one.claimed.kind, one.channel, clinic_name)
        refused = channel.prepare(one.address)
        if refused is not None:
            self._record(one, refused)
            return refused
        try:
            begun = self._write(
                lambda tx: delivering.begin(tx, one.claimed, self._lease),
                otherwise=lambda tx: delivering.take_back(tx, one.claimed),  # whatever is on record: it was not sent
            )
        except Unavailable:
            channel.abandon()
            raise
        if not begun:
            channel.abandon()
            return None
        # It is on record: from here on a crash leaves an uncertain delivery, never a second one.
        outcome = channel.send(str(one.claimed.delivery), one.address, text)
        self._record(one, outcome)
        return outcome

    def _record(self, one: Addressed, outcome: Outcome) -> None:
        state = self._write(lambda tx: delivering.record(tx, one.claimed, outcome))
        self._count(one.channel, type(outcome).__name__)
        if state is None:
            return
        tell = log.info if state is DeliveryState.SENT else log.warning
        tell(
            "delivery_attempted",
            delivery=str(one.claimed.delivery),
            kind=one.claimed.kind,
            channel=one.channel,
            state=state,
            attempt=one.claimed.attempts + 1,
            reason=getattr(outcome, "reason", None),
        )
