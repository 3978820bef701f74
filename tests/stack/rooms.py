"""Databases and virtual hosts that one test has for itself, on the servers that all share."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from deploy.local import databases
from deploy.local.broker_admin import BrokerAdmin
from deploy.local.processes import Process, Program
from deploy.local.stack import Stack
from shared.database import kernel_tables

_OWNER = "rooms"
"""Not a service's role: what that owns goes over to its owner when the running system's databases are made."""


@dataclass(frozen=True)
class Database:
    """A database of one test. `url` is its owner's, `admin_url` that of the server's administrator."""

    name: str
    url: str
    admin_url: str

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement, run and committed on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: Any) -> Any:
        """The single value of a statement."""
        [(value,)] = self.rows(statement, *values)
        return value

    def cut_connections(self) -> None:
        """Ends every connection to it, as a restart of the server would."""
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.name,))

    def drop(self) -> None:
        """Removes it."""
        databases.drop_database(self.admin_url, self.name)


@dataclass(frozen=True)
class Broker:
    """A virtual host of one test; `url` is that of a user who may do everything in it."""

    vhost: str
    user: str
    url: str
    admin: BrokerAdmin

    def close_connections(self) -> int:
        """Closes every open connection; how many."""
        return self.admin.close_connections(self.vhost)

    def messages(self, queue: str) -> int | None:
        """Messages in the queue, counted now; None if there is no such queue."""
        import amqp

        host = self.url.rsplit("@", 1)[1].split("/")[0]
        password = self.url.split(":", 2)[2].rsplit("@", 1)[0]
        with amqp.Connection(host, self.user, password, virtual_host=self.vhost) as connection:
            try:
                return int(connection.channel().queue_declare(queue, passive=True).message_count)
            except amqp.exceptions.NotFound:
                return None

    def wait_for_queue(self, queue: str, seconds: float = 20.0) -> None:
        """Returns when the queue is there; raises TimeoutError."""
        end = time.monotonic() + seconds
        while self.messages(queue) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"no queue {queue}")
            time.sleep(0.05)

    def drop(self) -> None:
        """Removes it, and its user."""
        self.admin.delete_vhost(self.vhost)
        self.admin.delete_user(self.user)


class Rooms:
    """Makes them."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def database(self, service: str | None = None) -> Database:
        """A new database: with the kernel's tables alone, or migrated as the service's."""
        name = f"test_{secrets.token_hex(6)}"
        admin_url = self._stack.postgres.admin_url()
        with psycopg.connect(admin_url, autocommit=True) as admin:
            databases.make_role(admin, _OWNER, self._stack.keys.password(f"database_{_OWNER}"))
            databases.make_database(admin, name, _OWNER)
        with psycopg.connect(self._stack.postgres.admin_url(name), autocommit=True) as admin:
            for role, of in databases.OF_ONE_PROCESS.items():
                if of == service:
                    password = self._stack.keys.password(f"database_{role}")
                    databases.make_process_role(admin, name, role, password)
        made = Database(name, self._stack.database_url(_OWNER, name), admin_url)
        if service is None:
            _make_kernel_tables(made.url)
        else:
            self._migrate(service, made)
        return made

    def _migrate(self, service: str, database: Database) -> None:
        usual = self._stack.system.migration(service).program
        environment = {**usual.env, "DATABASE_URL": database.url}
        program = Program(f"migrate_{database.name}", usual.argv, usual.cwd, environment)
        databases.migrate(Process(program, self._stack.folder))

    def broker(self, name: str) -> Broker:
        """A new virtual host, and a user of the same name."""
        admin, password = self._stack.rabbitmq.admin, secrets.token_urlsafe(16)
        admin.make_vhost(name)
        admin.make_user(name, password)
        admin.allow(name, name)
        host, port = self._stack.rabbitmq.host, self._stack.ports["amqp"]
        return Broker(name, name, f"amqp://{name}:{password}@{host}:{port}/{name}", admin)


def _make_kernel_tables(url: str) -> None:
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sqlalchemy.NullPool
    )
    with engine.begin() as connection:
        kernel_tables.create(Operations(MigrationContext.configure(connection)))
