"""Addresses: checked where they enter, hashed with a key to be compared, sealed to be kept."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from shared.contracts.notifications import Channel
from shared.security.sealing import keyed_hash

LONGEST_NUMBER = 40
_MOBILE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
_NUMBER = re.compile(r"[+0-9 ()/.\u00a0\u2010-\u2013-]+")


class NotAnAddress(Exception):
    """It is no address of that kind. Says nothing of the value."""


def email(value: str) -> str:
    """The mail address in the form in which mail servers want it; blanks around it do not matter."""
    try:
        found = validate_email(value.strip(), check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise NotAnAddress from None
    return found.ascii_email or found.normalized


def compared(value: str) -> str:
    """The same for equal mail addresses, however they are written: a domain in letters is the same as in `xn--`."""
    try:
        return email(value).casefold()
    except NotAnAddress:
        return value.casefold()


def mobile(value: str) -> str:
    """The number as `+46701234567`; without a country code it is Swedish."""
    if len(value) > LONGEST_NUMBER or not _NUMBER.fullmatch(value):
        raise NotAnAddress
    try:
        number = phonenumbers.parse(value, "SE")
    except phonenumbers.NumberParseException:
        raise NotAnAddress from None
    if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in _MOBILE:
        raise NotAnAddress
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def of_channel(channel: Channel, value: str) -> str:
    """The address in its normal form. Raises `NotAnAddress`."""
    return email(value) if channel is Channel.EMAIL else mobile(value)


def address_hash(key: bytes, channel: Channel, address: str) -> bytes:
    """For telling that two addresses are the same without keeping them. `address` is in normal form.

    Letter case is disregarded also before the @: no mail server in use tells `Anna@` from `anna@`.
    """
    return keyed_hash(key, f"{channel}:{address.casefold()}")


def mail_hashes(key: bytes, written: Iterable[str]) -> dict[str, bytes]:
    """The hash of each mail address, as it is written; what is none has none."""
    hashes: dict[str, bytes] = {}
    for one in written:
        with suppress(NotAnAddress):
            hashes[one] = address_hash(key, Channel.EMAIL, email(one))
    return hashes


@lru_cache(maxsize=8)
def read_key(file: Path) -> bytes:
    """The key of the hashes. Raises ValueError if the file does not hold 32 bytes in base64."""
    try:
        key = base64.b64decode(file.read_text().strip(), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise ValueError(f"the address key can't be read: {type(error).__name__}") from None
    if len(key) != 32:
        raise ValueError("the address key is not 32 bytes")
    return key
