"""What may happen to a case, who may do it, who may read it, and when time does it. Decisions only."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from shared.contracts.base import Role, utc
from shared.contracts.cases import ClosedReason
from shared.messaging.errors import Conflict, Forbidden, Invalid, LimitExceeded, Refused
from shared.operations.clock import SWEDEN


class State(StrEnum):
    NEW = "new"
    ASSIGNED = "assigned"
    AWAITING_RESIDENT = "awaiting_resident"
    CLOSED = "closed"


class Act(StrEnum):
    """What can be done to a case. Replies bear the names that callers use."""

    ASSIGN = "assign"
    PARTIAL_REPLY = "partial_reply"
    COUNTER_QUESTION = "counter_question"
    ANSWER = "answer"
    RESIDENT_WRITES = "resident_message"
    CLOSE = "close"
    EXPIRE = "expire"
    LOSE_HANDLER = "lose_handler"


class Party(StrEnum):
    """What someone is to a case."""

    RECEIVER = "receiver"
    HANDLER = "handler"
    RESIDENT = "resident"
    SYSTEM = "system"


@dataclass(frozen=True)
class Facts:
    """What the rules need to know of a case."""

    clinic: str
    resident: UUID
    state: State
    version: int
    handler: str | None
    latest_message_at: datetime
    counter_question_at: datetime | None
    resident_wrote_at: datetime | None


# --- the state machine ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transition:
    """Where an act leads, and who may do it. `without_handler` is where it leads when nobody has the case."""

    to: State
    who: frozenset[Party]
    reason: ClosedReason | None = None
    without_handler: State | None = None


_CLINIC = frozenset({Party.RECEIVER, Party.HANDLER})
_RECEIVER = frozenset({Party.RECEIVER})
_HANDLER = frozenset({Party.HANDLER})
_RESIDENT = frozenset({Party.RESIDENT})
_SYSTEM = frozenset({Party.SYSTEM})

# Everything that is not here is illegal. Closed is final: nothing leads out of it.
# What staff do while a case awaits the resident leaves it waiting, a new handler too: only then does an unanswered
# counter-question close it whatever staff wrote in between (R-CASE-7).
TRANSITIONS: Mapping[tuple[State, Act], Transition] = MappingProxyType(
    {
        (State.NEW, Act.ASSIGN): Transition(State.ASSIGNED, _RECEIVER),
        (State.NEW, Act.RESIDENT_WRITES): Transition(State.NEW, _RESIDENT),
        (State.NEW, Act.CLOSE): Transition(State.CLOSED, _RECEIVER, "closed_by_clinic"),
        (State.ASSIGNED, Act.ASSIGN): Transition(State.ASSIGNED, _CLINIC),
        (State.ASSIGNED, Act.PARTIAL_REPLY): Transition(State.ASSIGNED, _HANDLER),
        (State.ASSIGNED, Act.COUNTER_QUESTION): Transition(State.AWAITING_RESIDENT, _HANDLER),
        (State.ASSIGNED, Act.ANSWER): Transition(State.CLOSED, _HANDLER, "answered"),
        (State.ASSIGNED, Act.RESIDENT_WRITES): Transition(State.ASSIGNED, _RESIDENT),
        (State.ASSIGNED, Act.CLOSE): Transition(State.CLOSED, _CLINIC, "closed_by_clinic"),
        (State.ASSIGNED, Act.LOSE_HANDLER): Transition(State.NEW, _SYSTEM),
        (State.AWAITING_RESIDENT, Act.ASSIGN): Transition(State.AWAITING_RESIDENT, _CLINIC),
        (State.AWAITING_RESIDENT, Act.PARTIAL_REPLY): Transition(State.AWAITING_RESIDENT, _HANDLER),
        (State.AWAITING_RESIDENT, Act.COUNTER_QUESTION): Transition(State.AWAITING_RESIDENT, _HANDLER),
        (State.AWAITING_RESIDENT, Act.ANSWER): Transition(State.CLOSED, _HANDLER, "answered"),
        (State.AWAITING_RESIDENT, Act.RESIDENT_WRITES): Transition(
            State.ASSIGNED, _RESIDENT, without_handler=State.NEW
        ),
        (State.AWAITING_RESIDENT, Act.CLOSE): Transition(State.CLOSED, _CLINIC, "closed_by_clinic"),
        (State.AWAITING_RESIDENT, Act.EXPIRE): Transition(State.CLOSED, _SYSTEM, "counter_question_expired"),
        (State.AWAITING_RESIDENT, Act.LOSE_HANDLER): Transition(State.AWAITING_RESIDENT, _SYSTEM),
    }
)


@dataclass(frozen=True)
class Outcome:
    """What a case becomes; `reason` is why it is closed, in the contract's word."""

    state: State
    reason: ClosedReason | None


