"""What is told to whom, in whose words it is chosen, and how often it is tried. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, Literal

from shared.contracts import cases
from shared.contracts.base import Event, HsaId, Role
from shared.contracts.notifications import Channel, DeliveryKind, DeliveryState

# --- from event to recipients ---------------------------------------------------------------------------------------


class Told(Enum):
    """Who is told, as an event can name them."""

    NEW_CASE_ADDRESSES = "the addresses that the clinic has entered for new cases"
    CASE_RECEIVERS = "every case receiver of the clinic"
    HANDLER = "the handler whom the event names"
    RESIDENT = "the resident whom the event names"


def _anything(_event: Any) -> bool:
    return True


def _by_someone_else(event: cases.CaseAssignedEvent) -> bool:
    """Whoever takes a case themselves knows of it."""
    return event.assigned_by != event.handler


def _resident_wrote_to_handler(event: cases.MessageSentEvent) -> bool:
    """The first message has no handler yet; it is told as a new case."""
    return event.written_by == "resident" and event.handler is not None and event.kind != "start"


def _landed_in_inbox(event: cases.MessageSentEvent) -> bool:
    """As soon as something lands in the inbox, also from the system (R-NOT-3); not what the resident wrote."""
    return event.written_by in ("staff", "system") and event.notify


@dataclass(frozen=True)
class Notice:
    """One line of the table: when this event happens, if `when` holds, these are told this."""

    event: Event[Any]
    told: Told
    kind: DeliveryKind
    when: Callable[[Any], bool] = _anything


TABLE = (
    Notice(cases.CASE_STARTED, Told.NEW_CASE_ADDRESSES, DeliveryKind.CLINIC_NEW_CASE),
    Notice(cases.CASE_STARTED, Told.CASE_RECEIVERS, DeliveryKind.NEW_CASE),
    Notice(cases.CASE_ASSIGNED, Told.HANDLER, DeliveryKind.CASE_ASSIGNED, when=_by_someone_else),
    Notice(cases.MESSAGE_SENT, Told.HANDLER, DeliveryKind.RESIDENT_WROTE, when=_resident_wrote_to_handler),
    Notice(cases.MESSAGE_SENT, Told.RESIDENT, DeliveryKind.INBOX, when=_landed_in_inbox),
    Notice(cases.ANSWER_REMINDER, Told.RESIDENT, DeliveryKind.INBOX),  # in the same words (R-NOT-3)
)


def notices(event: Event[Any], body: Any) -> list[Notice]:
    """The lines of the table that hold for what happened."""
    return [notice for notice in TABLE if notice.event is event and notice.when(body)]


# --- whether a person is told, and where, decided when it is about to be sent -----------------------------------------


@dataclass(frozen=True)
class StaffRule:
    """What a member of staff must have chosen, and which role they must still have at the clinic (R-NOT-1, R-NOT-5)."""

    choice: Literal["new_case", "case_assigned", "resident_wrote"]
    role: Role


STAFF_RULES = {
    DeliveryKind.NEW_CASE: StaffRule("new_case", Role.CASE_RECEIVER),
    DeliveryKind.CASE_ASSIGNED: StaffRule("case_assigned", Role.CASE_HANDLER),
    DeliveryKind.RESIDENT_WROTE: StaffRule("resident_wrote", Role.CASE_HANDLER),
}


@dataclass(frozen=True)
class Choice:
    """What a person has chosen and where they can be reached, as identity tells it."""

    active: bool
    notify_by: frozenset[str]
    tell_me_about: frozenset[str]
    addresses: dict[Channel, str]
    roles: Mapping[HsaId, frozenset[Role]] = field(default_factory=dict)
    """By clinic, what they hold there now (staff only)."""
    version: int = 0
    """Of what they have set."""
    guardians: Mapping[str, Guardian] | None = None
    """By resident id, who is told in place of a child under 13; None: the choice is the person's own (R-NOT-8)."""


@dataclass(frozen=True)
class Guardian:
    """A guardian who may act for the child now: what they have chosen for its inbox, and where they are blocked."""

    choice: Choice
    blocked_at: frozenset[HsaId] = frozenset()


@dataclass(frozen=True)
class NotTold:
    """The person is not told; how the delivery ends, and why."""

    state: DeliveryState
    reason: str


def choose(kind: DeliveryKind, choice: Choice | None, roles: Iterable[Role]) -> dict[Channel, str] | NotTold:
    """By which channels, and where, a person is told now.

    `choice` None: identity does not know the person. `roles`: what they hold at the clinic (staff only).
    """
    if choice is None:
        return NotTold(DeliveryState.WITHDRAWN, "unknown_person")
    if not choice.active:
        return NotTold(DeliveryState.WITHDRAWN, "inactive")
    rule = STAFF_RULES.get(kind)
    if rule is not None and rule.role not in roles:
        return NotTold(DeliveryState.WITHDRAWN, "right_gone")
    if not choice.notify_by or (rule is not None and rule.choice not in choice.tell_me_about):
        return NotTold(DeliveryState.NOT_WANTED, "not_chosen")
    reachable = {channel: choice.addresses[channel] for channel in choice.addresses if channel in choice.notify_by}
    return reachable or NotTold(DeliveryState.FAILED, "no_address")


