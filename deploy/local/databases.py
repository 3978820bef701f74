"""A database and a role for each service, and their migrations."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from deploy.local.problems import Problem
from deploy.local.processes import Process

MIGRATION_SECONDS = 120.0


def make(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Makes what is missing: for each name a role and a database of that name, which only that role may use."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for name, password in passwords.items():
            make_role(admin, name, password)
            make_database(admin, name, owner=name)


def make_role(admin: psycopg.Connection, name: str, password: str) -> None:
    """The role, with this password."""
    known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    verb = sql.SQL("ALTER" if known else "CREATE")
    admin.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(name), sql.Literal(password)))


def make_database(admin: psycopg.Connection, name: str, owner: str) -> None:
    """The database, unless it is there."""
    if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


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
