"""The keys that access tokens are signed with: made by the clock, kept sealed, endorsed by identity's own key.

Every replica signs with the newest key in the database, a minute after it was made, when every service has heard of it;
those before it are trusted until the last token of theirs is dead. Identity's own key, which every service has in its
file, signs where there is none.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Connection, Row, delete, insert, select, update

from services.identity.tables import signing_keys
from shared.contracts import identity
from shared.contracts.base import Done
from shared.operations import clock
from shared.operations.logs import log
from shared.security.tokens import LONGEST_LIFE, Signer, key_id

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

NEW_AFTER = timedelta(days=30)
SIGNS_FOR = timedelta(days=60)
"""Longer than until the next: nothing stops if the job that makes it fails for a while."""
USED_AFTER = timedelta(seconds=60)
"""By then services have asked for the keys (see `shared.security.endorsed_keys`)."""
_STILL_TRUSTED = LONGEST_LIFE + timedelta(minutes=5)
_LOOK_AGAIN_SECONDS = 5.0


@dataclass
class KeyRing:
    """What a process signs with. `own`: identity's own key, from its file."""

    own: Signer
    _current: Signer | None = None
    _until: datetime | None = None
    _looked: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def issuer(self) -> str:
        return self.own.issuer

    def signer(self, tx: Transaction) -> Signer:
        """The key to sign with now; the database is looked at every five seconds."""
        if time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            row = tx.execute(_newest(tx.now, made_before=tx.now - USED_AFTER)).one_or_none()
            with self._lock:
                self._looked = time.monotonic()
                self._current = None if row is None else Signer(_opened(tx, row), self.issuer)
                self._until = None if row is None else row.signs_until
        current, until = self._current, self._until
        return self.own if current is None or until is None or until <= tx.now else current


def rotate(tx: Transaction, own: Signer, *, after: timedelta = NEW_AFTER) -> bool:
    """Makes a new key if the newest is older than `after`, and forgets those that nothing trusts any more.

    Those that stay are endorsed anew if identity's own key has been changed.
    """
    tx.execute(delete(signing_keys).where(signing_keys.c.trusted_until < tx.now))
    for row in tx.execute(select(signing_keys)):
        if not own.endorsed(row.endorsed):
            again = own.endorse(_opened(tx, row).public_key(), row.trusted_until)
            tx.execute(update(signing_keys).where(signing_keys.c.kid == row.kid).values(endorsed=again))
    newest = tx.execute(_newest(tx.now, made_before=tx.now)).one_or_none()
    if newest is not None and tx.now - newest.made_at < after:
        return False
    _make(tx, own)
    return True


def change(tx: Transaction, request: identity.ChangeSigningKey, own: Signer) -> Done:
    """Makes a new key at once; the others are trusted until their last token is dead, or if withdrawn no longer."""
    if request.withdraw:
        tx.execute(delete(signing_keys))
    else:
        tx.execute(
            update(signing_keys)
            .where(signing_keys.c.signs_until > tx.now + USED_AFTER)
            .values(signs_until=tx.now + USED_AFTER, trusted_until=tx.now + USED_AFTER + _STILL_TRUSTED)
        )
    _make(tx, own)
    return Done()


def public_keys(tx: Transaction, _request: identity.PublicKeys) -> identity.PublicKeysNow:
    """Answers another service."""
    return identity.PublicKeysNow(keys=endorsements(tx.connection))


def endorsements(connection: Connection) -> list[str]:
    """What identity's own key says of those that are trusted now."""
    trusted = select(signing_keys.c.endorsed).where(signing_keys.c.trusted_until > clock.now())
    return list(connection.execute(trusted.order_by(signing_keys.c.made_at.desc())).scalars())


def _newest(now: datetime, *, made_before: datetime) -> Any:
    usable = (signing_keys.c.signs_until > now) & (signing_keys.c.made_at <= made_before)
    return select(signing_keys).where(usable).order_by(signing_keys.c.made_at.desc(), signing_keys.c.kid).limit(1)


def _make(tx: Transaction, own: Signer) -> None:
    key = Ed25519PrivateKey.generate()
    kid, until = key_id(key.public_key()), tx.now + SIGNS_FOR
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    tx.execute(
        insert(signing_keys).values(
            kid=kid,
            sealed=tx.sealer.seal(private, _context(kid)),
            endorsed=own.endorse(key.public_key(), until + _STILL_TRUSTED),
            made_at=tx.now,
            signs_until=until,
            trusted_until=until + _STILL_TRUSTED,
        )
    )
    log.warning("signing_key_made")


def _opened(tx: Transaction, row: Row[Any]) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(tx.sealer.open(row.sealed, _context(row.kid)))


def _context(kid: str) -> bytes:
    return f"signing key {kid}".encode()
