"""Opening what is sealed, for someone to read: a key that is gone is told as such, and never as an empty text."""

from __future__ import annotations

from shared.messaging.errors import Internal
from shared.operations.logs import log
from shared.security.sealing import KeyMissing, SealBroken, Sealer


def open_sealed(sealer: Sealer, sealed: bytes, context: bytes) -> bytes:
    """The value as it was sealed.

    Raises `Internal`: `key_missing` where the ring lacks its key, which is named in the log, so that the operator can
    put it back; `sealed_value_broken` where the value was changed or moved.
    """
    try:
        return sealer.open(sealed, context)
    except KeyMissing as error:
        log.error("key_missing", key_id=error.key)
        raise Internal("Uppgiften kan inte visas: en krypteringsnyckel saknas.", reason="key_missing") from None
    except SealBroken:
        log.error("sealed_value_broken")
        raise Internal("Uppgiften kan inte visas: den går inte att öppna.", reason="sealed_value_broken") from None
