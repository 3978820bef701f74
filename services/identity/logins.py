"""Logging in: a nonce that works once, an ID token that holds, a person whom the directory or the register knows.

A login has three stages. What was begun is read; the identity provider, the directory and the population register are
asked, outside any transaction; then nonce, account and session change together, or not at all. One that is refused has
used its nonce up all the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as insert_or_update

from services.identity import resident_accounts, residents, rules, sessions
from services.identity.cards import CardIssuers
from services.identity.identity_numbers import IdentityNumber, NotANumber, parse
from services.identity.openid import IdentityProviders, Provider, refused
from services.identity.population_register import RegisteredPerson
from services.identity.settings import IdentitySettings
from services.identity.tables import logins as begun_logins
from services.identity.tables import staff
from shared.contracts import directory, identity, logging_in
from shared.contracts.base import Done, HsaId
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated

if TYPE_CHECKING:
    from shared.database.transaction import Transaction
    from shared.messaging.server import OngoingCall

Completing = logging_in.CompleteLogin | logging_in.CompleteCardLogin | logging_in.UnlockLogin
"""A request that ends a login."""

_NONCE_BYTES = 32
_BEGIN = b"INSERT INTO logins (login, kind, purpose, nonce, begun_at) VALUES"
_BEGUN = b"SELECT login, kind, purpose, nonce, begun_at FROM logins WHERE login = ANY(%s)"
_USE = b"UPDATE logins SET used_at = %s WHERE login = ANY(%s) AND used_at IS NULL RETURNING 1"
_HSA_ID: TypeAdapter[str] = TypeAdapter(HsaId)


class BegunLogin(NamedTuple):
    """A login under way, as it was begun."""

    login: UUID
    kind: identity.PersonKind
    purpose: str
    nonce: str
    begun_at: datetime


def issuer_and_client(settings: IdentitySettings, kind: identity.PersonKind) -> tuple[str, str]:
    """The identity provider for staff or residents, and our client id there."""
    if kind == "staff":
        return settings.staff_oidc_issuer, settings.staff_oidc_client_id
    return settings.resident_oidc_issuer, settings.resident_oidc_client_id


def begin(
    tx: Transaction, asked: Sequence[tuple[logging_in.BeginLogin, tuple[Provider, str]]]
) -> list[logging_in.LoginBegun]:
    """Begins logins, each at a provider by our client id there; its nonce works once, within ten minutes, for what it
    was begun for.

    Raises `Invalid` for staff who want to unlock: only residents lock their login.
    """
    return [_begun_at(tx, request, *there) for request, there in asked]


def _begun_at(
    tx: Transaction, request: logging_in.BeginLogin, provider: Provider, client_id: str
) -> logging_in.LoginBegun:
    if request.purpose == "unlock" and request.kind == "staff":
        raise Invalid(fields=[("purpose", "gäller bara invånare")])
    login, nonce = new_login(tx, request.kind, request.purpose)
    return logging_in.LoginBegun(
        login=login,
        nonce=nonce,
        issuer=provider.issuer,
        authorization_endpoint=provider.authorization_endpoint,
        client_id=client_id,
        max_age=0 if request.purpose == "unlock" else None,
    )


def begin_by_card(tx: Transaction, _request: logging_in.BeginCardLogin, audience: str) -> logging_in.CardLoginBegun:
    """Begins a login by a card's own signature; its nonce works once, within ten minutes."""
    login, nonce = new_login(tx, "staff", "card")
    return logging_in.CardLoginBegun(login=login, nonce=nonce, audience=audience, proof_type=logging_in.CARD_PROOF_TYPE)


def new_login(tx: Transaction, kind: identity.PersonKind, purpose: str) -> tuple[UUID, str]:
    """A login under way, and its nonce. `purpose`: "session", "unlock", or "card" for one by a card's own signature."""
    login, nonce = uuid4(), secrets.token_urlsafe(_NONCE_BYTES)
    tx.add(_BEGIN, (login, kind, purpose, nonce, tx.now))
    return login, nonce


