"""Paging by key: a page begins after the last row of the one before, however many rows come in between (R-CASE-19)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, tuple_

from shared.messaging.errors import Invalid

Row = TypeVar("Row")


def cursor(moment: datetime, case: UUID) -> str:
    """Where a page ended: opaque to callers."""
    return base64.urlsafe_b64encode(f"{moment.isoformat()} {case}".encode()).decode()


def read_cursor(text: str) -> tuple[datetime, UUID]:
    """The place that a cursor names. Raises `Invalid`."""
    try:
        moment, _, case = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
        place = datetime.fromisoformat(moment), UUID(case)
    except (ValueError, binascii.Error):
        raise _no_cursor() from None
    if place[0].tzinfo is None:
        raise _no_cursor()
    return place


def number_cursor(entry: int) -> str:
    """As `cursor`, for tables that are numbered."""
    return base64.urlsafe_b64encode(str(entry).encode()).decode()


def read_number_cursor(text: str) -> int:
    """The number that a cursor names. Raises `Invalid`."""
    try:
        entry = int(base64.urlsafe_b64decode(text.encode()).decode())
    except (ValueError, binascii.Error):
        raise _no_cursor() from None
    if not 0 <= entry < 2**63:
        raise _no_cursor()
    return entry


def _no_cursor() -> Invalid:
    return Invalid("Sidan finns inte.", reason="cursor_invalid", fields=[("after", "är ingen sidmarkör")])


def before(moment: ColumnElement[Any], case: ColumnElement[Any], place: tuple[datetime, UUID]) -> ColumnElement[bool]:
    """The rows that come after the place, in falling order."""
    return tuple_(moment, case) < tuple_(*place)


def page(rows: Sequence[Row], limit: int, place: Callable[[Row], str]) -> tuple[list[Row], str | None]:
    """Of at most `limit` + 1 rows: those of the page, and the cursor of the next one if there is one."""
    shown = list(rows[:limit])
    return shown, place(shown[-1]) if len(rows) > limit else None
