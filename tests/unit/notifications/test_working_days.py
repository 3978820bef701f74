"""Swedish working days, and from when on a case counts as unhandled (R-NOT-2)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.working_days import is_working_day, silent_since
from shared.operations.clock import SWEDEN


@pytest.mark.parametrize(
    "free",
    ["2026-01-01", "2026-01-06", "2026-04-03", "2026-04-06", "2026-05-01", "2026-05-14", "2026-06-19", "2026-06-20",
     "2026-10-31", "2026-12-24", "2026-12-25", "2026-12-31", "2026-11-28", "2026-11-29"],
)  # fmt: skip
def test_weekends_holidays_and_the_three_eves_are_free(free: str) -> None:
    """R-NOT-2."""
    assert not is_working_day(date.fromisoformat(free))


@pytest.mark.parametrize("working", ["2026-01-05", "2026-04-02", "2026-05-15", "2026-12-23", "2026-11-25"])
def test_other_days_are_working_days(working: str) -> None:
    """R-NOT-2: the day before a holiday, too."""
    assert is_working_day(date.fromisoformat(working))


@pytest.mark.parametrize(
    ("today", "days", "before"),
    [
        ("2026-11-25", 1, "2026-11-24"),  # a Wednesday: what came in on Monday has had all of Tuesday
        ("2026-11-25", 2, "2026-11-23"),
        ("2026-11-23", 1, "2026-11-20"),  # a Monday: what came in on Thursday has had Friday
        ("2026-04-07", 2, "2026-04-01"),  # the day after Easter: Wednesday and Thursday before it
        ("2026-12-28", 1, "2026-12-23"),
        ("2026-03-30", 1, "2026-03-27"),  # over the change to summer time
    ],
)
def test_whole_working_days_pass_before_a_reminder(today: str, days: int, before: str) -> None:
    """R-NOT-2."""
    morning = datetime.fromisoformat(f"{today}T07:00").replace(tzinfo=SWEDEN)
    assert silent_since(morning, days) == datetime.fromisoformat(before).replace(tzinfo=SWEDEN)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),
    st.integers(1, 90),
)
def test_the_moment_never_goes_back_and_more_days_are_earlier(now: datetime, days: int) -> None:
    """R-NOT-2: no case falls between one day's reminder and the next's."""
    assert silent_since(now, days) <= silent_since(now + timedelta(days=1), days)
    assert silent_since(now, days + 1) < silent_since(now, days) < now
