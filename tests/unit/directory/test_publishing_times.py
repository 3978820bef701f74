"""Publication by the clock: 10, 14 and 21 Swedish time, summer and winter, and late where the system was down.

Proves R-DIR-8.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.directory.publishing import AT
from services.directory.service import DirectoryService
from shared.operations.clock import SWEDEN
from shared.operations.jobs import Job

JOBS = [Job(f"at_{at}", daily_at=at) for at in AT]


def due_in(first: datetime, hours: int) -> list[datetime]:
    """Every due time in these hours, as a process that looks each minute sees them, in Swedish time."""
    seen: dict[datetime, None] = {}
    for minute in range(hours * 60):
        now = first + timedelta(minutes=minute)
        seen |= {job.due(now): None for job in JOBS if job.due(now) >= first}
    return sorted(one.astimezone(SWEDEN) for one in seen)


@pytest.mark.parametrize(
    "day",
    [(2026, 1, 15), (2026, 7, 15), (2026, 3, 28), (2026, 3, 29), (2026, 10, 24), (2026, 10, 25)],
    ids=lambda day: "{}-{}-{}".format(*day),
)
def test_three_times_a_day_by_swedish_clocks_r_dir_8(day):
    midnight = datetime(*day, tzinfo=SWEDEN).astimezone(UTC)
    shown = [(one.day, f"{one:%H:%M}") for one in due_in(midnight, 24) if one.day == day[2]]
    assert shown == [(day[2], "10:00"), (day[2], "14:00"), (day[2], "21:00")]


def test_summer_time_moves_them_in_utc_r_dir_8():
    ten = JOBS[0]
    assert ten.due(datetime(2026, 3, 28, 12, tzinfo=UTC)) == datetime(2026, 3, 28, 9, tzinfo=UTC)
    assert ten.due(datetime(2026, 3, 29, 12, tzinfo=UTC)) == datetime(2026, 3, 29, 8, tzinfo=UTC)
    assert ten.due(datetime(2026, 10, 25, 12, tzinfo=UTC)) == datetime(2026, 10, 25, 9, tzinfo=UTC)


def test_after_a_night_without_the_system_the_evening_before_is_due_still_r_dir_8():
    early = datetime(2026, 11, 24, 7, tzinfo=UTC)
    assert max(job.due(early) for job in JOBS) == datetime(2026, 11, 23, 20, tzinfo=UTC)


def test_the_service_publishes_at_each_of_them_r_dir_8():
    made = {one.purpose for one in _entrypoints() if isinstance(one.purpose, Job)}
    assert {job.daily_at for job in made if job.name.startswith("publish_cards")} == {"10:00", "14:00", "21:00"}


def _entrypoints():
    methods = (getattr(DirectoryService, name) for name in dir(DirectoryService))
    return [one for method in methods for one in getattr(method, "nameko_entrypoints", ())]