def guardians_told(choice: Choice | None, clinic: HsaId) -> list[str] | None:
    """Who is told in place of the resident: the guardians of a child under 13 whom the clinic has not blocked.

    None: the resident themselves (R-NOT-8).
    """
    if choice is None or not choice.active or choice.guardians is None:
        return None
    return [one for one, guardian in choice.guardians.items() if clinic not in guardian.blocked_at]


def choose_for_child(
    kind: DeliveryKind, child: Choice | None, guardian: str, clinic: HsaId
) -> dict[Channel, str] | NotTold:
    """By which channels, and where, a guardian is told for the child now. Ends with the representation (R-NOT-8)."""
    if child is None:
        return NotTold(DeliveryState.WITHDRAWN, "unknown_person")
    if not child.active:
        return NotTold(DeliveryState.WITHDRAWN, "inactive")
    acts = (child.guardians or {}).get(guardian)
    if acts is None:
        return NotTold(DeliveryState.WITHDRAWN, "no_longer_guardian")
    if clinic in acts.blocked_at:
        return NotTold(DeliveryState.WITHDRAWN, "guardian_blocked")
    return choose(kind, acts.choice, ())


# --- how often ------------------------------------------------------------------------------------------------------


class Failure(Enum):
    """Why a provider certainly has not got it."""

    PROVIDER_DOWN = "it can't be reached, takes nothing now, or does not know us: nothing to do with this message"
    REFUSED_FOR_NOW = "it takes others, not this one now: greylisting, a full mailbox"
    REFUSED_BY_POLICY = "it has seen the mail, and takes none like it: its words, our domain, its filter"
    PERMANENT = "it will never take this one: no such mailbox, no such number"


def _pauses(*said: str) -> tuple[timedelta, ...]:
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    return tuple(timedelta(**{units[one[-1]]: int(one[:-1])}) for one in said)


PAUSES = {
    Failure.PROVIDER_DOWN: _pauses("0s", "30s", "2m", "10m", "30m", "1h", "2h", "4h", "8h"),
    Failure.REFUSED_FOR_NOW: _pauses("0s", "1m", "5m", "15m", "30m", "1h", "2h", "4h", "8h"),
    Failure.REFUSED_BY_POLICY: _pauses("0s", "5m", "1h"),
    Failure.PERMANENT: (),
}
"""The pause after the first, second, ... attempt that failed so; the first try again is at once. One more failure after
the last pause is one that people see (R-NOT-7)."""

JITTER = 0.2
"""A pause is up to this share longer, at random, so that what failed together does not come back together."""

LOOKUP_PAUSE = timedelta(seconds=10)
"""When identity or the directory does not answer nothing has been tried: it waits, however long, and counts nothing."""

LONGEST_ASKED_PAUSE = timedelta(hours=1)


def next_pause(failure: Failure, attempts: int, chance: float, asked: timedelta | None = None) -> timedelta | None:
    """The pause after the attempt with this number (1: the first), which failed so; None: that was the last.

    `chance` is a random number from 0 to 1. `asked`: the pause that the provider asks for, heeded up to an hour.
    """
    pauses = PAUSES[failure]
    if attempts > len(pauses):
        return None
    pause = pauses[attempts - 1] * (1 + JITTER * chance)
    return max(pause, min(asked, LONGEST_ASKED_PAUSE)) if asked else pause


CIRCUIT_OPENS_AFTER = 3
"""So many failures in a row that say more of the provider than of the message, and it is not asked for each one."""


def circuit_pause(failures: int) -> timedelta:
    """How long a provider that has failed so often in a row is left alone, before one message tries it again."""
    return min(timedelta(seconds=2 ** max(0, min(failures - CIRCUIT_OPENS_AFTER, 6))), timedelta(minutes=1))


LONGEST_WAIT = timedelta(days=1)
"""A delivery that no provider could be asked to take for so long is a failure that people see (R-NOT-7)."""


RESENDABLE = frozenset({DeliveryState.FAILED, DeliveryState.UNCERTAIN})
"""What can be sent again by hand (R-NOT-7)."""

ENDS = frozenset(
    {
        DeliveryState.SENT,
        DeliveryState.UNCERTAIN,
        DeliveryState.FAILED,
        DeliveryState.WITHDRAWN,
        DeliveryState.NOT_WANTED,
        DeliveryState.MERGED,
    }
)

# --- how long -------------------------------------------------------------------------------------------------------

RECORDS_ARE_KEPT = timedelta(days=90)
"""The record of a delivery, from when it ended; it has no content and no person's address."""

FORMER_STAFF_IS_KEPT = timedelta(days=90)
"""Who has worked at a clinic, from when they hold no role there; longer while the clinic has entered their address."""

LONGEST_STATISTICS = timedelta(days=31)

TEST_MESSAGES_AN_HOUR = 20
"""So many one clinic may send."""
