"""The tables are what the migrations make, and the way back works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.database import migrate


def test_tables_and_migrations_say_the_same(fresh_database: Callable[..., Any]) -> None:
    assert migrate.differences("cases", fresh_database("cases").url) == []


def test_down_and_up_again(fresh_database: Callable[..., Any]) -> None:
    url = fresh_database("cases").url
    down = migrate.downgrade("cases", url)
    assert migrate.upgrade("cases", url) == list(reversed(down))
