"""What providers report: taken in by the real webhook, settled in the real database; and what is forged."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
from prometheus_client import CollectorRegistry

from deploy.local.stack import Stack
from services.notifications import clinic_settings, listing, reports, web
from services.notifications.channels.outcome import Accepted, NotAccepted, Unknown
from services.notifications.channels.sms_apis import Elks46, LinkMobility
from shared.contracts import cases, identity
from shared.contracts.base import Role
from shared.contracts.notifications import GetClinicSettings, ResendDelivery, SetClinicSettings
from shared.database.transaction import Database
from shared.security.caller import Caller
from tests.integration.notifications_support import (
    DyingProcess,
    FakeChannel,
    Killed,
    World,
    only_delivery,
    tell_resident,
)

SECRET = "ett langt delat losenord"
REPORT_KEY = b"r" * 32
NO_SUCH_MAILBOX = NotAccepted("smtp_recipient_550", permanent=True, about_the_address=True)


class Hook:
    """The webhook, over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port

    def post(self, path: str, secret: str | None = None, **told: Any) -> int:
        headers = dict(told.pop("headers", {}))
        if secret is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"x:{secret}".encode()).decode()
        url = f"http://127.0.0.1:{self.port}{path}"
        reply = requests.post(url, timeout=5, headers=headers, **told)
        assert reply.content == b""
        return reply.status_code


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


@pytest.fixture
def database(servers: Stack, notifications_database: str) -> Iterator[Database]:
    """The webhook's, as the role that it has, without any key."""
    name = notifications_database.rpartition("/")[2]
    made = Database(servers.database_url("notifications_web", name), service="notifications", sealer=None)
    yield made
    made.dispose()


@pytest.fixture
def hook(database: Database, tmp_path: Path) -> Iterator[Hook]:
    with hooked(database, tmp_path) as hook:
        yield hook


@pytest.fixture
def quick(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hook]]:
    """The webhook with other limits, which a test need not wait for."""
    with ExitStack() as stack:

        def start(**limits: float) -> Hook:
            for name, limit in limits.items():
                monkeypatch.setattr(web, name, limit)
            return stack.enter_context(hooked(database, tmp_path))

        yield start


@contextmanager
def hooked(database: Database, folder: Path) -> Iterator[Hook]:
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n")
    settings = SimpleNamespace(
        report_key=REPORT_KEY,
        sms_apis=[Elks46(), LinkMobility()],
        report_password_file=secret,
        web_host="127.0.0.1",
        web_port=0,
        web_cert_file=None,
    )
    metrics = SimpleNamespace(registry=CollectorRegistry())
    process: Any = SimpleNamespace(
        settings=settings, transaction=database.transaction, core=SimpleNamespace(metrics=metrics)
    )
    listening = web.server(process)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    yield Hook(listening.server_address[1])
    listening.shutdown()
    listening.server_close()
    thread.join()


