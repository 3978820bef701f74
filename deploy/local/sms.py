"""SMS providers in the shape of 46elks (`POST /a1/sms`, a form) and of LINK Mobility (`POST /sms/send`, JSON).

    python -m deploy.local.sms --port N --control-port M --data DIR --pki DIR [--user U] [--password-file F]

Over TLS, with HTTP basic authentication. 46elks: `from`, `to`, `message`, and `whendelivered`, the address that is told
by POST when the message has arrived. LINK: `source`, `destination`, `userData`, `refId`, and `deliveryReportGates`; a
gate here is the address that is told.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
import ssl
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from deploy.local import siths_ca
from deploy.local.common.behaviour import Behaviours
from deploy.local.common.control import GARBAGE, HTTP_MODES, control_app, misbehave, stopping, wait
from deploy.local.common.http import App, Drop, Reply, Request, Server, answer_json, answer_text
from deploy.local.common.messages import Messages, password, show
from deploy.local.common.process import arguments, run
from deploy.local.common.tls import server_context
from shared.operations import clock

USER = "vardarende"
SENDER = re.compile(r"[A-Za-z][A-Za-z0-9]{2,10}|\+\d{5,15}")
RECEIVER = re.compile(r"\+[1-9]\d{7,14}")
COST_OF_PART = 3500  # ten-thousandths of a krona
REPORT_TRIES = (0.0, 1.0, 5.0)
LINK_QUEUED, LINK_DELIVERED, LINK_UNDELIVERED = 1005, 1001, 1006

AFTER = {
    "refuse": "HTTP 403, or `status`: not enough credits; nothing sent",
    "drop_after": "take the message, hang up without an answer",
    "timeout_after": "take the message, say nothing for `seconds` (60), then hang up",
    "garbage_after": "take the message, answer with something unreadable",
    "report_failed": "take the message, report that it could not be delivered",
    "report_twice": "take the message, report twice",
    "no_report": "take the message, never report",
}

log = logging.getLogger(__name__)


class Reporter:
    """Tells the sender how it went, as the provider does: by POST of `id` and `status`."""

    def __init__(self, messages: Messages, authority: Path, pause: float) -> None:
        self._messages, self._authority, self._pause = messages, authority, pause

    def tell(self, message: Mapping[str, Any], status: str, times: int = 1) -> None:
        """In a while, from a thread of its own."""
        threading.Thread(target=self._tell, args=(message, status, times), daemon=True).start()

    def _tell(self, message: Mapping[str, Any], status: str, times: int) -> None:
        wait(self._pause)
        self._messages.change(message["number"], status=status)
        told: dict[str, Any] = {"data": {"id": message["id"], "status": status, "delivered": clock.now().isoformat()}}
        if "reference" in message:
            code = LINK_DELIVERED if status == "delivered" else LINK_UNDELIVERED
            told = {"json": {"refId": message["reference"], "id": message["id"], "resultCode": code, "segments": 1}}
        for _ in range(times if message["whendelivered"] else 0):
            for pause in REPORT_TRIES:
                wait(pause)
                if stopping.is_set() or self._posted(message["whendelivered"], told):
                    break

    def _posted(self, address: str, told: Mapping[str, Any]) -> bool:
        try:
            with requests.Session() as session:
                session.trust_env = False
                reply = session.post(address, **told, timeout=10, verify=str(self._authority))
        except (requests.RequestException, OSError) as error:
            log.info("report not taken: %s", type(error).__name__)
            return False
        return reply.ok


def app(messages: Messages, behaviours: Behaviours, reporter: Reporter, user: str, secret: str) -> App:
    """The provider's own address."""
    served = App()
    expected = b"Basic " + base64.b64encode(f"{user}:{secret}".encode())

    def authorised(request: Request) -> bool:
        return hmac.compare_digest(request.headers.get("authorization", "").encode(), expected)

    @served.route("POST", "/a1/sms")
    def send(request: Request) -> Reply:
        if not authorised(request):
            return answer_text("401 Unauthorized", 401)
        try:
            form = request.form()
        except ValueError:
            return answer_text("unreadable form", 400)
        if missing := [key for key in ("from", "to", "message") if not form.get(key)]:
            return answer_text(f"Missing key {missing[0]}", 400)
        shown = ("id", "status", "direction", "from", "to", "message", "created", "parts", "cost")
        return take(form, lambda message: {key: message["to"][0] if key == "to" else message[key] for key in shown})

    @served.route("POST", "/sms/send")
    def send_by_link(request: Request) -> Reply:
        if not authorised(request):
            return answer_json({"status": 106100, "description": "Invalid authentication"}, 401)
        try:
            told = request.json()
            form = {"from": told["source"], "to": told["destination"], "message": told["userData"]}
            gates = told["deliveryReportGates"] if told.get("useDeliveryReport", True) else []
            if not told["platformId"] or not told["platformPartnerId"]:
                return answer_json({"status": 106200, "description": "Invalid or missing platformId"}, 400)
        except (ValueError, KeyError, TypeError):
            return answer_json({"status": 106000, "description": "Unknown Error"}, 400)
        form |= {"reference": told.get("refId"), **({"whendelivered": gates[0]} if gates else {})}
        return take(
            form, lambda message: {"messageId": message["id"], "resultCode": LINK_QUEUED, "description": "Queued"}
        )

    def take(form: dict[str, str], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Reply:
        rule = behaviours.take(form["to"], among=(*HTTP_MODES, *AFTER))
        if wrong := misbehave(rule):
            return wrong
        if not SENDER.fullmatch(form["from"]) or not RECEIVER.fullmatch(form["to"]):
            return answer_text(f"Invalid {'to' if SENDER.fullmatch(form['from']) else 'from'} number", 400)
        mode = rule.mode if rule else None
        if rule is not None and mode == "refuse":
            return answer_text("Not enough credits", rule.status or 403)
        message = messages.add(_message(form))
        if mode != "no_report":
            reporter.tell(
                message, "failed" if mode == "report_failed" else "delivered", 2 if mode == "report_twice" else 1
            )
        match mode:
            case "drop_after":
                raise Drop
            case "timeout_after":
                assert rule is not None
                wait(rule.seconds or 60)
                raise Drop
            case "garbage_after":
                return Reply(200, GARBAGE, "application/octet-stream")
        return answer_json(answer(message))

    return served


def _message(form: Mapping[str, str]) -> dict[str, Any]:
    text = form["message"]
    # good enough for Swedish; the exact alphabet is the sender's business
    one, each = (160, 153) if all(character < "\x80" or character in "åäöÅÄÖéÉüÜ§" for character in text) else (70, 67)
    parts = 1 if len(text) <= one else -(-len(text) // each)
    return {
        "id": "s" + secrets.token_hex(16),
        "status": "created",
        "direction": "outgoing",
        "from": form["from"],
        "to": [form["to"]],
        "message": text,
        "created": clock.now().isoformat(),
        "parts": parts,
        "cost": parts * COST_OF_PART,
        "whendelivered": form.get("whendelivered"),
        **({"reference": form["reference"]} if "reference" in form else {}),
    }


def control(messages: Messages, behaviours: Behaviours, reporter: Reporter) -> App:
    """The control port: what was sent, misbehaving, and reports by hand."""
    served = control_app(behaviours)
    show(served, messages)

    @served.route("POST", "/reports")
    def report(request: Request) -> Reply:
        wanted = request.json()
        found = [one for one in messages.listed() if one["id"] == wanted.get("id")]
        if not found or wanted.get("status") not in ("delivered", "failed"):
            return answer_json({"error": "id of a message, and status: delivered or failed"}, 400)
        reporter.tell(found[0], wanted["status"])
        return Reply(204)

    return served


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = arguments("sms", "SMS provider that shows what it got.")
    parser.add_argument("--user", default=USER)
    parser.add_argument("--password-file", type=Path, help="one line (DATA/password, made if it is not there)")
    parser.add_argument("--report-seconds", type=float, default=0.2, help="from taking a message to its report")
    given = parser.parse_args(argv)

    def make() -> list[Server]:
        messages, behaviours = Messages(given.data / "messages.jsonl"), Behaviours(HTTP_MODES | AFTER)
        secret = password(given.password_file or given.data / "password")
        tls = server_context(given.pki, "sms", clients=ssl.CERT_NONE)
        reporter = Reporter(messages, siths_ca.trust_file(given.pki), given.report_seconds)
        main_app = app(messages, behaviours, reporter, given.user, secret)
        return [Server(given.port, main_app, tls), Server(given.control_port, control(messages, behaviours, reporter))]

    return run("sms", make)


if __name__ == "__main__":
    sys.exit(main())
