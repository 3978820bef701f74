"""A mail server that keeps what it gets: SMTP with STARTTLS and AUTH, and what arrived as JSON.

    python -m deploy.local.mail --port N --control-port M --data DIR --pki DIR [--user U] [--password-file F]

STARTTLS and logging in are required, as of a real submission server.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import hmac
import logging
import ssl
import sys
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from deploy.local.common.behaviour import Behaviours, Rule
from deploy.local.common.control import control_app, stopping
from deploy.local.common.http import LISTEN, Server
from deploy.local.common.messages import Messages, password, show
from deploy.local.common.process import Startable, arguments, run
from deploy.local.common.tls import server_context
from shared.operations import clock

USER = "vardarende"
LARGEST_MAIL = 10 * 1024 * 1024

BEFORE = {
    "busy": "421 at MAIL FROM, and hang up; `only` is the sender",
    "refuse": "no to the recipient: 550, or `status` (451: for now), or all of the `answer` (452 4.3.1 full)",
    "timeout": "say nothing to the recipient for `seconds` (60), then hang up",
    "drop": "hang up at the recipient",
    "garbage": "answer the recipient with something unreadable",
}
AFTER = {
    "delay": "take the mail, answer after `seconds`",
    "refuse_data": "no to the whole mail: 554, or `status`, or all of the `answer`",
    "drop_after_data": "take the mail, hang up without an answer",
    "timeout_after_data": "take the mail, say nothing for `seconds` (60), then hang up",
    "garbage_after_data": "take the mail, answer with something unreadable",
}
GARBAGE = "\x07\x1b[2J ~~~ not what you asked for"


log = logging.getLogger(__name__)


class Inbox:
    """What aiosmtpd asks at each step."""

    def __init__(self, messages: Messages, behaviours: Behaviours) -> None:
        self._messages, self._behaviours = messages, behaviours

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """What it offers. It takes commands as they come, so several at once too (RFC 2920)."""
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """MAIL FROM."""
        if self._behaviours.take(address, among=("busy",)):
            await server.push("421 4.3.2 busy, come back later")
            _hang_up(server)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 sender ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """RCPT TO."""
        rule = self._behaviours.take(address, among=("refuse", "timeout", "drop", "garbage"))
        match rule.mode if rule else None:
            case "refuse":
                assert rule is not None
                code = rule.status or 550
                return rule.answer or f"{code} {code // 100}.1.1 no such mailbox here"
            case "timeout":
                await _silence(rule)
                _hang_up(server)
            case "drop":
                _hang_up(server)
            case "garbage":
                return GARBAGE
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 recipient ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """The mail, after its final dot."""
        rule = self._behaviours.take(*envelope.rcpt_tos, among=tuple(AFTER))
        mode = rule.mode if rule else None
        if mode == "refuse_data":
            assert rule is not None
            code = rule.status or 554
            return rule.answer or f"{code} {code // 100}.6.0 mail refused"
        kept = self._messages.add(_readable(session, envelope))
        log.info("took mail %s%s", kept["number"], f", then {mode}" if mode else "")
        match mode:
            case "delay":
                assert rule is not None
                await asyncio.sleep(rule.seconds)
            case "drop_after_data":
                _hang_up(server)
            case "timeout_after_data":
                await _silence(rule)
                _hang_up(server)
            case "garbage_after_data":
                return GARBAGE
        return f"250 2.0.0 taken as {kept['number']}"


async def _silence(rule: Rule | None) -> None:
    for _ in range(int(((rule.seconds if rule else 0) or 60) * 10)):
        if stopping.is_set():
            return
        await asyncio.sleep(0.1)


def _hang_up(server: SMTP) -> None:
    assert isinstance(server.transport, asyncio.Transport)
    server.transport.abort()
    raise ConnectionResetError


def _readable(session: Session, envelope: Envelope) -> dict[str, Any]:
    content = envelope.content
    assert isinstance(content, bytes)
    mail = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    plain = mail.get_body(("plain",))
    return {
        "at": clock.now().isoformat(),
        "from": envelope.mail_from,
        "to": list(envelope.rcpt_tos),
        "subject": str(mail["subject"] or ""),
        "text": str(plain.get_content()) if plain else "",
        "headers": {name: str(value) for name, value in mail.items()},
        "encrypted": session.ssl is not None,
        "size": len(content),
    }


class MailServer(Controller):
    """aiosmtpd in a thread of its own."""

    def __init__(self, port: int, inbox: Inbox, tls: ssl.SSLContext, user: str, secret: str) -> None:
        def authenticator(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
            fits = isinstance(data, LoginPassword) and _same(data, user, secret)
            return AuthResult(success=fits, handled=False)

        super().__init__(
            inbox,
            hostname=LISTEN,
            port=port,
            server_hostname="mail.vgregion.example",
            ident="ESMTP",
            tls_context=tls,
            require_starttls=True,
            authenticator=authenticator,
            auth_required=True,
            data_size_limit=LARGEST_MAIL,
            enable_SMTPUTF8=True,
            timeout=120,
        )


def _same(given: LoginPassword, user: str, secret: str) -> bool:
    return hmac.compare_digest(given.login, user.encode()) & hmac.compare_digest(given.password, secret.encode())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = arguments("mail", "SMTP server that shows what it got.")
    parser.add_argument("--user", default=USER)
    parser.add_argument("--password-file", type=Path, help="one line (DATA/password, made if it is not there)")
    given = parser.parse_args(argv)

    # aiosmtpd tells every command, addresses included
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)

    def make() -> list[Startable]:
        messages, behaviours = Messages(given.data / "messages.jsonl"), Behaviours(BEFORE | AFTER)
        secret = password(given.password_file or given.data / "password")
        control = control_app(behaviours)
        show(control, messages)
        tls = server_context(given.pki, "mail", clients=ssl.CERT_NONE)
        inbox = Inbox(messages, behaviours)
        return [MailServer(given.port, inbox, tls, given.user, secret), Server(given.control_port, control)]

    return run("mail", make)


if __name__ == "__main__":
    sys.exit(main())
