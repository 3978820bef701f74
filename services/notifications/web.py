"""The webhook: takes in what providers report. Start: `python -m services.notifications.web`.

    POST /reports/sms-1/REFERENCE/SIGNATURE   an SMS provider's report, to the address that it got with the message
    POST /reports/sms-1                       the same, from a provider with one address for all; with the shared secret
    POST /reports/mail                        a mail that came back, as it is; with the shared secret

It has the database alone, as a role of its own (`tables.OTHER_ROLES`): the internet reaches it, so it has none of the
service's keys, and does not reach the broker. The events that it writes are told by the service's relays.

`sms-1` is the first provider of the sender's settings, `sms-2` the second. Any number of these processes may run.
Whoever asks learns nothing but whether what they sent could be taken: nobody's address, not even whether a delivery
exists.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import ssl
import threading
import time
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from prometheus_client import Counter

from services.notifications import reports
from services.notifications.channels.patience import incoming
from services.notifications.channels.sms_apis import UnreadableReport
from services.notifications.providers import read_password
from services.notifications.settings import WebSettings
from shared.messaging.errors import Unavailable
from shared.operations.logs import log
from shared.operations.process import DatabaseProcess

LARGEST_REPORT = 64 * 1024
LARGEST_MAIL = 1024 * 1024
AT_ONCE = 32
"""Requests of which the body is read, and taken in, side by side."""
MOST_CONNECTIONS = 200
"""Whoever comes when so many are open is hung up on, and comes again."""
PATIENCE_SECONDS = 10.0
"""For all that comes before the body, TLS too, however slowly; and once more for the body of one who may report."""
_MOST_FIELDS = 100
_MOST_DIGITS = 10
_UNREAD = frozenset({401, 403, 404, 411, 413, 503})
"""Answers to requests of which the body has not been read."""
_PASSED_OVER_SECONDS = 1.0
_MAIL_WAITS_SECONDS = 0.2
"""For the mail before it to be read; else it is to come again."""


class Refusal(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Webhook:
    """What is done with a request, whichever server took it."""

    def __init__(self, process: DatabaseProcess) -> None:
        self._process = process
        self._settings: WebSettings = process.settings
        self._reads_a_mail = threading.Lock()
        self._apis = {f"sms-{number}": api for number, api in enumerate(self._settings.sms_apis, start=1)}

    def largest(self, path: str) -> int:
        """Bytes that a request may have."""
        return LARGEST_MAIL if path == "/reports/mail" else LARGEST_REPORT

    def admit(self, path: str, authorization: str) -> Callable[[str, bytes], None]:
        """Who may report there: before anything of what they report is read. Raises `Refusal`.

        What is returned takes the kind and the body in. It raises `Refusal`, and `Unavailable` while the database is
        away: the provider comes again.
        """
        match path.split("/")[1:]:
            case ["reports", "mail"]:
                self._require_secret(authorization)
                return lambda kind, body: self._take_mail(body)
            case ["reports", slot, reference, signature] if slot in self._apis:
                if not reports.is_signed(self._settings.report_key, slot, reference, signature):
                    raise Refusal(403)
                return partial(self._take, slot, reference)
            case ["reports", slot] if slot in self._apis:
                self._require_secret(authorization)
                return partial(self._take, slot, None)
            case _:
                raise Refusal(404)

    def _take_mail(self, body: bytes) -> None:
        # One at a time: whoever may write to us by mail should not keep the reports of SMS waiting.
        if not self._reads_a_mail.acquire(timeout=_MAIL_WAITS_SECONDS):
            raise Refusal(503)
        try:
            found = reports.returned(body)
        finally:
            self._reads_a_mail.release()
        if found is None:
            raise Refusal(422)
        with self._process.transaction() as tx:
            reports.take_bounce(tx, found)

    def _take(self, slot: str, signed: str | None, kind: str, body: bytes) -> None:
        try:
            report = self._apis[slot].report(_fields(kind, body))
        except (UnreadableReport, ValueError, RecursionError):
            raise Refusal(422) from None
        reference = signed or report.reference
        if reference is None:
            raise Refusal(422)
        if report.judgement is None:
            return
        with self._process.transaction() as tx:
            if not reports.take(tx, reference, report.judgement):
                log.info("report_of_nothing", source=slot)

    def _require_secret(self, authorization: str) -> None:
        """HTTP basic authentication, with any user name."""
        try:
            scheme, _, given = authorization.partition(" ")
            password = b64decode(given, validate=True).partition(b":")[2]
        except (NotBase64, ValueError):
            raise Refusal(401) from None
        secret = read_password(self._settings.report_password_file)
        if not secret or scheme.lower() != "basic" or not hmac.compare_digest(password, secret.encode()):
            raise Refusal(401)


def _fields(kind: str, body: bytes) -> dict[str, Any]:
    """The fields of a report, from JSON or a form. Raises ValueError."""
    if kind.partition(";")[0].strip().lower() == "application/json":
        told = json.loads(body)
        if not isinstance(told, dict):
            raise ValueError
        return told
    return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))


def server(process: DatabaseProcess, port: int | None = None) -> ThreadingHTTPServer:
    """The HTTP server, listening, not serving yet. Too many requests at once are told to come again."""
    settings: WebSettings = process.settings
    hook, free = Webhook(process), threading.BoundedSemaphore(AT_ONCE)
    answered = Counter(
        "vardarende_webhook_requests_total",
        "Requests at the webhook, by status",
        ["status"],
        registry=process.core.metrics.registry,
    )

    places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS
        server_version, sys_version = "webhook", ""

        def setup(self) -> None:
            super().setup()
            self._until = time.monotonic() + PATIENCE_SECONDS
            self.rfile = incoming(self.connection, lambda: self._until - time.monotonic())

        def do_POST(self) -> None:
            status = self._status()
            answered.labels(status).inc()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="reports"')
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            if status in _UNREAD:
                self._pass_over()

        def _pass_over(self) -> None:
            """What was not read is thrown away for a moment: else the answer could be lost to one who still sends."""
            left, self._until = LARGEST_REPORT, time.monotonic() + _PASSED_OVER_SECONDS
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                while left > 0 and (passed := self.rfile.read1(left)):
                    left -= len(passed)

        def _status(self) -> int:
            try:
                take = hook.admit(self.path, self.headers.get("Authorization", ""))
            except Refusal as refusal:
                return refusal.status
            except Exception as error:
                log.error("webhook_failed", exc_info=error)
                return 500
            if not free.acquire(blocking=False):
                return 503
            try:
                length = self.headers.get("Content-Length", "")
                if not length.isdecimal():
                    return 411
                if len(length) > _MOST_DIGITS or int(length) > hook.largest(self.path):
                    return 413
                self._until = time.monotonic() + PATIENCE_SECONDS
                body = self.rfile.read(int(length))
                if len(body) < int(length):
                    return 400
                take(self.headers.get("Content-Type", ""), body)
                return 200
            except Refusal as refusal:
                return refusal.status
            except Unavailable:
                return 503
            except OSError:
                return 408
            except Exception as error:
                log.error("webhook_failed", exc_info=error)
                return 500
            finally:
                free.release()

        def log_message(self, *_: object) -> None:
            """Says nothing: the path of a request holds a signature."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def process_request(self, request: Any, client_address: Any) -> None:
            if not places.acquire(blocking=False):
                self.shutdown_request(request)
                return
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread could be started
                places.release()
                raise

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                places.release()

        def handle_error(self, *_: object) -> None:
            """The other end hung up, or speaks no HTTP."""

    made = Server((settings.web_host, settings.web_port if port is None else port), Handler)
    if settings.web_cert_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(settings.web_cert_file, settings.web_key_file)
        # The handshake is made by the connection's own thread, so that one who is slow at it holds up nobody.
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    return made


def serve(process: DatabaseProcess) -> None:
    """Serves until the process is told to stop."""
    listening = server(process)
    log.info("webhook_listens", port=listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, args=(0.2,), name="webhook")
    thread.start()
    process.stopping.wait()
    listening.shutdown()
    listening.server_close()
    thread.join()


def main() -> None:
    """Runs until told to stop."""
    DatabaseProcess("notifications", "web", WebSettings).run(serve)


if __name__ == "__main__":
    main()
