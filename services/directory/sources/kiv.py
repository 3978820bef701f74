"""KiV's JSON feed, from files or by HTTPS with a client certificate."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from services.directory.records import FORMAT, Raw
from services.directory.sources import Catalogue, SourceError, feed

_PIECE = 1 << 16
_SLOWEST_SECONDS = 1800
_UNIT_KEYS = ("units", "roles")
_STAFF_KEYS = ("persons",)


@dataclass(frozen=True)
class Kiv:
    """The region's directory. Each place is a file path or an https address; together they are one catalogue."""

    unit_places: tuple[str, ...]
    staff_places: tuple[str, ...]
    certificate: tuple[str, str] | None = None
    authority: str | None = None
    timeout_seconds: float = 30
    max_bytes: int = 1 << 31
    name: str = "kiv"

    @property
    def has_units(self) -> bool:
        return bool(self.unit_places)

    @property
    def has_staff(self) -> bool:
        return bool(self.staff_places)

    def units(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Units and functions. None: the same as last time. Raises `SourceError`."""
        return self._catalogue(self.unit_places, _UNIT_KEYS, folder, state)

    def staff(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Persons, likewise."""
        return self._catalogue(self.staff_places, _STAFF_KEYS, folder, state)

    def _catalogue(
        self, places: Sequence[str], keys: Collection[str], folder: Path, state: dict[str, Any] | None
    ) -> Catalogue | None:
        known = _known(places, state)
        with requests.Session() as session:
            session.trust_env = False
            session.cert = self.certificate
            session.verify = self.authority or True
            read = [self._read(session, place, folder / str(n), known.get(place)) for n, place in enumerate(places)]
            if all(one.unchanged for one in read):
                return None
            # One place has changed, and the others' records are needed too.
            read = [
                self._read(session, place, folder / str(n), None) if one.not_modified else one
                for n, (place, one) in enumerate(zip(places, read, strict=True))
            ]

        def records() -> Iterator[Raw | None]:
            for one in read:
                yield from feed.records(one.path, keys)

        return Catalogue({"format": FORMAT, "places": {one.place: one.seen for one in read}}, records)

    def _read(self, session: requests.Session, place: str, path: Path, known: dict[str, str] | None) -> _Read:
        if place.startswith("https://"):
            return self._download(session, place, path, known or {})
        if "://" in place:
            raise SourceError("not_https")
        path = Path(place)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            raise SourceError("file_unreadable") from None
        return _Read(place, path, {"digest": digest}, unchanged=known is not None and known["digest"] == digest)

    def _download(self, session: requests.Session, place: str, path: Path, known: dict[str, str]) -> _Read:
        conditions = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("modified")}
        headers = {"Accept": "application/json"} | {name: value for name, value in conditions.items() if value}
        give_up = time.monotonic() + _SLOWEST_SECONDS
        try:
            with session.get(
                place, headers=headers, stream=True, timeout=self.timeout_seconds, allow_redirects=False
            ) as answer:
                if answer.status_code == 304 and known:
                    return _Read(place, path, known, unchanged=True, not_modified=True)
                if answer.status_code != 200:
                    raise SourceError(f"http_{answer.status_code}")
                digest, size = hashlib.sha256(), 0
                with path.open("wb") as file:
                    for piece in answer.iter_content(_PIECE):
                        size += len(piece)
                        if size > self.max_bytes:
                            raise SourceError("too_large")
                        if time.monotonic() > give_up:
                            raise SourceError("too_slow")
                        digest.update(piece)
                        file.write(piece)
                seen = {"digest": digest.hexdigest()}
                for name, header in (("etag", "ETag"), ("modified", "Last-Modified")):
                    if header in answer.headers:
                        seen[name] = answer.headers[header]
        except requests.exceptions.SSLError:
            raise SourceError("tls_refused") from None
        except requests.exceptions.Timeout:
            raise SourceError("timeout") from None
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            raise SourceError("truncated") from None
        except requests.exceptions.ConnectionError as error:
            raise SourceError("timeout" if "timed out" in str(error) else "unreachable") from None
        except requests.exceptions.RequestException:
            raise SourceError("unreachable") from None
        except OSError:
            raise SourceError("no_room") from None
        return _Read(place, path, seen, unchanged=known.get("digest") == seen["digest"])


@dataclass(frozen=True)
class _Read:
    place: str
    path: Path
    seen: dict[str, str]
    unchanged: bool
    not_modified: bool = False


def _known(places: Sequence[str], state: dict[str, Any] | None) -> dict[str, dict[str, str]]:
    """What was seen last, place by place; nothing if the places or the way of reading have changed since."""
    if not state or state.get("format") != FORMAT or set(state.get("places", ())) != set(places):
        return {}
    return dict(state["places"])
