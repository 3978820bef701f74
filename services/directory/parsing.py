"""Values of KiV and HSA to types. Every function answers with the value or with the reason why it is none.

Nothing here raises, whatever comes: what can't be parsed is kept as it came by the caller, and listed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from shared.contracts.base import normalise_hsa_id
from shared.operations.clock import SWEDEN


@dataclass(frozen=True, slots=True)
class Unparsed:
    """Why a value could not be parsed: a stable snake_case word."""

    reason: str


# --- text -----------------------------------------------------------------------------------------------------------

_DEEPEST = 50
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")
_LINE_ENDS = re.compile(r"\r\n?|\x85|\u2028|\u2029")


def storable(value: Any) -> Any:
    """The same JSON value without characters that PostgreSQL can't keep; they become U+FFFD."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def too_deep(value: Any) -> bool:
    """Whether it is nested deeper than any directory does, so that no code that goes into it runs out of stack."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, dict | list | tuple)
        ]
        if not level:
            return False
    return True


def line(value: str) -> str:
    """One line of text: composed form, every run of blanks and line ends one blank."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", value)).strip()


def prose(value: str) -> str:
    """Text of several lines: line ends as newlines, none empty at the ends. `$` stands for a line end."""
    lines = _LINE_ENDS.sub("\n", unicodedata.normalize("NFC", value).replace("$", "\n")).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_BLANKS.sub(" ", one).strip() for one in lines)).strip()


def folded(value: str) -> str:
    """For searching: without letter case, accents, needless blanks and what nobody sees, so that "vardcentral" finds
    "Vårdcentral"."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", value).casefold())
    bare = "".join(one for one in plain if not unicodedata.combining(one) and unicodedata.category(one) != "Cf")
    return _BLANKS.sub(" ", bare.replace("ø", "o").replace("æ", "ae").replace("đ", "d")).strip()


def values(raw: Any) -> tuple[list[str], int]:
    """An attribute's values as texts, and how many were none. A single value may stand without a list."""
    items = raw if isinstance(raw, list) else [raw]
    texts = [item if isinstance(item, str) else str(item) for item in items if type(item) in (str, int)]
    return [storable(text) for text in texts], len(items) - len(texts)


# --- identities and codes -------------------------------------------------------------------------------------------


def hsa_id(value: str) -> str | Unparsed:
    """Normalised as R-ID-7 says."""
    try:
        return str(normalise_hsa_id(value))
    except ValueError:
        return Unparsed("not_an_hsa_id")


def code(value: str, digits: int) -> str | Unparsed:
    """A code of exactly so many digits, such as the county's."""
    bare = value.strip()
    return bare if len(bare) == digits and bare.isascii() and bare.isdigit() else Unparsed("not_a_code")


# --- times ----------------------------------------------------------------------------------------------------------

_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?(?:[.,]\d+)?)?(Z?)", re.ASCII)


def instant(value: str) -> datetime | Unparsed:
    """`yyyyMMddHHmmssZ` in UTC; without Z, or a date alone, the time is Swedish."""
    found = _STAMP.fullmatch(value.strip())
    if not found:
        return Unparsed("not_a_time")
    numbers = [int(part or 0) for part in found.groups()[:6]]
    try:
        return datetime(*numbers, tzinfo=UTC if found[7] else SWEDEN).astimezone(UTC)  # type: ignore[misc,arg-type]
    except (ValueError, OverflowError):
        return Unparsed("not_a_time")


@dataclass(frozen=True, slots=True)
class Hours:
    """Open from `opens` to `closes` on each of the days (1 is Monday); `closes` at or before `opens`: the day after.
    From the first day to the last alone, both included, where they are given."""

    days: tuple[int, ...]
    opens: str
    closes: str
    comment: str | None = None
    first_day: date | None = None
    last_day: date | None = None


_HOURS = re.compile(
    r"(?:(?P<from>\d{8})?-(?P<to>\d{8})? )?(?P<first>[1-7])(?:-(?P<last>[1-7]))?"
    r"#(\d\d?)[:.]?(\d\d)#(\d\d?)[:.]?(\d\d)(?:#(?P<comment>.*))?",
    re.ASCII | re.DOTALL,
)


