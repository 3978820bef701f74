"""Cursors, attachment limits and signatures."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cases.paging import cursor, number_cursor, page, read_cursor, read_number_cursor
from services.cases.rules import check_attachments
from services.cases.signature import name_and_signature
from shared.messaging.errors import Invalid, LimitExceeded


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_r_case_19_a_cursor_leads_back_to_its_place(moment: datetime, case: UUID) -> None:
    """R-CASE-19"""
    assert read_cursor(cursor(moment, case)) == (moment, case)


@given(st.integers(0, 2**63 - 1))
def test_r_case_19_a_number_cursor_too(entry: int) -> None:
    """R-CASE-19"""
    assert read_number_cursor(number_cursor(entry)) == entry


@given(st.text(max_size=60))
def test_r_case_19_anything_else_is_invalid(text: str) -> None:
    """R-CASE-19"""
    for read in (read_cursor, read_number_cursor):
        with suppress(Invalid):
            read(text)


def test_r_case_19_a_place_without_time_zone_or_beyond_the_numbers_is_invalid() -> None:
    """R-CASE-19"""
    for text in (cursor(datetime(2026, 1, 1), uuid4()), "", "!"):
        with pytest.raises(Invalid):
            read_cursor(text)
    for number in (-1, 2**63):
        with pytest.raises(Invalid):
            read_number_cursor(number_cursor(number))


def test_r_case_19_the_last_page_has_no_cursor() -> None:
    """R-CASE-19"""
    assert page([1, 2, 3], 2, str) == ([1, 2], "2")
    assert page([1, 2], 2, str) == ([1, 2], None)
    assert page([], 2, str) == ([], None)


def test_r_att_3_files_of_one_message() -> None:
    """R-ATT-3"""
    files = [uuid4() for _ in range(6)]
    check_attachments(files[:5], 5)
    with pytest.raises(LimitExceeded):
        check_attachments(files, 5)
    with pytest.raises(Invalid):
        check_attachments([files[0], files[0]], 5)


@pytest.mark.parametrize(
    ("parts", "signature"),
    [
        (("Karin", "Ek", "läkare"), "Karin Ek, läkare"),
        (("Karin", "Ek", None), "Karin Ek"),
        (("Karin", None, " "), "Karin"),
        ((None, None, None), ""),
    ],
)
def test_r_case_11_signature_of_first_name_last_name_and_title(
    parts: tuple[str | None, str | None, str | None], signature: str
) -> None:
    """R-CASE-11"""
    assert name_and_signature(*parts)[1] == signature
