"""Sessions: access tokens of five minutes, renewal tokens that work once, and ends that hold everywhere (R-ID-21)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, delete, or_, select, update

from services.identity import revocations, rules, terms, unreachable
from services.identity.signing_keys import KeyRing
from services.identity.tables import renewal_tokens, sessions
from shared.contracts import identity, logging_in
from shared.contracts.base import Done
from shared.messaging.errors import NotAuthenticated, NotFound
from shared.security.tokens import Claims

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_RENEWAL_BYTES = 32
_OPEN = b"""INSERT INTO sessions
    (session, kind, subject, started_at, renewed_at, ends_at, acting_for, begun_from) VALUES"""
_KEEP_RENEWAL_TOKEN = b"INSERT INTO renewal_tokens (hash, session, issued_at) VALUES"


@dataclass(frozen=True)
class TokenDesk:
    """What it takes to give out tokens: identity's keys, and the terms that a token says are accepted or not."""

    keys: KeyRing
    terms: terms.TermsShelf


class RenewalTokenReused(NotAuthenticated):
    """A renewal token came a second time: one of the two who have it is a thief, so the session has to end."""

    def __init__(self, session: UUID) -> None:
        super().__init__("Sessionen är avslutad. Logga in igen.", reason="renewal_token_spent")
        self.session = session


@dataclass(frozen=True)
class Acting:
    """Of a session in which someone acts for a child: whose, from which session of their own, until when (R-ID-11)."""

    child: UUID
    begun_from: UUID
    ends_at: datetime


def open_sessions(
    tx: Transaction, kind: identity.PersonKind, subjects: Sequence[str], desk: TokenDesk, acting: Acting | None = None
) -> list[logging_in.SessionOpened]:
    """Begins a session for each, and gives out its first tokens. `acting`: where they act for a child in it."""
    ends_at = acting.ends_at if acting else rules.session_end(tx.now)
    child = acting.child if acting else None
    begun_from = acting.begun_from if acting else None
    accepting = terms.ask_who_accepted(tx, kind, subjects, desk.terms.in_force(kind))
    not_reached = unreachable.channels(tx, kind, subjects, child)
    accepted = {person for (person,) in accepting}
    opened = []
    for subject in subjects:
        session = uuid4()
        tx.add(_OPEN, (session, kind, subject, tx.now, tx.now, ends_at, child, begun_from))
        tokens = _give_tokens(tx, session, kind, subject, ends_at, desk, child, accepted=subject in accepted)
        opened.append(tokens.model_copy(update={"unreachable": not_reached.get(subject, [])}))
    return opened


def renew(tx: Transaction, request: logging_in.RenewSession, desk: TokenDesk) -> logging_in.SessionOpened:
    """Trades a renewal token for new tokens.

    Raises `RenewalTokenReused` for a spent one, `NotAuthenticated` for an unknown one or a session that has ended, was
    idle for 30 minutes or is 12 hours old; one in which someone acts for a child lives no longer than their own.
    """
    this = renewal_tokens.c.hash == _hash(request.renewal_token)
    # The session before its tokens, as everyone locks them; the token by a statement that begins when it is locked, for
    # whoever held it may have spent the token.
    of_token = select(renewal_tokens.c.session).where(this).scalar_subquery()
    row = tx.execute(select(sessions).where(sessions.c.session == of_token).with_for_update()).one_or_none()
    if row is None:
        raise NotAuthenticated("Sessionen finns inte. Logga in igen.", reason="renewal_token_unknown")
    if tx.execute(select(renewal_tokens.c.spent_at).where(this)).scalar_one() is not None:
        raise RenewalTokenReused(row.session)
    if not _can_go_on(tx, row):
        raise NotAuthenticated("Sessionen är avslutad. Logga in igen.", reason="session_ended")
    tx.execute(update(renewal_tokens).where(this).values(spent_at=tx.now))
    return _go_on(tx, row, desk)


def _can_go_on(tx: Transaction, row: Row[Any]) -> bool:
    """Whether the session lives, and the one from which it was begun, if it was not by logging in."""
    if not rules.session_lives(tx.now, row.renewed_at, row.ends_at, row.ended_at):
        return False
    if row.begun_from is None:
        return True
    own = tx.execute(select(sessions).where(sessions.c.session == row.begun_from)).one_or_none()
    return own is not None and rules.session_lives(tx.now, own.renewed_at, own.ends_at, own.ended_at)


def accept_terms(tx: Transaction, request: logging_in.AcceptTerms, desk: TokenDesk) -> logging_in.SessionOpened:
    """Accepts the terms in force, and gives the session tokens that say so; its renewal token so far is spent.

    Raises `NotAuthenticated` for a session that could not be renewed either, `Conflict` as `terms.accept` does.
    """
    terms.accept(tx, request, desk.terms)
    row = tx.execute(select(sessions).where(sessions.c.session == tx.caller.session).with_for_update()).one_or_none()
    if row is None or not _can_go_on(tx, row):
        raise NotAuthenticated("Sessionen är avslutad. Logga in igen.", reason="session_ended")
    unspent = (renewal_tokens.c.session == row.session) & renewal_tokens.c.spent_at.is_(None)
    tx.execute(update(renewal_tokens).where(unspent).values(spent_at=tx.now))
    return _go_on(tx, row, desk)


def log_out(tx: Transaction, _request: logging_in.LogOut) -> Done:
    """Ends the caller's session, at once and everywhere."""
    session = tx.caller.session
    if session is not None:
        end(tx, session, "logged_out")
    return Done()


