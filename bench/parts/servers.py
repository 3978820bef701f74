"""Servers of a benchmark's own: broker and database as the local stack starts them, durable, and gone afterwards."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import amqp
import psycopg
import sqlalchemy
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from bench.parts.programs import Program, settings_of, wait_until
from deploy.local import databases, keys, leftovers, ports
from deploy.local.folder import data_folder, make_folder, write_private
from deploy.local.problems import Problem
from deploy.local.stack import Stack
from shared.database import kernel_tables
from shared.messaging.wire import request_queue

SERVICES = ("cases", "notifications")
"""The names that the benchmarks' services go by: those of real ones, so that the queues are the real contracts'."""
VHOST = "bench"


@dataclass(frozen=True)
class Servers:
    """What runs. `kind`: native or containers."""

    folder: Path
    kind: str
    broker_url: str
    admin_url: str
    keys: keys.Keys
    stack: Stack
    """For a benchmark that needs more of it."""
    _urls: dict[str, str]

    def database_url(self, service: str) -> str:
        """The service's own database, with the kernel's tables."""
        return self._urls[service]

    def wait_for_service(self, name: str) -> None:
        """Returns when a process of the service takes calls."""

        def there() -> bool:
            with connected(self.broker_url) as connection:
                try:
                    return bool(connection.channel().queue_declare(request_queue(name), passive=True).consumer_count)
                except amqp.exceptions.NotFound:
                    return False

        wait_until(there, f"the start of {name}")

    @contextmanager
    def programs(self) -> Iterator[Callable[..., Program]]:
        """`start(role, service, *arguments, nameko=False)` starts a program with the settings of the service.

        All are stopped at the end of the block.
        """
        started: list[Program] = []

        def start(role: str, service: str, *arguments: str, nameko: bool = False) -> Program:
            settings = settings_of(service, self.keys, self.broker_url, self.database_url(service))
            started.append(Program(role, list(arguments), settings, self.folder, nameko=nameko))
            return started[-1]

        try:
            yield start
        finally:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(Program.stop, started))


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def running() -> Iterator[Servers]:
    """Broker and database for the time of the block."""
    home = data_folder() / "bench-servers"
    leftovers.sweep(home)
    folder = make_folder(home / str(os.getpid()), 0o711)
    os.environ.pop("VARDARENDE_PORTS", None)  # that block belongs to ./dev up
    write_private(folder / "ports.json", _ports())
    stack = Stack(folder, say=_say)
    try:
        names = ["rabbitmq", "postgres"]
        began = time.monotonic()
        for name in names:
            stack.servers[name].start()
        for name in names:
            stack.servers[name].wait()
        _say(f"{' and '.join(stack.servers[name].title for name in names)} answer ({time.monotonic() - began:.1f} s)")
        yield _prepared(stack)
    except Problem as problem:
        sys.exit(f"./dev: the benchmark's servers did not start: {problem}")
    finally:
        stack.destroy()


def _ports() -> str:
    return json.dumps(ports.choose(anywhere=True))


def _prepared(stack: Stack) -> Servers:
    admin, password = stack.rabbitmq.admin, secrets.token_urlsafe(16)
    admin.make_vhost(VHOST)
    admin.make_user(VHOST, password)
    admin.allow(VHOST, VHOST)
    urls = {}
    databases.make(stack.postgres.admin_url(), {name: stack.keys.password(f"database_{name}") for name in SERVICES})
    for name in SERVICES:
        urls[name] = stack.database_url(name)
        _make_tables(urls[name])
    return Servers(
        folder=stack.folder,
        kind=stack.kind,
        broker_url=f"amqp://{VHOST}:{password}@{stack.rabbitmq.host}:{stack.ports['amqp']}/{VHOST}",
        admin_url=stack.postgres.admin_url(),
        keys=stack.keys,
        stack=stack,
        _urls=urls,
    )


def _make_tables(url: str) -> None:
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sqlalchemy.NullPool
    )
    with engine.begin() as connection:
        kernel_tables.create(Operations(MigrationContext.configure(connection)))


def versions(servers: Servers) -> dict[str, str]:
    """Of the broker and the database."""
    with connected(servers.broker_url) as broker:
        broker_version = str(broker.server_properties["version"])
    with psycopg.connect(servers.admin_url) as connection:
        [(told,)] = connection.execute("SHOW server_version").fetchall()
    return {"broker": broker_version, "database": str(told).split()[0], "servers": servers.kind}


@contextmanager
def connected(broker_url: str) -> Iterator[amqp.Connection]:
    """A connection by py-amqp at its best: it does not look for news before each publish."""
    parts = urlsplit(broker_url)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port}", parts.username, parts.password, virtual_host=parts.path[1:]
    )
    connection.negotiate_capabilities = {**connection.negotiate_capabilities, "connection.blocked": False}
    with connection:
        yield connection
