"""Mail over real SMTP conversations: for each way a server can fail, what may be tried again and what may not."""

from __future__ import annotations

import email
import email.policy
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.notifications.channels.mail import MailChannel, compose
from services.notifications.channels.outcome import Accepted, Letter, NotAccepted, Outcome, Unknown
from services.notifications.providers import MailServer, Provider
from services.notifications.rendering import Words, words
from services.notifications.rules import PAUSES, Failure
from services.notifications.sending import Sender
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import Channel, DeliveryKind
from tests.integration.notifications_support import LEASE, World, tell_resident
from tests.integration.scripted_smtp import DRIPS, HANG_UP, PIPELINES, SILENCE, Scripted, serving

DELIVERY = "5b9e3a0e-6f0e-4a52-9d0f-3c1f9f0e7a51"
TO = "anna@vgregion.example"
WORDS = words(DeliveryKind.NEW_CASE, Channel.EMAIL, "Björkskogens vårdcentral")


def mail_server(port: int) -> MailServer:
    return MailServer(
        host="127.0.0.1",
        port=port,
        tls="none",
        ca_file=None,
        user=None,
        password_file=None,
        timeout=1.0,
        sender="no-reply@e-tjanster.example",
        sender_name="E-tjänsterna på 1177",
    )


def content(raw: bytes, kind: str) -> str:
    """The part of the mail of this kind, as it was before it was sent."""
    part = email.message_from_bytes(raw, policy=email.policy.default).get_body((kind,))  # type: ignore[attr-defined]
    return "\n".join(part.get_content().splitlines())


def attempt(channel: MailChannel, to: str = TO, said: Words = WORDS) -> tuple[str, Outcome]:
    """What happened, and in which half: before the attempt is recorded, or after."""
    refused = channel.prepare(Letter(DELIVERY, f"{DELIVERY}.0", to, said))
    if refused is not None:
        return "before", refused
    return "after", channel.send()


def one_attempt(**answers: str) -> tuple[str, Outcome, Scripted]:
    names = {"greeting": "", "dot": ".", "MAIL": "MAIL"}
    with serving(Scripted({names.get(step, step): answer for step, answer in answers.items()})) as script:
        channel = MailChannel(mail_server(script.port))
        half, outcome = attempt(channel)
        channel.close()
        return half, outcome, script


@pytest.mark.parametrize("hello", ["250 hello", PIPELINES], ids=["one by one", "pipelining"])
def test_a_mail_arrives_whole(hello: str) -> None:
    _, outcome, script = one_attempt(EHLO=hello)
    assert outcome == Accepted(None)
    [raw] = script.mails
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Subject"] == WORDS.subject
    assert b"=?utf-8?" in raw
    assert all(byte < 128 for byte in raw)
    assert mail["From"].addresses[0].display_name == "E-tjänsterna på 1177"
    assert mail["To"] == TO
    assert mail["Message-ID"] == f"<{DELIVERY}@e-tjanster.example>"
    assert mail["X-Sending"] == "0"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "List-Unsubscribe" not in mail
    assert content(raw, "plain") == WORDS.text
    assert content(raw, "html") == WORDS.html


def test_staff_can_change_what_they_are_told_of_and_residents_mails_say_nothing_more() -> None:
    """R-NOT-3: List-Unsubscribe is for staff only."""
    server = replace(mail_server(25), settings_page="https://personal.example/installningar")
    letter = Letter(DELIVERY, f"{DELIVERY}.0", TO, WORDS)
    to_staff = compose(server, replace(letter, to_staff=True))
    assert b"\r\nList-Unsubscribe: <https://personal.example/installningar>\r\n" in to_staff
    assert b"List-Unsubscribe" not in compose(server, letter)
    assert b"List-Unsubscribe" not in compose(mail_server(25), replace(letter, to_staff=True))


