"""Fixtures that the integration tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shared.operations import logs
from tests.integration.attachments_support import attachments_place, clamd, world
from tests.integration.directory_support import directory, directory_database
from tests.integration.identity_support import identity_of_module, made, one
from tests.integration.kernel_broker import KernelBroker
from tests.integration.kernel_support import KernelDatabase, fresh_database
from tests.integration.notifications_support import notifications_database, notifications_world

__all__ = [
    "attachments_place",
    "clamd",
    "directory",
    "directory_database",
    "identity_of_module",
    "made",
    "notifications_database",
    "notifications_world",
    "one",
    "world",
]


@pytest.fixture(scope="session")
def database_server(request: pytest.FixtureRequest) -> str:
    """Address of the database server's administrator; a run inside another run is told it by that one."""
    told = os.environ.get("KERNEL_TEST_DATABASE")
    return told or str(request.getfixturevalue("servers").postgres.admin_url())


@pytest.fixture
def kernel_db(database_server: str) -> Iterator[KernelDatabase]:
    """A fresh database with the kernel's tables and one for effects; log lines as in a process."""
    logs.configure("cases", "test")
    with fresh_database(database_server) as database:
        yield database


@pytest.fixture
def empty_db(database_server: str) -> Iterator[KernelDatabase]:
    """A fresh database without tables."""
    with fresh_database(database_server, empty=True) as database:
        yield database


@pytest.fixture
def kernel_broker(request: pytest.FixtureRequest) -> Iterator[KernelBroker]:
    """A virtual host without queues; a run inside another run is told it by that one."""
    told = os.environ.get("KERNEL_TEST_BROKER")
    broker = KernelBroker(told or request.getfixturevalue("broker_vhost").url)
    yield broker
    if told:
        broker.clear()
