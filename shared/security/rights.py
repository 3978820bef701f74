"""Copies of the rights that identity holds, and how fresh they are (R-ID-10).

Identity numbers every change of rights and every ended session without gaps, and tells each as an event. A service
keeps them in its own database and knows up to which number it has them all (`applied`). Four times a second identity
announces its latest number. A copy answers only while it has heard an announcement made less than a second ago and
lacks nothing up to it; otherwise identity is asked, and if identity does not answer, nobody is let in.

The age of an announcement is measured without comparing clocks: each carries its sender's monotonic time, and the
shortest way that one of that sender has taken so far tells how late another one is.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts import identity
from shared.contracts.base import HsaId, Role
from shared.messaging.errors import DeadlineExceeded, NotAuthenticated, Refused, Unavailable
from shared.operations.logs import log
from shared.security.caller import Caller, Rights

ANNOUNCE_EVERY_SECONDS = 0.25
TRUSTED_FOR_SECONDS = 0.75
"""How long after an announcement was made a copy that lacks nothing of it may answer."""
HELD_FOR_SECONDS = 0.2
"""How long a call goes on with what it has been answered; after that it asks again. Both together are less than the
second of R-ID-10 by what the fastest announcement may have taken."""
SETTLED_AFTER_SECONDS = 600.0
"""More than the five minutes of an access token and the difference of clocks that is allowed for it."""

_ATTEMPTS = 3
_NO_ANSWER = ("no_process", "no_broker")
"""Of our own client, when the time for an answer is over. What identity itself refuses it would refuse again."""
_NOTED_EVERY_SECONDS = 30.0
_HEARD_BEFORE_TRUST = 3


@dataclass
class _Sender:
    fastest: float
    sent: float
    heard: int = 1


@dataclass
class Freshness:
    """What has been heard of identity's latest number."""

    latest: int = -1
    _history: deque[tuple[float, int]] = field(default_factory=deque)
    _senders: dict[str, _Sender] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, number: int, sender: str, sent: float, received: float) -> None:
        """Takes in an announcement; `sent` and `received` are the monotonic clocks of the two processes.

        Raises ValueError for what can't be one.
        """
        if not (math.isfinite(sent) and 0 <= number < 2**63):
            raise ValueError("no announcement")
        with self._lock:
            known = self._senders.get(sender)
            if known is None:
                self._senders[sender] = _Sender(received - sent, sent)
            else:
                known.fastest = min(known.fastest, received - sent)
                known.sent = max(known.sent, sent)
                known.heard += 1
            self.latest = max(self.latest, number)
            self._note(received)
            for name, one in list(self._senders.items()):
                if received - (one.sent + one.fastest) > 60:
                    del self._senders[name]

    def _note(self, now: float) -> None:
        if not self._history or now - self._history[-1][0] >= _NOTED_EVERY_SECONDS:
            self._history.append((now, self.latest))
        while len(self._history) > 1 and now - self._history[1][0] >= SETTLED_AFTER_SECONDS:
            self._history.popleft()

    def settled(self, now: float) -> int:
        """The latest number of some time ago, -1 where that was not heard: of all changes up to it, no access token
        lives that a session's end was about, and what has not come of them is late indeed, or lost."""
        with self._lock:
            return max((number for at, number in self._history if now - at >= SETTLED_AFTER_SECONDS), default=-1)

    def forget(self) -> None:
        """The connection was lost: what comes next may have been long under way."""
        with self._lock:
            self._senders.clear()

    def age(self, now: float) -> float:
        """Seconds since the newest announcement was made; infinite before enough have been heard."""
        with self._lock:
            made = [one.sent + one.fastest for one in self._senders.values() if one.heard >= _HEARD_BEFORE_TRUST]
        return now - max(made) if made else float("inf")

    @property
    def heard(self) -> bool:
        """Whether enough has been heard for a copy to answer."""
        return self.age(time.monotonic()) <= TRUSTED_FOR_SECONDS

    def covers(self, applied: int, now: float) -> bool:
        """Whether a copy that has every change up to `applied` may answer."""
        return applied >= self.latest and self.age(now) <= TRUSTED_FOR_SECONDS


_LOOK_UP = text(
    """SELECT (SELECT applied FROM rights_state) AS applied,
              EXISTS (SELECT 1 FROM ended_sessions WHERE session = :session) AS ended,
              subject.roles AS roles, coalesce(subject.regional, false) AS regional
       FROM (SELECT 1) AS one LEFT JOIN rights_subjects AS subject ON subject.subject = :subject"""
)

Ask = Callable[[identity.CurrentRights], identity.RightsNow]


class RightsCopy:
    """The copy of one service, in its own database."""

    def __init__(self, ask_identity: Ask) -> None:
        self.freshness = Freshness()
        self._ask = ask_identity

    def of(self, connection: Connection, caller: Caller) -> Rights | None:
        """What the caller may do now, in one statement; None where the copy can't be sure.

        Raises `NotAuthenticated` if the session has ended.
        """
        # Looked at before the copy is read: a change announced in between makes the copy stale, never the other way.
        now = time.monotonic()
        row = connection.execute(_LOOK_UP, {"session": caller.session, "subject": caller.subject}).one()
        if not self.freshness.covers(row.applied if row.applied is not None else -1, now):
            return None
        if row.ended:
            raise NotAuthenticated(reason="session_ended")
        return rights_from(row.roles or [], row.regional)

    def asked(self, caller: Caller) -> Rights:
        """What the caller may do now, from identity itself. Raises `NotAuthenticated`, or `Unavailable` if unsure.

        An answer that took longer than a moment would be too old (R-ID-10), so it is asked anew, as while a process of
        identity's is replaced on a machine that is short of processors.
        """
        question = identity.CurrentRights(subject=caller.subject, session=caller.session)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._ask(question)
                break
            except Refused as error:
                unanswered = isinstance(error, DeadlineExceeded) or error.reason in _NO_ANSWER
                log.warning("rights_not_known", code=error.code, reason=error.reason, attempt=attempt)
                if attempt == _ATTEMPTS or not unanswered:
                    raise Unavailable(reason="rights_not_known") from None
        if not answer.session_live:
            raise NotAuthenticated(reason="session_ended")
        return rights_from([one.model_dump() for one in answer.roles], answer.regional)


