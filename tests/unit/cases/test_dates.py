"""When an unanswered counter-question closes its case (R-CASE-7)."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cases.rules import Facts, State, counter_question_due, month_after, week_before
from shared.operations.clock import SWEDEN

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        ("2026-01-31T14:00+01:00", "2026-02-28T14:00+01:00"),
        ("2028-01-31T14:00+01:00", "2028-02-29T14:00+01:00"),
        ("2026-01-28T14:00+01:00", "2026-02-28T14:00+01:00"),
        ("2026-12-31T14:00+01:00", "2027-01-31T14:00+01:00"),
        ("2026-03-15T14:00+01:00", "2026-04-15T14:00+02:00"),
        ("2026-10-15T14:00+02:00", "2026-11-15T14:00+01:00"),
        ("2026-01-30T23:30+00:00", "2026-02-28T00:30+01:00"),
    ],
)
def test_r_case_7_one_calendar_month_by_swedish_date(asked: str, due: str) -> None:
    """R-CASE-7: 31 January gives 28 February; the date is Sweden's, also when it is another in UTC."""
    assert month_after(datetime.fromisoformat(asked)) == datetime.fromisoformat(due)


@given(moments)
def test_r_case_7_the_due_date_is_in_the_next_month_on_the_same_day_or_its_last(asked: datetime) -> None:
    """R-CASE-7"""
    before, after = asked.astimezone(SWEDEN), month_after(asked).astimezone(SWEDEN)
    assert (after.year * 12 + after.month) - (before.year * 12 + before.month) == 1
    last = calendar.monthrange(after.year, after.month)[1]
    assert after.day == min(before.day, last)
    assert timedelta(days=27) < after - before < timedelta(days=32)


@given(moments, moments)
def test_r_case_7_who_asks_later_waits_longer(one: datetime, other: datetime) -> None:
    """R-CASE-7: never the other way round, but for the ends of months and the hour that summer time takes."""
    first, second = sorted((one, other))
    assert month_after(first) <= month_after(second) + timedelta(days=3, hours=1)


def facts(state: State, asked: datetime | None, wrote: datetime | None) -> Facts:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Facts("SE2321000131-E000000000001", UUID(int=1), state, 1, None, now, asked, wrote)


@given(st.sampled_from(State), st.none() | moments, st.none() | moments)
def test_r_case_7_only_a_case_that_waits_for_a_silent_resident_is_due(
    state: State, asked: datetime | None, wrote: datetime | None
) -> None:
    """R-CASE-7"""
    due = counter_question_due(facts(state, asked, wrote))
    silent = asked is not None and (wrote is None or wrote <= asked)
    assert (due is not None) == (state is State.AWAITING_RESIDENT and silent)
    if due is not None:
        assert asked is not None
        assert due == month_after(asked)


def test_r_case_7_the_reminder_comes_a_week_before_at_the_same_clock_time() -> None:
    """R-CASE-7: also where summer time begins in between."""
    due = datetime(2026, 3, 31, 14, 0, tzinfo=SWEDEN)
    assert week_before(due) == datetime(2026, 3, 24, 14, 0, tzinfo=SWEDEN)
    assert week_before(due).hour == 13, "in UTC, and winter time still"
