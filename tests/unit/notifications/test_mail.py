"""The mail as it goes over the wire."""

from __future__ import annotations

from email import message_from_bytes, policy

from hypothesis import given
from hypothesis import strategies as st

from services.notifications.channels import mail
from services.notifications.providers import MailServer
from services.notifications.rendering import Words

WORDS = ["Ett", "ärende", "till", "–", "Barn-", "och", "ungdomsmottagningen", "på", "1177", "i", "=?utf-8?q?x?="]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join))
def test_a_subject_arrives_as_it_was_written_however_long(subject: str) -> None:
    words = Words(subject=subject, text="Text", html="<p>Text</p>")
    server = MailServer(host="127.0.0.1", port=25, sender="ingen@example.org", sender_name="1177")
    sent = mail._rest(server, words, False)
    assert all(len(line) <= 78 for line in sent.split(b"\r\n\r\n")[0].split(b"\r\n"))
    assert str(message_from_bytes(sent, policy=policy.default)["Subject"]) == subject
