"""SMS over real HTTP: for each way in which a provider can fail, what may be tried again and what may not."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from deploy.local import siths_ca
from services.notifications.channels.outcome import Accepted, Letter, NotAccepted, Outcome, Unknown
from services.notifications.channels.sms import SmsChannel
from services.notifications.providers import Provider, SmsProvider
from services.notifications.rendering import words
from services.notifications.sending import Sender
from shared.contracts.notifications import Channel, DeliveryKind
from tests.integration.notifications_support import LEASE, World, tell_resident

WORDS = words(DeliveryKind.INBOX, Channel.SMS, "")
TO = "+46701740605"
LETTER = Letter("5b9e3a0e", "5b9e3a0e.0", TO, WORDS)


class Gateway:
    """Takes requests, and answers with these bytes, or not at all. `drips`: then bytes without end."""

    def __init__(self, answer: bytes | None, drips: bool = False) -> None:
        self.answer = answer
        self.drips = drips
        self.requests: list[tuple[dict[str, str], dict[str, list[str]]]] = []
        self.port = 0


@contextmanager
def serving(answer: bytes | None, drips: bool = False, tls: ssl.SSLContext | None = None) -> Iterator[Gateway]:
    provider, over = Gateway(answer, drips), threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            if tls is not None:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            self.rfile.readline()
            headers: dict[str, str] = {}
            while (line := self.rfile.readline().strip()) != b"":
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers["content-length"])).decode()
            provider.requests.append((headers, parse_qs(body)))
            if provider.answer is None:
                self.rfile.read()
            else:
                self.wfile.write(provider.answer)
            while provider.drips and not over.wait(0.2):
                self.wfile.write(b"x")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """The other end hung up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        provider.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield provider
        over.set()
        server.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> SmsProvider:
    password = tmp_path / "password"
    password.write_text("hemligt\n")
    return SmsProvider("http://127.0.0.1:9/", "vardarende", password, "Etjanster", timeout=1.0)


def send(settings: SmsProvider, answer: bytes | None, drips: bool = False) -> tuple[Outcome, Gateway]:
    with serving(answer, drips) as provider:
        return attempt(replace(settings, url=f"http://127.0.0.1:{provider.port}/a1/sms"))[1], provider


def attempt(settings: SmsProvider) -> tuple[str, Outcome]:
    """What happened, and in which half: before the attempt is recorded, or after."""
    channel = SmsChannel(settings)
    refused = channel.prepare(LETTER)
    return ("before", refused) if refused is not None else ("after", channel.send())


