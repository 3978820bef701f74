"""What identity and the directory are asked about a batch: who has chosen what, and what its clinics are called."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from services.notifications import addressing, delivering, rules
from services.notifications.channels.outcome import NotAccepted
from services.notifications.delivering import Claimed
from shared.contracts import directory, identity
from shared.contracts.base import Answered, Asked, Call, HsaId
from shared.contracts.notifications import DeliveryKind, RecipientKind
from shared.database.transaction import Transaction
from shared.messaging.errors import DeadlineExceeded, Refused, Unavailable
from shared.operations.logs import log

ASK_SECONDS = 5.0
NAMES_ARE_KEPT_SECONDS = 10.0
"""So long a sender does not look again what a clinic is called; many batches are about few clinics."""

_NAMELESS = frozenset({DeliveryKind.INBOX})


class Ask(Protocol):
    """Calls another service as this one."""

    def __call__(self, call: Call[Asked, Answered], request: Asked, timeout: float = ...) -> Answered: ...


class Neighbours:
    """The questions of one sender. What can't be answered now is put off, and no attempt is counted."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[Transaction]], ask: Ask) -> None:
        self._transaction = transaction
        self._ask = ask
        self._names: dict[HsaId, str] = {}
        self._names_until = 0.0

    def with_names(self, claimed: list[Claimed]) -> tuple[list[Claimed], dict[HsaId, str]]:
        """Those whose text can be written, and the names for it; those that need a name that nobody knows are put off.

        A clinic that the directory has never heard of goes by its HSA-id.
        """
        needed = {one.clinic for one in claimed if one.kind not in _NAMELESS}
        if not needed:
            return claimed, {}
        if time.monotonic() >= self._names_until:
            self._names, self._names_until = {}, time.monotonic() + NAMES_ARE_KEPT_SECONDS
        if not needed <= self._names.keys():
            claimed, found = self._looked_up(claimed, needed)
            self._names |= found
        return claimed, self._names

    def _looked_up(self, claimed: list[Claimed], needed: set[HsaId]) -> tuple[list[Claimed], dict[HsaId, str]]:
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

    def with_choices(self, claimed: list[Claimed]) -> tuple[list[Claimed], dict[str, rules.Choice]]:
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

    def _postpone(self, some: list[Claimed], reason: str) -> None:
        if some:
            with self._transaction() as tx:
                delivering.postpone(tx, some, reason)
            log.warning("deliveries_postponed", count=len(some), reason=reason)
