"""Telling a story of calls: its steps, what each said, and the ways that many steps need."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import requests

from deploy.local.upload import upload
from shared.contracts import attachments, cases, logging_in
from shared.messaging.errors import Refused

WAIT_SECONDS = 30.0


class StepFailed(Exception):
    """A step did not hold; the text says what was expected."""


class World(Protocol):
    """What the story needs of the running system."""

    @property
    def operator_token(self) -> str:
        """A token of the operator's."""

    def call(self, call: Any, request: Any, token: str | None = None) -> Any:
        """Makes an RPC."""

    def login_staff(self, hsa_id: str) -> logging_in.SessionOpened:
        """Logs in with a SITHS card at the identity provider."""

    def login_resident(self, number: str) -> logging_in.SessionOpened:
        """Logs in with an e-ID at the identity provider."""

    def mail(self, to: str, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """Mail that has arrived."""

    def sms(self, to: str, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """SMS that have arrived."""

    def move_clock(self, by: timedelta) -> None:
        """Moves the time of all services forward."""


@dataclass
class Step:
    """One step as it went."""

    name: str
    ok: bool
    seconds: float
    ids: dict[str, str]
    said: list[str] = field(default_factory=list)
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The step for programs."""
        told = {"name": self.name, "ok": self.ok, "seconds": round(self.seconds, 3), "ids": self.ids}
        return told | ({"problem": self.problem} if self.problem else {})


Tell = Callable[[Step], None]


def expect(condition: object, otherwise: str) -> None:
    """Ends the step unless the condition holds."""
    if not condition:
        raise StepFailed(otherwise)


class Teller:
    """See the module. One who has logged in is known by a part: `resident`, `handler`, ...; `tokens` are theirs."""

    def __init__(self, world: World, tell: Tell) -> None:
        self.world = world
        self._tell = tell
        self._ids: dict[str, str] = {}
        self._said: list[str] = []
        self.tokens: dict[str, str] = {}
        self._seen: dict[str, int] = {}

    # --- telling ----------------------------------------------------------------------------------------------------

    def run(self, parts: Sequence[tuple[str, Callable[[Any], None]]]) -> list[Step]:
        """Runs the steps; stops after the first that does not hold."""
        steps: list[Step] = []
        for name, part in parts:
            self._ids, self._said = {}, []
            began, problem = time.monotonic(), None
            try:
                part(self)
            except (StepFailed, Refused, requests.RequestException, OSError) as error:
                code = f"{error.code}: " if isinstance(error, Refused) else ""
                problem = f"{code}{error}"
            step = Step(name, problem is None, time.monotonic() - began, self._ids, self._said, problem)
            steps.append(step)
            self._tell(step)
            if problem:
                break
        return steps

    def _say(self, text: str) -> None:
        self._said.append(text)

    def _note(self, **ids: object) -> None:
        self._ids.update({name: str(value) for name, value in ids.items()})

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _call(self, who: str, call: Any, request: Any) -> Any:
        return self.world.call(call, request, self.tokens.get(who))

    def _staff(self, who: str, hsa_id: str) -> None:
        """Logs in and, the first time, reads and accepts the terms (R-ID-1, R-ID-2)."""
        self.tokens[who] = self._accepted(self.world.login_staff(hsa_id))

    def _resident(self, who: str, number: str) -> None:
        self.tokens[who] = self._accepted(self.world.login_resident(number))

    def _accepted(self, session: logging_in.SessionOpened) -> str:
        if session.terms_version_to_accept is None:
            return session.access_token
        token = session.access_token
        terms = self.world.call(logging_in.READ_TERMS, logging_in.ReadTerms(), token)
        expect(terms.text.strip(), "the terms have a text")
        accept = logging_in.AcceptTerms(request_id=uuid4(), version=session.terms_version_to_accept)
        return str(self.world.call(logging_in.ACCEPT_TERMS, accept, token).access_token)

    def _refused(self, code: str, action: Callable[[], Any]) -> Refused:
        try:
            action()
        except Refused as error:
            expect(error.code == code, f"refused as {code}, not {error.code}")
            return error
        raise StepFailed(f"it should have been refused as {code}")

    def _arrived(self, kind: str, address: str, *, count: int = 1) -> list[dict[str, Any]]:
        """Waits for that many new messages to the address, and shows them as received."""
        look = self.world.mail if kind == "mail" else self.world.sms
        seen = self._seen.get(address, 0)
        found: list[dict[str, Any]] = []
        ends = time.monotonic() + WAIT_SECONDS
        while len(found) < count and time.monotonic() < ends:
            found += look(address, max([seen, *(one["number"] for one in found)]), wait=1.0)
        expect(len(found) >= count, f"{count} {kind} within {WAIT_SECONDS:.0f} s, got {len(found)}")
        self._seen[address] = max(one["number"] for one in found)
        for one in found:
            text = one.get("message", one.get("text", ""))
            subject = f"{one['subject']} | " if one.get("subject") else ""
            self._say(f"{'SMS' if kind == 'sms' else 'mail'} to {address}: {subject}{' '.join(text.split())}")
        return found

    def _usable(self, who: str, name: str, kind: str, content: bytes) -> UUID:
        """Uploads a file straight to the store and waits until it has been checked."""
        asked = self._call(
            who,
            attachments.ASK_UPLOAD,
            attachments.AskUpload(
                request_id=uuid4(),
                name=name,
                size=len(content),
                content_type=kind,
                sha256=hashlib.sha256(content).hexdigest(),
            ),
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            file.write_bytes(content)
            upload(file, asked.upload.model_dump())
        uploaded = attachments.Uploaded(request_id=uuid4(), attachment=asked.attachment)
        self._call(who, attachments.UPLOADED, uploaded)
        ends = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < ends:
            shown = self._call(who, attachments.GET_ATTACHMENT, attachments.GetAttachment(attachment=asked.attachment))
            expect(shown.state != attachments.State.REFUSED, f"the file was refused: {shown.refusal_reason}")
            if shown.state == attachments.State.USABLE:
                self._say(f"{name}, {len(content)} bytes, uploaded straight to the store and checked")
                return UUID(str(asked.attachment))
            time.sleep(0.1)
        raise StepFailed("the file was not checked in time")

    def _case(self, who: str, case: UUID) -> cases.CaseShown:
        shown: cases.CaseShown = self._call(who, cases.GET_CASE, cases.GetCase(case=case))
        return shown
