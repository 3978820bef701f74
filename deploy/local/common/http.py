"""A small HTTP server for the counterparts: routes, JSON and forms, TLS with or without client certificates."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

LISTEN = os.environ.get("COUNTERPARTS_LISTEN", "127.0.0.1")
"""Everywhere, in a container of their own."""
HANDSHAKE_SECONDS = 10
IDLE_SECONDS = 60
LARGEST_BODY = 16 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What came: method, path, query, headers (any letter case), body, and the client's certificate if it gave one."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    peer: x509.Certificate | None = None

    def json(self) -> Any:
        """The body as JSON; an empty body is an empty object. Raises ValueError."""
        return json.loads(self.body) if self.body.strip() else {}

    def form(self) -> dict[str, str]:
        """The body as an HTML form; of a repeated field the last one. Raises ValueError."""
        return {key: values[-1] for key, values in parse_qs(self.body.decode(), keep_blank_values=True).items()}

    def asked(self, key: str) -> str | None:
        """One query parameter, or None."""
        return self.query.get(key, [None])[0]


@dataclass
class Reply:
    """The answer. With `cut`, only so many bytes of the body are sent before the connection is closed."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


class Drop(Exception):
    """Close the connection without an answer."""


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer in JSON."""
    body = json.dumps(value, ensure_ascii=False, indent=1).encode()
    return Reply(status, body, "application/json; charset=utf-8", dict(headers or {}))


def answer_text(text: str, status: int = 200) -> Reply:
    """An answer in plain text."""
    return Reply(status, text.encode(), "text/plain; charset=utf-8")


View = Callable[[Request], Reply]


class App:
    """Routes by method and exact path; `/a/*` takes what lies in /a, and `*` every path that no other takes."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], View] = {}

    def route(self, method: str, path: str) -> Callable[[View], View]:
        """Registers a view."""

        def register(view: View) -> View:
            self._routes[method, path] = view
            return view

        return register

    def wrapped(self, wrap: Callable[[View], View]) -> App:
        """The same routes with every view wrapped."""
        other = App()
        other._routes = {route: wrap(view) for route, view in self._routes.items()}
        return other

    def find(self, method: str, path: str) -> tuple[str, View | None, bool]:
        """The route's own path (for the log: it holds no personal data), its view, and whether the path exists."""
        wildcard = path.rsplit("/", 1)[0] + "/*"
        for candidate in (path, wildcard, "*"):
            if view := self._routes.get((method, candidate)):
                return candidate, view, True
        known = any(route in (path, wildcard, "*") for _, route in self._routes)
        return "(other)", None, known


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "counterpart"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True  # else every answer in two pieces waits 40 ms for the other end
    server: Server

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(HANDSHAKE_SECONDS)
            self.request.do_handshake()
        super().setup()

    def _peer(self) -> x509.Certificate | None:
        if not isinstance(self.connection, ssl.SSLSocket):
            return None
        certificate = self.connection.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(certificate) if certificate else None

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            raise ValueError("body too large")
        return self.rfile.read(length)

    def _handle(self) -> None:
        begun = time.monotonic()
        split = urlsplit(self.path)
        route, view, known = self.server.app.find(self.command, split.path)
        try:
            request = Request(
                self.command,
                split.path,
                parse_qs(split.query, keep_blank_values=True),
                {key.lower(): value for key, value in self.headers.items()},
                self._body(),
                self._peer(),
            )
        except ValueError:
            reply: Reply = answer_text("unreadable request", 400)
            self.close_connection = True
        else:
            if view is None:
                reply = answer_text("method not allowed" if known else "not found", 405 if known else 404)
            else:
                try:
                    reply = view(request)
                except Drop:
                    log.info("%s %s dropped", self.command, route)
                    self._hang_up()
                    return
                except Exception as error:
                    log.error("%s %s failed: %s", self.command, route, type(error).__name__)
                    reply = answer_text("internal error", 500)
        log.info("%s %s %s %.0f ms", self.command, route, reply.status, (time.monotonic() - begun) * 1000)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        empty = reply.status in (204, 304)
        if not empty:
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
        for key, value in reply.headers.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if empty or self.command == "HEAD":
            return
        self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
        if reply.cut is not None:
            self.wfile.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the base would log the request line, query included, which may hold personal data."""


class Server(ThreadingHTTPServer):
    """Serves an App at `LISTEN`, in threads; the TLS handshake is done by the connection's own thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, app: App, tls: ssl.SSLContext | None = None) -> None:
        self.app = app
        self._tls = tls
        self._thread: threading.Thread | None = None
        super().__init__((LISTEN, port), _Handler)

    @property
    def port(self) -> int:
        """The port it listens on (of use when it was asked for port 0)."""
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("connection ended early")

    def start(self) -> None:
        """Serves from a thread of its own."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening."""
        self.shutdown()
        self.server_close()
