"""KiV's JSON feeds over mutual TLS: `/units`, `/roles` (functions) and `/persons`, asked for conditionally or not.

    python -m deploy.local.kiv --port N --control-port M --data DIR --pki DIR [--feed FILE]

`--feed` serves any file of that shape as units, byte for byte.
"""

from __future__ import annotations

import copy
import hashlib
import json
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

from deploy.local.common.behaviour import Behaviours
from deploy.local.common.control import HTTP_MODES, control_app, misbehave
from deploy.local.common.http import App, Reply, Request, Server, answer_json
from deploy.local.common.process import arguments, run
from deploy.local.common.tls import only_functions, server_context
from deploy.local.people.feed import DATA, Record
from shared.operations import clock

FILES = {"units": "kiv-units.json", "roles": "kiv-roles.json", "persons": "kiv-persons.json"}
MODES = HTTP_MODES | {
    "empty": "a feed without records",
    "half": "the first half of the records, as if there were no more",
    "truncated": "the first half of the bytes, as if they were all",
    "cut": "hang up in the middle of the body",
}


@dataclass(frozen=True)
class Version:
    """The feed as it stands."""

    body: bytes
    modified: int

    @property
    def etag(self) -> str:
        """By content."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @property
    def headers(self) -> dict[str, str]:
        """ETag and Last-Modified."""
        return {"ETag": self.etag, "Last-Modified": formatdate(self.modified, usegmt=True)}


class Feed:
    """One feed. Changes through the control port live until the process ends or the feed is put back."""

    def __init__(self, key: str, file: Path) -> None:
        self.key = key
        self._original = Version(file.read_bytes(), int(file.stat().st_mtime))
        json.loads(self._original.body)[key]
        self._version = self._original
        self._lock = threading.Lock()

    @property
    def version(self) -> Version:
        """The feed as it stands."""
        return self._version

    def _changed(self, feed: dict[str, Any]) -> None:
        # a second later than what was, however fast changes follow on each other: Last-Modified has whole seconds
        modified = max(int(time.time()), self._version.modified + 1)
        feed = feed | {"meta": feed.get("meta", {}) | {"Create time": clock.now().strftime("%Y-%m-%d %H:%M:%S UTC")}}
        self._version = Version(json.dumps(feed, ensure_ascii=False, indent=1).encode(), modified)

    def replace(self, feed: dict[str, Any]) -> None:
        """Serves another feed. ValueError: not of that shape."""
        if not isinstance(feed.get(self.key), list):
            raise ValueError(f"must have a list {self.key}")
        with self._lock:
            self._changed(feed)

    def put(self, dn: str | None, attributes: dict[str, Any]) -> None:
        """Adds a record, or changes the attributes named of the one with the same HSA-id (null takes one away)."""
        wanted = Record("", attributes).hsa_id
        if not wanted:
            raise ValueError("attributes must have hsaIdentity")
        with self._lock:
            feed = json.loads(self._version.body)
            for record in feed[self.key]:
                if Record("", record["attributes"]).hsa_id == wanted:
                    record["dn"] = dn or record["dn"]
                    record["attributes"] = _merged(record["attributes"], attributes)
                    break
            else:
                feed[self.key].append({"dn": dn or f"cn={wanted},o=VGR", "attributes": _merged({}, attributes)})
            self._changed(feed)

    def remove(self, hsa_id: str) -> None:
        """Takes every record with this HSA-id away."""
        with self._lock:
            feed = json.loads(self._version.body)
            feed[self.key] = [one for one in feed[self.key] if Record("", one["attributes"]).hsa_id != hsa_id.upper()]
            self._changed(feed)

    def put_back(self) -> None:
        """Serves what it started with."""
        with self._lock:
            self._version = self._original


def _merged(attributes: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """By key in any letter case; kivws gives lower case."""
    lower = {key.casefold() for key in changes}
    kept = {key: value for key, value in attributes.items() if key.casefold() not in lower}
    return kept | {key.lower(): value for key, value in changes.items() if value is not None}


def app(feeds: dict[str, Feed], behaviours: Behaviours) -> App:
    """The feeds' own addresses."""
    served = App()
    for feed in feeds.values():
        served.route("GET", f"/{feed.key}")(partial(_serve, feed, behaviours))
    return served


def _serve(feed: Feed, behaviours: Behaviours, request: Request) -> Reply:
    rule = behaviours.take(feed.key)
    if wrong := misbehave(rule):
        return wrong
    version = feed.version
    match rule.mode if rule else None:
        case "empty" | "half" as mode:
            whole = copy.deepcopy(json.loads(version.body))
            whole[feed.key] = whole[feed.key][: len(whole[feed.key]) // 2 if mode == "half" else 0]
            return Reply(200, json.dumps(whole, ensure_ascii=False).encode())
        case "truncated":
            return Reply(200, version.body[: len(version.body) // 2])
        case "cut":
            return Reply(200, version.body, cut=len(version.body) // 2)
    if _unchanged(version, request):
        return Reply(304, headers=version.headers)
    return Reply(200, version.body, "application/json; charset=utf-8", version.headers)


def _unchanged(version: Version, request: Request) -> bool:
    """RFC 9110, 13.2.2: If-None-Match goes before If-Modified-Since."""
    if (tags := request.headers.get("if-none-match")) is not None:
        return tags.strip() == "*" or version.etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except (TypeError, ValueError):
        return False
    return version.modified <= since.timestamp()


def control(feeds: dict[str, Feed], behaviours: Behaviours) -> App:
    """The control port: misbehaving, and changing what the feeds say."""
    served = control_app(behaviours)
    for feed in feeds.values():
        _control(served, feed)
    return served


def _control(served: App, feed: Feed) -> None:
    @served.route("GET", f"/feeds/{feed.key}")
    def show(request: Request) -> Reply:
        return Reply(200, feed.version.body, "application/json; charset=utf-8", feed.version.headers)

    @served.route("PUT", f"/feeds/{feed.key}")
    def replace(request: Request) -> Reply:
        try:
            feed.replace(request.json())
        except (ValueError, AttributeError) as error:
            return answer_json({"error": str(error)}, 400)
        return Reply(204)

    @served.route("POST", f"/feeds/{feed.key}")
    def put(request: Request) -> Reply:
        try:
            record = request.json()
            feed.put(record.get("dn"), record.get("attributes", {}))
        except (ValueError, AttributeError) as error:
            return answer_json({"error": str(error)}, 400)
        return Reply(204)

    @served.route("DELETE", f"/feeds/{feed.key}")
    def remove(request: Request) -> Reply:
        if hsa_id := request.asked("hsa_id"):
            feed.remove(hsa_id)
        else:
            feed.put_back()
        return Reply(204)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = arguments("kiv", "KiV's JSON feeds of units, functions and staff.")
    parser.add_argument("--feed", type=Path, help="file to serve as units instead of our own")
    given = parser.parse_args(argv)
    try:
        feeds = {
            key: Feed(key, given.feed if key == "units" and given.feed else DATA / name) for key, name in FILES.items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"kiv: {given.feed} is no feed of units: {type(error).__name__}", file=sys.stderr)
        return 1

    def make() -> list[Server]:
        behaviours = Behaviours(MODES)
        tls = server_context(given.pki, "kiv", clients=ssl.CERT_REQUIRED)
        main_app = only_functions(given.pki, app(feeds, behaviours))
        return [Server(given.port, main_app, tls), Server(given.control_port, control(feeds, behaviours))]

    return run("kiv", make)


if __name__ == "__main__":
    sys.exit(main())
