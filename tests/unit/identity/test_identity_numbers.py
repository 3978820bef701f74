"""Identity numbers of every form that people have."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.identity_numbers import IdentityNumber, NotANumber, NumberKind, luhn, parse

TODAY = date(2026, 11, 23)
SKATTEVERKET = Path(__file__).parents[4] / "shared" / "testdata" / "identity-numbers"


def kind(text: str) -> NumberKind | None:
    try:
        return parse(text, TODAY).kind
    except NotANumber:
        return None


@pytest.mark.parametrize(
    ("text", "series"),
    [
        ("189001019802", NumberKind.PERSONNUMMER),
        ("20000229-2399", NumberKind.PERSONNUMMER),
        ("197302889931", NumberKind.SAMORDNINGSNUMMER),
        ("192004912388", NumberKind.SAMORDNINGSNUMMER),
        ("19810829M071", NumberKind.RESERVE_VASTRA_GOTALAND),
        ("19450829k088", NumberKind.RESERVE_VASTRA_GOTALAND),
        ("19930829-X802", NumberKind.RESERVE_VASTRA_GOTALAND),
        ("20000101T220", NumberKind.RESERVE_NATIONAL),
        ("19800101AB12", NumberKind.RESERVE_VARMLAND),
    ],
)
def test_r_id_24_every_series_is_known(text: str, series: NumberKind) -> None:
    """R-ID-24"""
    assert kind(text) is series


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "189001019803",
        "19810829M072",
        "19810829M901",
        "19811329M071",
        "200002302391",
        "212345678",
        "AAAAAAAAAAAA",
        "857209-0606",
        "189001019802\x00",
        "٢٠٠٠٠٢٢٩٢٣٩٩",
        "1" * 5000,
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    assert kind(text) is None


@given(
    st.dates(date(1890, 1, 1), TODAY),
    st.integers(1, 999),
    st.sampled_from(["{}", " {}", "{}\u00a0", "\u200b{} ", "{}\t\n"]),
)
def test_r_id_24_every_way_of_writing_a_personnummer_is_the_same_number(born: date, serial: int, around: str) -> None:
    """R-ID-24"""
    nine = f"{born:%y%m%d}{serial:03}"
    number = f"{born:%Y%m%d}{serial:03}{luhn(nine)}"
    sign = "+" if TODAY.year - born.year >= 100 else "-"
    forms = [number, f"{number[:8]}-{number[8:]}", f"{number[:8]} {number[8:]}"]
    if TODAY.year - born.year < 200:
        forms.append(f"{number[2:8]}{sign}{number[8:]}")
    for form in forms:
        assert parse(around.format(form), TODAY) == IdentityNumber(number, NumberKind.PERSONNUMMER)


@given(st.integers(1900, 2026), st.integers(0, 12), st.integers(60, 91), st.integers(1, 999))
def test_samordningsnummer_may_lack_month_and_day(year: int, month: int, day: int, serial: int) -> None:
    nine = f"{year % 100:02}{month:02}{day:02}{serial:03}"
    assert kind(f"{year // 100}{nine}{luhn(nine)}") is NumberKind.SAMORDNINGSNUMMER


@given(st.integers(1900, 2026), st.integers(1, 12), st.integers(32, 59), st.integers(1, 999))
def test_reserve_numbers_of_inera(year: int, month: int, day: int, serial: int) -> None:
    nine = f"{year % 100:02}{month:02}{day:02}{serial:03}"
    assert kind(f"{year // 100}{nine}{luhn(nine)}") is NumberKind.RESERVE_INERA


@given(st.integers(1900, 2026), st.integers(0, 99999))
def test_reserve_numbers_of_stockholm(year: int, serial: int) -> None:
    seven = f"{year % 100:02}{serial:05}"
    assert kind(f"99{year}{serial:05}{luhn(seven)}") is NumberKind.RESERVE_STOCKHOLM


@given(st.dates(date(1900, 1, 1), TODAY), st.sampled_from("KMX"), st.integers(6, 89))
def test_reserve_numbers_of_vastra_gotaland(born: date, letter: str, serial: int) -> None:
    digit = {"K": "5", "M": "7", "X": "8"}[letter]
    check = luhn(f"{born:%y%m%d}{digit}{serial:02}")
    assert kind(f"{born:%Y%m%d}{letter}{serial:02}{check}") is NumberKind.RESERVE_VASTRA_GOTALAND


@given(st.dates(TODAY - timedelta(days=36000), TODAY), st.integers(1, 999), st.integers(0, 11), st.integers(1, 9))
def test_one_wrong_digit_is_never_the_same_personnummer(born: date, serial: int, place: int, more: int) -> None:
    nine = f"{born:%y%m%d}{serial:03}"
    number = f"{born:%Y%m%d}{serial:03}{luhn(nine)}"
    wrong = number[:place] + str((int(number[place]) + more) % 10) + number[place + 1 :]
    if place >= 2 and not wrong.startswith("99"):
        assert kind(wrong) is None
    else:  # the century is not in the check digit; it is another person
        assert wrong != number


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_is_refused(text: str) -> None:
    try:
        found = parse(text, TODAY)
    except NotANumber:
        return
    assert len(found.number) == 12
    assert parse(found.number, TODAY) == found
    assert found.number not in repr(found)


def test_a_refusal_holds_nothing_of_what_was_written() -> None:
    with pytest.raises(NotANumber) as caught:
        parse("189001019803", TODAY)
    assert "1890" not in str(caught.value)


def test_numbers_of_skatteverket() -> None:
    """All of Skatteverket's test numbers, where they are at hand."""
    if not SKATTEVERKET.is_dir():
        pytest.skip("Skatteverket's test numbers are not at hand: the project's own numbers above were tested alone")
    for name, series in (
        ("personnummer", NumberKind.PERSONNUMMER),
        ("samordningsnummer", NumberKind.SAMORDNINGSNUMMER),
    ):
        numbers = json.loads((SKATTEVERKET / f"{name}.json").read_text())
        assert numbers
        assert {number for number in numbers if kind(number) is not series} == set()
    for entry in json.loads((SKATTEVERKET / "list.json").read_text()):
        for form in ("long_format", "separated_format", "separated_long"):
            if " " not in entry[form]:  # blanks are not an error here
                assert (kind(entry[form]) is not None) is entry["valid"], entry
    for entry in json.loads((SKATTEVERKET / "orgnumber.json").read_text()):
        assert kind(entry["short_format"]) is None