def sent(world: World, outcome: Any = None) -> str:
    """An SMS to a resident that had this outcome; its reference."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("sms"), "staff"))
    world.sms.script = [outcome or Accepted("s1")]
    world.sender().round()
    [(delivery, resent)] = world.rows("SELECT delivery, resent FROM deliveries ORDER BY created_at DESC LIMIT 1")
    return f"{delivery}.{resent}"


def address(reference: str, slot: str = "sms-1") -> str:
    return f"/reports/{slot}/{reference}/{reports.signature(REPORT_KEY, slot, reference)}"


def state(world: World) -> tuple[Any, ...]:
    [found] = world.rows("SELECT state, reason, report FROM deliveries")
    return found


def told_of_bounces(world: World) -> list[dict[str, Any]]:
    return [
        json.loads(payload) if isinstance(payload, str | bytes) else payload
        for (payload,) in world.rows("SELECT payload FROM outbox WHERE type = 'address_bounced' ORDER BY at")
    ]


def test_a_report_of_arrival_settles_what_was_uncertain(world: World, hook: Hook) -> None:
    """R-NOT-7."""
    reference = sent(world, Unknown("sms_no_answer"))
    assert state(world) == ("uncertain", "sms_no_answer", None)
    for _ in range(2):  # reports come twice
        assert hook.post(address(reference), data={"id": "s1", "status": "delivered"}) == 200
    assert state(world) == ("sent", None, "delivered")
    assert hook.post(address(reference), data={"id": "s1", "status": "failed"}) == 200
    assert state(world) == ("sent", None, "delivered")  # arrived is arrived


def test_an_sms_that_could_not_be_delivered_fails_visibly_and_identity_is_told(world: World, hook: Hook) -> None:
    """R-NOT-7: and nothing of the address is in what is told (R-SYS-3)."""
    reference = sent(world)
    assert hook.post(address(reference), data={"id": "s1", "status": "failed"}) == 200
    assert state(world) == ("failed", "undelivered", "undelivered")
    [told] = told_of_bounces(world)
    assert (told["kind"], told["channel"], told["contact_version"]) == ("resident", "sms", 0)
    assert "+4670" not in str(told)
    assert hook.post(address(reference), data={"id": "s1", "status": "delivered"}) == 200
    assert state(world)[0] == "sent"


def test_a_late_word_that_it_is_on_its_way_hides_no_failure(world: World, hook: Hook) -> None:
    """R-NOT-7: reports come in any order."""
    reference = sent(world)
    for status in ("failed", "sent"):
        assert hook.post(address(reference), data={"id": "s1", "status": status}) == 200
    assert state(world) == ("failed", "undelivered", "undelivered")


def test_a_message_that_the_provider_has_after_all_is_not_sent_again(world: World, hook: Hook) -> None:
    """R-NOT-7: it said that it was busy, and sent it all the same."""
    reference = sent(world, NotAccepted("sms_http_503", provider_down=True))
    assert state(world)[0] == "waiting"
    assert hook.post(address(reference), data={"id": "s1", "status": "sent"}) == 200
    assert state(world) == ("sent", None, "on_its_way")
    world.make_due()
    assert world.send() == 0


@pytest.mark.parametrize(("status", "outcome"), [("delivered", ("sent", None)), ("failed", ("failed", "undelivered"))])
def test_a_report_that_comes_before_the_answer_counts(
    world: World, hook: Hook, status: str, outcome: tuple[Any, ...]
) -> None:
    """R-NOT-7: also where the answer is lost after it."""

    def early() -> None:
        [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
        assert hook.post(address(f"{delivery}.0"), data={"id": "s1", "status": status}) == 200

    world.sms.during = early
    sent(world, Unknown("sms_no_answer"))
    assert state(world)[:2] == outcome
    assert len(told_of_bounces(world)) == (1 if status == "failed" else 0)


def test_a_report_that_came_before_a_crash_counts(world: World, hook: Hook) -> None:
    """R-NOT-7: the sweep knows what the provider said."""

    def early_and_die() -> None:
        [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
        assert hook.post(address(f"{delivery}.0"), data={"id": "s1", "status": "failed"}) == 200
        process.die()

    world.hear(cases.MESSAGE_SENT, world.message(world.resident("sms"), "staff"))
    process = DyingProcess(world.database)
    world.sms.during = early_and_die
    with pytest.raises(Killed):
        world.sender(process=process).round()
    world.end_leases()
    world.sweep()
    assert state(world) == ("failed", "undelivered", "undelivered")
    assert len(told_of_bounces(world)) == 1


def test_a_report_of_an_earlier_sending_says_nothing_of_the_new_one(world: World, hook: Hook) -> None:
    """R-NOT-7."""
    reference = sent(world, Unknown("sms_no_answer"))
    again = ResendDelivery(request_id=uuid4(), delivery=UUID(reference.partition(".")[0]))
    with world.database.transaction(Caller("operator")) as tx:
        listing.resend(tx, again)
    assert hook.post(address(reference), data={"id": "s1", "status": "failed"}) == 200
    assert state(world) == ("waiting", None, None)
    world.send()
    assert world.sms.letters[-1].reference.startswith(reference.replace(".0", ".1."))


def test_a_provider_with_one_address_for_all_reports_by_our_reference(world: World, hook: Hook) -> None:
    """With the secret that it shares with us."""
    reference = sent(world)
    told = {"refId": reference, "id": "Dcs", "resultCode": 2106}
    assert hook.post("/reports/sms-2", json=told) == 401
    assert hook.post("/reports/sms-2", secret="fel", json=told) == 401
    assert state(world)[0] == "sent"
    assert hook.post("/reports/sms-2", secret=SECRET, json=told) == 200
    assert state(world)[0] == "failed"


def test_forged_and_unreadable_reports_change_nothing(world: World, hook: Hook) -> None:
    """R-SYS-1: nor do they tell anyone whether a delivery exists."""
    reference = sent(world)
    other = f"{uuid4()}.0"
    signed = reports.signature(REPORT_KEY, "sms-1", other)
    failed = {"id": "s1", "status": "failed"}
    assert hook.post(f"/reports/sms-1/{reference}/{'0' * 32}", data=failed) == 403
    assert hook.post(f"/reports/sms-1/{reference}/{signed}", data=failed) == 403
    assert hook.post(f"/reports/sms-1/{reference}/åäö", data=failed) == 403
    assert hook.post(address(reference, "sms-3"), data=failed) == 404
    assert hook.post("/reports/mail/x", data=failed) == 404
    assert hook.post(address(reference), data={"id": "s1", "status": "lost"}) == 422
    assert hook.post(address(reference), data=b"\xff\xfe", headers={"Content-Type": "text/plain"}) == 422
    assert hook.post(address(reference), data=b"[" * 5000, headers={"Content-Type": "application/json"}) == 422
    assert hook.post(address(reference), data=b"x" * (web.LARGEST_REPORT + 1)) == 413
    assert hook.post(address(reference), data=iter([b"status=failed"])) == 411
    assert hook.post(address(other), data=failed) == 200
    assert hook.post(address("nej"), data=failed) == 200
    assert state(world) == ("sent", None, None)


@pytest.mark.parametrize(("path", "status"), [("/reports/sms-1/x/forged", b"403"), ("/reports/mail", b"401")])
def test_nothing_is_read_of_one_who_may_not_report(hook: Hook, path: str, status: bytes) -> None:
    """R-SYS-1: the answer does not wait for the body."""
    with socket.create_connection(("127.0.0.1", hook.port), timeout=3) as forger:
        forger.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n".encode())
        assert forger.recv(100).split(b" ")[1] == status


def test_one_who_says_nothing_holds_up_nobody(world: World, hook: Hook) -> None:
    reference = sent(world)
    silent = [socket.create_connection(("127.0.0.1", hook.port)) for _ in range(5)]
    assert hook.post(address(reference), data={"id": "s1", "status": "delivered"}) == 200
    for one in silent:
        one.close()


def test_that_it_failed_with_another_provider_or_attempt_says_nothing(world: World, hook: Hook) -> None:
    """R-NOT-7: a late word of the first provider fails nothing that the second has; that it arrived counts."""
    world.second_sms = FakeChannel()
    tell_resident(world, "sms")
    world.sms.script = [NotAccepted("sms_http_503", provider_down=True)] * 2
    world.second_sms.script = [NotAccepted("sms_http_503", provider_down=True)]
    world.send()  # the first try again is at once
    [letter] = world.second_sms.letters
    delivery = only_delivery(world)
    assert letter.reference == reports.reference_of(delivery, 0, 2, "sms1.example")
    for attempt, provider in ((1, "sms0.example"), (1, "sms1.example"), (2, "sms0.example")):
        told = address(reports.reference_of(delivery, 0, attempt, provider))
        assert hook.post(told, data={"id": "s1", "status": "failed"}) == 200
    assert state(world) == ("sent", None, None)
    assert hook.post(address(letter.reference), data={"id": "s1", "status": "failed"}) == 200
    assert state(world)[0] == "failed"
    first = reports.reference_of(delivery, 0, 1, "sms0.example")
    assert hook.post(address(first), data={"id": "s1", "status": "delivered"}) == 200
    assert state(world)[0] == "sent"


def test_a_report_address_is_one_provider_s(world: World, hook: Hook) -> None:
    """R-SYS-1: another's reports are read otherwise."""
    reference = sent(world)
    signed = reports.signature(REPORT_KEY, "sms-2", reference)
    assert hook.post(f"/reports/sms-1/{reference}/{signed}", data={"id": "s1", "status": "failed"}) == 403