def decide(case: Facts, act: Act, parties: frozenset[Party]) -> Outcome:
    """What the act makes of the case, done by someone who is these parties to it.

    Raises `Forbidden` where the act is another's to do, and `Conflict` where the state does not allow it (reasons
    `case_closed`, `not_assigned`, `no_counter_question`, `not_now`).
    """
    transition = TRANSITIONS.get((case.state, act))
    if transition is None:
        raise _refusal(case, act, parties)
    if not transition.who & parties:
        raise Forbidden(_whose(act), reason=f"not_{sorted(transition.who)[0]}_of_case")
    if act is Act.RESIDENT_WRITES and not resident_may_write(case):
        raise Conflict("Du kan skriva i ärendet först när vården har ställt en fråga.", reason="no_counter_question")
    if case.handler is None and transition.without_handler is not None:
        return Outcome(transition.without_handler, None)
    return Outcome(transition.to, transition.reason)


def _refusal(case: Facts, act: Act, parties: frozenset[Party]) -> Refused:
    """What is said of an act that the state does not allow: first whether it could ever be theirs to do."""
    if not any(step.who & parties for (_, other), step in TRANSITIONS.items() if other is act):
        return Forbidden(_whose(act))
    if case.state is State.CLOSED:
        return Conflict("Ärendet är avslutat.", reason="case_closed")
    if case.handler is None and act in REPLIES:
        return Conflict("Ärendet är inte tilldelat någon ärendehanterare.", reason="not_assigned")
    return Conflict(reason="not_now")


REPLIES = frozenset({Act.PARTIAL_REPLY, Act.COUNTER_QUESTION, Act.ANSWER})


def _whose(act: Act) -> str:
    if act in REPLIES:
        return "Bara den ärendehanterare som har ärendet kan svara i det."
    return "Du saknar behörighet för detta i ärendet."


def check_version(case: Facts, version: int) -> None:
    """Refuses to act on a case that has changed since the caller read it (R-CASE-17): `Conflict`, `case_changed`."""
    if case.version != version:
        raise Conflict("Ärendet har ändrats sedan du läste det. Läs det igen.", reason="case_changed")


def resident_may_write(case: Facts) -> bool:
    """Once a counter-question has been asked, and until the case is closed (R-CASE-6)."""
    return case.state is not State.CLOSED and case.counter_question_at is not None


def waiting_since(state: State, resident_wrote_at: datetime | None) -> datetime | None:
    """Since when the resident waits for the clinic: what they wrote last, while the case is the clinic's to handle."""
    return resident_wrote_at if state in (State.NEW, State.ASSIGNED) else None


def unanswered_since(
    first: datetime | None, latest: datetime | None, clinic_wrote: datetime, now: datetime
) -> datetime:
    """When the resident, who writes now, first wrote after the clinic last did (R-NOT-2).

    `first`: what this was for their message before; a clinic that wrote later has ended that wait. `latest`: that
    message, which stands in where the version before, by which waits counted from it, took it in.
    """
    for written in (first, latest):
        if written is not None and written > clinic_wrote:
            return written
    return now


def reading_makes_known(handler: str | None, them: frozenset[Party]) -> bool:
    """Whether a case is unread no more when these have read it: its handler, or while it has none a receiver."""
    return Party.HANDLER in them or (handler is None and Party.RECEIVER in them)


def questions_open(case: Facts) -> bool:
    """Whether the resident still has the questions to answer that the clinic started the case with (R-CASE-14)."""
    return resident_may_write(case) and case.resident_wrote_at is None


# --- who may read ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Viewer:
    """Someone who asks for cases: staff with the clinics where they hold each role, or a resident."""

    person: str | None = None
    receiver_at: frozenset[str] = frozenset()
    handler_at: frozenset[str] = frozenset()
    resident: UUID | None = None
    blocked_at: frozenset[str] = frozenset()
    """Where a guardian who stands for the resident neither acts nor sees anything (R-ID-13)."""


@dataclass(frozen=True)
class Ground:
    """One reason to be let in. A case is covered if it fits everything that the ground names."""

    clinics: frozenset[str] | None = None
    handler: str | None = None
    resident: UUID | None = None
    written_after: datetime | None = None
    elsewhere_than: frozenset[str] = frozenset()

    def covers(self, case: Facts) -> bool:
        return (
            (self.clinics is None or case.clinic in self.clinics)
            and case.clinic not in self.elsewhere_than
            and (self.handler is None or case.handler == self.handler)
            and (self.resident is None or case.resident == self.resident)
            and (self.written_after is None or case.latest_message_at > self.written_after)
        )


