"""Reads what lies in a file, or behind an https address, to a file of our own: whole, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import requests

from services.directory.records import FORMAT
from services.directory.sources import SourceError

_PIECE = 1 << 16
_SLOWEST_SECONDS = 1800


@dataclass(frozen=True)
class Access:
    """How to get in, and how long and how much to read. `timeout_seconds`: to connect, and between two pieces."""

    certificate: tuple[str, str] | None = None
    authority: str | None = None
    timeout_seconds: float = 30
    max_bytes: int = 1 << 31


PLAIN = Access()
"""For what needs no certificate."""


@dataclass(frozen=True)
class Read:
    """What was read of one place. `seen` is what to hand back the next time."""

    place: str
    path: Path
    seen: dict[str, str]
    unchanged: bool
    not_modified: bool = False


def read_all(places: Sequence[str], access: Access, folder: Path, state: dict[str, Any] | None) -> list[Read] | None:
    """Every place, read to the folder. None: all are as they were when they gave `state`. Raises `SourceError`."""
    known = _known(places, state)
    with requests.Session() as session:
        session.trust_env = False
        session.cert = access.certificate
        session.verify = access.authority or True
        read = [_read(session, access, place, folder / str(n), known.get(place)) for n, place in enumerate(places)]
        if all(one.unchanged for one in read):
            return None
        # One place has changed, and the others' records are needed too.
        return [
            _read(session, access, place, folder / str(n), None) if one.not_modified else one
            for n, (place, one) in enumerate(zip(places, read, strict=True))
        ]


def state_of(read: Sequence[Read]) -> dict[str, Any]:
    """What `read_all` wants back the next time."""
    return {"format": FORMAT, "places": {one.place: one.seen for one in read}}


def _read(session: requests.Session, access: Access, place: str, path: Path, known: dict[str, str] | None) -> Read:
    if place.startswith("https://"):
        return _download(session, access, place, path, known or {})
    if "://" in place:
        raise SourceError("not_https")
    return _copy(access, place, path, known or {})


def _copy(access: Access, place: str, path: Path, known: dict[str, str]) -> Read:
    """A file of somebody else's, who may put another in its place at any moment: opened once, and copied."""
    digest = hashlib.sha256()
    try:
        with Path(place).open("rb") as original:
            if known and hashlib.file_digest(original, "sha256").hexdigest() == known["digest"]:
                return Read(place, path, known, unchanged=True, not_modified=True)
            original.seek(0)
            before = _written(original)
            if before[0] > access.max_bytes:
                raise SourceError("too_large")
            with path.open("wb") as file:
                while piece := original.read(_PIECE):
                    digest.update(piece)
                    file.write(piece)
                if file.tell() != before[0] or _written(original) != before:
                    raise SourceError("file_changing")
    except OSError as error:
        raise SourceError("no_room" if error.errno == errno.ENOSPC else "file_unreadable") from None
    return Read(place, path, {"digest": digest.hexdigest()}, unchanged=False)


def _written(file: BinaryIO) -> tuple[int, int]:
    """Its size, and when it was written to last."""
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


def _download(session: requests.Session, access: Access, place: str, path: Path, known: dict[str, str]) -> Read:
    conditions = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("modified")}
    headers = {name: value for name, value in conditions.items() if value}
    give_up = time.monotonic() + _SLOWEST_SECONDS
    try:
        with session.get(
            place, headers=headers, stream=True, timeout=access.timeout_seconds, allow_redirects=False
        ) as answer:
            if answer.status_code == 304 and known:
                return Read(place, path, known, unchanged=True, not_modified=True)
            if answer.status_code != 200:
                raise SourceError(f"http_{answer.status_code}")
            digest, size = hashlib.sha256(), 0
            with path.open("wb") as file:
                for piece in answer.iter_content(_PIECE):
                    size += len(piece)
                    if size > access.max_bytes:
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
    except OSError as error:  # our own file, or that of a certificate
        raise SourceError("no_room" if error.errno == errno.ENOSPC else "file_unreadable") from None
    return Read(place, path, seen, unchanged=known.get("digest") == seen["digest"])


def _known(places: Sequence[str], state: dict[str, Any] | None) -> dict[str, dict[str, str]]:
    """What was seen last, place by place; nothing if the places or the way of reading have changed since."""
    if not state or state.get("format") != FORMAT or set(state.get("places", ())) != set(places):
        return {}
    return dict(state["places"])
