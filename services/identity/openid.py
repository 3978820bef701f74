"""The identity providers: their discovery documents and keys, and whether an ID token holds (OpenID Connect 3.1.3.7).

All requests are made before any transaction. Keys are kept for an hour and fetched again when a token names one that is
not among them, so that a provider can change keys at any time; but not more often than every ten seconds, so that
forged tokens don't make us flood it. While it can't be reached, they are used for a day.
"""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
import requests

from services.identity.fetching import fetched
from services.identity.rules import CLOCK_DIFFERENCE
from shared.messaging.errors import NotAuthenticated, Unavailable
from shared.operations.logs import log

ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}
"""Accepted signatures and the type of key each needs; `none` and every HS* are not among them."""

_KEEP_SECONDS = 3600.0
_KEEP_WHEN_UNREACHABLE_SECONDS = 24 * 3600.0
_BETWEEN_REFRESHES_SECONDS = 10.0
_LARGEST_DOCUMENT = 256 * 1024
_SMALLEST_RSA_BITS = 2048
_KNOWN_HEADERS = 100


@dataclass(frozen=True)
class Provider:
    """What the discovery document says."""

    issuer: str
    authorization_endpoint: str
    jwks_uri: str


@dataclass(frozen=True)
class _Told:
    """What an issuer told, and when (monotonic seconds)."""

    provider: Provider
    keys: Mapping[str, jwt.PyJWK]
    at: float

    @property
    def age(self) -> float:
        return time.monotonic() - self.at


