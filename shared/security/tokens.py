"""Tokens that say who calls: JWT signed with Ed25519 (RFC 8037), verified where they arrive, without a hop.

Who may say what: `identity` speaks for people, each service for itself, the operator's key for the operator, a
connected system's key for that system. A key speaks only for the issuer that the key file binds it to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.utils import base64url_decode

from shared.messaging.errors import NotAuthenticated
from shared.operations import clock
from shared.operations.logs import log
from shared.security import endorsed_keys

ALGORITHM = endorsed_keys.ALGORITHM
LONGEST_LIFE = timedelta(minutes=10)
_CACHED_TOKENS = 20_000
_KNOWN_HEADERS = 100
_LOOK_AGAIN_SECONDS = 1.0
_LEEWAY = timedelta(seconds=5)
_PERSONS = ("resident", "staff")
_SIGNATURES = jwt.PyJWS(algorithms=[ALGORITHM])
"""The signature is the library's affair; what may be said by whom and for how long is checked here, and cached."""
_ED25519 = _SIGNATURES.get_algorithm_by_name(ALGORITHM)


@dataclass(frozen=True)
class Claims:
    """What a token says. `subject`: resident id, staff HSA-id, service or system name."""

    issuer: str
    subject: str
    kind: str
    issued_at: datetime
    expires_at: datetime
    session: UUID | None = None
    terms_accepted: bool = True
    acting_for: UUID | None = None


def key_id(public: Ed25519PublicKey) -> str:
    """The thumbprint of the key (RFC 7638), which tokens name it by."""
    x = base64.urlsafe_b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode()
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


class Signer:
    """Mints tokens with one private key."""

    def __init__(self, key: Ed25519PrivateKey, issuer: str) -> None:
        self.issuer = issuer
        self._key = key
        self._headers = {"kid": key_id(key.public_key())}
        self._own: tuple[str, datetime] | None = None

    @classmethod
    def from_file(cls, path: Path, issuer: str) -> Signer:
        """Reads a private key in PEM. Raises ValueError."""
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the signing key is not an Ed25519 key")
        return cls(key, issuer)

    def mint(self, claims: Claims) -> str:
        """The token, signed."""
        payload: dict[str, Any] = {
            "iss": self.issuer,
            "sub": claims.subject,
            "kind": claims.kind,
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
        }
        if claims.kind in _PERSONS:
            payload["sid"] = str(claims.session)
            payload["terms"] = claims.terms_accepted
            if claims.acting_for:
                payload["acting_for"] = str(claims.acting_for)
        return jwt.encode(payload, self._key, algorithm=ALGORITHM, headers=self._headers)

    def endorse(self, public: Ed25519PublicKey, until: datetime) -> str:
        """What this key says of another: that it signs for the same issuer, until then."""
        return endorsed_keys.endorse(self._key, self._headers["kid"], self.issuer, public, until)

    def endorsed(self, endorsement: str) -> bool:
        """Whether it is this key's endorsement, and not one of a key before it."""
        return jwt.get_unverified_header(endorsement).get("kid") == self._headers["kid"]

    def own_token(self) -> str:
        """A token for the issuer itself (a service, the operator, a system), made anew when half its life is over."""
        now = clock.now()
        if self._own is None or not self._own[1] <= now < self._own[1] + LONGEST_LIFE / 2:
            kind, _, name = ("service:identity" if self.issuer == "identity" else self.issuer).partition(":")
            token = self.mint(Claims(self.issuer, name or kind, kind, now, now + LONGEST_LIFE))
            self._own = (token, now)
        return self._own[0]


