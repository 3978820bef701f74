"""Which secrets there are, what makes each, and what each must be."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.postgres.roles import COPIES, OF_ONE_PROCESS
from deploy.rabbitmq.permissions import CONNECTED_SYSTEMS, OUTSIDE_CALLERS
from shared.messaging.topology import all_contracts
from shared.operations.settings import require_strong

SERVICES = tuple(contract.name for contract in all_contracts())
BROKER_USERS = (*SERVICES, *(caller.name for caller in OUTSIDE_CALLERS))
SIGNERS = (*SERVICES, "operator", *CONNECTED_SYSTEMS)
INNER_SERVERS = {"rabbitmq": "rabbitmq", "postgres": "postgres", "s3": "store", "reports": "notifications_web"}
"""Certificate, and the name by which the server is reached inside."""
STORE_USERS = {
    "s3": ("Admin:attachments", "Admin:attachments-uploads"),
    "s3-signer": ("Read:attachments", "Write:attachments-uploads"),
}
"""Users of the store, and what they may do in which bucket: the checker; and who signs requests for clients."""
GIVEN = ("smtp.password", "sms.password", "outside-client.crt", "outside-client.key", "outside-ca.crt", "siths-ca.crt")
"""What others give: the passwords at the mail server and the SMS provider, the SITHS function certificate, and the
authorities that issue persons' SITHS cards."""
DERIVED = ("trusted.json", "s3.json", "rabbitmq-definitions.json")
"""What `make` writes anew each time, from the others."""


@dataclass(frozen=True)
class Secret:
    """A file that is made at random, and what is wrong with one that is there (None: nothing)."""

    name: str
    make: Callable[[], str]
    fault: Callable[[str], str | None]


def password() -> str:
    """A new password."""
    return secrets.token_urlsafe(32)


def _weak(text: str) -> str | None:
    try:
        require_strong(text.strip())
    except ValueError as error:
        return str(error)
    return None


def _signing_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _no_signing_key(text: str) -> str | None:
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        return "is no private key in PEM"
    return None if isinstance(key, Ed25519PrivateKey) else "is no Ed25519 key"


def _is_random(key: bytes) -> bool:
    """32 bytes, of which not many are the same: of random ones, that never happens."""
    return len(key) == 32 and len(set(key)) >= 16


def _ring(service: str) -> str:
    kid = f"{service}-1"
    return json.dumps({"current": kid, "keys": {kid: base64.b64encode(secrets.token_bytes(32)).decode()}})


def _no_ring(text: str) -> str | None:
    try:
        ring = json.loads(text)
        whole = all(_is_random(base64.b64decode(key, validate=True)) for key in ring["keys"].values())
        return (
            None if whole and ring["current"] in ring["keys"] else "needs keys of 32 random bytes, the current one too"
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return "is no ring of keys"


def _no_hex_key(text: str) -> str | None:
    return None if re.fullmatch(r"[0-9a-f]{64}", text.strip()) and not _weak(text) else "is not 64 random hex digits"


def _key_of_32() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _no_key_of_32(text: str) -> str | None:
    try:
        return None if _is_random(base64.b64decode(text.strip(), validate=True)) else "is not 32 random bytes"
    except ValueError:
        return "is no base64"


def all_random() -> list[Secret]:
    """Every secret that `make` makes, but for certificates and what is derived."""
    found = [
        Secret("postgres.password", password, _weak),
        Secret("reports.password", password, _weak),
        Secret("s3-encryption.key", lambda: secrets.token_hex(32), _no_hex_key),
        Secret("identity-numbers.key", lambda: secrets.token_hex(32), _no_hex_key),
    ]
    found += [
        Secret(name, _key_of_32, _no_key_of_32) for name in ("notification-addresses.key", "report-addresses.key")
    ]
    for user in STORE_USERS:
        found += [Secret(f"{user}-access.key", lambda: secrets.token_hex(16), _weak)]
        found += [Secret(f"{user}-secret.key", password, _weak)]
    found += [Secret(f"amqp-{user}.password", password, _weak) for user in BROKER_USERS]
    for service in SERVICES:
        found += [Secret(f"database-{role}.password", password, _weak) for role in (service, f"{service}-owner")]
    found += [Secret(f"database-{role}.password", password, _weak) for role in (*OF_ONE_PROCESS, COPIES)]
    found += [Secret(f"{name}.signing.pem", _signing_key, _no_signing_key) for name in SIGNERS]
    found += [Secret(f"{service}.ring.json", lambda service=service: _ring(service), _no_ring) for service in SERVICES]  # type: ignore[misc]
    return found


def other_signing_keys(folder: Path) -> list[Secret]:
    """Those beside the ones that sign now: former and coming ones."""
    files = (file for name in SIGNERS for file in folder.glob(f"{name}.signing.*.pem"))
    return [Secret(file.name, _signing_key, _no_signing_key) for file in sorted(files)]


def store_users(folder: Path) -> str:
    """The store's users, of whom none reaches anything but these buckets."""
    identities = [
        {
            "name": user,
            "credentials": [
                {"accessKey": read(folder, f"{user}-access.key"), "secretKey": read(folder, f"{user}-secret.key")}
            ],
            "actions": list(actions),
        }
        for user, actions in STORE_USERS.items()
    ]
    return json.dumps({"identities": identities})


def read(folder: Path, name: str) -> str:
    """The secret's text, without the line's end."""
    return (folder / name).read_text().strip()