@pytest.mark.parametrize("address", ["a@x.se\r\nBcc: b@x.se", "a@x.se\x00", "å@x.se"])
def test_an_address_can_not_bring_another_header(address: str) -> None:
    """Header injection: refused where it enters, and once more here."""
    with pytest.raises(ValueError):
        compose(mail_server(25), Letter(DELIVERY, f"{DELIVERY}.0", address, WORDS))


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("250 2.0.0 Ok: queued as 4XyZ12abCdz9", "4XyZ12abCdz9"),
        ("250 2.0.0 Ok: queued as 9F3A4B217C", "9F3A4B217C"),
        ("250 OK id=1tVk2p-0003Zx-Ab", "1tVk2p-0003Zx-Ab"),
        ("250 2.6.0 <5b9e3a0e@x.example> [InternalId=77, Hostname=mx] Queued mail for delivery", None),
        ("250 taken for anna@vgregion.example", None),
        ("250 queued as anna@vgregion.example", None),
        ("250 queued as anna.andersson", None),
        ("250 queued as 19121212-1212", None),
        ("250 id=191212121212", None),
        ("250 queued as " + "A1" * 60, None),
        ("250 ok", None),
    ],
)
def test_r_sys_3_only_a_queue_id_is_kept_of_what_the_server_says(answer: str, reference: str | None) -> None:
    """R-SYS-3: a server may say anything on accepting, whom the mail is for too."""
    assert one_attempt(dot=answer)[1] == Accepted(reference)


def test_lines_that_begin_with_a_dot_arrive_as_they_are() -> None:
    with serving(Scripted()) as script:
        channel = MailChannel(mail_server(script.port))
        said = Words(text=".\n..två\nslut.", subject=".", html="<p>.</p>")
        assert isinstance(attempt(channel, said=said)[1], Accepted)
        channel.close()
    assert content(script.mails[0], "plain") == said.text


@pytest.mark.parametrize(
    ("answer", "about_the_address"),
    [
        ("550 5.1.1 no such mailbox", True),
        ("550 5.1.10 null MX", True),
        ("553 5.1.3 bad syntax", True),
        ("550 no such mailbox", True),
        ("551 not local", True),
        ("553 no such name", True),
        ("550 5.7.1 blocked by policy", False),
        ("550 5.7.23 SPF", False),
        ("553 5.7.1 not your sender", False),
        ("550 5.1.8 sender's domain", False),
        ("550 5.2.2 mailbox full", False),
        ("550 5.4.1 relay refused", False),
        ("554 5.1.1 no such mailbox", True),
        ("554 no", False),
        ("450 4.1.1 not now", False),
    ],
)
def test_only_a_refusal_of_the_mailbox_itself_speaks_of_the_address(answer: str, about_the_address: bool) -> None:
    """A server whose policy refuses us refuses everybody: nobody's address is bad because of that."""
    _, outcome, _ = one_attempt(RCPT=answer)
    assert isinstance(outcome, NotAccepted)
    assert outcome.about_the_address is about_the_address


def test_every_attempt_has_the_same_message_id_and_the_connection_is_kept() -> None:
    """R-NOT-7."""
    with serving(Scripted()) as script:
        channel = MailChannel(mail_server(script.port))
        for _ in range(3):
            assert isinstance(attempt(channel)[1], Accepted)
        channel.close()
    ids = {email.message_from_bytes(raw)["Message-ID"] for raw in script.mails}
    assert (len(ids), len(script.mails), script.connections) == (1, 3, 1)


@pytest.mark.parametrize(
    ("answers", "reason", "permanent"),
    [
        ({"greeting": "554 no"}, "smtp_greeting_554", False),
        ({"greeting": "421 busy"}, "smtp_greeting_421", False),
        ({"greeting": HANG_UP}, "smtp_connection", False),
        ({"greeting": SILENCE}, "smtp_timeout", False),
        ({"MAIL": "451 later"}, "smtp_mail_from_451", False),
        ({"MAIL": "550 not you"}, "smtp_mail_from_550", False),
        ({"MAIL": "421 busy"}, "smtp_mail_from_421", False),
        ({"MAIL": HANG_UP}, "smtp_connection", False),
        ({"RCPT": "450 later"}, "smtp_recipient_450", False),
        ({"RCPT": "550 no such mailbox"}, "smtp_recipient_550", True),
        ({"RCPT": HANG_UP}, "smtp_connection", False),
        ({"RCPT": SILENCE}, "smtp_timeout", False),
        ({"RCPT": "~~~ what"}, "smtp_unintelligible_answer", False),
        ({"RCPT": "450 later", "DATA": HANG_UP}, "smtp_recipient_450", False),
        ({"RCPT": "550 no such mailbox", "DATA": "503 no recipient"}, "smtp_recipient_550", True),
        ({"DATA": "451 later"}, "smtp_data_451", False),
        ({"DATA": "554 no"}, "smtp_data_554", True),
        ({"DATA": HANG_UP}, "smtp_connection", False),
        ({"DATA": SILENCE}, "smtp_timeout", False),
        ({"greeting": DRIPS}, "smtp_timeout", False),
        ({"RCPT": DRIPS}, "smtp_timeout", False),
    ],
)
@pytest.mark.parametrize("hello", ["250 hello", PIPELINES], ids=["one by one", "pipelining"])
def test_what_fails_before_the_attempt_is_recorded(
    answers: dict[str, str], reason: str, permanent: bool, hello: str
) -> None:
    """R-NOT-7: nothing was handed over; only what is about this mail can be permanent."""
    began = time.monotonic()
    half, outcome, script = one_attempt(EHLO=hello, **answers)
    assert time.monotonic() - began < 3
    assert (half, script.mails) == ("before", [])
    assert isinstance(outcome, NotAccepted)
    assert (outcome.reason, outcome.permanent) == (reason, permanent)
    assert outcome.provider_down is not reason.startswith(("smtp_recipient", "smtp_data"))


