"""Swedish working days, by which a clinic's days for a reminder are counted (R-NOT-2). No I/O."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache

import holidays

from shared.operations.clock import SWEDEN

_DAY = timedelta(days=1)
_SATURDAY = 5


def is_working_day(day: date) -> bool:
    """Neither a weekend nor a public holiday, nor one of the three eves that are kept as such (midsummer, Christmas,
    New Year)."""
    return day.weekday() < _SATURDAY and day not in _free(day.year)


def silent_since(now: datetime, days: int) -> datetime:
    """The end of the latest Swedish day after which `days` whole working days have passed before today. In UTC.

    What came in before this moment and has not been handled since is to be reminded of today.
    """
    day = now.astimezone(SWEDEN).date()
    while days:
        day -= _DAY
        days -= is_working_day(day)
    return datetime(day.year, day.month, day.day, tzinfo=SWEDEN).astimezone(UTC)


@cache
def _free(year: int) -> frozenset[date]:
    return frozenset(holidays.country_holidays("SE", years=year, categories=("public", "de_facto")))
