"""Statements of SQLAlchemy Core that are put together once and run many times by `Transaction.ask` and `look`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]


class Prepared(NamedTuple):
    """A statement in SQL, and what its values are called, in order."""

    sql: bytes
    names: tuple[str, ...]

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """The values in the order of the statement."""
        return [given[name] for name in self.names]


def prepared(statement: ClauseElement) -> Prepared:
    """The statement, which has a `bindparam` for each value, none of them expanding."""
    made = statement.compile(dialect=_DIALECT)
    assert isinstance(made, SQLCompiler)
    return Prepared(str(made).encode(), tuple(made.positiontup or ()))
