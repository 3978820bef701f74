"""Personal identity numbers: personnummer, samordningsnummer and the reserve numbers of health care.

All are normalised to twelve characters, with century and without separator. The library `personnummer` judges
personnummer; it refuses samordningsnummer whose birth date is incomplete, and knows no reserve numbers: those are here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from personnummer import personnummer


class NotANumber(ValueError):
    """The text is no identity number. Carries no part of it."""

    def __init__(self) -> None:
        super().__init__("är inget giltigt person-, samordnings- eller reservnummer")


class NumberKind(StrEnum):
    """Whose series a number belongs to; the value is the OID that the population register knows it under."""

    PERSONNUMMER = "1.2.752.129.2.1.3.1"
    SAMORDNINGSNUMMER = "1.2.752.129.2.1.3.3"
    RESERVE_NATIONAL = "1.2.752.74.9.1"
    RESERVE_INERA = "1.2.752.129.2.1.3.2"
    RESERVE_STOCKHOLM = "1.2.752.97.3.1.3"
    RESERVE_VASTRA_GOTALAND = "1.2.752.113.11.0.2.1.1.1"
    RESERVE_VARMLAND = "1.2.752.74.9.2"


@dataclass(frozen=True)
class IdentityNumber:
    """A number in its twelve-character form, and its series."""

    number: str
    kind: NumberKind

    def __repr__(self) -> str:
        """Without the number: it must not come into a log or a traceback."""
        return f"IdentityNumber({self.kind.name})"


_SPACES_AND_DASHES = re.compile(r"[\s\u00a0\u00ad\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]")
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_LONG = re.compile(r"([0-9]{8})[-+]?([0-9A-Z]{4})", re.ASCII)
_SHORT = re.compile(r"([0-9]{6})([-+]?)([0-9]{4})", re.ASCII)
_VASTRA_GOTALAND = {"K": "5", "M": "7", "X": "8"}


def parse(text: str, today: date) -> IdentityNumber:
    """Reads a number in any form that people write: with or without century, hyphen and stray blanks.

    With ten digits it is someone who turns at most 99 this year, or 100 and more if there is a plus sign.
    Raises `NotANumber`.
    """
    bare = _DASHES.sub("-", _SPACES_AND_DASHES.sub("", text)).upper()
    if long := _LONG.fullmatch(bare):
        number = long[1] + long[2]
    elif short := _SHORT.fullmatch(bare):
        number = _with_century(short[1] + short[3], today, hundred=short[2] == "+")
    else:
        raise NotANumber
    kind = _kind(number)
    if kind is None:
        raise NotANumber
    return IdentityNumber(number, kind)


def _with_century(ten: str, today: date, hundred: bool) -> str:
    base = today.year - (100 if hundred else 0)
    return f"{base - (base - int(ten[:2])) % 100:04}{ten[2:]}"


def _kind(number: str) -> NumberKind | None:
    if number.isdigit():
        return _kind_of_digits(number)
    letter = number[8]
    if number[9:].isdigit() and letter in _VASTRA_GOTALAND:
        return NumberKind.RESERVE_VASTRA_GOTALAND if _is_vastra_gotaland(number) else None
    if number[9:].isdigit() and letter in "PTF":
        # The rule of the check digit is not published; the register decides whether there is such a person.
        return NumberKind.RESERVE_NATIONAL if _is_date(number[:8]) else None
    if number[8:10].isalpha() and number[10:].isdigit():
        return NumberKind.RESERVE_VARMLAND if _is_date(number[:8]) else None
    return None


def _kind_of_digits(number: str) -> NumberKind | None:
    if number.startswith("99"):
        right = int(number[2:6]) >= 1800 and luhn(number[4:11]) == number[11]
        return NumberKind.RESERVE_STOCKHOLM if right else None
    if luhn(number[2:11]) != number[11] or number[:2] < "18":
        return None
    month, day = int(number[4:6]), int(number[6:8])
    if month <= 12 and 60 <= day <= 91:
        # Not a date to be checked: Skatteverket gives out month 00, day 60 and also the 30th of February.
        return NumberKind.SAMORDNINGSNUMMER
    if 1 <= month <= 12 and 32 <= day <= 59:
        return NumberKind.RESERVE_INERA
    return NumberKind.PERSONNUMMER if personnummer.valid(number) else None


def _is_vastra_gotaland(number: str) -> bool:
    """`yyyymmddGggC`: G is K, M or X and counts as 5, 7 or 8; gg is 06 to 89."""
    check = luhn(number[2:8] + _VASTRA_GOTALAND[number[8]] + number[9:11])
    return "06" <= number[9:11] <= "89" and _is_date(number[:8]) and check == number[11]


def _is_date(text: str) -> bool:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])).year >= 1800
    except ValueError:
        return False


def luhn(digits: str) -> str:
    """The check digit for these digits."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 if value > 9 else value
    return str(-total % 10)
