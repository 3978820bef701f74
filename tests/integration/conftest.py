"""Fixtures that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.attachments_support import attachments_place, world
from tests.integration.kernel_support import KernelDatabase, administrator_url, fresh_database

__all__ = ["attachments_place", "world"]


@pytest.fixture
def kernel_db() -> Iterator[KernelDatabase]:
    """A fresh database with the kernel's tables."""
    with fresh_database(administrator_url()) as database:
        yield database


@pytest.fixture
def empty_db() -> Iterator[KernelDatabase]:
    """A fresh database without tables."""
    with fresh_database(administrator_url(), empty=True) as database:
        yield database
