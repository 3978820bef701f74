"""What a mail server or SMS provider has taken: kept in a file, shown as JSON, and worth waiting for."""

from __future__ import annotations

import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from deploy.local.common.http import App, Reply, Request, answer_json

LONGEST_WAIT = 60.0

Message = dict[str, Any]


class Messages:
    """The messages in the order they came, each with a growing `number` and its receivers under `to`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._arrived = threading.Condition()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._all = _read(file)
        self._write()  # without a torn line that the next message would be joined to
        self._last = max((message["number"] for message in self._all), default=0)

    def add(self, message: Message) -> Message:
        """Keeps a message."""
        with self._arrived:
            kept = {"number": self._last + 1} | message
            with self._file.open("a") as file:  # first of all: what can't be kept is not taken
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
            self._last += 1
            self._all.append(kept)
            self._arrived.notify_all()
            return kept

    def change(self, number: int, **values: Any) -> None:
        """Sets fields of a message, if it is still there."""
        with self._arrived:
            for message in self._all:
                if message["number"] == number:
                    message |= values
            self._write()

    def listed(self, to: str | None = None, after: int = 0, wait: float = 0.0) -> list[Message]:
        """Messages to an address (None: to anyone) numbered above `after`; waits so many seconds for the first."""
        deadline = time.monotonic() + min(wait, LONGEST_WAIT)
        with self._arrived:
            while True:
                found = [one for one in self._all if one["number"] > after and _is_to(one, to)]
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return [dict(one) for one in found]
                self._arrived.wait(left)

    def clear(self, to: str | None = None) -> None:
        """Forgets the messages to an address (None: all)."""
        with self._arrived:
            self._all = [one for one in self._all if not _is_to(one, to)]
            self._write()

    def _write(self) -> None:
        partial = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        partial.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in self._all))
        partial.replace(self._file)


def _read(file: Path) -> list[Message]:
    found: list[Message] = []
    for line in file.read_text().split("\n") if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:  # the end of a line that was being written when the process died
            continue
    return found


def _is_to(message: Message, to: str | None) -> bool:
    return to is None or to.casefold() in (one.casefold() for one in message["to"])


def show(app: App, messages: Messages) -> None:
    """GET /messages?to=&after=&wait= and DELETE /messages?to="""

    @app.route("GET", "/messages")
    def listed(request: Request) -> Reply:
        try:
            after, wait = int(request.asked("after") or 0), float(request.asked("wait") or 0)
        except ValueError:
            return answer_json({"error": "after and wait are numbers"}, 400)
        return answer_json({"messages": messages.listed(request.asked("to"), after, wait)})

    @app.route("DELETE", "/messages")
    def clear(request: Request) -> Reply:
        messages.clear(request.asked("to"))
        return Reply(204)


def password(file: Path) -> str:
    """The password in the file; a new one if there is no such file."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(18) + "\n")
    return file.read_text().strip()