@pytest.mark.parametrize(
    ("answers", "reason", "permanent"),
    [
        ({"dot": "451 later"}, "smtp_mail_451", False),
        ({"dot": "552 too large"}, "smtp_mail_552", True),
        ({"dot": "421 closing"}, "smtp_mail_421", False),
    ],
)
def test_what_was_certainly_not_accepted_may_be_tried_again(
    answers: dict[str, str], reason: str, permanent: bool
) -> None:
    """R-NOT-7: a no in answer to the final dot."""
    half, outcome, _ = one_attempt(**answers)
    assert half == "after"
    assert isinstance(outcome, NotAccepted)
    assert (outcome.reason, outcome.permanent) == (reason, permanent)


@pytest.mark.parametrize(
    "answers",
    [
        {"RCPT": "554 5.7.1 Client host blocked"},
        {"RCPT": "550 5.7.1 Relaying denied"},
        {"RCPT": "530 5.7.0 Authentication required"},
        {"RCPT": "530 Authentication required"},
        {"RCPT": "450 4.7.1 too much from your host"},
        {"RCPT": "452 4.3.1 Insufficient system storage"},
        {"RCPT": "452 Insufficient system storage"},
        {"dot": "451 4.3.0 queue file write error"},
        {"dot": "554 5.7.1 your address is on a list"},
    ],
)
def test_a_server_that_refuses_us_or_is_full_is_down_and_the_mail_waits(answers: dict[str, str]) -> None:
    """R-NOT-7: no other mail would fare better there, and none fails for good because of it."""
    outcome = one_attempt(**answers)[1]
    assert isinstance(outcome, NotAccepted)
    assert (outcome.permanent, outcome.provider_down, outcome.about_the_address) == (False, True, False)


@pytest.mark.parametrize("step", ["RCPT", "DATA", "."])
@pytest.mark.parametrize(
    "answer", ["454 no TLS now", "502 not implemented", "503 5.5.1 bad sequence", "534 5.7.9 too weak", "554 5.5.1 no"]
)
def test_what_is_said_of_the_conversation_ends_that_and_no_mail(step: str, answer: str) -> None:
    """R-NOT-7: it counts against the provider; the next mail begins a new conversation."""
    with serving(Scripted(once={step: answer})) as script:
        channel = MailChannel(mail_server(script.port))
        outcome = attempt(channel)[1]
        assert isinstance(outcome, NotAccepted)
        assert (outcome.failure, outcome.about_the_address) == (Failure.PROVIDER_DOWN, False)
        assert isinstance(attempt(channel)[1], Accepted)
        channel.close()
    assert script.connections == 2


def test_a_policy_that_refuses_what_it_has_seen_is_a_failure_that_people_see_soon() -> None:
    """R-NOT-7: asked again for about an hour, by the second server too, and not through the night (RFC 5321, 4.2.1)."""
    outcome = one_attempt(dot="554 5.7.1 Message rejected due to content restrictions")[1]
    assert isinstance(outcome, NotAccepted)
    assert (outcome.failure, outcome.provider_down) == (Failure.REFUSED_BY_POLICY, True)
    waited = sum(PAUSES[outcome.failure], timedelta())
    assert timedelta(hours=1) <= waited <= timedelta(hours=2)


