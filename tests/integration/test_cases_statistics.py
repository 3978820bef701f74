"""Statistics of a clinic (R-CASE-20)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.contracts import case_records as records
from shared.contracts.base import Role
from shared.messaging.errors import Forbidden, Invalid
from shared.operations import clock
from shared.security.caller import Caller
from tests.integration.cases_support import World, refused, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def asked(world: World, by: Caller | None = None, **period: date) -> records.Statistics:
    days = {"first_day": clock.today() - timedelta(days=30), "last_day": clock.today()} | period
    request = records.AskStatistics(clinic=world.clinic, **days)
    found: records.Statistics = world.call(records.STATISTICS, request, by or world.receiver)
    return found


def minutes(world: World, count: int) -> None:
    world.move(timedelta(minutes=count))


def numbers(one: records.CaseTypeStatistics) -> tuple[Any, ...]:
    rounded = [
        None if value is None else round(value / 60)
        for value in (one.median_seconds_to_first_reply, one.median_seconds_to_last_reply)
    ]
    return one.arrived, one.answered, one.closed_otherwise, one.open, *rounded


def test_r_case_20_what_came_in_and_what_became_of_it(world: World) -> None:
    """R-CASE-20: arrived, answered, open, median times to the first and the last reply, by case type."""
    other = world.new_case_type()
    quick, slow, asked_back, closed, _waiting = (world.start().case for _ in range(5))
    world.start(case_type=other)
    for case in (quick, slow, asked_back, closed):
        world.assign(case)
    minutes(world, 10)
    world.reply(quick, "answer")
    world.reply(slow, "partial_reply")
    world.reply(asked_back, "counter_question")
    minutes(world, 50)
    world.write(asked_back)  # what residents write is no reply
    world.reply(slow, "answer")
    world.close_case(closed)
    found = asked(world)
    assert numbers(found.total) == (6, 2, 1, 3, 10, 35)
    by_type = {one.case_type: numbers(one) for one in found.case_types}
    assert by_type == {world.case_type: (5, 2, 1, 2, 10, 35), other: (1, 0, 0, 1, None, None)}
    assert found.total.case_type is None


def test_r_case_20_by_swedish_date(world: World) -> None:
    """R-CASE-20: the last day is included, days to come are no error, and nothing is nothing."""
    world.start()
    today = clock.today()
    assert asked(world, first_day=today, last_day=today).total.arrived == 1
    assert asked(world, first_day=date.min, last_day=date.max).total.arrived == 1
    before = asked(world, first_day=today - timedelta(days=9), last_day=today - timedelta(days=1))
    assert (before.total.arrived, before.case_types) == (0, [])
    assert asked(world, first_day=date(1990, 1, 1), last_day=date(1991, 1, 1)).total.arrived == 0
    refused("period_empty", Invalid, asked, world, first_day=today, last_day=today - timedelta(days=1))


def test_r_case_20_for_receivers_and_local_administrators_of_the_clinic(world: World) -> None:
    """R-CASE-20"""
    for caller in (world.receiver, world.admin):
        assert asked(world, caller).total.arrived == 0
    elsewhere = world.person(Role.CASE_RECEIVER, clinic=world.new_clinic())
    for caller in (world.handler, world.reviewer, elsewhere):
        with pytest.raises(Forbidden):
            asked(world, caller)
