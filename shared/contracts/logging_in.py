"""Identity: how people log in, their sessions, and the terms that they accept."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Done, HsaId, Query, Reply
from shared.contracts.identity import Channel, PersonKind, identity

# --- logging in -----------------------------------------------------------------------------------------------------


class BeginLogin(Command):
    """Begins a login with the identity provider for staff or residents (R-ID-1, R-ID-3).

    The client puts the nonce into its authorisation request, and brings back the ID token within ten minutes.
    `purpose` says what it is good for: a session, or for residents the unlocking of a locked login alone (R-ID-4).
    """

    kind: PersonKind
    purpose: Literal["session", "unlock"] = "session"


class LoginBegun(Reply):
    login: UUID
    nonce: str
    issuer: str
    authorization_endpoint: str
    client_id: str
    max_age: int | None = None
    """What else to put into the authorisation request, if set: 0 has the e-ID shown anew."""


class CompleteLogin(Command):
    """Ends a login with the ID token that the identity provider gave for its nonce, and opens a session.

    Staff must stand in HSA, else `forbidden` with reason `staff_missing_in_directory` (R-ID-1). Residents are looked up
    in the population register; reasons of `forbidden`: `account_inactive` (R-ID-17), `login_locked` (R-ID-4),
    `not_in_population_register`, `number_to_be_looked_at` (the number stands in the account of someone with whom the
    register no longer connects it, R-ID-24). A token that does not hold is `not_authenticated` with a reason. Someone
    with several HSA-ids (the claims `employeeHsaId` and `allEmployeeHsaIds` have them all) says which one to use in
    `employee_hsa_id`, else `conflict` with reason `several_hsa_ids`, after which the same login can be completed.
    One that was refused is used up: another has to be begun.
    """

    login: UUID
    id_token: str = Field(max_length=20_000)
    employee_hsa_id: HsaId | None = None


class SessionOpened(Reply):
    """The session's tokens. The access token lives five minutes; the renewal token works once (R-ID-21)."""

    access_token: str
    renewal_token: str
    access_expires_at: datetime
    session_expires_at: datetime
    """When the session ends at the latest; earlier if it is not renewed for 30 minutes."""
    terms_version_to_accept: str | None = None
    """Set while the person has the terms still to accept; the session can do nothing else (R-ID-2, R-ID-3)."""
    unreachable: list[Channel] = []
    """At the login only: by which channels the person could not be reached at the addresses that they have now; a
    guardian who acts for a child, at those for the child's inbox."""


BEGIN_LOGIN = identity.call("begin_login", BeginLogin, LoginBegun, who=("anyone",))
COMPLETE_LOGIN = identity.call("complete_login", CompleteLogin, SessionOpened, who=("anyone",))

CARD_PROOF_TYPE = "siths-login+jwt"
"""What the header of a card's proof says in `typ`."""


class BeginCardLogin(Command):
    """Begins a login of staff by the SITHS card itself, without the identity provider (R-ID-1).

    The client has the card sign a JWS, within ten minutes: header `typ` (as in the answer), `alg` (RS256, PS256, ES256
    or ES384, as fits the card's key) and `x5c` (the card's HSA-id certificate); payload `nonce` and `aud` as in the
    answer. `conflict` with reason `card_login_not_offered` where no issuers of cards are configured.
    """


class CardLoginBegun(Reply):
    login: UUID
    nonce: str
    audience: str
    proof_type: str


class CompleteCardLogin(Command):
    """Ends a login by card with the JWS that the card signed, and opens a session (R-ID-1).

    `not_authenticated` with a reason where the proof or the certificate does not hold (expired, revoked, another
    issuer's, without HSA-id), `unavailable` with reason `certificate_status_unknown` while nobody can say whether it
    has been revoked; as `complete_login` for staff beyond that.
    """

    login: UUID
    proof: str = Field(max_length=20_000)


BEGIN_CARD_LOGIN = identity.call("begin_card_login", BeginCardLogin, CardLoginBegun, who=("anyone",))
COMPLETE_CARD_LOGIN = identity.call("complete_card_login", CompleteCardLogin, SessionOpened, who=("anyone",))

# --- locking one's login (R-ID-4) ------------------------------------------------------------------------------------


class LockLogin(Command):
    """Locks the caller's own login: it ends all their sessions at once, and nobody can log in as them (R-ID-4)."""


class UnlockLogin(Command):
    """Unlocks a resident's login by a fresh e-ID login begun for that purpose; it opens no session (R-ID-4).

    The ID token's `auth_time` must lie after the login began. One that is not locked stays so, without an error.
    As with `complete_login`, one that was refused is used up.
    """

    login: UUID
    id_token: str = Field(max_length=20_000)


LOCK_LOGIN = identity.call("lock_login", LockLogin, Done, who=("resident",))
UNLOCK_LOGIN = identity.call("unlock_login", UnlockLogin, Done, who=("anyone",))

# --- sessions -------------------------------------------------------------------------------------------------------


class RenewSession(Command):
    """Trades a renewal token for new tokens (R-ID-21). A renewal token that was traded before ends the session.

    A session in which a guardian acts for a child (`act_for_child`) lives no longer than the guardian's own, from which
    it was begun: when that one has ended or was not renewed for 30 minutes, `not_authenticated` with reason
    `session_ended`. It renews nothing of the guardian's own, which the client renews by its own token (R-ID-11).
    """

    renewal_token: str = Field(max_length=200)


class LogOut(Command):
    """Ends the session at once, in every service (R-ID-21)."""


class ListSessions(Query):
    """The caller's own sessions that have not ended (R-ID-21)."""


class Session(Reply):
    session: UUID
    started_at: datetime
    renewed_at: datetime
    """When it was last used, to five minutes."""
    ends_at: datetime
    this_one: bool
    """Whether it is the one that asks."""


class SessionsFound(Reply):
    """The newest first."""

    sessions: list[Session]


class EndSession(Command):
    """Ends one of the caller's own sessions, at once and in every service (R-ID-21); `not_found` for any other."""

    session: UUID


LIST_SESSIONS = identity.call("list_sessions", ListSessions, SessionsFound, who=("resident", "staff"))
END_SESSION = identity.call("end_session", EndSession, Done, who=("resident", "staff"))
RENEW_SESSION = identity.call("renew_session", RenewSession, SessionOpened, who=("anyone",))
LOG_OUT = identity.call("log_out", LogOut, Done, who=("resident", "staff"), before_terms=True)

# --- terms ----------------------------------------------------------------------------------------------------------


class ReadTerms(Query):
    """The terms of use: those in force, or an earlier version that the caller once accepted (R-ID-2, R-ID-3)."""

    version: str | None = Field(None, max_length=40)


class AcceptedTerms(Reply):
    version: str
    accepted_at: datetime


class Terms(Reply):
    version: str
    text: str
    """As it was accepted, if it was."""
    accepted_at: datetime | None = None
    accepted: list[AcceptedTerms] = []
    """Every version that the caller has accepted, the first one first: each can be read."""


class AcceptTerms(Command):
    """Accepts the terms in force. The session goes on with the tokens of the answer; its earlier ones are spent.

    `conflict` with reason `terms_already_accepted` where the token already says so: tokens come by `renew_session`.
    """

    version: str = Field(max_length=40)


READ_TERMS = identity.call("read_terms", ReadTerms, Terms, who=("resident", "staff"), before_terms=True)
ACCEPT_TERMS = identity.call("accept_terms", AcceptTerms, SessionOpened, who=("resident", "staff"), before_terms=True)
