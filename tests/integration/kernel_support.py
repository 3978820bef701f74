"""What the kernel's own tests stand on: a fresh database with the kernel's tables, and a virtual host of the broker."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, Uuid

from shared.database import engine as engines
from shared.database import kernel_tables
from shared.database.transaction import Database
from shared.security.sealing import Sealer

metadata = MetaData()

effects = Table(
    "effects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("times", Integer, nullable=False),
)
tries = Table(
    "tries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("times", Integer, nullable=False),
)

SEALER = Sealer("test", {"test": b"k" * 32})


class _Migration:
    """What `kernel_tables.create` needs of alembic's `op`."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection

    def get_bind(self) -> sqlalchemy.Connection:
        return self._connection

    def execute(self, statement: str) -> None:
        self._connection.execute(sqlalchemy.text(statement))


@dataclass
class KernelDatabase:
    """A database of one test."""

    url: str

    def open(self, **options: Any) -> Database:
        options = {"service": "cases", "sealer": SEALER} | options
        return Database(self.url, **options)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: Any) -> Any:
        [(value,)] = self.rows(statement, *values)
        return value

    def cut_connections(self) -> None:
        """Ends every connection to this database, as a restart of the server would."""
        self.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def fresh_database(server: str, *, empty: bool = False) -> Iterator[KernelDatabase]:
    """`server`: address of an administrator's database, postgresql://... `empty`: without any table."""
    name = f"kernel_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    url = engines.driver_url(server).set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    try:
        if not empty:
            maker = sqlalchemy.create_engine(engines.driver_url(url), poolclass=sqlalchemy.NullPool)
            with maker.begin() as connection:
                kernel_tables.create(_Migration(connection))
                metadata.create_all(connection)
        yield KernelDatabase(url)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def together(count: int, action: Callable[[int], Any]) -> list[Any]:
    """Runs `action(0..count-1)` in threads at the same time; the answers or exceptions in order."""
    answers: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(place: int) -> None:
        barrier.wait()
        try:
            answers[place] = action(place)
        except Exception as error:
            answers[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def bump(tx: Any, key: UUID) -> None:
    """An effect that shows how many times it was taken."""
    from sqlalchemy.dialects.postgresql import insert

    statement = insert(effects).values(id=key, times=1)
    tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"times": effects.c.times + 1}))
