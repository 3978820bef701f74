"""Logging in by a SITHS card itself, without an identity provider: a certificate, and proof that its key is at hand.

The proof is a JWS (RFC 7515) that the card signs: header `typ` `siths-login+jwt`, `alg`, and `x5c` with the card's
certificate; payload `nonce` and `aud` as `begin_card_login` gave them. Whatever else `x5c` holds is not looked at: the
card's certificate must come directly from an issuer that is configured, up to a root that is configured.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError
from pydantic import TypeAdapter, ValidationError

from services.identity.openid import refused
from shared.contracts.base import HsaId
from shared.contracts.logging_in import CARD_PROOF_TYPE

_HSA_ID: TypeAdapter[str] = TypeAdapter(HsaId)
_ALGORITHMS_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384"}


@dataclass(frozen=True)
class CardIssuers:
    """Whose certificates are trusted: the roots, and the authorities under them that issue persons' cards."""

    roots: tuple[x509.Certificate, ...]
    issuers: tuple[x509.Certificate, ...]

    @classmethod
    def from_file(cls, path: Path) -> CardIssuers:
        """Reads certificates in PEM: those that name themselves as issuer are roots. Raises ValueError."""
        found = x509.load_pem_x509_certificates(path.read_bytes())
        roots = tuple(one for one in found if one.issuer == one.subject)
        issuers = tuple(one for one in found if one.issuer != one.subject)
        if not roots or not issuers:
            raise ValueError("needs a root, and an authority under it that issues cards")
        return cls(roots, issuers)

    def issuer_of(self, card: x509.Certificate, now: datetime) -> x509.Certificate:
        """The authority that issued the card, if the chain up to a root holds at this time, in every respect.

        Raises `NotAuthenticated`.
        """
        if not card.not_valid_before_utc <= now <= card.not_valid_after_utc:
            raise refused("certificate_expired")
        try:
            verifier = (
                PolicyBuilder()
                .store(Store(list(self.roots)))
                .time(now)
                .max_chain_depth(1)
                .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=_CARDS)
                .build_client_verifier()
            )
            chain = verifier.verify(card, list(self.issuers)).chain
        except (VerificationError, ValueError):
            raise refused("certificate_not_trusted") from None
        if len(chain) < 2 or chain[1] not in self.issuers:
            raise refused("certificate_not_trusted")
        return chain[1]


def _signs(_policy: Policy, _card: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise ValueError("not a key to log in with")


def _is_for_clients(_policy: Policy, _card: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError("not a certificate to log in with")


# Cards name nobody in subjectAltName, which the web's own policy asks for; what a key is for, that one leaves open.
_CARDS = (
    ExtensionPolicy.webpki_defaults_ee()
    .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
    .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _is_for_clients)
)


def card_of(proof: str) -> x509.Certificate:
    """The certificate that the proof names. Nothing of it is believed yet. Raises `NotAuthenticated`."""
    try:
        header = jwt.get_unverified_header(proof)
        chain = header.get("x5c")
        if header.get("typ") != CARD_PROOF_TYPE or not isinstance(chain, list) or not isinstance(chain[0], str):
            raise ValueError("no proof")
        card = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        _ = card.public_key(), card.extensions, card.subject  # read when they are asked for, and may be anything
    except Exception:  # it comes from anyone, and the libraries have errors of many kinds for what they can't read
        raise refused("proof_malformed") from None
    return card


def require_key(proof: str, card: x509.Certificate, *, nonce: str, audience: str) -> None:
    """Raises `NotAuthenticated` unless the card's own key made the proof, for this login and for us."""
    try:
        claims = jwt.decode(
            proof,
            _key(card),
            algorithms=_algorithms(card),
            audience=audience,
            options={"require": ["aud", "nonce"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidAudienceError:
        raise refused("proof_audience") from None
    except (jwt.InvalidTokenError, ValueError, TypeError):
        raise refused("proof_invalid") from None
    given = claims["nonce"]
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(errors="replace"), nonce.encode()):
        raise refused("proof_nonce")


def hsa_id_on(card: x509.Certificate) -> HsaId:
    """The HSA-id in the subject's serialNumber.

    Raises `NotAuthenticated` where there is none, or several, or a personnummer: a card has certificates of both kinds.
    """
    found = [one.value for one in card.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    try:
        if len(found) == 1:
            return _HSA_ID.validate_python(found[0])
    except ValidationError:
        pass
    raise refused("certificate_without_hsa_id")


def _key(card: x509.Certificate) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    key = card.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError("a key of another kind")
    return key


def _algorithms(card: x509.Certificate) -> list[str]:
    """What the card's key can sign by; the proof's header has no say beyond these."""
    key = _key(card)
    if isinstance(key, rsa.RSAPublicKey):
        return ["RS256", "PS256"]
    return [_ALGORITHMS_BY_CURVE[key.curve.name]] if key.curve.name in _ALGORITHMS_BY_CURVE else []