def begun(tx: Transaction, requests: Sequence[Completing]) -> list[BegunLogin | None]:
    """The logins that are to be completed, in the order of the requests."""
    found = {row[0]: BegunLogin(*row) for row in tx.look(_BEGUN, ([request.login for request in requests],))}
    return [found.get(request.login) for request in requests]


def forget_old(tx: Transaction, before: datetime, at_most: int = 1000) -> int:
    """Removes logins begun before then, not more than so many; says how many.

    Anyone may begin one, so they are not kept for longer than they can be good for anything.
    """
    old = select(begun_logins.c.login).where(begun_logins.c.begun_at < before).limit(at_most)
    return tx.execute(delete(begun_logins).where(begun_logins.c.login.in_(old))).rowcount


def require_begun(login: BegunLogin | None, now: datetime, purpose: str = "session") -> BegunLogin:
    """Raises `NotAuthenticated` if there is no such login, it began too long ago, or was begun for something else.

    Whether it was used already is looked at when it is used: a repeated request has the same answer.
    """
    if login is None:
        raise refused("login_unknown")
    if now - login.begun_at > rules.LOGIN_LIFETIME:
        raise refused("login_expired")
    if login.purpose != purpose:
        raise refused("login_for_something_else")
    return login


@contextmanager
def used_up_if_refused(call: OngoingCall[Any, Any]) -> Iterator[None]:
    """Around what completes a login: one that is refused can't be tried again, with the same ID token or proof or with
    another, when what stood in its way has gone. Where nobody could say (`Unavailable`), or the person has yet to
    choose (`Conflict`), it can."""
    try:
        yield
    except (NotAuthenticated, Forbidden):
        call.read(_use_up)  # in a transaction of its own: that of the login is rolled back
        raise


def _use_up(tx: Transaction, request: Completing) -> None:
    tx.ask(_USE, (tx.now, [request.login]))


def verified_claims(
    providers: IdentityProviders, settings: IdentitySettings, login: BegunLogin, id_token: str, now: datetime
) -> dict[str, Any]:
    """The claims of the ID token. Raises `NotAuthenticated` unless it holds in every respect, for this very login."""
    issuer, client_id = issuer_and_client(settings, login.kind)
    acr = settings.staff_acr_values if login.kind == "staff" else settings.resident_acr_values
    return providers.verify(id_token, issuer=issuer, client_id=client_id, nonce=login.nonce, acr=acr, now=now)


def hsa_id_of(claims: Mapping[str, Any], wished: str | None) -> HsaId:
    """The HSA-id that a member of staff logs in with.

    Raises `Conflict` with reason `several_hsa_ids` for someone who has several and names none of them, `Forbidden` for
    one who names another's, `NotAuthenticated` where the token has none.
    """
    chosen = _hsa_ids(claims.get("employeeHsaId"))
    own = chosen | _hsa_ids(claims.get("allEmployeeHsaIds"))
    if not own:
        raise refused("employee_hsa_id_missing")
    person = rules.hsa_id_to_use(chosen, own, wished)
    if person is None and wished is not None:
        raise Forbidden("HSA-id:t hör inte till den som loggade in.", reason="hsa_id_of_someone_else")
    if person is None:
        raise Conflict("Välj vilket HSA-id du vill använda.", reason="several_hsa_ids")
    return person


def _hsa_ids(claim: Any) -> set[HsaId]:
    values = claim if isinstance(claim, list) else [] if claim is None else [claim]
    try:
        return {_HSA_ID.validate_python(value) for value in values}
    except ValidationError:
        raise refused("employee_hsa_id_malformed") from None


