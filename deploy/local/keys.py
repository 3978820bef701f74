"""Keys and passwords of a local stack: random, made at its first start, readable by their owner alone."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.local.folder import make_folder, write_private
from deploy.rabbitmq.permissions import CONNECTED_SYSTEMS


@dataclass(frozen=True)
class Keys:
    """Where the keys lie: `<name>.pem` (Ed25519), `<name>.ring.json` (AES-256), `trusted.json` (public, JWK set)."""

    folder: Path

    def signing_key(self, name: str) -> Path:
        """The private key by which a service, or the operator, signs tokens."""
        return self.folder / f"{name}.pem"

    def data_keys(self, service: str) -> Path:
        """The ring of keys by which the service seals what it stores."""
        return self.folder / f"{service}.ring.json"

    @property
    def trusted(self) -> Path:
        """The public keys of all who issue tokens."""
        return self.folder / "trusted.json"

    def secret_file(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> Path:
        """The file with the secret of this name, one line, made when first asked for."""
        file = self.folder / f"{name}.secret"
        if not file.exists():
            write_private(file, make())
        return file

    def password(self, name: str) -> str:
        """The password of this name, made when first asked for."""
        return self.secret_file(name).read_text()


def issuers(services: Iterable[str]) -> dict[str, str]:
    """Whose key speaks for which issuer."""
    own = {name: "identity" if name == "identity" else f"service:{name}" for name in services}
    return own | {"operator": "operator"} | {name: f"system:{name}" for name in CONNECTED_SYSTEMS}


def _public(pem: Path, issuer: str) -> dict[str, str]:
    key = serialization.load_pem_private_key(pem.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    thumbprint = hashlib.sha256(json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":")).encode())
    kid = base64.urlsafe_b64encode(thumbprint.digest()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "iss": issuer, "use": "sig", "alg": "EdDSA"}


def make(folder: Path, services: Iterable[str]) -> Keys:
    """Makes what is missing; what exists stays."""
    keys = Keys(make_folder(folder))
    services = list(services)
    public = []
    for name, issuer in issuers(services).items():
        pem = keys.signing_key(name)
        if not pem.exists():
            private = Ed25519PrivateKey.generate()
            text = private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_private(pem, text.decode())
        public.append(_public(pem, issuer))
    write_private(keys.trusted, json.dumps({"keys": public}, indent=1))
    for name in services:
        ring = keys.data_keys(name)
        if not ring.exists():
            kid = f"{name}-1"
            key = base64.b64encode(secrets.token_bytes(32)).decode()
            write_private(ring, json.dumps({"current": kid, "keys": {kid: key}}))
    return keys
