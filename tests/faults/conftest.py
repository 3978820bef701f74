"""Fixtures of the fault tests."""

from __future__ import annotations

from tests.integration.conftest import database_server, kernel_broker, kernel_db

__all__ = ["database_server", "kernel_broker", "kernel_db"]
