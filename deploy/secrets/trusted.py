"""Everyone's public keys, from the private ones; keys that are no longer used to sign may stay beside them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.rabbitmq.permissions import CONNECTED_SYSTEMS
from deploy.secrets.wanted import SIGNERS


def issuer_of(name: str) -> str:
    """Whom a key speaks for, as tokens name it."""
    if name in ("identity", "operator"):
        return name
    return f"system:{name}" if name in CONNECTED_SYSTEMS else f"service:{name}"


def public(pem: str, issuer: str) -> dict[str, str]:
    """The public key as a JWK, with its issuer."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    thumbprint = hashlib.sha256(json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":")).encode())
    kid = base64.urlsafe_b64encode(thumbprint.digest()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "iss": issuer, "use": "sig", "alg": "EdDSA"}


def keys(folder: Path) -> str:
    """The JWK set: of each signer its key, and its former and coming ones (`<name>.signing.*.pem`)."""
    found = []
    for name in SIGNERS:
        for file in sorted(folder.glob(f"{name}.signing*.pem")):
            found.append(public(file.read_text(), issuer_of(name)))
    return json.dumps({"keys": found}, indent=1)


def covers(folder: Path) -> bool:
    """Whether every key that signs now is in the set that is there."""
    try:
        there = {one["kid"] for one in json.loads((folder / "trusted.json").read_text())["keys"]}
    except (ValueError, KeyError, TypeError):
        return False
    now = {public((folder / f"{name}.signing.pem").read_text(), issuer_of(name))["kid"] for name in SIGNERS}
    return now <= there
