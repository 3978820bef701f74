"""Keys that sign tokens for a while, vouched for by the key that every service trusts from its file.

Identity makes new ones by the clock and tells them by RPC: services ask every half minute, and when they meet a token
of a key that they do not know, so that they take up a key without a restart and without a file of their own changing.
What comes by RPC is believed only if the issuer's own key has signed it: neither the broker nor another service can
bring in a key.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.messaging.errors import Refused, Unavailable
from shared.operations import clock
from shared.operations.logs import log

ALGORITHM = "EdDSA"
ISSUER = "identity"
TYPE = "endorsed-key+jwt"
_ASK_AGAIN_SECONDS = 1.0
"""So often at most are keys asked for because of tokens that nobody's key fits: forged ones must not make us flood."""
_BELIEVED_SECONDS = 300.0
"""So long are keys believed while identity can't be asked."""
_REFRESH_SECONDS = 30.0
"""So old may the keys become: a key that was withdrawn is gone everywhere after that, and one that is made is known."""

Ask = Callable[[], Sequence[str]]
Trusted = Mapping[str, tuple[str, Ed25519PublicKey]]


def endorse(key: Ed25519PrivateKey, kid: str, issuer: str, public: Ed25519PublicKey, until: datetime) -> str:
    """What the issuer's own key (named `kid` in everybody's file) says of another: trust it until then."""
    x = base64.urlsafe_b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode()
    said = {"iss": issuer, "key": x, "exp": int(until.timestamp())}
    return jwt.encode(said, key, ALGORITHM, headers={"kid": kid, "typ": TYPE})


@dataclass(frozen=True)
class Endorsed:
    """A key that an issuer's own key vouches for: `by` names that one, as in everybody's file."""

    issuer: str
    public: Ed25519PublicKey
    until: datetime
    by: str


def endorsed(token: str, trusted: Trusted) -> Endorsed:
    """The key that is endorsed, if identity's own key says so. Raises ValueError."""
    try:
        header = jwt.get_unverified_header(token)
        kid = str(header.get("kid"))
        issuer, by = trusted[kid]
        said = jwt.decode(token, by, algorithms=[ALGORITHM], issuer=issuer, options={"verify_exp": False})
        if header.get("typ") != TYPE or issuer != ISSUER:
            raise ValueError("something else, or another's")
        raw = base64.urlsafe_b64decode(str(said["key"]) + "=" * (-len(str(said["key"])) % 4))
        until = datetime.fromtimestamp(int(said["exp"]), UTC)
        return Endorsed(issuer, Ed25519PublicKey.from_public_bytes(raw), until, kid)
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"no endorsement: {type(error).__name__}") from None


class LearnedKeys:
    """The endorsed keys that a process has been told of. `changed` is called when one of them is gone."""

    def __init__(
        self,
        ask: Ask,
        trusted: Callable[[], Trusted],
        name: Callable[[Ed25519PublicKey], str],
        changed: Callable[[], None],
    ) -> None:
        self._ask, self._trusted, self._name, self._changed = ask, trusted, name, changed
        self._keys: dict[str, Endorsed] = {}
        self._tried = self._learned_at = float("-inf")
        self._told = False
        self._asking = threading.Lock()
        self._refreshing = False

    def get(self, kid: str) -> tuple[str, Ed25519PublicKey] | None:
        """Issuer and key of this name, or None; asked for if it is not known yet.

        Raises `Unavailable` if it is not known and nobody can be asked.
        """
        found = self._known(kid)
        if found is None:
            self._learn()
            found = self._known(kid)
        if found is None and not self._told:
            raise Unavailable(reason="signing_keys_not_known")
        return found

    def look_again(self) -> None:
        """Has the keys asked for anew, beside what goes on, if they are old."""
        if self._refreshing or time.monotonic() - self._tried < _REFRESH_SECONDS:
            return
        self._refreshing = True
        threading.Thread(target=self._refresh, name="signing keys", daemon=True).start()

    def _known(self, kid: str) -> tuple[str, Ed25519PublicKey] | None:
        """Not one whose endorser has been taken out of the file since; nor any, when it can't be known for so long
        whether one of them has been withdrawn."""
        found = self._keys.get(kid)
        if found is None or found.until <= clock.now() or found.by not in self._trusted():
            return None
        return (found.issuer, found.public) if time.monotonic() - self._learned_at < _BELIEVED_SECONDS else None

    def _refresh(self) -> None:
        try:
            self._learn()
        finally:
            self._refreshing = False

    def _learn(self) -> None:
        """One asks at a time, and who waited for that does not ask again. Without an answer what is known stays.

        Nobody waits for one who asks after the last ask has failed: forged tokens could hold all workers so.
        """
        came = time.monotonic()
        if not self._asking.acquire(blocking=self._told or self._tried < 0):
            return
        try:
            if self._tried > came - _ASK_AGAIN_SECONDS:
                return
            try:
                told = self._ask()
            except Exception as error:  # whatever it is, it is no answer; its text is not for the log
                self._told = False
                known = isinstance(error, Refused)
                log.warning("signing_keys_not_told", error_type=type(error).__name__, exc_info=None if known else error)
                return
            finally:
                self._tried = time.monotonic()
            keys = {}
            for token in told:
                try:
                    one = endorsed(token, self._trusted())
                except ValueError:
                    log.error("signing_key_not_endorsed")
                    continue
                keys[self._name(one.public)] = one
            gone = self._keys.keys() - keys.keys()
            self._keys, self._told, self._learned_at = keys, True, self._tried
        finally:
            self._asking.release()
        if gone:
            self._changed()
