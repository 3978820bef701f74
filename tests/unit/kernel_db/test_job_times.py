"""When jobs are due: by intervals, and daily by Swedish wall time, summer and winter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.base import ContractError
from shared.operations.clock import SWEDEN
from shared.operations.jobs import Job

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "now", "due"),
    [
        ("03:00", "2026-01-10 02:00", "2026-01-10 02:00"),  # winter: one hour before UTC
        ("03:00", "2026-01-10 01:59:59", "2026-01-09 02:00"),
        ("03:00", "2026-07-10 01:00", "2026-07-10 01:00"),  # summer: two
        ("03:00", "2026-07-10 00:59:59", "2026-07-09 01:00"),
        ("00:30", "2026-07-09 22:30", "2026-07-09 22:30"),  # Sweden's date is not UTC's
        ("03:30", "2026-03-29 01:30", "2026-03-29 01:30"),  # the day that summer time begins
        ("02:30", "2026-03-29 12:00", "2026-03-29 01:30"),  # a time that this day does not have: once, an hour late
        ("02:30", "2026-10-25 00:29:59", "2026-10-24 00:30"),
        ("02:30", "2026-10-25 00:30", "2026-10-25 00:30"),  # a time that this day has twice: the first
        ("02:30", "2026-10-25 01:30", "2026-10-25 00:30"),  # and not the second
        ("10:00", "2026-10-25 09:00", "2026-10-25 09:00"),
    ],
)
def test_daily_jobs_are_due_by_the_wall_clock_in_sweden(at, now, due):
    assert Job("x", daily_at=at).due(utc(now)) == utc(due)


@given(moments, st.times())
def test_a_daily_job_is_due_once_a_swedish_day(now, at):
    job = Job("x", daily_at=at.isoformat(timespec="minutes"))
    due = job.due(now)
    assert due <= now
    assert job.due(due) == due, "replicas that look at different moments agree"
    assert now - due < timedelta(hours=25, minutes=1)
    assert due.astimezone(SWEDEN).date() in (
        now.astimezone(SWEDEN).date(),
        now.astimezone(SWEDEN).date() - timedelta(days=1),
    )


@given(moments, st.timedeltas(timedelta(seconds=1), timedelta(days=40)))
def test_intervals_are_the_same_for_every_replica(now, every):
    job = Job("x", every=timedelta(seconds=round(every.total_seconds())))
    due = job.due(now)
    assert due <= now < due + job.every
    assert job.due(due) == due


@pytest.mark.parametrize(
    "wrong",
    [{}, {"every": timedelta(hours=1), "daily_at": "03:00"}, {"every": timedelta(milliseconds=10)}],
)
def test_a_job_says_when(wrong):
    with pytest.raises(ContractError):
        Job("x", **wrong)


def test_a_time_of_day_is_one():
    with pytest.raises(ValueError):
        Job("x", daily_at="25:00")