def number_of(claims: Mapping[str, Any], today: date) -> IdentityNumber:
    """The identity number that a resident logs in with. Raises `NotAuthenticated` where the token has none, or not with
    its century."""
    value = claims.get("personalIdentityNumber")
    if not isinstance(value, str):
        raise refused("personal_identity_number_missing")
    try:
        number = parse(value, today)
    except NotANumber:
        raise refused("personal_identity_number_malformed") from None
    # With ten digits it is the same for two people a hundred years apart, and whose it is would be a guess.
    if sum(map(str.isalnum, value)) < len(number.number):
        raise refused("personal_identity_number_malformed")
    return number


def require_fresh(claims: Mapping[str, Any], login: BegunLogin) -> None:
    """Raises `NotAuthenticated` unless the e-ID was shown after the login began (R-ID-4): `auth_time` of the token."""
    try:
        shown = datetime.fromtimestamp(float(claims["auth_time"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise refused("login_not_fresh") from None
    if not rules.shown_afresh(login.begun_at, shown):
        raise refused("login_not_fresh")


def require_cards_taken(issuers: CardIssuers | None) -> CardIssuers:
    """The issuers of cards. Raises `Conflict` where none are configured."""
    if issuers is None:
        raise Conflict("Inloggning direkt med kort används inte här.", reason="card_login_not_offered")
    return issuers


def require_in_directory(found: directory.StaffFacts) -> None:
    """Raises `Forbidden` unless HSA has the person (R-ID-1)."""
    if found.status != "fine":
        raise Forbidden(
            "Du kan inte logga in: du saknas i HSA, är dold där eller har passerat ditt slutdatum.",
            reason="staff_missing_in_directory",
        )


def require_registered(found: RegisteredPerson | None) -> RegisteredPerson:
    """Raises `Forbidden` if the population register has no such person."""
    if found is None:
        raise Forbidden(
            "Du kan inte logga in: du finns inte i folkbokföringsuppgifterna.", reason="not_in_population_register"
        )
    return found


def has_died(person: RegisteredPerson) -> bool:
    """Whether the register says so (R-ID-17)."""
    return rules.register_code(person.code) is rules.RegisterCode.INACTIVATES


def complete_for_staff(
    tx: Transaction, request: Completing, person: HsaId, desk: sessions.TokenDesk
) -> logging_in.SessionOpened:
    """Uses the login up and opens a session for a member of staff whom HSA has."""
    _require_all(tx.ask(_USE, (tx.now, [request.login])), 1)
    tx.execute(
        insert_or_update(staff)
        .values(person=person, added_at=tx.now, last_login_at=tx.now)
        .on_conflict_do_update(index_elements=["person"], set_={"last_login_at": tx.now})
    )
    [opened] = sessions.open_sessions(tx, "staff", [person], desk)
    return opened


def complete_for_residents(
    tx: Transaction,
    asked: Sequence[tuple[logging_in.CompleteLogin, RegisteredPerson]],
    key: resident_accounts.NumberKey,
    desk: sessions.TokenDesk,
) -> list[logging_in.SessionOpened]:
    """Uses the logins up and opens a session for each resident, with an account made or brought up to date."""
    people = [person for _, person in asked]
    used = tx.ahead(_USE, (tx.now, [request.login for request, _ in asked]))
    found = resident_accounts.find_for_change(tx, people, key)
    _require_all(used, len(asked))
    accounts = [residents.let_in(tx, *each, key) for each in zip(found, people, strict=True)]
    return sessions.open_sessions(tx, "resident", [str(one) for one in accounts], desk)


def complete_unlocking(
    tx: Transaction, request: logging_in.UnlockLogin, person: RegisteredPerson, key: resident_accounts.NumberKey
) -> Done:
    """Uses the login up and unlocks the resident's login; it opens no session (R-ID-4)."""
    _require_all(tx.ask(_USE, (tx.now, [request.login])), 1)
    residents.unlock(tx, person, key)
    return Done()


def _require_all(used: Sequence[object], count: int) -> None:
    """Raises `NotAuthenticated` if a login was used before: an ID token that comes again is a replay."""
    if len(used) < count:
        raise refused("login_used")