def grounds_for_reading(viewer: Viewer, now: datetime) -> tuple[Ground, ...]:
    """The one rule of who may read a case, for lists and readings alike (R-CASE-3, R-CASE-10, R-CASE-19).

    A receiver reads all of the clinic's, a handler those assigned to them there, a resident their own for two years
    from the latest message, and their guardian the same but at clinics that have blocked it (R-ID-13). No ground:
    nothing may be read.
    """
    grounds = []
    if viewer.person is not None and viewer.receiver_at:
        grounds.append(Ground(clinics=viewer.receiver_at))
    if viewer.person is not None and viewer.handler_at:
        grounds.append(Ground(clinics=viewer.handler_at, handler=viewer.person))
    if viewer.resident is not None:
        since = years_before(now, RESIDENT_READS_YEARS)
        grounds.append(Ground(resident=viewer.resident, written_after=since, elsewhere_than=viewer.blocked_at))
    return tuple(grounds)


def may_read(viewer: Viewer, case: Facts, now: datetime) -> bool:
    """Whether this viewer may read this case."""
    return any(ground.covers(case) for ground in grounds_for_reading(viewer, now))


def parties(viewer: Viewer, case: Facts) -> frozenset[Party]:
    """What the viewer is to the case. A handler without the role at the clinic is none any more."""
    found = set()
    if viewer.person is not None and case.clinic in viewer.receiver_at:
        found.add(Party.RECEIVER)
    if viewer.person is not None and case.handler == viewer.person and case.clinic in viewer.handler_at:
        found.add(Party.HANDLER)
    if viewer.resident is not None and case.resident == viewer.resident and case.clinic not in viewer.blocked_at:
        found.add(Party.RESIDENT)
    return frozenset(found)


def may_be_assigned(roles: frozenset[Role]) -> bool:
    """Whether someone with these roles at the clinic can be given its cases (R-CASE-4)."""
    return Role.CASE_HANDLER in roles


# --- time -----------------------------------------------------------------------------------------------------------

RESIDENT_READS_YEARS = 2


def month_after(moment: datetime) -> datetime:
    """The same Swedish clock time one calendar month later, the month's last day if it has no such day (R-CASE-7).

    31 January 14:00 gives 28 February 14:00, or the 29th in a leap year. In UTC.
    """
    local = moment.astimezone(SWEDEN)
    year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    day = min(local.day, calendar.monthrange(year, month)[1])
    return utc(local.replace(year=year, month=month, day=day))


def week_before(moment: datetime) -> datetime:
    """The same Swedish clock time seven days earlier, when the resident is reminded (R-CASE-7). In UTC."""
    return utc(moment.astimezone(SWEDEN) - timedelta(days=7))


def years_before(moment: datetime, years: int) -> datetime:
    """The same Swedish clock time that many years earlier; 29 February becomes the 28th. In UTC."""
    local = moment.astimezone(SWEDEN)
    day = min(local.day, calendar.monthrange(local.year - years, local.month)[1])
    return utc(local.replace(year=local.year - years, day=day))


def swedish_date(moment: datetime) -> date:
    """The day in Sweden."""
    return moment.astimezone(SWEDEN).date()


def start_of_day(day: date) -> datetime:
    """When this Swedish day begins; the first day there is has no beginning. In UTC."""
    if day == date.min:
        return datetime.min.replace(tzinfo=UTC)
    return utc(datetime(day.year, day.month, day.day, tzinfo=SWEDEN))


def end_of_day(day: date) -> datetime:
    """When the Swedish day after this one begins; the last day there is never ends. In UTC."""
    return start_of_day(day + timedelta(days=1)) if day < date.max else datetime.max.replace(tzinfo=UTC)


def counter_question_due(case: Facts) -> datetime | None:
    """When the case closes by itself: only one that waits for a resident who has not written since (R-CASE-7)."""
    if case.state is not State.AWAITING_RESIDENT or case.counter_question_at is None:
        return None
    if case.resident_wrote_at is not None and case.resident_wrote_at > case.counter_question_at:
        return None
    return month_after(case.counter_question_at)


# --- attachments ----------------------------------------------------------------------------------------------------


def check_attachments(attachments: Sequence[UUID], at_most: int) -> None:
    """How many files one message may have (R-ATT-3): `LimitExceeded`; and each only once: `Invalid`."""
    if len(attachments) > at_most:
        raise LimitExceeded("För många filer i meddelandet.", reason="too_many_attachments")
    if len(set(attachments)) < len(attachments):
        raise Invalid(
            "Samma fil är bifogad två gånger.",
            reason="attachment_twice",
            fields=[("attachments", "samma fil finns två gånger")],
        )


# --- what residents see ---------------------------------------------------------------------------------------------

INBOX_STATES: Mapping[State, str] = MappingProxyType(
    {
        State.NEW: "new",
        State.ASSIGNED: "waiting_for_clinic",
        State.AWAITING_RESIDENT: "waiting_for_me",
        State.CLOSED: "closed",
    }
)
"""What a resident sees of the state (R-CASE-15)."""
