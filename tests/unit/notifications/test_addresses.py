"""Addresses where they enter: what is one, and which are the same."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from services.notifications import addresses
from services.notifications.addresses import NotAnAddress
from services.notifications.settings import SenderSettings
from shared.contracts.notifications import Channel
from shared.operations.settings import SettingsError, read

KEY = b"k" * 32


@pytest.mark.parametrize(
    ("entered", "kept"),
    [
        ("mottagning@VGregion.example", "mottagning@vgregion.example"),
        ("  mottagning@vgregion.example ", "mottagning@vgregion.example"),
        ("post@räksmörgås.se", "post@xn--rksmrgs-5wao1o.se"),
    ],
)
def test_a_mail_address_is_kept_in_its_normal_form(entered: str, kept: str) -> None:
    assert addresses.email(entered) == kept


@pytest.mark.parametrize(
    "entered",
    [
        "",
        "mottagning",
        "mottagning@",
        "a@b@example.se",
        "a@example.se\r\nBcc: b@example.se",
        "a@example.se, b@example.se",
        "Anna <anna@example.se>",
        "åsa@example.se",
        "a@localhost",
        "a" * 300 + "@example.se",
    ],
)
def test_what_is_no_mail_address_is_refused(entered: str) -> None:
    """Header injection among others."""
    with pytest.raises(NotAnAddress):
        addresses.email(entered)


@pytest.mark.parametrize("entered", ["070-174 06 05", "+46 70 174 06 05", "+46 (0)70-174 06 05", "0046701740605"])
def test_a_number_is_kept_with_its_country(entered: str) -> None:
    assert addresses.mobile(entered) == "+46701740605"


@pytest.mark.parametrize(
    "entered", ["", "112", "070-174", "08-123 456", "0701740605a", "+4670174060500000", "0701740605\n1", "1" * 60]
)
def test_what_is_no_number_is_refused(entered: str) -> None:
    with pytest.raises(NotAnAddress):
        addresses.mobile(entered)


def test_addresses_are_compared_by_keyed_hash() -> None:
    """R-NOT-6: whatever the case of letters; without the key nothing can be looked up."""
    one = addresses.address_hash(KEY, Channel.EMAIL, "Anna@vgregion.example")
    assert one == addresses.address_hash(KEY, Channel.EMAIL, "anna@vgregion.example")
    assert one != addresses.address_hash(KEY, Channel.SMS, "anna@vgregion.example")
    assert one != addresses.address_hash(b"o" * 32, Channel.EMAIL, "anna@vgregion.example")


def test_a_domain_in_letters_is_the_same_as_in_ascii() -> None:
    """R-NOT-6: what a person has from HSA is written as it came."""
    assert addresses.compared("Post@RÄKSMÖRGÅS.se") == addresses.compared("post@xn--rksmrgs-5wao1o.se")
    assert addresses.compared("ingen") != addresses.compared("post@xn--rksmrgs-5wao1o.se")


def test_faulty_settings_of_the_sender_are_told_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tmp_path / "short"
    short.write_text(base64.b64encode(b"x").decode())
    for name, value in {
        "ADDRESS_KEY_FILE": str(short),
        "SMTP_PORT": "0",
        "SMTP_TLS": "perhaps",
        "MAIL_FROM": "nobody",
        "SMS_URL": "ftp://x",
        "SMS_SENDER": "a sender with a long name",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read(SenderSettings)
    told = str(raised.value)
    for name in ("ADDRESS_KEY_FILE", "SMTP_HOST", "SMTP_PORT", "SMTP_TLS", "MAIL_FROM", "SMS_URL", "SMS_SENDER"):
        assert f"  {name} " in told
    assert "nobody" not in told
