"""The tests' own servers do what tests ask of them."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from typing import Any

import amqp
import psycopg
import pytest

from deploy.local.stack import Stack


def test_a_database_has_the_kernels_tables(fresh_database: Any) -> None:
    database = fresh_database()
    assert database.one("SELECT applied FROM rights_state") == 0
    assert fresh_database().url != database.url


def test_nobody_else_enters_a_database(fresh_database: Any) -> None:
    """That services do not enter each other's: test_database_roles.py."""
    database = fresh_database()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    host = database.url.rsplit("@", 1)[1]
    try:
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(f"postgresql://stranger:x@{host}")
        psycopg.connect(database.url).close()
    finally:
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute("DROP ROLE stranger")


def test_a_virtual_host_is_the_tests_own(broker_vhost: Any) -> None:
    host, _, vhost = broker_vhost.url.rsplit("@", 1)[1].partition("/")
    password = broker_vhost.url.split(":", 2)[2].rsplit("@", 1)[0]
    connection = amqp.Connection(host, broker_vhost.user, password, virtual_host=vhost)
    connection.connect()
    channel = connection.channel()
    channel.queue_declare("mine", durable=True, auto_delete=False)
    channel.basic_publish(amqp.Message("x"), routing_key="mine")
    broker_vhost.wait_for_queue("mine")
    assert broker_vhost.messages("mine") == 1
    assert broker_vhost.messages("unknown") is None
    assert broker_vhost.close_connections() == 1


def test_a_killed_server_comes_back_with_its_data(servers: Stack, fresh_database: Any) -> None:
    database = fresh_database()
    database.rows("CREATE TABLE kept (x int)")
    servers.postgres.kill()
    assert not servers.postgres.alive
    servers.postgres.start()
    servers.postgres.wait()
    assert database.rows("SELECT count(*) FROM kept") == [(0,)]


def test_a_killed_database_server_is_started_only_when_its_orphans_have_ended(servers: Stack) -> None:
    """It would die of them: they hold its memory, and end only when they notice that it is gone."""
    if servers.kind != "native":
        pytest.skip("an engine ends all processes of a container at once")
    with psycopg.connect(servers.postgres.admin_url()) as connection:
        orphan = connection.info.backend_pid
        os.kill(orphan, signal.SIGSTOP)
        servers.postgres.kill()
        starting = threading.Thread(target=servers.postgres.start)
        try:
            starting.start()
            time.sleep(0.5)
            assert starting.is_alive()
        finally:
            os.kill(orphan, signal.SIGCONT)
            starting.join()
            servers.postgres.wait()
        connection.close()


def test_keys_are_for_their_owner_alone(servers: Stack) -> None:
    files = [file for file in servers.keys.folder.iterdir() if file.is_file()]
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((servers.folder / "stack.json").stat().st_mode) == 0o600