def list_own(tx: Transaction, _request: logging_in.ListSessions) -> logging_in.SessionsFound:
    """The caller's sessions that can still be renewed."""
    rows = tx.execute(
        select(sessions)
        .where(sessions.c.subject == tx.caller.subject, sessions.c.ended_at.is_(None), sessions.c.ends_at > tx.now)
        .order_by(sessions.c.started_at.desc(), sessions.c.session)
    )
    return logging_in.SessionsFound(
        sessions=[
            logging_in.Session(
                session=row.session,
                started_at=row.started_at,
                renewed_at=row.renewed_at,
                ends_at=row.ends_at,
                this_one=row.session == tx.caller.session,
            )
            for row in rows
            if rules.session_lives(tx.now, row.renewed_at, row.ends_at, row.ended_at)
        ]
    )


def end_own(tx: Transaction, request: logging_in.EndSession) -> Done:
    """Ends one of the caller's sessions; one that has ended already stays so. Raises `NotFound` for another's."""
    own = (sessions.c.session == request.session) & (sessions.c.subject == tx.caller.subject)
    if tx.execute(select(sessions.c.session).where(own)).one_or_none() is None:
        raise NotFound("Sessionen finns inte.")
    end(tx, request.session, "ended_by_person")
    return Done()


def end_reused(tx: Transaction, _request: logging_in.RenewSession, session: UUID) -> None:
    """Ends the session whose renewal token came twice."""
    end(tx, session, "renewal_token_reused")


def end(tx: Transaction, session: UUID, reason: str) -> None:
    """Ends a session, if it has not ended already, and those begun from it to act for a child."""
    _end_where(tx, or_(sessions.c.session == session, sessions.c.begun_from == session), reason)


def end_all(tx: Transaction, subject: str, reason: str) -> None:
    """Ends every session of someone."""
    _end_where(tx, sessions.c.subject == subject, reason)


def end_acting(tx: Transaction, resident: UUID, reason: str, guardian: UUID | None = None) -> None:
    """Ends every session in which someone (or only this guardian) acts for the resident, and in which the resident acts
    for somebody (R-ID-11, R-ID-13)."""
    for_them = sessions.c.acting_for == resident
    by_them = sessions.c.acting_for.is_not(None) & (sessions.c.subject == str(resident))
    _end_where(
        tx, or_(for_them, by_them) if guardian is None else for_them & (sessions.c.subject == str(guardian)), reason
    )


def forget_old(tx: Transaction, before: datetime, at_most: int = 1000) -> int:
    """Removes sessions past their limit before then, with their renewal tokens; not more than so many, and says how
    many."""
    old = select(sessions.c.session).where(sessions.c.ends_at < before).limit(at_most)
    return tx.execute(delete(sessions).where(sessions.c.session.in_(old))).rowcount


def _end_where(tx: Transaction, which: ColumnElement[bool], reason: str) -> None:
    live = which & sessions.c.ended_at.is_(None)
    # Locked first, by a statement of its own: one that is begun from these at this moment holds their lock, and only a
    # statement that starts after it sees what it has begun.
    tx.execute(select(sessions.c.session).where(live).order_by(sessions.c.session).with_for_update())
    ended = tx.execute(
        update(sessions)
        .where(live)
        .values(ended_at=tx.now, end_reason=reason)
        .returning(sessions.c.session, sessions.c.subject)
    ).all()
    until = rules.remember_ended_until(tx.now)
    for subject in sorted({row.subject for row in ended}):
        own = [identity.EndedSession(session=row.session, until=until) for row in ended if row.subject == subject]
        revocations.tell(tx, subject, own)


def _go_on(tx: Transaction, row: Row[Any], desk: TokenDesk) -> logging_in.SessionOpened:
    tx.execute(update(sessions).where(sessions.c.session == row.session).values(renewed_at=tx.now))
    accepted = row.subject in terms.who_accepted(tx, row.kind, [row.subject], desk.terms.in_force(row.kind))
    return _give_tokens(tx, row.session, row.kind, row.subject, row.ends_at, desk, row.acting_for, accepted=accepted)


def _give_tokens(
    tx: Transaction,
    session: UUID,
    kind: identity.PersonKind,
    subject: str,
    ends_at: datetime,
    desk: TokenDesk,
    acting_for: UUID | None,
    *,
    accepted: bool,
) -> logging_in.SessionOpened:
    renewal = secrets.token_urlsafe(_RENEWAL_BYTES)
    tx.add(_KEEP_RENEWAL_TOKEN, (_hash(renewal), session, tx.now))
    in_force = desk.terms.in_force(kind)
    expires = rules.access_end(tx.now, ends_at)
    claims = Claims(
        issuer=desk.keys.issuer,
        subject=subject,
        kind=kind,
        issued_at=tx.now,
        expires_at=expires,
        session=session,
        terms_accepted=accepted,
        acting_for=acting_for,
    )
    return logging_in.SessionOpened(
        access_token=desk.keys.signer(tx).mint(claims),
        renewal_token=renewal,
        access_expires_at=expires,
        session_expires_at=ends_at,
        terms_version_to_accept=None if accepted else in_force,
    )


def _hash(renewal_token: str) -> bytes:
    """The tokens are random and long, so a plain hash hides them."""
    return hashlib.sha256(renewal_token.encode()).digest()