@pytest.mark.parametrize("answer", ["552 5.3.4 too big", "452 4.2.2 mailbox full", "550 5.2.1 disabled"])
def test_what_is_said_of_one_mail_or_mailbox_says_nothing_of_the_server(answer: str) -> None:
    outcome = one_attempt(RCPT=answer)[1]
    assert isinstance(outcome, NotAccepted)
    assert (outcome.permanent, outcome.provider_down) == (answer.startswith("5"), False)


def test_the_second_mail_server_takes_what_the_first_refuses_us(notifications_world: World) -> None:
    """R-NOT-7: in the same attempt."""
    world = notifications_world
    tell_resident(world, "email")
    refusal = Scripted({"RCPT": "554 5.7.1 Client host blocked"})
    with serving(refusal) as first, serving(Scripted()) as second:
        servers = [Provider(str(one.port), partial(MailChannel, mail_server(one.port))) for one in (first, second)]
        sender = Sender(
            world.database.transaction, world.ask, {Channel.EMAIL: servers, Channel.SMS: []}, batch=5, lease=LEASE
        )
        assert sender.round() == 1
        sender.close()
        assert (len(first.mails), len(second.mails)) == (0, 1)
    assert world.states() == [("resident", "sent", None)]


@pytest.mark.parametrize("fault", [{"sender_name": "a\nb"}, {"sender": ""}, {"settings_page": "https://x\n"}])
def test_r_not_7_a_mail_that_can_not_be_put_together_was_not_sent(
    notifications_world: World, fault: dict[str, Any]
) -> None:
    """R-NOT-7: no mail is uncertain for it, the server is told nothing of any, and the second one takes them all."""
    world = notifications_world
    people = [world.person(Role.CASE_RECEIVER) for _ in range(5)]
    world.hear(cases.CASE_STARTED, world.case_started())
    with serving(Scripted()) as first, serving(Scripted()) as second:
        servers = [replace(mail_server(first.port), **fault), mail_server(second.port)]
        providers = [Provider(str(one.port), partial(MailChannel, one)) for one in servers]
        sender = Sender(
            world.database.transaction, world.ask, {Channel.EMAIL: providers, Channel.SMS: []}, batch=5, lease=LEASE
        )
        sender.round()
        sender.close()
        assert (first.steps, len(second.mails)) == ([], len(people))
    assert world.states() == [("staff", "sent", None)] * len(people)
    assert providers[0].circuit.opens_in() > 0


@pytest.mark.parametrize(
    ("dot", "reason"),
    [
        (HANG_UP, "smtp_connection_lost"),
        (SILENCE, "smtp_no_answer"),
        (DRIPS, "smtp_no_answer"),
        ("\x07\x1b[2J ~~~", "smtp_unintelligible_answer"),
        ("354 what", "smtp_unintelligible_answer"),
    ],
)
def test_no_answer_to_the_final_dot_is_unknown(dot: str, reason: str) -> None:
    """R-NOT-7: the server has the whole mail and may have accepted it."""
    half, outcome, script = one_attempt(dot=dot)
    assert (half, outcome) == ("after", Unknown(reason))
    assert len(script.mails) == 1


def test_a_connection_that_breaks_in_the_middle_of_the_mail_is_safe_to_try_again() -> None:
    """R-NOT-7: without the final dot there is no mail; a body too large for the buffers makes the break show early."""
    with serving(Scripted({"body": HANG_UP})) as script:
        channel = MailChannel(mail_server(script.port))
        half, outcome = attempt(channel, said=replace(WORDS, text="å" * 20_000_000))
    assert half == "after"
    assert outcome == NotAccepted("smtp_connection", provider_down=True)
    assert script.mails == []


@pytest.mark.parametrize("hello", ["250 hello", PIPELINES], ids=["one by one", "pipelining"])
def test_after_a_refused_recipient_the_next_one_is_served_on_the_same_connection(hello: str) -> None:
    with serving(Scripted({"EHLO": hello, "RCPT": "550 no", "DATA": "503 no recipient"})) as script:
        channel = MailChannel(mail_server(script.port))
        assert attempt(channel)[0] == "before"
        del script.answers["RCPT"], script.answers["DATA"]
        assert isinstance(attempt(channel)[1], Accepted)
        channel.close()
    assert script.connections == 1
    assert script.steps.count("RSET") == 1


NEXT = "bo@vgregion.example"


def two_in_a_row(channel: MailChannel) -> tuple[Outcome, tuple[str, Outcome]]:
    assert channel.prepare(Letter(DELIVERY, f"{DELIVERY}.0", TO, WORDS, followed_by=NEXT)) is None
    return channel.send(), attempt(channel, to=NEXT)


