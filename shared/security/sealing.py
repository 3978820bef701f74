"""Encryption at rest: AES-256-GCM with a ring of keys (R-SYS-2).

A sealed value is `key id length (1 byte) | key id | nonce (12) | ciphertext and tag`. The context (what the value is
and whose) is authenticated with it, so that a value moved to another row does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class SealBroken(Exception):
    """The value can't be opened: its key is not in the ring, or it was changed or moved."""


class KeyMissing(SealBroken):
    """The value was sealed with a key that is not in the ring: `key` is its id."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class Sealer:
    """Seals with the current key, opens with any key of the ring."""

    def __init__(self, current: str, keys: dict[str, bytes]) -> None:
        if current not in keys:
            raise ValueError("the current key is not in the ring")
        if any(len(key) != 32 for key in keys.values()):
            raise ValueError("a key of the ring is not 32 bytes long")
        self._current = current
        self._ciphers = {kid: AESGCM(key) for kid, key in keys.items()}
        # A key of its own for each use: what is sealed and what is marked say nothing about each other.
        self._marking = {kid: hmac.digest(key, b"marks", "sha256") for kid, key in keys.items()}
        self._prefix = bytes([len(current.encode())]) + current.encode()

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """Reads `{"current": "<kid>", "keys": {"<kid>": "<base64 of 32 bytes>"}}`. Raises ValueError."""
        try:
            ring = json.loads(path.read_text())
            keys = {str(kid): base64.b64decode(value, validate=True) for kid, value in ring["keys"].items()}
            return cls(str(ring["current"]), keys)
        except (OSError, KeyError, AttributeError, TypeError, binascii.Error, json.JSONDecodeError) as error:
            raise ValueError(f"the key ring can't be read: {type(error).__name__}") from None

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """The value, encrypted and bound to its context."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._prefix + nonce + self._ciphers[self._current].encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The value as it was sealed. Raises `SealBroken`, and `KeyMissing` where it is only the key that is gone."""
        try:
            start = 1 + sealed[0]
            key = sealed[1:start].decode()
            if key not in self._ciphers and _KEY_ID.fullmatch(key) and len(sealed) > start + _NONCE_BYTES:
                raise KeyMissing(key)
            cipher = self._ciphers[key]
            return cipher.decrypt(sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :], context)
        except (KeyError, IndexError, InvalidTag, ValueError):
            raise SealBroken from None

    def mark(self, value: bytes, context: bytes) -> bytes:
        """To see later whether a value is the same, without keeping it.

        `key id length (1 byte) | key id | HMAC-SHA-256`. Who has not the keys can't find the value by trying them all.
        """
        return self._prefix + self._marked(self._current, value, context)

    def marks(self, mark: bytes, value: bytes, context: bytes) -> bool:
        """Whether this is the mark of the value. Raises `KeyMissing` where the key it was made with is gone."""
        start = 1 + mark[0]
        key = mark[1:start].decode()
        if key not in self._marking:
            raise KeyMissing(key)
        return hmac.compare_digest(mark[start:], self._marked(key, value, context))

    def _marked(self, key: str, value: bytes, context: bytes) -> bytes:
        return hmac.digest(self._marking[key], len(context).to_bytes(4, "big") + context + value, "sha256")

    @property
    def current(self) -> str:
        """The id of the key that is sealed with now."""
        return self._current

    @property
    def prefix(self) -> bytes:
        """What every value begins with that is sealed with the current key."""
        return self._prefix

    def sealed_with_current(self, sealed: bytes) -> bool:
        """Whether the value needs no new sealing after a change of keys."""
        return sealed.startswith(self._prefix)


def keyed_hash(key: bytes, value: str) -> bytes:
    """For looking a value up without storing it: HMAC-SHA-256."""
    return hmac.new(key, value.encode(), hashlib.sha256).digest()