def drip(port: int, begun: bytes, over: threading.Event) -> socket.socket:
    """A connection on which a byte comes now and then, and never the end."""
    slow = socket.create_connection(("127.0.0.1", port), timeout=3)
    slow.sendall(begun)

    def go_on() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.1):
                slow.sendall(b"x")

    threading.Thread(target=go_on, daemon=True).start()
    return slow


@pytest.mark.parametrize("where", ["in the headers", "in the body"])
def test_one_who_never_comes_to_the_end_is_hung_up_on(world: World, quick: Callable[..., Hook], where: str) -> None:
    """R-SYS-1: the time is for all of it, not for each byte."""
    hook = quick(PATIENCE_SECONDS=0.5)
    begun = f"POST {address(sent(world))} HTTP/1.1\r\nX-Long: x"
    if where == "in the body":
        begun += "\r\nContent-Length: 60000\r\n\r\n"
    over, began = threading.Event(), time.monotonic()
    with drip(hook.port, begun.encode(), over) as slow:
        while slow.recv(100):
            pass
        assert time.monotonic() - began < 2.5
    over.set()


def test_so_many_slow_ones_and_no_more_have_a_thread(world: World, quick: Callable[..., Hook]) -> None:
    """R-SYS-1: whoever comes then is hung up on, and is taken in when the slow ones are gone."""
    hook = quick(PATIENCE_SECONDS=1.0, MOST_CONNECTIONS=5)
    over, before = threading.Event(), threading.active_count()
    reference = sent(world)
    slow = [drip(hook.port, b"POST / HTTP/1.1\r\nX-Long: x", over) for _ in range(5)]
    eventually(lambda: threading.active_count() >= before + 10, 0.9)  # each its own here, and one there
    with pytest.raises(requests.exceptions.ConnectionError):
        hook.post(address(reference), data={"id": "s1", "status": "delivered"})
    assert threading.active_count() == before + 10
    over.set()
    eventually(lambda: threading.active_count() == before, 3.0)
    assert hook.post(address(reference), data={"id": "s1", "status": "delivered"}) == 200
    for one in slow:
        one.close()


