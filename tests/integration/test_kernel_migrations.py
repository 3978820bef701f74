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


def test_a_version_that_was_gone_back_to_leaves_what_a_later_one_migrated(empty_db):
    """A migration leaves the previous version working; so a start of that one must not fail for it."""
    assert run("cases", empty_db.url).returncode == 0
    with psycopg.connect(empty_db.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of_tomorrow'")
    done = run("cases", empty_db.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to migrate: the database is at of_tomorrow" in done.stdout
    assert empty_db.rows("SELECT version_num FROM alembic_version") == [("of_tomorrow",)]


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
