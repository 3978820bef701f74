"""What a mail server's no says, and so what becomes of the mail (R-NOT-7)."""

from __future__ import annotations

import pytest

from services.notifications.channels.smtp_answers import About, about


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("recipient", "454 TLS not available due to temporary reason"),
        ("recipient", "454 4.7.0 Temporary authentication failure"),
        ("recipient", "500 Command unrecognized"),
        ("recipient", "502 Command not implemented"),
        ("recipient", "502 5.5.1 Unimplemented command"),
        ("recipient", "503 Bad sequence of commands"),
        ("recipient", "503 5.0.0 Need MAIL before RCPT"),
        ("recipient", "503 5.5.1 Error: need MAIL command"),
        ("recipient", "504 5.5.2 <host>: Helo command rejected: need fully-qualified hostname"),
        ("recipient", "530 5.7.0 Must issue a STARTTLS command first"),
        ("recipient", "534 5.7.9 Authentication mechanism is too weak"),
        ("recipient", "534 mechanism is too weak"),
        ("recipient", "550 5.5.1 Protocol error"),
        ("data", "503 5.5.1 Bad sequence of commands"),
        ("data", "554 5.5.1 Error: no valid recipients"),
        ("mail", "502 5.5.1 Error: command not recognized"),
        ("mail", "535 5.7.8 Authentication credentials invalid"),
        ("mail_from", "550 5.1.1 not you"),
        ("mail_from", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("recipient", "521 5.3.2 does not accept mail now"),
        ("mail", "451 4.7.1 try again later"),
    ],
)
def test_session_login_and_the_order_of_commands_are_our_affair_and_the_servers(step: str, answer: str) -> None:
    """R-NOT-7: no mail ends by them, and nobody's address is bad because of them."""
    assert said(step, answer) is About.US


@pytest.mark.parametrize(
    ("step", "answer", "blamed"),
    [
        ("mail", "554 5.7.1 Message rejected due to content restrictions", About.POLICY),
        ("mail", "550 5.7.26 unauthenticated mail is not accepted", About.POLICY),
        ("recipient", "550 5.7.1 Relaying denied", About.US),
        ("data", "554 5.7.1 Client host blocked", About.US),
        ("mail", "554 no", About.MAIL),
        ("mail", "552 5.3.4 too big", About.MAIL),
        ("mail", "550 5.1.1 no such mailbox", About.NOBODY),
        ("recipient", "556 5.1.10 null MX", About.NOBODY),
        ("recipient", "556 no mail here", About.NOBODY),
        ("recipient", "550 5.5.0 Requested action not taken: mailbox unavailable", About.MAIL),
        ("recipient", "450 4.1.1 not now", About.MAIL),
        ("recipient", "452 4.2.2 mailbox full", About.MAIL),
        ("recipient", "452 too many", About.US),
        ("recipient", "501 5.1.3 bad address syntax", About.NOBODY),
        ("recipient", "550 5.1.1no", About.NOBODY),
        ("recipient", "554 text 5.7.1", About.MAIL),
    ],
)
def test_what_else_is_said_is_told_apart(step: str, answer: str, blamed: About) -> None:
    assert said(step, answer) is blamed


def said(step: str, answer: str) -> About:
    code, text = answer.split(" ", 1)
    return about(step, int(code), text.encode())