def test_what_is_made_to_break_the_reader_is_no_report(world: World, hook: Hook) -> None:
    """R-SYS-1: what comes back by mail is written by anyone."""
    reference = sent(world)
    nested = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(3000)).encode()
    report = b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n' + nested
    assert hook.post("/reports/mail", secret=SECRET, data=report) == 422
    with socket.create_connection(("127.0.0.1", hook.port), timeout=3) as forger:
        digits = "9" * 5000
        forger.sendall(f"POST {address(reference)} HTTP/1.1\r\nContent-Length: {digits}\r\n\r\n".encode())
        assert forger.recv(100).split(b" ")[1] == b"413"


@pytest.mark.parametrize("deep", [15, 250])
def test_r_sys_1_a_mail_of_parts_in_parts_keeps_nobody_s_report(world: World, hook: Hook, deep: int) -> None:
    """R-SYS-1, R-NOT-7: reading it took the time of its lines, once for each of the parts that they stand in."""
    reference = sent(world)
    nested = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(deep)).encode()
    report = b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n' + nested
    report += b"\n" * (web.LARGEST_MAIL - len(report))
    began = time.monotonic()
    with ThreadPoolExecutor(14) as others:
        mails = [others.submit(hook.post, "/reports/mail", secret=SECRET, data=report) for _ in range(14)]
        assert hook.post(address(reference), data={"id": "s1", "status": "delivered"}) == 200
        assert {one.result() for one in mails} <= {422, 503}
    assert time.monotonic() - began < 5
    assert state(world)[2] == "delivered"


@pytest.mark.parametrize("kind", ['text/rfc822-headers; charset="a\x00b"', "text/rfc822-headers; charset*=x''y"])
def test_r_sys_1_what_the_reader_stumbles_over_is_no_report(world: World, hook: Hook, kind: str) -> None:
    """R-SYS-1: an answer that says so; the mail server need not come again."""
    mail = returned(sent(world).partition(".")[0]).replace(b"text/rfc822-headers", kind.encode())
    mail = mail.replace(b"To: anna@vgregion.example\r\nMess", "To: å\r\nMess".encode())
    assert hook.post("/reports/mail", secret=SECRET, data=mail) in (200, 422)


def test_r_not_7_of_a_long_mail_that_comes_back_the_beginning_is_enough(world: World, hook: Hook) -> None:
    """R-NOT-7: what it is about stands before the words of the mail."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.send()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    long = returned(str(delivery)).replace(b"text/rfc822-headers", b"message/rfc822").removesuffix(b"--b--")
    long += b"Long words.\r\n" * 50_000
    assert hook.post("/reports/mail", secret=SECRET, data=long) == 200
    assert state(world) == ("failed", "undelivered", "undelivered")


def eventually(what: Callable[[], bool], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


# --- mail that comes back -------------------------------------------------------------------------------------------


def returned(delivery: str, action: str = "failed", status: str = "5.1.1", sending: int | None = 0) -> bytes:
    lines = [
        "From: MAILER-DAEMON@mail.example",
        "To: no-reply@e-tjanster.example",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
        "",
        "--b",
        "Content-Type: text/plain",
        "",
        "No such mailbox.",
        "--b",
        "Content-Type: message/delivery-status",
        "",
        "Reporting-MTA: dns; mail.example",
        "",
        "Final-Recipient: rfc822; anna@vgregion.example",
        f"Action: {action}",
        f"Status: {status}",
        "",
        "--b",
        "Content-Type: text/rfc822-headers",
        "",
        "To: anna@vgregion.example",
        f"Message-ID: <{delivery}@e-tjanster.example>",
        *([] if sending is None else [f"X-Sending: {sending}"]),
        "",
        "--b--",
    ]
    return "\r\n".join(lines).encode()


def test_a_mail_that_comes_back_is_a_visible_failure(world: World, hook: Hook) -> None:
    """R-NOT-7: only one that has failed for good, and only with the secret."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.send()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    assert hook.post("/reports/mail", data=returned(str(delivery))) == 401
    assert hook.post("/reports/mail", secret=SECRET, data=returned(str(delivery), "delayed")) == 422
    assert hook.post("/reports/mail", secret=SECRET, data=b"Subject: Semester\r\n\r\nJag har semester.") == 422
    assert hook.post("/reports/mail", secret=SECRET, data=returned("nej")) == 422
    assert state(world)[0] == "sent"
    assert hook.post("/reports/mail", secret=SECRET, data=returned(str(uuid4()))) == 200
    assert hook.post("/reports/mail", secret=SECRET, data=returned(str(delivery))) == 200
    assert state(world) == ("failed", "undelivered", "undelivered")
    assert len(told_of_bounces(world)) == 1