@dataclass
class _Issuer:
    """`tried`: when the latest attempt to ask ended; `attempts`: how many have. `lock` is held by the one who asks."""

    told: _Told | None = None
    tried: float = float("-inf")
    attempts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class IdentityProviders:
    """Talks to any number of issuers; may be used by many workers at once."""

    def __init__(self, ca_file: str | None = None, timeout_seconds: float = 5.0) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.verify = ca_file or True
        self._timeout = timeout_seconds
        self._issuers: dict[str, _Issuer] = {}
        self._headers: dict[str, tuple[object, object]] = {}

    def provider(self, issuer: str) -> Provider:
        """Where the issuer takes requests. Raises `Unavailable` while it can't be asked and was not before."""
        return self._told(issuer).provider

    def verify(
        self, id_token: str, *, issuer: str, client_id: str, nonce: str, acr: frozenset[str], now: datetime
    ) -> dict[str, Any]:
        """The claims of an ID token that holds in every respect.

        Raises `NotAuthenticated` with a reason that says which respect it fails in, `Unavailable` while the issuer's
        keys can't be fetched.
        """
        key = self._key_of(id_token, issuer)
        try:
            claims = jwt.decode(
                id_token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=client_id,
                issuer=issuer,
                # The times are compared below, with the clock that everything here goes by.
                options={
                    "require": ["iss", "sub", "aud", "exp", "iat", "nonce"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.InvalidAudienceError:
            raise refused("id_token_audience") from None
        except jwt.InvalidIssuerError:
            raise refused("id_token_issuer") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
            raise refused("id_token_invalid") from None
        _check_claims(claims, client_id, nonce, acr, now)
        if len(self._headers) < _KNOWN_HEADERS:
            self._headers[id_token.partition(".")[0]] = key.algorithm_name, key.key_id
        return claims

    def _key_of(self, id_token: str, issuer: str) -> jwt.PyJWK:
        algorithm, kid = self._named_in(id_token)
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not isinstance(kid, str):
            raise refused("id_token_algorithm")
        told = self._told(issuer)
        if kid not in told.keys:
            told = self._told(issuer, again=True)
        key = told.keys.get(kid)
        if key is None:
            raise refused("id_token_key_unknown")
        if key.algorithm_name != algorithm:
            raise refused("id_token_algorithm")
        return key

    def _named_in(self, id_token: str) -> tuple[object, object]:
        """The algorithm and the key that the header names. All tokens of a key have the same, so it is parsed once."""
        known = self._headers.get(id_token.partition(".")[0])
        if known is not None:
            return known
        try:
            header = jwt.get_unverified_header(id_token)
        except (jwt.InvalidTokenError, ValueError, TypeError):
            raise refused("id_token_invalid") from None
        return header.get("alg"), header.get("kid")

    def _told(self, issuer: str, again: bool = False) -> _Told:
        """What the issuer told, at most a day ago; `again`: it may have more to tell than what is known.

        One asks at a time. Who can do with what is known does not wait for that, and who can't waits for one attempt,
        however many there are: a provider that hangs holds up no more than it must. Raises `Unavailable`.
        """
        known = self._issuers.setdefault(issuer, _Issuer())
        attempts, told = known.attempts, known.told
        usable = told is not None and told.age < _KEEP_WHEN_UNREACHABLE_SECONDS
        if told is not None and usable:
            due = again or told.age >= _KEEP_SECONDS
            if not due or time.monotonic() - known.tried < _BETWEEN_REFRESHES_SECONDS:
                return told
        if not known.lock.acquire(blocking=again or not usable):
            assert told is not None
            return told
        try:
            if known.attempts == attempts:
                self._ask(issuer, known)
        finally:
            known.lock.release()
        told = known.told
        if told is None or told.age >= _KEEP_WHEN_UNREACHABLE_SECONDS:
            raise Unavailable(
                "Inloggningstjänsten svarar inte just nu. Försök igen om en stund.",
                reason="identity_provider_unreachable",
            )
        return told

    def _ask(self, issuer: str, known: _Issuer) -> None:
        """Asks the issuer; if that fails, what was known stays."""
        try:
            provider = _read_provider(self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration"), issuer)
            known.told = _Told(provider, _read_keys(self._get(provider.jwks_uri)), time.monotonic())
        except (requests.RequestException, OSError, ValueError) as error:
            log.warning("identity_provider_unreachable", error_type=type(error).__name__)
        finally:
            known.tried = time.monotonic()
            known.attempts += 1

    def _get(self, url: str) -> dict[str, Any]:
        text = fetched(self._http, "GET", url, seconds=self._timeout, largest=_LARGEST_DOCUMENT)
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        return document


def refused(reason: str) -> NotAuthenticated:
    """The answer to a login that can't be confirmed; the reason says in which respect, for programs."""
    return NotAuthenticated("Inloggningen kunde inte bekräftas. Börja om från början.", reason=reason)


def _read_provider(document: Mapping[str, Any], issuer: str) -> Provider:
    provider = Provider(*(str(document.get(name, "")) for name in Provider.__dataclass_fields__))
    if provider.issuer != issuer:
        raise ValueError("the document is another issuer's")
    schemes = ("https://",) if issuer.startswith("https://") else ("https://", "http://")
    if not provider.jwks_uri.startswith(schemes) or not provider.authorization_endpoint.startswith(schemes):
        raise ValueError("an address is missing")
    return provider


def _read_keys(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """The keys that ID tokens may be signed with; others in the set are passed over."""
    keys: dict[str, jwt.PyJWK] = {}
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("no set of keys")
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
            continue
        algorithm = "RS256" if entry.get("kty") == "RSA" else "ES256"
        if ALGORITHMS[algorithm] != entry.get("kty") or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK(entry, algorithm=algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        wide_enough = algorithm == "ES256" or key.key.key_size >= _SMALLEST_RSA_BITS
        if wide_enough and not hasattr(key.key, "private_numbers"):
            keys[entry["kid"]] = key
    return keys


def _check_claims(claims: Mapping[str, Any], client_id: str, nonce: str, acr: frozenset[str], now: datetime) -> None:
    audience = claims["aud"]
    authorised = claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and authorised is None) or authorised not in (None, client_id):
        raise refused("id_token_audience")
    try:
        expires = datetime.fromtimestamp(float(claims["exp"]), UTC)
        issued = datetime.fromtimestamp(float(claims["iat"]), UTC)
        not_before = datetime.fromtimestamp(float(claims.get("nbf", claims["iat"])), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise refused("id_token_invalid") from None
    if now - CLOCK_DIFFERENCE >= expires:
        raise refused("id_token_expired")
    if max(issued, not_before) > now + CLOCK_DIFFERENCE:
        raise refused("id_token_from_the_future")
    given = claims["nonce"]
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(errors="replace"), nonce.encode()):
        raise refused("id_token_nonce")
    if not isinstance(claims.get("acr"), str) or claims["acr"] not in acr:
        raise refused("level_of_assurance")
