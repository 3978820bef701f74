"""The running stack as those outside see it: calls, logins, what arrived by mail and SMS, and the time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import requests

from deploy.local import login, siths_ca
from deploy.local.folder import write_private
from deploy.local.stack import Stack
from shared.contracts import logging_in
from shared.messaging.client import STANDARD_TIMEOUT_SECONDS, RpcClient
from shared.security.tokens import Claims, Signer

_OPERATOR_MINUTES = 10
_CLOCK_SEEN_SECONDS = 0.2
"""Every process has looked at the clock's file again after this long."""


class World:
    """See the module. To be closed after use; it is a context manager too."""

    def __init__(self, stack: Stack, name: str = "caller") -> None:
        self.stack = stack
        self._signer = Signer.from_file(stack.keys.signing_key("operator"), "operator")
        self.client = RpcClient(stack.broker_url("callers"), name)
        self.client.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self.client.stop()

    # Calls -----------------------------------------------------------------------------------------------------------

    def call(self, call: Any, request: Any, token: str | None = None, timeout: float = STANDARD_TIMEOUT_SECONDS) -> Any:
        """Makes a call of a contract; the typed reply. Raises `Refused` and its kinds."""
        return self.client.ask(call, request, token=token, timeout=timeout)

    @property
    def operator_token(self) -> str:
        """A fresh token of the operator's, by the stack's clock."""
        now = self.now()
        return self._signer.mint(
            Claims("operator", "operator", "operator", now, now + timedelta(minutes=_OPERATOR_MINUTES))
        )

    # Logins ----------------------------------------------------------------------------------------------------------

    def login_staff(self, hsa_id: str) -> logging_in.SessionOpened:
        """Logs in with the person's SITHS card at the identity provider."""
        return self._login("staff", lambda nonce: login.staff_id_token(self._idp, hsa_id, nonce, pki=self._pki))

    def login_by_card(self, hsa_id: str, card: siths_ca.Credentials | None = None) -> logging_in.SessionOpened:
        """Logs in with the person's SITHS card itself, without the identity provider."""
        begun = self.call(logging_in.BEGIN_CARD_LOGIN, logging_in.BeginCardLogin(request_id=uuid4()))
        card = card or login.card_of(hsa_id, self._pki)
        proof = login.card_proof(card, begun.nonce, begun.audience, begun.proof_type)
        complete = logging_in.CompleteCardLogin(request_id=uuid4(), login=begun.login, proof=proof)
        opened: logging_in.SessionOpened = self.call(logging_in.COMPLETE_CARD_LOGIN, complete)
        return opened

    def login_resident(self, number: str) -> logging_in.SessionOpened:
        """Logs in with the resident's e-ID at the identity provider."""
        return self._login("resident", lambda nonce: login.resident_id_token(self._idp, number, nonce, pki=self._pki))

    def unlock_login(self, number: str) -> None:
        """Unlocks the resident's login by their e-ID, shown anew at the identity provider."""
        begin = logging_in.BeginLogin(request_id=uuid4(), kind="resident", purpose="unlock")
        begun = self.call(logging_in.BEGIN_LOGIN, begin)
        token = login.resident_id_token(self._idp, number, begun.nonce, pki=self._pki)
        self.call(
            logging_in.UNLOCK_LOGIN,
            logging_in.UnlockLogin(request_id=uuid4(), login=begun.login, id_token=token),
        )

    @property
    def _idp(self) -> str:
        return self.stack.system.at.idp

    @property
    def _pki(self) -> Path:
        return self.stack.system.trust.parent

    def _login(self, kind: Literal["staff", "resident"], id_token: Callable[[str], str]) -> logging_in.SessionOpened:
        begin = logging_in.BeginLogin(request_id=uuid4(), kind=kind)
        begun = self.call(logging_in.BEGIN_LOGIN, begin)
        complete = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=id_token(begun.nonce))
        opened: logging_in.SessionOpened = self.call(logging_in.COMPLETE_LOGIN, complete)
        return opened

    def accept_terms(self, session: logging_in.SessionOpened) -> logging_in.SessionOpened:
        """The session with the terms accepted, if they were not."""
        if session.terms_version_to_accept is None:
            return session
        accept = logging_in.AcceptTerms(request_id=uuid4(), version=session.terms_version_to_accept)
        accepted: logging_in.SessionOpened = self.call(logging_in.ACCEPT_TERMS, accept, session.access_token)
        return accepted

    # What arrived ----------------------------------------------------------------------------------------------------

    def mail(self, to: str | None = None, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """Mail that has arrived, numbered above `after`; waits so many seconds for the first."""
        return self._messages("mail", to, after, wait)

    def sms(self, to: str | None = None, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """SMS that have arrived, likewise."""
        return self._messages("sms", to, after, wait)

    def _messages(self, name: str, to: str | None, after: int, wait: float) -> list[dict[str, Any]]:
        query: dict[str, Any] = {"after": after, "wait": wait} | ({"to": to} if to else {})
        url = f"{self.stack.counterparts[name].control_url}/messages"
        reply = requests.get(url, params=query, timeout=wait + 10)
        reply.raise_for_status()
        return list(reply.json()["messages"])

    # The time --------------------------------------------------------------------------------------------------------

    @property
    def clock_offset(self) -> timedelta:
        """How far the stack's time is ahead of the real one."""
        try:
            return timedelta(seconds=float(json.loads(self.stack.system.clock_file.read_text())["offset_seconds"]))
        except FileNotFoundError:
            return timedelta()

    def now(self) -> datetime:
        """The time as the stack sees it."""
        return datetime.now(UTC) + self.clock_offset

    def move_clock(self, by: timedelta) -> None:
        """Moves the time of the whole stack."""
        self.set_clock(self.clock_offset + by)

    def set_clock(self, offset: timedelta) -> None:
        """Sets how far the stack's time is ahead of the real one."""
        write_private(self.stack.system.clock_file, json.dumps({"offset_seconds": offset.total_seconds()}))
        time.sleep(_CLOCK_SEEN_SECONDS)  # else one process mints a token by the old time that another reads by the new
