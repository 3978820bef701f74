# ruff: noqa: S608 - statements are made of the migrations' own words
"""Changes of a full table that keep nobody from it: for migrations, which run beside the previous version's processes.

Each is committed by itself, and with it what the migration has done before. So a migration that fails halfway is run
again from its start: what stands before these in it must bear that (`if_not_exists`), as these do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text

AT_ONCE = 5000
"""Rows that are changed in one transaction."""


def create_index(
    op: Any,
    name: str,
    table: str,
    columns: Sequence[str | TextClause],
    *,
    unique: bool = False,
    where: str | None = None,
) -> None:
    """Makes an index while the table is written to; one that an earlier try left half made is made anew."""
    condition = None if where is None else text(where)
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.create_index(
            name, table, list(columns), unique=unique, postgresql_where=condition, postgresql_concurrently=True
        )


def update(op: Any, table: str, values: str, where: str) -> None:
    """`UPDATE table SET values WHERE where`, some rows at a time in the order of the key, `id`.

    Rows that are written meanwhile are the running version's concern. Run twice it must do no harm.
    """
    last_of_lot = text(f"SELECT id FROM {table} WHERE id > :after ORDER BY id OFFSET {AT_ONCE - 1} LIMIT 1")
    first = op.get_bind().scalar(text(f"SELECT id FROM {table} ORDER BY id LIMIT 1"))
    condition, after = "id >= :after", first
    with op.get_context().autocommit_block():
        while after is not None:
            last = op.get_bind().scalar(last_of_lot, {"after": after})
            upto, key = ("", {}) if last is None else (" AND id <= :last", {"last": last})
            change = text(f"UPDATE {table} SET {values} WHERE {condition}{upto} AND ({where})")
            op.get_bind().execute(change, {"after": after} | key)
            condition, after = "id > :after", last
