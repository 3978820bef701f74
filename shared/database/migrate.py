"""Migrations of a database: `python -m shared.database.migrate SERVICE`, with DATABASE_URL in the environment.

Every replica may start with this: they take turns, and all but the first find nothing to do. A migration must leave the
previous version of the service working, since its replicas run on while the new ones start.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from shared.database import engine as engines
from shared.database import kernel_tables
from shared.operations.settings import DatabaseSettings as MigrationSettings
from shared.operations.settings import SettingsError, read

_TURN = 0x6D696772
"""Key of the advisory lock that migrations of one database take turns by."""
_LOCK_SECONDS = 30
_ASK_AGAIN_SECONDS = 0.1
_NOT_FREE = f"a table or the turn was not free within {_LOCK_SECONDS} s; try again"
EXIT_FAILED = 1
EXIT_CONFIGURATION = 78
HEAD, BASE = "head", "base"


class MigrationError(Exception):
    """The migrations could not be run; the text says why, without any value from the database."""


class DatabaseIsAhead(MigrationError):
    """A later version of this service has migrated the database, and left it so that this one works."""


class WrongDatabase(MigrationError):
    """The database is not one that a version of this service has made: nothing in it is touched."""


def upgrade(service: str, url: str, to: str = HEAD) -> list[str]:
    """Runs the migrations up to `to`. Answers the revisions that were run, in order; none if there was nothing to do.

    Each runs in a transaction of its own. Raises `MigrationError`.
    """
    rights = _rights_of_others(service) if to == HEAD else {}
    return _run(service, url, lambda script: lambda revision, _: script._upgrade_revs(to, revision), rights)


def downgrade(service: str, url: str, to: str = BASE) -> list[str]:
    """Takes the migrations back down to `to`, and their data with them. For tests. Raises `MigrationError`."""
    return _run(service, url, lambda script: lambda revision, _: script._downgrade_revs(to, revision))


def differences(service: str, url: str) -> list[Any]:
    """What the database has otherwise than the service's `tables.py` and the kernel's tables say; alembic's terms."""
    tables = importlib.import_module(f"services.{service}.tables")
    with _connected(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        merged = sqlalchemy.MetaData()
        for metadata in (kernel_tables.metadata, tables.metadata):
            for table in metadata.sorted_tables:
                table.to_metadata(merged)
        return list(compare_metadata(context, merged))


def _run(
    service: str,
    url: str,
    steps_of: Callable[[ScriptDirectory], Any],
    rights: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    config, script = _scripts(service)
    done: list[str] = []

    def note(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
        done.append(str(step.up_revision_id))

    with _connected(url) as connection:
        _take_turn(connection)
        try:
            _require_own(service, script, connection)
            with EnvironmentContext(config, script, fn=steps_of(script)) as environment:
                environment.configure(
                    connection=connection, transaction_per_migration=True, on_version_apply=note, compare_type=True
                )
                with environment.begin_transaction():
                    environment.run_migrations()
            _mark(service, connection)
            for role, granted in (rights or {}).items():
                _grant(role, granted, connection)
        except CommandError as error:
            raise MigrationError(str(error)) from error
        finally:
            connection.rollback()
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": _TURN})
            connection.commit()
    return done


def _require_own(service: str, script: ScriptDirectory, connection: sqlalchemy.Connection) -> None:
    """Raises `WrongDatabase`; and `DatabaseIsAhead` for the mark of this service with a number above all that we know.

    Services number their revisions alike, so that only the mark tells whose a revision is.
    """
    known = {one.revision for one in script.walk_revisions()}
    heads = MigrationContext.configure(connection).get_current_heads()
    mark = connection.scalar(sqlalchemy.text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"))
    connection.commit()
    if mark is not None and mark != service:
        raise WrongDatabase(f"the database is that of {mark}: give DATABASE_URL the one of {service}")
    newest = max(map(_number, known))
    for revision in heads:
        if revision in known:
            continue
        if mark is None or _number(revision) <= newest:
            raise WrongDatabase(
                f"the database is at {revision}, which is no revision of {service} after {script.get_current_head()}: "
                "see that DATABASE_URL and this version are the right ones; else restore the database"
            )
        raise DatabaseIsAhead(f"the database is at {revision}, which is of a later version than this")


def _number(revision: str) -> int:
    """What a revision's name begins with, by which they follow one another; -1 if it begins with none."""
    digits = re.match(r"[0-9]{4}(?![0-9])", revision)
    return int(digits[0]) if digits else -1


def _mark(service: str, connection: sqlalchemy.Connection) -> None:
    """Says in the database whose it is."""
    connection.execute(sqlalchemy.text(f"COMMENT ON TABLE alembic_version IS '{service}'"))
    connection.commit()


def _rights_of_others(service: str) -> Mapping[str, Sequence[str]]:
    """What the service's `tables.OTHER_ROLES` says that roles beside its own may do."""
    _scripts(service)  # raises if there is no such service
    others: Mapping[str, Sequence[str]] = getattr(
        importlib.import_module(f"services.{service}.tables"), "OTHER_ROLES", {}
    )
    return others


def _grant(role: str, rights: Sequence[str], connection: sqlalchemy.Connection) -> None:
    """Gives the role just these rights in the tables. A server that has no such role has no process that uses it."""
    if connection.scalar(sqlalchemy.text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
        connection.execute(sqlalchemy.text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"))
        for right in rights:
            connection.execute(sqlalchemy.text(f"GRANT {right} TO {role}"))
    connection.commit()


def _take_turn(connection: sqlalchemy.Connection) -> None:
    """Asks again and again rather than waiting in a statement: that would hold a snapshot, which whoever has the turn
    waits for when it makes an index concurrently."""
    ends = time.monotonic() + _LOCK_SECONDS
    while not connection.scalar(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": _TURN}):
        connection.commit()
        if time.monotonic() > ends:
            raise MigrationError(_NOT_FREE)
        time.sleep(_ASK_AGAIN_SECONDS)
    connection.commit()


def _scripts(service: str) -> tuple[Config, ScriptDirectory]:
    spec = importlib.util.find_spec(f"services.{service}") if service.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise MigrationError(f"there is no service {service!r}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "migrations"
    if not (folder / "versions").is_dir():
        raise MigrationError(f"{service} has no migrations")
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    return config, ScriptDirectory.from_config(config)


@contextmanager
def _connected(url: str) -> Iterator[sqlalchemy.Connection]:
    # A change of a table waits for those who use it, and everyone else waits behind it: rather give up and try again.
    options = f"-c lock_timeout={_LOCK_SECONDS}s -c timezone=UTC"
    arguments = {"application_name": "migrate", "connect_timeout": engines.CONNECT_SECONDS, "options": options}
    engine = sqlalchemy.create_engine(
        engines.driver_url(url), poolclass=sqlalchemy.NullPool, hide_parameters=True, connect_args=arguments
    )
    try:
        with engine.connect() as connection:
            yield connection
    except sqlalchemy.exc.DBAPIError as error:
        if engines.is_lost(error):
            raise MigrationError("the database does not answer, or refuses this user") from error
        if engines.sqlstate(error) == "55P03":
            raise MigrationError(_NOT_FREE) from error
        told = error.orig.diag.message_primary if isinstance(error.orig, psycopg.Error) else None
        raise MigrationError(
            f"the database refused a statement: {told} (SQLSTATE {engines.sqlstate(error)})"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit status 0: done; 1: failed, may be tried again; 78: settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m shared.database.migrate", description="Migrates a database.")
    parser.add_argument("service")
    options = parser.parse_args(arguments)
    try:
        url = read(MigrationSettings).database_url
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        done = upgrade(options.service, url)
    except DatabaseIsAhead as ahead:
        print(f"{options.service}: nothing to migrate: {ahead}")
        return 0
    except MigrationError as error:
        print(f"{options.service}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION if isinstance(error, WrongDatabase) else EXIT_FAILED
    print(f"{options.service}: " + (f"migrated to {done[-1]}" if done else "nothing to migrate"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
