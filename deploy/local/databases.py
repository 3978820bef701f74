"""A database and a role for each service, and their migrations."""

from __future__ import annotations

import psycopg
from psycopg import sql

from deploy.local.problems import Problem
from deploy.local.processes import Process
from deploy.postgres.roles import OF_ONE_PROCESS, make, make_database, make_process_role, make_role, owner_of

__all__ = [
    "OF_ONE_PROCESS",
    "drop_database",
    "make",
    "make_database",
    "make_process_role",
    "make_role",
    "migrate",
    "owner_of",
]

MIGRATION_SECONDS = 120.0


def drop_database(admin_url: str, name: str) -> None:
    """Removes the database, whoever is connected."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def migrate(migration: Process) -> None:
    """Runs the migration to its end. Raises `Problem` with the end of its log if it fails."""
    migration.start()
    status = migration.wait_for_end(MIGRATION_SECONDS)
    if status != 0:
        raise Problem(f"{migration.name} failed; the end of {migration.log}:\n{migration.tail()}")
