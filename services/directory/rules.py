"""The directory's decisions. Pure: no I/O, no framework."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar

RUNS_UNTIL_GONE = 2
COPY_MAY_BE = timedelta(hours=24)
STAFF_REFRESHED_EVERY = timedelta(days=30)
FEW = 3

PUBLIC = "03"  # hsaDestinationIndicator: shown on 1177.se
DISTANCE_UNIT = "03"  # hsaBusinessType: excused from coordinates and county

Card = TypeVar("Card")

Warning_ = Literal["not_in_directory", "ended"]
NotShown = Literal["not_a_clinic", "not_in_directory", "ended", "missing_attributes"]
Status = Literal["fine", "missing"]


def has_ended(end_date: datetime | None, now: datetime) -> bool:
    """Whether the end date has passed."""
    return end_date is not None and end_date <= now


def is_gone(missing_runs: int) -> bool:
    """A unit is gone only after two complete runs without it (R-DIR-12)."""
    return missing_runs >= RUNS_UNTIL_GONE


def warning(*, gone: bool, end_date: datetime | None, now: datetime) -> Warning_ | None:
    """The warning triangle, and which of the two it means (R-DIR-4)."""
    if gone:
        return "not_in_directory"
    return "ended" if has_ended(end_date, now) else None


def missing_attributes(
    *,
    county_code: str | None,
    has_coordinates: bool,
    destinations: Collection[str],
    care_types: Collection[str],
    business_types: Collection[str],
) -> list[str]:
    """The technically mandatory attributes that the unit lacks (R-DIR-5). The HSA-id it always has."""
    excused = DISTANCE_UNIT in business_types
    present = {
        "county_code": excused or bool(county_code),
        "coordinates": excused or has_coordinates,
        "destination_indicator": PUBLIC in destinations,
        "care_type": bool(care_types),
    }
    return [name for name, there in present.items() if not there]


def not_shown(*, active: bool, warning: Warning_ | None, missing: Collection[str]) -> NotShown | None:
    """Why a unit gets no public card: no clinic, not or no longer in the directory, or something mandatory is missing
    (R-DIR-4, R-DIR-5)."""
    if not active:
        return "not_a_clinic"
    return warning or ("missing_attributes" if missing else None)


def public_order(own: Sequence[Card], regional: Iterable[Card] | None) -> list[Card]:
    """The order of a clinic's case types on its public card (R-DIR-9): as the region has set it, those that it does not
    name last in the clinic's own order. What is not active is on no card."""
    first = [one for one in dict.fromkeys(regional or ()) if one in own]
    return first + [one for one in own if one not in first]


def removes_too_much(*, present: int, absent: int, share: float) -> bool:
    """Whether a run that lacks so many of those that were present last must change nothing (R-DIR-12)."""
    return absent > present * share


def too_many_not_found(*, asked: int, absent: int, share: float) -> bool:
    """Whether a refresh has found so few of those it asked about that it must not believe it (R-DIR-12). A few are as
    believable as with direct questions."""
    return absent > FEW and removes_too_much(present=asked, absent=absent, share=share)


def staff_status(*, found: bool, hidden: bool, end_date: datetime | None, now: datetime) -> Status:
    """`missing`: absent from the directory, hidden there, or past the end date (R-ID-9)."""
    return "fine" if found and not hidden and not has_ended(end_date, now) else "missing"


def copy_will_do(as_of: datetime | None, now: datetime) -> bool:
    """Whether a copy is young enough to be used while HSA is down (R-DIR-12)."""
    return as_of is not None and now - as_of < COPY_MAY_BE


def reason_not_to_inactivate(*, active_case_types: int, open_cases: int) -> str | None:
    """Inactivation waits until no case type is active and no case is open (R-DIR-3)."""
    if active_case_types:
        return "case_types_active"
    return "cases_open" if open_cases else None