@pytest.mark.parametrize("sending", [0, None])
def test_a_mail_that_comes_back_late_says_nothing_of_what_was_sent_again(
    world: World, hook: Hook, sending: int | None
) -> None:
    """R-NOT-7: nor does one that does not say which sending it is about, where there has been more than one."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.email.script = [Unknown("smtp_no_answer")]
    world.send()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    with world.database.transaction(Caller("operator")) as tx:
        listing.resend(tx, ResendDelivery(request_id=uuid4(), delivery=delivery))
    world.send()
    late = returned(str(delivery), sending=sending)
    assert hook.post("/reports/mail", secret=SECRET, data=late) == 200
    assert (state(world), told_of_bounces(world)) == (("sent", None, None), [])
    assert hook.post("/reports/mail", secret=SECRET, data=returned(str(delivery), sending=1)) == 200
    assert state(world) == ("failed", "undelivered", "undelivered")


def test_a_mail_that_comes_back_says_which_sending_it_was(world: World, hook: Hook) -> None:
    """R-NOT-7: one whose header is gone counts while there has been but one sending."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.send()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    assert hook.post("/reports/mail", secret=SECRET, data=returned(str(delivery), sending=None)) == 200
    assert state(world) == ("failed", "undelivered", "undelivered")


def test_a_mail_that_comes_back_for_another_reason_says_nothing_of_the_address(world: World, hook: Hook) -> None:
    """It is a visible failure (R-NOT-7), but nobody is told that their address is bad."""
    world.hear(cases.MESSAGE_SENT, world.message(world.resident("email"), "staff"))
    world.send()
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    assert hook.post("/reports/mail", secret=SECRET, data=returned(str(delivery), status="5.7.1")) == 200
    assert (state(world)[:2], told_of_bounces(world)) == (("failed", "undelivered"), [])


def test_a_mailbox_that_does_not_exist_is_told_to_its_owner_and_shown_to_the_clinic(world: World) -> None:
    """A clinic's own address is marked until its settings are saved again; a person's is identity's business."""
    admin = world.caller(Role.LOCAL_ADMIN)
    entered = SetClinicSettings(request_id=uuid4(), clinic=world.clinic, new_case_addresses=["borta@vgregion.example"])
    with world.database.transaction(admin) as tx:
        clinic_settings.set_settings(tx, entered)
    person = world.person(Role.CASE_RECEIVER)
    world.staff[person] = world.staff[person].model_copy(update={"version": 7})
    child = world.child(world.guardian("email"))
    world.email.refuse = NO_SUCH_MAILBOX
    world.hear(cases.CASE_STARTED, world.case_started())
    world.hear(cases.MESSAGE_SENT, world.message(child, "staff"))
    world.send()
    guardian: identity.GuardianContact = world.residents[child].guardians[0]  # type: ignore[index]
    assert sorted(
        (one["kind"], one["person"], one["contact_version"], one["child"]) for one in told_of_bounces(world)
    ) == [("resident", str(guardian.guardian), 0, str(child)), ("staff", person, 7, None)]
    with world.database.transaction(admin) as tx:
        read = clinic_settings.get_settings(tx, GetClinicSettings(clinic=world.clinic))
        assert read.unreachable == ["borta@vgregion.example"]
        assert clinic_settings.set_settings(tx, entered).unreachable == []
