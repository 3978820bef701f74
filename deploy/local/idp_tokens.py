"""The identity provider's signing keys, and the ID tokens it makes: the right ones, and on demand the wrong ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from shared.operations import clock

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

TOKEN_MODES = {
    "wrong_audience": "aud is another client",
    "wrong_issuer": "iss is another provider",
    "wrong_nonce": "nonce is another login's",
    "no_nonce": "no nonce",
    "alg_none": "unsigned",
    "alg_hs256": "signed by HMAC, with the published key as the secret",
    "expired": "exp passed an hour ago",
    "not_yet_valid": "iat and nbf lie an hour ahead",
    "unknown_key": "signed by a key that is not published, with a kid of its own",
    "wrong_key": "signed by a key that is not published, under the kid of one that is",
    "no_kid": "no kid",
    "low_assurance": "acr is LoA 2",
    "no_identity": "neither employeeHsaId nor personalIdentityNumber",
}


@dataclass(frozen=True)
class Lifetimes:
    """In seconds."""

    id_token_seconds: int = 300


@dataclass(frozen=True)
class Login:
    """Who logged in, and how. `subject` is the HSA-id or identity number, and never leaves as `sub`."""

    subject: str
    auth_time: float
    acr: str
    amr: tuple[str, ...]
    given_name: str | None
    surname: str | None
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SigningKey:
    """A key with its name and how it signs."""

    kid: str
    alg: str
    key: PrivateKey

    def public(self) -> dict[str, Any]:
        """As the JWKS shows it."""
        public = self.key.public_key()
        shown: dict[str, Any] = (
            RSAAlgorithm.to_jwk(public, as_dict=True)
            if isinstance(public, rsa.RSAPublicKey)
            else ECAlgorithm.to_jwk(public, as_dict=True)
        )
        shown.pop("key_ops", None)
        return shown | {"kid": self.kid, "use": "sig", "alg": self.alg}


def new_key(alg: str) -> SigningKey:
    """A fresh key. ValueError: neither RS256 nor ES256."""
    key: PrivateKey
    match alg:
        case "RS256":
            key = rsa.generate_private_key(65537, 2048)
        case "ES256":
            key = ec.generate_private_key(ec.SECP256R1())
        case _:
            raise ValueError("alg is RS256 or ES256")
    return SigningKey(secrets.token_hex(8), alg, key)


class KeyRing:
    """The keys, newest first, kept in a file: tokens stay verifiable over a restart."""

    def __init__(self, file: Path, alg: str = "RS256") -> None:
        self._file = file
        self._lock = threading.Lock()
        self._keys = self._read()
        if not self._keys:
            self.rotate(alg)

    @property
    def current(self) -> SigningKey:
        """The one that signs."""
        return self._keys[0]

    def published(self) -> list[dict[str, Any]]:
        """The JWKS's `keys`."""
        return [key.public() for key in self._keys]

    def rotate(self, alg: str = "RS256", *, keep_old: bool = True) -> str:
        """Signs with a new key from now on; without `keep_old` the old ones are no longer published. The new kid."""
        key = new_key(alg)
        with self._lock:
            self._keys = [key, *(self._keys if keep_old else [])]
            kept = [
                {"kid": k.kid, "alg": k.alg, "pem": k.key.private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()}
                for k in self._keys
            ]  # fmt: skip
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix(".partial")
            partial.touch(mode=0o600)
            partial.write_text(json.dumps(kept))
            partial.replace(self._file)
        return key.kid

    def _read(self) -> list[SigningKey]:
        try:
            kept = json.loads(self._file.read_text())
        except FileNotFoundError:
            return []
        keys = []
        for one in kept:
            key = load_pem_private_key(one["pem"].encode(), None)
            assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
            keys.append(SigningKey(one["kid"], one["alg"], key))
        return keys


def challenge_of(verifier: str) -> str:
    """PKCE, S256."""
    return _base64(hashlib.sha256(verifier.encode()).digest())


def id_token(
    keys: KeyRing, issuer: str, audience: str, nonce: str, login: Login, lifetimes: Lifetimes, wrong: str | None = None
) -> str:
    """The signed ID token; `wrong` is one of TOKEN_MODES."""
    now = int(clock.now().timestamp())
    pairwise = hashlib.sha256(f"{audience}\0{login.subject}".encode()).hexdigest()
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": pairwise,
        "iat": now,
        "exp": now + lifetimes.id_token_seconds,
        "auth_time": int(login.auth_time),
        "nonce": nonce,
        "jti": secrets.token_hex(16),
        "acr": login.acr,
        "amr": list(login.amr),
    }
    if login.given_name:
        claims["given_name"] = login.given_name
    if login.surname:
        claims["family_name"] = login.surname
    if login.given_name and login.surname:
        claims["name"] = f"{login.given_name} {login.surname}"
    claims |= login.claims
    key, headers = keys.current, {"kid": keys.current.kid}
    match wrong:
        case "wrong_audience":
            claims["aud"] = "someone-else"
        case "wrong_issuer":
            claims["iss"] = "https://idp.invalid"
        case "wrong_nonce":
            claims["nonce"] = secrets.token_urlsafe(16)
        case "no_nonce":
            del claims["nonce"]
        case "expired":
            claims |= {"iat": now - 7200, "auth_time": now - 7200, "exp": now - 3600}
        case "not_yet_valid":
            claims |= {"iat": now + 3600, "nbf": now + 3600, "exp": now + 7200}
        case "low_assurance":
            claims["acr"] = login.acr.removesuffix("3") + "2"
        case "no_identity":
            for name in ("employeeHsaId", "allEmployeeHsaIds", "personalIdentityNumber"):
                claims.pop(name, None)
        case "unknown_key":
            key = new_key(key.alg)
            headers = {"kid": key.kid}
        case "wrong_key":
            key = new_key(key.alg)
        case "no_kid":
            headers = {}
        case "alg_none":
            return ".".join([*_parts(claims, {"alg": "none"} | headers), ""])
        case "alg_hs256":
            published = key.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return _hmac_signed(claims, headers, published)
    return jwt.encode(claims, key.key, algorithm=key.alg, headers=headers)


def _hmac_signed(claims: dict[str, Any], headers: dict[str, str], secret: bytes) -> str:
    # by hand: the library rightly refuses a public key as an HMAC secret
    parts = _parts(claims, {"alg": "HS256"} | headers)
    return ".".join([*parts, _base64(hmac.digest(secret, ".".join(parts).encode(), "sha256"))])


def _parts(claims: dict[str, Any], headers: dict[str, str]) -> list[str]:
    return [_base64(json.dumps(part).encode()) for part in ({"typ": "JWT"} | headers, claims)]


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
