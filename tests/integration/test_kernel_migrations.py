"""Every service's migrations run up, down and up again, and make what its tables.py says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from shared.database import migrate
from tests.integration.kernel_support import KernelDatabase, together

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ["attachments", "cases", "directory", "identity", "notifications"]


def tables(database: KernelDatabase) -> set[str]:
    rows = database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows} - {"alembic_version"}


@pytest.mark.parametrize("service", SERVICES)
def test_migrations_go_up_down_and_up_and_match_the_tables(service, empty_db):
    up = migrate.upgrade(service, empty_db.url)
    assert up
    assert migrate.upgrade(service, empty_db.url) == []
    assert migrate.differences(service, empty_db.url) == []
    assert {"requests", "outbox", "inbox", "jobs", "rights_state", "ended_sessions"} < tables(empty_db)
    assert migrate.downgrade(service, empty_db.url) == up[::-1]
    assert tables(empty_db) == set()
    assert migrate.upgrade(service, empty_db.url) == up
    assert migrate.differences(service, empty_db.url) == []


@pytest.mark.parametrize("service", ["identity", "cases"])  # cases makes indexes concurrently
def test_replicas_that_start_together_migrate_once(service, empty_db):
    answers = together(4, lambda _: run(service, empty_db.url))
    assert [answer.returncode for answer in answers] == [0] * 4, answers
    said = sorted(answer.stdout for answer in answers)
    assert sum("migrated to" in line for line in said) == 1
    assert sum("nothing to migrate" in line for line in said) == 3


def at(database: KernelDatabase, revision: str) -> subprocess.CompletedProcess[str]:
    """What the migration of cases does where the database is at this revision; it stays there."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (revision,))
    done = run("cases", database.url)
    assert database.rows("SELECT version_num FROM alembic_version") == [(revision,)]
    return done


def test_a_version_that_was_gone_back_to_leaves_what_a_later_one_migrated(empty_db):
    """A migration leaves the previous version working; so a start of that one must not fail for it."""
    assert run("cases", empty_db.url).returncode == 0
    done = at(empty_db, "9999_of_tomorrow")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to migrate: the database is at 9999_of_tomorrow" in done.stdout


@pytest.mark.parametrize("revision", ["0005_of_another_branch", "of_nobody", "00999"])
def test_a_revision_that_no_later_version_can_have_made_is_refused(empty_db, revision):
    assert run("cases", empty_db.url).returncode == 0
    done = at(empty_db, revision)
    assert done.returncode == 78
    assert f"the database is at {revision}, which is no revision of cases after 0" in done.stderr
    assert "see that DATABASE_URL" in done.stderr


def test_the_database_of_another_service_is_refused_r_sys_4(empty_db):
    """Their revisions have the same numbers."""
    assert run("identity", empty_db.url).returncode == 0
    there = tables(empty_db)
    done = run("notifications", empty_db.url)
    assert done.returncode == 78
    assert "the database is that of identity: give DATABASE_URL the one of notifications" in done.stderr
    assert tables(empty_db) == there


def test_a_database_from_before_they_were_marked_is_taken_at_a_known_revision_alone(empty_db):
    newest = migrate.upgrade("cases", empty_db.url)[-1]
    with psycopg.connect(empty_db.url, autocommit=True) as connection:
        connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    assert at(empty_db, "9999_of_tomorrow").returncode == 78
    assert at(empty_db, newest).returncode == 0
    assert at(empty_db, "9999_of_tomorrow").returncode == 0


def run(service: str, url: str | None) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT)} | ({"DATABASE_URL": url} if url else {})
    command = [sys.executable, "-W", "ignore", "-m", "shared.database.migrate", service]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("service", "url", "status", "told"),
    [
        ("identity", None, 78, "DATABASE_URL is not set"),
        ("identity", "postgresql://nobody@127.0.0.1:9/none", 1, "does not answer"),
        ("nonsense", "postgresql://nobody@127.0.0.1:9/none", 1, "there is no service 'nonsense'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(service, url, status, told):
    done = run(service, url)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