def http(status: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def test_an_sms_is_posted_as_the_provider_wants_it(settings: SmsProvider) -> None:
    outcome, provider = send(settings, http("200 OK", b'{"id": "s1234", "status": "created"}'))
    assert outcome == Accepted("s1234")
    [(headers, form)] = provider.requests
    assert headers["authorization"] == "Basic " + base64.b64encode(b"vardarende:hemligt").decode()
    assert headers["connection"] == "close"
    assert form == {"from": ["Etjanster"], "to": [TO], "message": [WORDS.text], "dontlog": ["message"]}


@pytest.mark.parametrize("status", ["400 Bad", "410 Gone", "413 Much", "422 What"])
def test_a_no_to_the_message_is_a_permanent_failure(settings: SmsProvider, status: str) -> None:
    """R-NOT-7."""
    outcome, _ = send(settings, http(status))
    assert outcome == NotAccepted(f"sms_http_{status[:3]}", permanent=True)


@pytest.mark.parametrize("status", ["401 Who", "402 Pay", "403 No", "404 Where", "302 Elsewhere"])
def test_a_no_to_us_is_not_the_messages_fault(settings: SmsProvider, status: str) -> None:
    """R-NOT-7: it is tried again, and by another provider; a redirection is not followed: what is posted would go to
    someone else."""
    outcome, provider = send(settings, http(status, headers="Location: http://127.0.0.1:9/\r\n"))
    assert outcome == NotAccepted(f"sms_http_{status[:3]}", provider_down=True)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("status", ["408 Slow", "429 Many", "503 Away"])
def test_what_the_provider_could_not_do_now_is_tried_again(settings: SmsProvider, status: str) -> None:
    """R-NOT-7."""
    outcome, _ = send(settings, http(status))
    assert outcome == NotAccepted(f"sms_http_{status[:3]}", provider_down=True)


def test_the_pause_that_the_provider_asks_for_is_taken_in(settings: SmsProvider) -> None:
    outcome, _ = send(settings, http("429 Many", headers="Retry-After: 120\r\n"))
    assert outcome == NotAccepted("sms_http_429", provider_down=True, pause=timedelta(minutes=2))
    outcome, _ = send(settings, http("429 Many", headers="Retry-After: soon\r\n"))
    assert outcome == NotAccepted("sms_http_429", provider_down=True)


def test_a_message_that_failed_at_once_is_not_taken(settings: SmsProvider) -> None:
    outcome, _ = send(settings, http("200 OK", b'{"id": "s1", "status": "failed"}'))
    assert outcome == NotAccepted("sms_refused", permanent=True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "sms_no_answer"),
        (b"", "sms_connection_lost"),
        (b"\x00\xff garbage \r\n\r\n", "sms_connection_lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", "sms_connection_lost"),
        (http("200 OK", b"<html>ok</html>"), "sms_unintelligible_answer"),
        (http("200 OK", b"[1]"), "sms_unintelligible_answer"),
        (http("200 OK", b"{}"), "sms_unintelligible_answer"),
        (http("200 OK", b"[" * 60_000), "sms_unintelligible_answer"),
        (http("500 Oops"), "sms_http_500"),
        (http("502 Gateway"), "sms_http_502"),
        (http("504 Gateway"), "sms_http_504"),
        (http("520 Odd"), "sms_http_520"),
    ],
)
def test_a_request_without_an_answer_that_can_be_understood_is_unknown(
    settings: SmsProvider, answer: bytes | None, reason: str
) -> None:
    """R-NOT-7: it was sent, so the provider, or another that it passed it on to, may have taken it."""
    outcome, provider = send(settings, answer)
    assert outcome == Unknown(reason)
    assert len(provider.requests) == 1