@pytest.mark.parametrize("hello", ["250 hello", PIPELINES], ids=["one by one", "pipelining"])
@pytest.mark.parametrize(
    ("dot", "outcome", "connections"),
    [
        ("250 taken", Accepted(None), 1),
        ("451 later", NotAccepted("smtp_mail_451"), 1),
        ("421 closing", NotAccepted("smtp_mail_421", provider_down=True), 2),
        (HANG_UP, Unknown("smtp_connection_lost"), 2),
        ("~~~", Unknown("smtp_unintelligible_answer"), 2),
    ],
)
def test_what_comes_of_a_mail_is_not_mixed_up_with_the_next(
    dot: str, outcome: Outcome, connections: int, hello: str
) -> None:
    """R-NOT-7: also where the next is begun together with the dot of the last."""
    with serving(Scripted({"EHLO": hello}, once={".": dot})) as script:
        channel = MailChannel(mail_server(script.port))
        assert two_in_a_row(channel) == (outcome, ("after", Accepted(None)))
        channel.close()
    assert script.connections == connections
    assert [f"To: {to}".encode() in raw for to, raw in zip((TO, NEXT), script.mails, strict=True)] == [True, True]


@pytest.mark.parametrize("ends", [MailChannel.close, lambda channel: attempt(channel, to="carl@vgregion.example")])
def test_what_was_begun_with_the_last_and_is_not_sent_is_no_mail(ends: Callable[[MailChannel], object]) -> None:
    """R-NOT-7: the sender stops, or sends another."""
    with serving(Scripted({"EHLO": PIPELINES})) as script:
        channel = MailChannel(mail_server(script.port))
        assert channel.prepare(Letter(DELIVERY, f"{DELIVERY}.0", TO, WORDS, followed_by=NEXT)) is None
        channel.send()
        ends(channel)
        channel.close()
    assert not any(f"To: {NEXT}".encode() in raw for raw in script.mails)
    assert script.steps.count("MAIL") > 1


def test_a_server_that_waits_for_a_mail_to_nobody_gets_none() -> None:
    """What was said at once with a refused recipient is not the beginning of a mail."""
    with serving(Scripted({"EHLO": PIPELINES, "RCPT": "550 no"})) as script:
        channel = MailChannel(mail_server(script.port))
        assert attempt(channel) == ("before", NotAccepted("smtp_recipient_550", permanent=True, about_the_address=True))
        del script.answers["RCPT"]
        assert isinstance(attempt(channel)[1], Accepted)
        channel.close()
    assert len(script.mails) == 1


def test_what_was_prepared_and_is_not_sent_after_all_is_no_mail() -> None:
    """R-NOT-7: it is in other hands; the next one is sent as itself."""
    with serving(Scripted()) as script:
        channel = MailChannel(mail_server(script.port))
        assert channel.prepare(Letter(DELIVERY, f"{DELIVERY}.0", "other@vgregion.example", WORDS)) is None
        channel.abandon()
        assert isinstance(attempt(channel)[1], Accepted)
        channel.close()
    [raw] = script.mails
    assert f"To: {TO}".encode() in raw


def test_a_kept_connection_that_the_server_has_closed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Scripted({"NOOP": HANG_UP})) as script:
        channel = MailChannel(mail_server(script.port))
        assert isinstance(attempt(channel)[1], Accepted)
        monkeypatch.setattr("services.notifications.channels.mail._IDLE_TOO_LONG", -1.0)
        assert isinstance(attempt(channel)[1], Accepted)
        channel.close()
    assert script.connections == 2


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert attempt(MailChannel(mail_server(port))) == ("before", NotAccepted("smtp_connection", provider_down=True))


def test_a_server_without_tls_gets_nothing_where_tls_is_demanded(tmp_path: Path) -> None:
    """R-SYS-2: no falling back to plain text, and no password over it."""
    password = tmp_path / "password"
    password.write_text("hemligt\n")
    with serving(Scripted()) as script:
        server = replace(mail_server(script.port), tls="starttls", user="vardarende", password_file=password)
        outcome = attempt(MailChannel(server))
    assert outcome == ("before", NotAccepted("smtp_not_offered", provider_down=True))
    assert "AUTH" not in script.steps
    assert script.mails == []
