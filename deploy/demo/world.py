"""The deployment as those outside see it: each caller with its own user of the broker, and what arrived."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

import requests

from deploy.demo.outside import CONTROL, HOST, PORTS
from deploy.local import login
from deploy.rabbitmq.permissions import exchange_of
from shared.contracts import logging_in
from shared.messaging.client import STANDARD_TIMEOUT_SECONDS, RpcClient
from shared.operations import clock
from shared.operations.settings import with_password
from shared.security.tokens import Claims, Signer

SECRETS = Path("/run/secrets")
PKI = Path("/pki")
CLOCK = Path("/clock/clock.json")
_OPERATOR_MINUTES = 10
_CLOCK_SEEN_SECONDS = 0.5
_USERS = {"resident": "portal", "staff": "staff_tool", "operator": "operator"}


class DeployedWorld:
    """Runs in a container of its own, beside the others; a context manager."""

    def __init__(self) -> None:
        clock.use(str(CLOCK))
        self._signer = Signer.from_file(SECRETS / "operator.signing.pem", "operator")
        self._clients = {
            user: RpcClient(
                with_password(f"amqps://{user}@rabbitmq:5671/vardarende", SECRETS / f"amqp-{user}.password"),
                f"{user}.demo",
                exchange=exchange_of(user),
                ca_file=str(SECRETS / "ca.crt"),
            )
            for user in _USERS.values()
        }

    def __enter__(self) -> Self:
        for client in self._clients.values():
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.stop()

    def call(
        self,
        call: Any,
        request: Any,
        token: str | None = None,
        timeout: float = STANDARD_TIMEOUT_SECONDS,
        user: str | None = None,
    ) -> Any:
        """Makes a call by the tool of whoever the token speaks for. Raises `Refused` and its kinds."""
        if user is None:
            user = _USERS[_kind(token)]
        return self._clients[user].ask(call, request, token=token, timeout=timeout)

    @property
    def operator_token(self) -> str:
        """A fresh token of the operator's."""
        now = clock.now()
        return self._signer.mint(
            Claims("operator", "operator", "operator", now, now + timedelta(minutes=_OPERATOR_MINUTES))
        )

    def login_staff(self, hsa_id: str) -> logging_in.SessionOpened:
        """Logs in with the person's SITHS card."""
        begun = self._begin("staff")
        return self._complete("staff_tool", begun, login.staff_id_token(_idp(), hsa_id, begun.nonce, pki=PKI))

    def login_resident(self, number: str) -> logging_in.SessionOpened:
        """Logs in with the resident's e-ID."""
        begun = self._begin("resident")
        return self._complete("portal", begun, login.resident_id_token(_idp(), number, begun.nonce, pki=PKI))

    def _begin(self, kind: Literal["staff", "resident"]) -> logging_in.LoginBegun:
        begun: logging_in.LoginBegun = self.call(
            logging_in.BEGIN_LOGIN, logging_in.BeginLogin(request_id=uuid4(), kind=kind), user=_USERS[kind]
        )
        return begun

    def _complete(self, user: str, begun: logging_in.LoginBegun, id_token: str) -> logging_in.SessionOpened:
        complete = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=id_token)
        opened: logging_in.SessionOpened = self.call(logging_in.COMPLETE_LOGIN, complete, user=user)
        return opened

    def mail(self, to: str | None = None, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """Mail that has arrived."""
        return _messages("mail", to, after, wait)

    def sms(self, to: str | None = None, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """SMS that have arrived."""
        return _messages("sms", to, after, wait)

    def now(self) -> datetime:
        """The time as the services see it."""
        return clock.now()

    def move_clock(self, by: timedelta) -> None:
        """Moves the time of all services."""
        offset = (clock.now() - datetime.now(UTC)) + by
        new = CLOCK.with_name(".clock.new")
        new.write_text(json.dumps({"offset_seconds": round(offset.total_seconds(), 3)}))
        new.replace(CLOCK)
        time.sleep(_CLOCK_SEEN_SECONDS)


def _kind(token: str | None) -> str:
    """Whom the token says that it speaks for; it may be forged, which the service is to find out."""
    try:
        claims = json.loads(base64.urlsafe_b64decode((token or "").split(".")[1] + "=="))
        return str(claims["kind"])
    except (ValueError, IndexError, KeyError):
        return "resident"


def control(name: str) -> str:
    """Where a counterpart shows what it got."""
    return f"http://{HOST}:{PORTS[name] + CONTROL}"


def _idp() -> str:
    return f"https://{HOST}:{PORTS['idp']}"


def _messages(name: str, to: str | None, after: int, wait: float) -> list[dict[str, Any]]:
    query: dict[str, Any] = {"after": after, "wait": wait} | ({"to": to} if to else {})
    reply = requests.get(f"{control(name)}/messages", params=query, timeout=wait + 10)
    reply.raise_for_status()
    return list(reply.json()["messages"])
