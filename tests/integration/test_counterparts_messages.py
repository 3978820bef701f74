"""The mail server and the SMS provider: they take, show, and fail as told."""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from deploy.local import siths_ca
from tests.integration.counterparts_support import Counterpart

SENDER = "noreply@vgregion.example"
TEXT = "Du har ett meddelande i e-tjänsterna på 1177."


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Counterpart]]:
    folder = tmp_path_factory.mktemp("messages")
    started = {name: Counterpart(name, folder).start() for name in ("mail", "sms")}
    try:
        for one in started.values():
            one.wait()
        yield started
    finally:
        statuses = {name: one.stop() for name, one in started.items()}
        assert set(statuses.values()) == {0}, statuses


@pytest.fixture
def mail(running: dict[str, Counterpart]) -> Counterpart:
    return running["mail"]


@pytest.fixture
def sms(running: dict[str, Counterpart]) -> Counterpart:
    return running["sms"]


def password(counterpart: Counterpart) -> str:
    return (counterpart.folder / counterpart.name / "password").read_text().strip()


def shown(counterpart: Counterpart, to: str, **query: Any) -> list[dict[str, Any]]:
    reply = requests.get(f"{counterpart.control}/messages", params={"to": to} | query, timeout=15)
    messages: list[dict[str, Any]] = reply.json()["messages"]
    return messages


# --- mail -----------------------------------------------------------------------------------------------------------


def send_mail(mail: Counterpart, to: str, *, login: str | None = None, timeout: float = 5.0) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, to, "Nytt ärende på mottagningen"
    message.set_content(TEXT)
    message.add_alternative(f"<p>{TEXT}</p>", subtype="html")
    context = ssl.create_default_context(cafile=str(siths_ca.trust_file(mail.pki)))
    with smtplib.SMTP("127.0.0.1", mail.port, timeout=timeout) as smtp:
        smtp.starttls(context=context)
        smtp.login("vardarende", login or password(mail))
        smtp.send_message(message)


def test_mail_is_taken_and_shown(mail: Counterpart) -> None:
    """R-NOT-2: the clinic's address gets its mail."""
    send_mail(mail, "Mottagningen@vgregion.example")
    [message] = shown(mail, "mottagningen@vgregion.example")
    assert message["subject"] == "Nytt ärende på mottagningen"
    assert message["text"].strip() == TEXT
    assert (message["from"], message["to"]) == (SENDER, ["Mottagningen@vgregion.example"])
    assert message["encrypted"] is True


def test_mail_needs_starttls_and_the_password(mail: Counterpart) -> None:
    """R-SYS-2"""
    with smtplib.SMTP("127.0.0.1", mail.port, timeout=5) as smtp:
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            smtp.sendmail(SENDER, "nobody@vgregion.example", "Subject: x\n\nx")
        assert refused.value.smtp_code == 530
    with pytest.raises(smtplib.SMTPAuthenticationError):
        send_mail(mail, "nobody@vgregion.example", login="fel")
    assert shown(mail, "nobody@vgregion.example") == []


@pytest.mark.parametrize(
    ("mode", "raises", "kept"),
    [
        ("refuse", smtplib.SMTPRecipientsRefused, 0),
        ("timeout", smtplib.SMTPServerDisconnected, 0),
        ("drop", smtplib.SMTPServerDisconnected, 0),
        ("garbage", smtplib.SMTPRecipientsRefused, 0),
        ("refuse_data", smtplib.SMTPDataError, 0),
        ("drop_after_data", smtplib.SMTPServerDisconnected, 1),
        ("timeout_after_data", smtplib.SMTPServerDisconnected, 1),
        ("garbage_after_data", smtplib.SMTPDataError, 1),
    ],
)
def test_mail_fails_as_told_and_then_works(mail: Counterpart, mode: str, raises: type[Exception], kept: int) -> None:
    """R-NOT-7: what a sender must survive; the mail is there or not, whatever the sender learnt of it."""
    to = f"{mode}@vgregion.example"
    mail.behave(mode, only=to, seconds=3)
    send_mail(mail, "somebody.else@vgregion.example")
    with pytest.raises(raises):
        send_mail(mail, to, timeout=1.0)
    assert len(shown(mail, to)) == kept
    send_mail(mail, to)
    assert len(shown(mail, to)) == kept + 1


def test_mail_server_says_busy_for_now(mail: Counterpart) -> None:
    mail.behave("refuse", only="later@vgregion.example", status=451)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send_mail(mail, "later@vgregion.example")
    assert refused.value.recipients["later@vgregion.example"][0] == 451
    mail.behave("busy")
    with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPServerDisconnected)):
        send_mail(mail, "later@vgregion.example")


def test_mail_that_takes_its_time(mail: Counterpart) -> None:
    mail.behave("delay", only="slow@vgregion.example", seconds=0.5)
    began = time.monotonic()
    send_mail(mail, "slow@vgregion.example")
    assert time.monotonic() - began >= 0.5


