"""Every text that can leave, rendered: word for word where the rules say so, and nothing in any that gives away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.notifications import rendering
from services.notifications.channels import gsm7
from services.notifications.rendering import words
from shared.contracts.notifications import Channel, DeliveryKind

EXACT = "Du har ett meddelande i e-tjänsterna på 1177. Meddelandet finns i inkorgen när du loggat in på 1177."
CLINIC = "Närhälsan Björkskogens vårdcentral"

ALL = [
    (kind, channel)
    for kind in DeliveryKind
    for channel in Channel
    if not (kind.startswith("clinic_") and channel is Channel.SMS)  # a clinic enters mail addresses only
]
STAFF = [(kind, channel) for kind, channel in ALL if kind is not DeliveryKind.INBOX]


def everything(kind: DeliveryKind, channel: Channel, clinic: str = CLINIC) -> str:
    said = words(kind, channel, clinic)
    return "\n".join((said.subject, said.text, said.html))


def test_residents_are_told_exactly_this_by_sms() -> None:
    """R-NOT-3."""
    said = words(DeliveryKind.INBOX, Channel.SMS, CLINIC)
    assert said == rendering.Words(text=EXACT)
    assert gsm7.parts(said.text) == 1


def test_residents_are_told_exactly_this_by_mail() -> None:
    """R-NOT-3: the subject has only words of the text, the HTML part only the text."""
    said = words(DeliveryKind.INBOX, Channel.EMAIL, CLINIC)
    assert said.text == EXACT
    assert EXACT.startswith(said.subject)
    body = said.html.partition("<body")[2].partition(">")[2].partition("</body>")[0]
    assert body.strip() == f"<p>{EXACT}</p>"
    assert re.search(r"<title>(.*)</title>", said.html)[1] == said.subject  # type: ignore[index]


@pytest.mark.parametrize("channel", list(Channel))
def test_residents_notifications_never_name_the_clinic(channel: Channel) -> None:
    """R-NOT-3."""
    assert CLINIC not in everything(DeliveryKind.INBOX, channel)
    assert everything(DeliveryKind.INBOX, channel) == everything(DeliveryKind.INBOX, channel, "Annan mottagning")


@pytest.mark.parametrize(("kind", "channel"), STAFF)
def test_staff_texts_name_the_clinic_and_have_no_room_for_more(kind: DeliveryKind, channel: Channel) -> None:
    """R-NOT-3, R-SYS-3: the clinic's name is the only thing that differs from one notification to another."""
    assert CLINIC in everything(kind, channel)
    assert everything(kind, channel) == everything(kind, channel, "¤").replace("¤", CLINIC)


@pytest.mark.parametrize("file", sorted((Path(rendering.__file__).parent / "texts").iterdir()), ids=lambda f: f.name)
def test_no_template_asks_for_anything_but_the_clinic(file: Path) -> None:
    """R-SYS-3: a verification code, which is no notification, for the code alone (R-NOT-3, R-NOT-9)."""
    asked = set(re.findall(r"\$\{?(\w+)", file.read_text(encoding="utf-8")))
    others = {"mail.html": {"subject", "paragraphs"}, "code.mail.txt": {"code"}, "code.sms.txt": {"code"}}
    assert asked <= others.get(file.name, {"clinic"})


def test_a_code_fits_one_sms() -> None:
    """R-NOT-9."""
    assert gsm7.parts(rendering.code_words(Channel.SMS, "123456").text) == 1


@pytest.mark.parametrize(("kind", "channel"), ALL)
def test_texts_are_whole(kind: DeliveryKind, channel: Channel) -> None:
    said = words(kind, channel, CLINIC)
    assert said.text == said.text.strip() != ""
    assert "$" not in everything(kind, channel)
    assert bool(said.subject) == bool(said.html) == (channel is Channel.EMAIL)


@pytest.mark.parametrize("kind", [kind for kind, channel in STAFF if channel is Channel.SMS])
def test_staff_sms_keep_to_the_sms_alphabet(kind: DeliveryKind) -> None:
    said = words(kind, Channel.SMS, "Vårdcentralen \u201cÖster\u201d \u2013 Skövde")
    assert gsm7.is_gsm7(said.text)
    assert gsm7.parts(said.text) == 1


def test_a_name_can_not_break_out_of_its_place() -> None:
    """Header injection and markup in a clinic's name."""
    evil = "Vård\r\nBcc: alla@example.se\u2028<script>x</script>\x00" + "å" * 500
    said = words(DeliveryKind.NEW_CASE, Channel.EMAIL, evil)
    assert "\n" not in said.subject
    assert "\r" not in said.subject
    assert "<script>" not in said.html
    assert len(said.subject) < 200


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("å" * 160, 1),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("ł" * 70, 1),
        ("ł" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
    ],
)
def test_parts_of_an_sms(text: str, parts: int) -> None:
    assert gsm7.parts(text) == parts