def hours(value: str) -> Hours | Unparsed:
    """`1-5#08:00#17:00`; days may wrap the week: `6-1` is Saturday, Sunday, Monday. Before it, as HSA has them and
    in the form of temporary information, the days between which it holds: `20261201-20261231 `, one of them or both."""
    found = _HOURS.fullmatch(value.strip())
    if not found:
        return Unparsed("not_hours")
    first, last = int(found["first"]), int(found["last"] or found["first"])
    opens, closes = _time_of_day(found[5], found[6]), _time_of_day(found[7], found[8])
    if opens is None or closes is None:
        return Unparsed("not_a_time_of_day")
    try:
        begins, ends = (date.fromisoformat(day) if day else None for day in (found["from"], found["to"]))
    except ValueError:
        return Unparsed("not_a_date")
    if begins and ends and begins > ends:
        return Unparsed("ends_before_it_begins")
    days = tuple((first - 1 + step) % 7 + 1 for step in range((last - first) % 7 + 1))
    comment = line((found["comment"] or "").replace("#", " ")) or None
    return Hours(days, opens, closes, comment, begins, ends)


def _time_of_day(hour: str, minute: str) -> str | None:
    if int(minute) > 59 or int(hour) * 60 + int(minute) > 24 * 60:
        return None
    return f"{int(hour):02}:{minute}"


@dataclass(frozen=True, slots=True)
class Notice:
    """Temporary information, shown from the first day to the last, both included."""

    first_day: date
    last_day: date
    text: str


_NOTICE = re.compile(r"(\d{8})\s*-\s*(\d{8})[\s:]+(\S.*)", re.ASCII | re.DOTALL)


def notice(value: str) -> Notice | Unparsed:
    """`20100520-20100822 text`."""
    found = _NOTICE.fullmatch(value.strip())
    if not found:
        return Unparsed("not_temporary_information")
    try:
        first, last = (date(int(day[:4]), int(day[4:6]), int(day[6:])) for day in (found[1], found[2]))
    except ValueError:
        return Unparsed("not_a_date")
    return Notice(first, last, prose(found[3])) if first <= last else Unparsed("ends_before_it_begins")


# --- places ---------------------------------------------------------------------------------------------------------


def address(value: str) -> tuple[str, ...] | Unparsed:
    """Lines separated by `$`, trimmed, empty ones left out."""
    lines = tuple(one for one in (line(part) for part in value.split("$")) if one)
    return lines or Unparsed("empty")


@dataclass(frozen=True, slots=True)
class Rt90:
    """RT90 2.5 gon V, whole metres: x to the north, y to the east."""

    x: int
    y: int


_RT90 = re.compile(r"X:?\s*(\d{7})(?:\.\d+)?\s*[,;]?\s*Y:?\s*(\d{7})(?:\.\d+)?", re.ASCII | re.IGNORECASE)
_SWEDEN_X, _SWEDEN_Y = (6_100_000, 7_700_000), (1_200_000, 1_900_000)


def coordinates(value: str) -> Rt90 | Unparsed:
    """`X: 6407478, Y: 1268655`; a point outside Sweden is refused."""
    found = _RT90.fullmatch(line(value))  # no long run of blanks, which two parts of the pattern would share out
    if not found:
        return Unparsed("not_coordinates")
    x, y = int(found[1]), int(found[2])
    inside = _SWEDEN_X[0] <= x <= _SWEDEN_X[1] and _SWEDEN_Y[0] <= y <= _SWEDEN_Y[1]
    return Rt90(x, y) if inside else Unparsed("outside_sweden")


# --- ways to reach --------------------------------------------------------------------------------------------------


def phone(value: str) -> str | Unparsed:
    """In E.164; a number without a country code is Swedish. Short numbers such as 1177 have no such form."""
    bare = value.strip()
    if not bare:
        return Unparsed("empty")
    if re.fullmatch(r"\d{3,6}", bare, re.ASCII):
        return Unparsed("short_number")
    try:
        number = phonenumbers.parse(bare, "SE")
    except phonenumbers.NumberParseException:
        return Unparsed("not_a_phone_number")
    if number.extension or not phonenumbers.is_valid_number(number):
        return Unparsed("not_a_phone_number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def email(value: str) -> str | Unparsed:
    """An address by its form; whether it receives anything is not asked."""
    try:
        return validate_email(value.strip(), check_deliverability=False, allow_smtputf8=False).normalized
    except (EmailNotValidError, UnicodeError):
        return Unparsed("not_an_email_address")


def link(value: str) -> str | Unparsed:
    """A web address; one without a scheme is read as https."""
    bare = value.strip()
    if re.fullmatch(r"www\.\S+", bare, re.IGNORECASE):
        bare = "https://" + bare
    # One look for each question: together they would take days over a long value.
    host = re.match(r"https?://([^\s/?#]+)", bare, re.IGNORECASE)
    dotted = host is not None and "." in host[1][1:-1]
    return bare if dotted and not re.search(r"\s", bare) else Unparsed("not_a_link")


def truth(texts: Iterable[str]) -> bool:
    """Whether any of them says yes."""
    return any(text.strip().casefold() in ("true", "1", "j", "ja", "y", "yes") for text in texts)
