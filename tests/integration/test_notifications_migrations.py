"""The way back and forth works on a table of deliveries that is full and in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from services.notifications.channels.outcome import NotAccepted
from shared.contracts import cases
from shared.contracts.base import Role
from shared.database import migrate
from tests.integration.notifications_support import SEALER, SETTINGS, World, set_addresses, tell_resident

KEPT = "SELECT delivery, event_id, recipient, channel, state, attempts, ended_at FROM deliveries ORDER BY delivery"


@pytest.fixture
def url(fresh_database: Callable[..., Any]) -> str:
    return str(fresh_database("notifications").url)


def _use_everything(world: World) -> None:
    """Deliveries of each kind of recipient and in several states, addresses, settings, names."""
    set_addresses(world, "a@vgregion.example", "b@vgregion.example")
    world.person(Role.CASE_RECEIVER)
    world.email.script = [NotAccepted("smtp_mail_552", permanent=True)]
    world.hear(cases.CASE_STARTED, world.case_started())
    tell_resident(world, "sms", "email")
    world.child(world.guardian("sms"))
    world.hear(cases.MESSAGE_SENT, world.message(world.child(world.guardian("sms")), "staff"))
    world.send()
    tell_resident(world, "sms")


def test_down_and_up_again_with_rows_in_every_table(url: str) -> None:
    """R-NOT-7: no delivery is lost by the way back, none is due again, and the next is sent."""
    world = World(url, SEALER, SETTINGS)
    _use_everything(world)
    before = world.rows(KEPT)
    assert {row[4] for row in before} == {"sent", "failed", "merged", "waiting"}
    migrate.downgrade("notifications", url, "0001")
    migrate.upgrade("notifications", url)
    assert migrate.differences("notifications", url) == []
    assert world.rows(KEPT) == before
    sent = len(world.sms.sent)
    world.send()
    assert len(world.sms.sent) == sent + 1
    world.database.dispose()


def test_who_worked_at_a_clinic_before_the_table_of_them_stands_in_it(url: str) -> None:
    """R-ID-10: also where the migration is run a second time after it failed halfway."""
    world = World(url, SEALER, SETTINGS)
    person = world.person(Role.CASE_RECEIVER)
    migrate.downgrade("notifications", url, "0001")
    migrate.upgrade("notifications", url)
    assert world.rows("SELECT clinic, person FROM clinic_staff") == [(world.clinic, person)]
    world.database.dispose()


def test_one_that_failed_halfway_is_run_again(url: str) -> None:
    """What is there already is no error; an index that was left half made is made anew."""
    migrate.downgrade("notifications", url, "0001")
    with psycopg.connect(url, autocommit=True) as connection:
        for left in (
            "ALTER TABLE deliveries ADD COLUMN about text",
            "COMMENT ON COLUMN deliveries.about IS 'the child, where a guardian is told'",
            "CREATE TABLE provider_pace (provider text PRIMARY KEY, next_at timestamptz NOT NULL)",
            "COMMENT ON COLUMN provider_pace.next_at IS 'by the database''s clock'",
            "CREATE INDEX deliveries_in_hands ON deliveries (state)",
            "CREATE INDEX deliveries_of_recipient ON deliveries (state)",
        ):
            connection.execute(left.encode())
    migrate.upgrade("notifications", url)
    assert migrate.differences("notifications", url) == []


@pytest.mark.parametrize("revision", ["0001", "0003"])
def test_who_writes_is_not_kept_waiting_by_an_index(url: str, revision: str) -> None:
    """While an index waits for a transaction that began before it, deliveries are queued and claimed.

    A column is added first, which needs the table for a moment: the early transaction comes between.
    """
    migrate.downgrade("notifications", url, revision)
    done: list[list[str]] = []
    with psycopg.connect(url) as early, psycopg.connect(url) as other:
        # A snapshot of another table's: what adds columns does not wait for it, what makes an index concurrently does.
        early.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        early.execute("SELECT count(*) FROM clinic_names")
        migrating = threading.Thread(target=lambda: done.append(migrate.upgrade("notifications", url)))
        migrating.start()
        _wait_until_something_waits(other)
        other.execute("SET LOCAL lock_timeout = '1s'")
        other.execute("LOCK TABLE deliveries IN ROW EXCLUSIVE MODE")
        other.commit()
        early.commit()
        migrating.join(30)
    [revisions] = done
    assert revisions[-1] > revision


def _wait_until_something_waits(connection: psycopg.Connection[Any]) -> None:
    ends = time.monotonic() + 10
    question = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'migrate' AND wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    while connection.execute(question).fetchone() == (0,):
        connection.commit()
        assert time.monotonic() < ends, "the migration waits for nobody"
        time.sleep(0.05)
    connection.commit()