def rights_from(roles: Iterable[dict[str, Any]], regional: bool) -> Rights:
    """Rights from `[{"clinic": ..., "role": ...}, ...]`."""
    held: dict[HsaId, set[Role]] = {}
    for one in roles:
        held.setdefault(one["clinic"], set()).add(Role(one["role"]))
    return Rights({clinic: frozenset(found) for clinic, found in held.items()}, regional)


def apply(connection: Connection, change: identity.RightsChanged) -> None:
    """Takes one change into the copy. Changes may come twice and in any order; the newest of a subject wins."""
    applied = _applied(connection)
    # One that is late by so much that the copy was compared without it tells of rights that are over.
    if _may_have_roles(change.subject) and change.number > applied:
        connection.execute(
            text(
                """INSERT INTO rights_subjects (subject, version, roles, regional)
                   VALUES (:subject, :version, CAST(:roles AS jsonb), :regional)
                   ON CONFLICT (subject) DO UPDATE
                   SET version = excluded.version, roles = excluded.roles, regional = excluded.regional
                   WHERE rights_subjects.version < excluded.version"""
            ),
            {
                "subject": change.subject,
                "version": change.version,
                "roles": _json(change),
                "regional": change.regional,
            },
        )
    for session in change.ended_sessions:
        connection.execute(
            text("INSERT INTO ended_sessions (session, until) VALUES (:session, :until) ON CONFLICT DO NOTHING"),
            {"session": session.session, "until": session.until},
        )
    if change.number > applied:
        connection.execute(
            text("INSERT INTO rights_pending (number) VALUES (:number) ON CONFLICT DO NOTHING"),
            {"number": change.number},
        )
        _advance(connection, applied)


def progress(connection: Connection, number: int) -> tuple[int, int]:
    """`applied`, and how many of the changes from there up to `number` have come."""
    come = """SELECT coalesce((SELECT applied FROM rights_state), 0),
                     (SELECT count(*) FROM rights_pending WHERE number <= :number)"""
    applied, early = connection.execute(text(come), {"number": number}).one()
    return applied, early


def pass_over(connection: Connection, number: int, compared: tuple[int, int]) -> bool:
    """Goes on without those changes up to `number` that have not come, after it was found that nothing differs.

    Answers False, and leaves all as it is, where one of them has come since the `progress` with which the copy began to
    be compared: it may be the first of two that belong together, and the second would not be believed any more.
    """
    _applied(connection)
    if progress(connection, number) != compared:
        return False
    connection.execute(text("UPDATE rights_state SET applied = :number"), {"number": number})
    connection.execute(text("DELETE FROM rights_pending WHERE number <= :number"), {"number": number})
    _advance(connection, number)
    return True


def _applied(connection: Connection) -> int:
    """Up to which number the copy has all changes; nobody else moves it until the end of the transaction."""
    connection.execute(text("INSERT INTO rights_state (applied) SELECT 0 WHERE NOT EXISTS (SELECT FROM rights_state)"))
    applied: int = connection.execute(text("SELECT applied FROM rights_state FOR UPDATE")).scalar_one()
    return applied


def _may_have_roles(subject: str) -> bool:
    """Staff, by their HSA-id. Residents' sessions end by the thousand, and a row for each would tell nothing."""
    try:
        UUID(subject)
    except ValueError:
        return True
    return False


def _advance(connection: Connection, applied: int) -> None:
    """Moves `applied` to the end of the run of numbers that have come without a gap."""
    reached = applied
    waiting = connection.execute(
        text("SELECT number FROM rights_pending WHERE number > :applied ORDER BY number"), {"applied": applied}
    ).scalars()
    for number in waiting:
        if number != reached + 1:
            break
        reached = number
    if reached > applied:
        connection.execute(text("UPDATE rights_state SET applied = :reached"), {"reached": reached})
        connection.execute(text("DELETE FROM rights_pending WHERE number <= :reached"), {"reached": reached})


def _json(change: identity.RightsChanged) -> str:
    return json.dumps([{"clinic": one.clinic, "role": str(one.role)} for one in change.roles])


_PEOPLE_WITH = text(
    """SELECT subject FROM rights_subjects
       WHERE roles @> CAST(:held AS jsonb) ORDER BY subject"""
)


def people_with(connection: Connection, clinic: HsaId, role: Role) -> list[HsaId]:
    """The staff who hold the role at the clinic, by this service's copy."""
    held = f'[{{"clinic": "{clinic}", "role": "{role.value}"}}]'  # an HsaId holds no character that JSON would escape
    return list(connection.execute(_PEOPLE_WITH, {"held": held}).scalars())


@dataclass(frozen=True)
class Announcement:
    """Identity's latest number, on its way to every process of every service."""

    number: int
    sender: str
    sent: float