def test_nobody_listens(settings: SmsProvider) -> None:
    """R-NOT-7: nothing can have been taken where there was no connection."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    _, outcome = attempt(replace(settings, url=f"http://127.0.0.1:{port}/"))
    assert outcome == NotAccepted("sms_connection", provider_down=True)


def test_an_unknown_host_is_no_connection(settings: SmsProvider) -> None:
    _, outcome = attempt(replace(settings, url="http://sms.invalid/"))
    assert outcome == NotAccepted("sms_connection", provider_down=True)


def test_a_missing_password_file_is_told_and_sends_nothing(settings: SmsProvider) -> None:
    found = attempt(replace(settings, password_file=Path("/nowhere")))
    assert found == ("before", NotAccepted("sms_password_missing", provider_down=True))


@pytest.mark.parametrize("holds", [None, b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_r_not_7_an_authority_that_can_not_be_read_is_told_and_sends_nothing(
    settings: SmsProvider, tmp_path: Path, holds: bytes | None
) -> None:
    """R-NOT-7: the message waits, and the second provider may take it."""
    authority = tmp_path / "authority.pem"
    if holds is not None:
        authority.write_bytes(holds)
    with serving(http("200 OK", b"{}")) as provider:
        found = attempt(replace(settings, url=f"https://127.0.0.1:{provider.port}/", ca_file=authority))
    assert found == ("before", NotAccepted("sms_ca_file", provider_down=True))


def test_r_not_7_while_the_authority_can_not_be_read_the_second_provider_is_asked(
    notifications_world: World, settings: SmsProvider
) -> None:
    """R-NOT-7: nothing was sent by the first, and no message is uncertain."""
    world = notifications_world
    for _ in range(4):
        tell_resident(world, "sms")
    without = replace(settings, url="https://127.0.0.1:9/", ca_file=Path("/nowhere"))
    with serving(http("200 OK", b'{"id": "s17", "status": "created"}')) as second:
        both = [without, replace(settings, url=f"http://127.0.0.1:{second.port}/")]
        providers = [Provider(str(number), partial(SmsChannel, one)) for number, one in enumerate(both)]
        sender = Sender(
            world.database.transaction, world.ask, {Channel.EMAIL: [], Channel.SMS: providers}, batch=5, lease=LEASE
        )
        sender.round()
        sender.close()
        assert len(second.requests) == 4
    assert world.states() == [("resident", "sent", None)] * 4


@pytest.mark.parametrize("authentication", ["bearer", "header"])
@pytest.mark.parametrize("password", ["h€mligt", "hem\nligt"])
def test_r_not_7_a_password_that_can_not_be_said_sends_nothing(
    settings: SmsProvider, tmp_path: Path, authentication: str, password: str
) -> None:
    """R-NOT-7, R-SYS-3: it is no message's fault, the second provider may take it, and nothing is in the log."""
    settings.password_file.write_text(password)
    description = tmp_path / "description.json"
    description.write_text(
        json.dumps(
            {"format": "form", "fields": {"to": "$to"}, "authentication": authentication, "answer": {"id": "id"}}
        )
    )
    with serving(http("200 OK", b'{"id": "17"}')) as provider:
        generic = replace(settings, api="generic", description_file=description)
        found = attempt(replace(generic, url=f"http://127.0.0.1:{provider.port}/"))
    assert found == ("before", NotAccepted("sms_not_composed", provider_down=True))
    assert provider.requests == []


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nX-Long: ", http("200 OK", b"{" * 65_536)[:100]])
def test_an_answer_that_never_ends_keeps_no_sender(settings: SmsProvider, begun: bytes) -> None:
    """R-NOT-7: it may have been taken; and the sender goes on to the next message."""
    began = time.monotonic()
    outcome, _ = send(settings, begun, drips=True)
    assert isinstance(outcome, Unknown)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nX-Long: ", http("200 OK", b"{" * 65_536)[:100]])
def test_nor_does_one_over_tls(settings: SmsProvider, tmp_path: Path, begun: bytes) -> None:
    """R-NOT-7: the deadline is the answer's, not each byte's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*siths_ca.server_credentials(tmp_path, "sms").pair)
    over_tls = replace(settings, ca_file=siths_ca.trust_file(tmp_path))
    with serving(begun, drips=True, tls=context) as provider:
        began = time.monotonic()
        _, outcome = attempt(replace(over_tls, url=f"https://127.0.0.1:{provider.port}/"))
        assert time.monotonic() - began < 2
        assert len(provider.requests) == 1
    assert isinstance(outcome, Unknown)


def hangs_up(caller: socket.socket) -> None:
    """As a load balancer does whose back end is gone."""


def resets(caller: socket.socket) -> None:
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def alerts(caller: socket.socket) -> None:
    caller.recv(1000)
    caller.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


def speaks_no_tls(caller: socket.socket) -> None:
    caller.recv(1000)
    caller.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def is_silent(caller: socket.socket) -> None:
    caller.settimeout(5)
    while caller.recv(1000):
        pass


def drips(caller: socket.socket) -> None:
    """The first record of a handshake, byte by byte."""
    caller.sendall(b"\x16\x03\x03\x20\x00")
    for _ in range(50):
        caller.sendall(b"\x02")
        time.sleep(0.1)


@pytest.mark.parametrize("does", [hangs_up, resets, alerts, speaks_no_tls, is_silent, drips])
def test_what_breaks_before_tls_stands_has_sent_nothing(
    settings: SmsProvider, does: Callable[[socket.socket], None]
) -> None:
    """R-NOT-7: it may be tried again, and by the second provider; and in time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            caller, _ = listening.accept()
            with caller, contextlib.suppress(OSError):
                does(caller)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        began = time.monotonic()
        _, outcome = attempt(replace(settings, url=f"https://127.0.0.1:{listening.getsockname()[1]}/"))
        assert time.monotonic() - began < 2
        thread.join()
    assert isinstance(outcome, NotAccepted)
    assert (outcome.provider_down, outcome.permanent) == (True, False)