class Verifier:
    """Verifies tokens against the trusted keys; the key file is read again when it changes, so keys can be rotated.

    `ask_for_keys` answers what identity's key says of the keys that it has made since (see `endorsed_keys`).
    """

    def __init__(self, keys_file: Path, ask_for_keys: endorsed_keys.Ask | None = None) -> None:
        self._file = keys_file
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._generation = 0
        self._looked = 0.0
        self._keys: dict[str, tuple[str, Ed25519PublicKey]] = {}
        self._known: OrderedDict[bytes, Claims] = OrderedDict()
        self._headers: dict[str, str] = {}
        """The key that a header names which the library has taken. All tokens of a key have the same one."""
        self._learned = (
            None
            if ask_for_keys is None
            else endorsed_keys.LearnedKeys(ask_for_keys, lambda: self._keys, key_id, self._forget)
        )
        self._load()

    def _forget(self) -> None:
        """A key is gone: what was verified by it counts no more."""
        with self._lock:
            self._known.clear()
            self._headers.clear()
            self._generation += 1

    def _load(self) -> None:
        self._looked = time.monotonic()
        status = os.stat(self._file)
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        keys: dict[str, tuple[str, Ed25519PublicKey]] = {}
        try:
            for entry in json.loads(self._file.read_text())["keys"]:
                raw = base64.urlsafe_b64decode(entry["x"] + "=" * (-len(entry["x"]) % 4))
                public = Ed25519PublicKey.from_public_bytes(raw)
                keys[key_id(public)] = (str(entry["iss"]), public)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the trusted keys can't be read: {type(error).__name__}") from None
        with self._lock:
            self._keys, self._stamp = keys, stamp
        self._forget()

    def verify(self, token: object) -> Claims:
        """What the token says, if it is genuine and in time.

        Else raises `NotAuthenticated` with a reason, or `Unavailable` where its key may be a new one and identity can't
        be asked.
        """
        if not isinstance(token, str) or not 20 <= len(token) <= 4096:
            raise NotAuthenticated(reason="no_token" if not token else "token_malformed")
        if time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._look_again()
        if self._learned is not None:
            self._learned.look_again()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims, generation = self._known.get(digest), self._generation
        if claims is None:
            claims = self._first_verification(token)
            with self._lock:
                unchanged = generation == self._generation
                if unchanged:
                    self._known[digest] = claims
                    if len(self._known) > _CACHED_TOKENS:
                        self._known.popitem(last=False)
            if not unchanged:  # a key has gone meanwhile, and it may have been this one's
                return self.verify(token)
        now = clock.now()
        if now >= claims.expires_at:
            raise NotAuthenticated(reason="token_expired")
        if claims.issued_at > now + _LEEWAY:
            raise NotAuthenticated(reason="token_from_the_future")
        return claims

    def _look_again(self) -> None:
        """Takes changed keys; a file that can't be read (someone is writing it) leaves those that were."""
        try:
            self._load()
        except (ValueError, OSError) as error:
            log.error("trusted_keys_not_read", error_type=type(error).__name__)

    def _first_verification(self, token: str) -> Claims:
        try:
            header = token.partition(".")[0]
            kid = self._headers.get(header) or jwt.get_unverified_header(token).get("kid")
            found = self._keys.get(kid) if isinstance(kid, str) else None
            of_file = found is not None
            if found is None and isinstance(kid, str) and self._learned is not None:
                found = self._learned.get(kid)
            if found is None:
                raise NotAuthenticated(reason="token_of_unknown_key")
            issuer, key = found
            payload = json.loads(self._signed(token, header, key))
            claims = _checked(payload, issuer, may_be_a_service=of_file)
            if len(self._headers) < _KNOWN_HEADERS:
                self._headers[header] = str(kid)
            return claims
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, OSError):
            raise NotAuthenticated(reason="token_forged") from None

    def _signed(self, token: str, header: str, key: Ed25519PublicKey) -> bytes:
        """What the key has signed. Raises jwt.InvalidTokenError or ValueError where it has not."""
        if header not in self._headers:
            signed: bytes = _SIGNATURES.decode(token, key, algorithms=[ALGORITHM])
            return signed
        # The library has taken this very header before, which is most of its work beside the signature: that is left.
        content, _, signature = token.rpartition(".")
        if not _ED25519.verify(content.encode(), key, base64url_decode(signature)):
            raise jwt.InvalidSignatureError
        return base64url_decode(content[len(header) + 1 :])


def _checked(payload: dict[str, Any], issuer: str, *, may_be_a_service: bool) -> Claims:
    """What it says, if its issuer may say that. Keys that are endorsed for a while speak for people alone."""
    kind, subject = str(payload["kind"]), str(payload["sub"])
    if payload["iss"] != issuer:
        raise ValueError("this key does not speak for that issuer")
    if kind in _PERSONS:
        allowed = issuer == "identity"
    elif kind == "operator":
        allowed = issuer == "operator"
    elif issuer == "identity":  # its one key speaks for people, and for itself as a service
        allowed = may_be_a_service and kind == "service" and subject == "identity"
    else:
        allowed = kind in ("service", "system") and issuer == f"{kind}:{subject}"
    if not allowed:
        raise ValueError("the issuer may not say this")
    issued = datetime.fromtimestamp(int(payload["iat"]), UTC)
    expires = datetime.fromtimestamp(int(payload["exp"]), UTC)
    if expires - issued > LONGEST_LIFE:
        raise ValueError("the token lives too long")
    acting_for = payload.get("acting_for")
    if acting_for and kind != "resident":
        raise ValueError("only a resident acts for another")
    return Claims(
        issuer=issuer,
        subject=subject,
        kind=kind,
        issued_at=issued,
        expires_at=expires,
        session=UUID(payload["sid"]) if kind in _PERSONS else None,
        terms_accepted=payload["terms"] is True if kind in _PERSONS else True,
        acting_for=UUID(acting_for) if acting_for else None,
    )