def test_waiting_for_a_message(mail: Counterpart) -> None:
    to = "waiting@vgregion.example"
    late = threading.Timer(0.5, send_mail, (mail, to))
    late.start()
    [first] = shown(mail, to, wait=10)
    assert shown(mail, to, after=first["number"]) == []
    late.join()
    requests.delete(f"{mail.control}/messages", params={"to": to}, timeout=5)
    assert shown(mail, to) == []
    assert requests.get(f"{mail.control}/messages", params={"wait": "soon"}, timeout=5).status_code == 400


def test_mail_survives_a_restart(mail: Counterpart) -> None:
    send_mail(mail, "kept@vgregion.example")
    assert mail.stop() == 0
    mail.start().wait()
    assert len(shown(mail, "kept@vgregion.example")) == 1


# --- SMS ------------------------------------------------------------------------------------------------------------


def send_sms(sms: Counterpart, number: str, **change: Any) -> requests.Response:
    form = {"from": "Vard1177", "to": number, "message": TEXT} | change
    return sms.request("POST", "/a1/sms", data=form, auth=("vardarende", password(sms)), timeout=1)


def test_sms_is_taken_and_shown(sms: Counterpart) -> None:
    reply = send_sms(sms, "+46701740690").json()
    assert (reply["status"], reply["to"], reply["message"], reply["parts"]) == ("created", "+46701740690", TEXT, 1)
    [message] = shown(sms, "+46701740690")
    assert (message["id"], message["message"]) == (reply["id"], TEXT)


def test_sms_out_of_order_is_refused(sms: Counterpart) -> None:
    to = "+46701740691"
    assert sms.request("POST", "/a1/sms", data={}, auth=("vardarende", "fel")).status_code == 401
    for change in ({"to": "070-1740691"}, {"message": ""}, {"from": "1"}, {"from": "För långt namn"}):
        assert send_sms(sms, to, **change).status_code == 400
    assert shown(sms, to) == []


@pytest.mark.parametrize(
    ("mode", "status", "kept"),
    [
        ("refuse", 403, 0),
        ("unavailable", 503, 0),
        ("drop", None, 0),
        ("timeout", None, 0),
        ("garbage", 200, 0),
        ("drop_after", None, 1),
        ("timeout_after", None, 1),
        ("garbage_after", 200, 1),
    ],
)
def test_sms_fails_as_told(sms: Counterpart, mode: str, status: int | None, kept: int) -> None:
    """R-NOT-7"""
    to = "+467017406" + str(50 + len(mode))
    before = len(shown(sms, to))
    sms.behave(mode, only=to, seconds=2)
    if status is None:
        with pytest.raises(requests.RequestException):
            send_sms(sms, to)
    else:
        reply = send_sms(sms, to)
        assert reply.status_code == status
        if status == 200:
            with pytest.raises(ValueError):
                reply.json()
    assert len(shown(sms, to)) == before + kept
    assert send_sms(sms, to).json()["status"] == "created"


@pytest.fixture
def reports() -> Iterator[tuple[str, Callable[[int], list[dict[str, str]]]]]:
    """Where reports are sent, and what came."""
    came: list[dict[str, str]] = []
    changed = threading.Condition()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            with changed:
                came.append({key: values[0] for key, values in parse_qs(body).items()})
                changed.notify_all()
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def wait(count: int) -> list[dict[str, str]]:
        with changed:
            changed.wait_for(lambda: len(came) >= count, 5)
            return list(came)

    yield f"http://127.0.0.1:{server.server_port}/reports", wait
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("mode", "statuses"),
    [(None, ["delivered"]), ("report_failed", ["failed"]), ("report_twice", ["delivered", "delivered"])],
)
def test_sms_provider_reports(
    sms: Counterpart,
    reports: tuple[str, Callable[[int], list[dict[str, str]]]],
    mode: str | None,
    statuses: list[str],
) -> None:
    address, wait = reports
    if mode:
        sms.behave(mode, only="+46701740695")
    sent = send_sms(sms, "+46701740695", whendelivered=address).json()
    came = wait(len(statuses))
    assert [one["status"] for one in came] == statuses
    assert {one["id"] for one in came} == {sent["id"]}
    assert shown(sms, "+46701740695")[-1]["status"] == statuses[0]


def test_a_report_by_hand(sms: Counterpart, reports: tuple[str, Callable[[int], list[dict[str, str]]]]) -> None:
    address, wait = reports
    sms.behave("no_report", only="+46701740696")
    sent = send_sms(sms, "+46701740696", whendelivered=address).json()
    told = requests.post(f"{sms.control}/reports", json={"id": sent["id"], "status": "failed"}, timeout=5)
    assert told.status_code == 204
    assert [one["status"] for one in wait(1)] == ["failed"]
    unknown = requests.post(f"{sms.control}/reports", json={"id": "s0", "status": "failed"}, timeout=5)
    assert unknown.status_code == 400


def test_logs_hold_no_personal_data(running: dict[str, Counterpart]) -> None:
    """R-SYS-3"""
    send_mail(running["mail"], "somebody@vgregion.example")
    send_sms(running["sms"], "+46701740697")
    assert "took mail" in running["mail"].log
    for one in running.values():
        for secret in ("vgregion.example", "+46701740", TEXT, "Nytt", password(one)):
            assert secret not in one.log
