"""Reminders of unhandled cases, from the clinics' settings and what cases answers to what is sent (R-NOT-2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.notifications import clinic_settings, reminding
from services.notifications.working_days import silent_since
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import SetClinicSettings
from shared.messaging.errors import Unavailable
from shared.operations import clock
from shared.operations.clock import SWEDEN
from tests.integration.notifications_support import World

MORNING = datetime(2026, 11, 25, 7, tzinfo=SWEDEN)  # a Wednesday


class Run:
    """A run of the job; cases answers by when something was last written in each of the clinics' cases."""

    def __init__(self, world: World, now: datetime, written: dict[str, list[datetime]]) -> None:
        self._world, self.now, self._written = world, now, written
        self.asked = 0

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._world.database.transaction() as tx:
            yield tx

    def ask(self, call: Any, request: cases.AskUnhandledCases) -> cases.UnhandledCases:
        assert call is cases.UNHANDLED_CASES
        self.asked += 1
        found = []
        for one in request.clinics:
            silent = [
                at
                for at in self._written.get(one.clinic, [])
                if at <= one.silent_since and (one.written_after is None or at > one.written_after)
            ]
            if silent:
                found.append(cases.UnhandledOfClinic(clinic=one.clinic, count=len(silent), oldest=min(silent)))
        return cases.UnhandledCases(clinics=found)


@pytest.fixture
def world(notifications_world: World) -> World:
    return notifications_world


def settle(world: World, *addresses: str, days: int | None = 2, clinic: str | None = None) -> str:
    clinic = clinic or world.clinic
    request = SetClinicSettings(
        request_id=uuid4(),
        clinic=clinic,
        new_case_addresses=["annan@vgregion.example"],
        reminder_addresses=list(addresses),
        reminder_days=days,
    )
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN, clinic=clinic)) as tx:
        clinic_settings.set_settings(tx, request)
    return clinic


def send(world: World) -> None:
    """Whatever moment it was queued at."""
    world.rows("UPDATE deliveries SET due_at = '2020-01-01' WHERE state = 'waiting'")
    world.send()


def remind(world: World, now: datetime, monkeypatch: pytest.MonkeyPatch, written: dict[str, list[datetime]]) -> Run:
    monkeypatch.setattr(clock, "now", lambda: now)
    run = Run(world, now, written)
    reminding.remind_all(run)
    monkeypatch.undo()
    send(world)
    return run


def test_a_clinic_is_reminded_once_of_each_case_that_nobody_has_handled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-NOT-2: at each reminder address, after its days, and again only when another case has waited so long."""
    settle(world, "a@vgregion.example", "b@vgregion.example")
    written = {world.clinic: [MORNING - timedelta(days=5)]}
    remind(world, MORNING, monkeypatch, written)
    assert world.email.addresses == ["a@vgregion.example", "b@vgregion.example"]
    assert {words.subject for _, words in world.email.sent} == {"Ärenden väntar på Björkskogens vårdcentral"}
    remind(world, MORNING, monkeypatch, written)
    remind(world, MORNING + timedelta(days=1), monkeypatch, written)
    assert len(world.email.sent) == 2
    written[world.clinic].append(MORNING - timedelta(days=1))
    remind(world, MORNING + timedelta(days=1), monkeypatch, written)
    assert len(world.email.sent) == 2  # not two days yet
    remind(world, MORNING + timedelta(days=5), monkeypatch, written)
    assert len(world.email.sent) == 4


def test_nothing_is_reminded_of_without_days_addresses_or_unhandled_cases(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-NOT-2."""
    waited = [MORNING - timedelta(days=30)]
    no_days = settle(world, "a@vgregion.example", days=None)
    no_address = settle(world, clinic="SE2321000131-E000000000002")
    no_case = settle(world, "c@vgregion.example", clinic="SE2321000131-E000000000003")
    remind(world, MORNING, monkeypatch, {no_days: waited, no_address: waited, no_case: [MORNING]})
    assert world.states() == []


def test_nobody_is_reminded_on_a_free_day(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-NOT-2."""
    settle(world, "a@vgregion.example")
    christmas = datetime(2026, 12, 25, 7, tzinfo=SWEDEN)
    run = remind(world, christmas, monkeypatch, {world.clinic: [MORNING]})
    assert (run.asked, world.states()) == (0, [])


def test_all_clinics_are_asked_about_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminding, "AT_ONCE", 2)
    clinics = [settle(world, "a@vgregion.example", clinic=f"SE2321000131-E00000000010{number}") for number in range(5)]
    world.names |= {clinic: f"Mottagning {clinic[-1]}" for clinic in clinics}
    monkeypatch.setattr(clock, "now", lambda: MORNING)
    run = Run(world, MORNING, {clinic: [MORNING - timedelta(days=9)] for clinic in clinics})
    reminding.remind_all(run)
    monkeypatch.undo()
    send(world)
    assert run.asked == 3
    assert len(world.email.sent) == 5


def test_when_cases_does_not_answer_nothing_is_passed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-NOT-2: the run fails and is tried again."""
    settle(world, "a@vgregion.example")
    monkeypatch.setattr(clock, "now", lambda: MORNING)
    run = Run(world, MORNING, {})
    monkeypatch.setattr(run, "ask", lambda *_: (_ for _ in ()).throw(Unavailable()))
    with pytest.raises(Unavailable):
        reminding.remind_all(run)
    assert world.rows("SELECT reminded_until FROM clinic_settings") == [(None,)]


def test_a_change_of_the_settings_forgets_nothing_that_was_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-NOT-2: more days and fewer again tell of no case twice."""
    settle(world, "a@vgregion.example", days=2)
    written = {world.clinic: [silent_since(MORNING, 2) - timedelta(hours=1)]}
    remind(world, MORNING, monkeypatch, written)
    for days in (5, 1):
        settle(world, "a@vgregion.example", days=days)
        remind(world, MORNING + timedelta(days=days), monkeypatch, written)
    assert len(world.email.sent) == 1
