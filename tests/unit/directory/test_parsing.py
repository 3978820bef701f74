"""Values of KiV and HSA to types, the odd ones as they have really been seen.

Proves R-ID-7.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.directory import parsing
from services.directory.parsing import Hours, Notice, Rt90, Unparsed

EVERY = (
    parsing.hsa_id,
    parsing.instant,
    parsing.hours,
    parsing.notice,
    parsing.address,
    parsing.coordinates,
    parsing.phone,
    parsing.email,
    parsing.link,
    lambda value: parsing.code(value, 2),
)


@pytest.mark.parametrize("parse", EVERY)
@given(value=st.text() | st.from_regex(r"[0-9#:$,XY\-+ Z\r\n]*", fullmatch=True))
def test_no_value_raises(parse, value):
    parse(value)


@pytest.mark.parametrize(
    ("value", "days", "opens", "closes"),
    [
        ("1-5#08:00#17:00", (1, 2, 3, 4, 5), "08:00", "17:00"),
        ("6-1#08:00#08:00", (6, 7, 1), "08:00", "08:00"),
        ("7-7#10:00#16:00", (7,), "10:00", "16:00"),
        (" 3#9:30#24:00 ", (3,), "09:30", "24:00"),
        ("1-7#00:00#24:00", (1, 2, 3, 4, 5, 6, 7), "00:00", "24:00"),
    ],
)
def test_hours_with_days_that_may_wrap_the_week(value, days, opens, closes):
    assert parsing.hours(value) == Hours(days, opens, closes)


def test_hours_with_a_comment():
    assert parsing.hours("1-5#08:00#17:00#endast lab##") == Hours((1, 2, 3, 4, 5), "08:00", "17:00", "endast lab")


@pytest.mark.parametrize("value", ["", "-", "1-8#08:00#17:00", "1-5 08-17", "1-5#25:00#26:00", "1-5#08:60#17:00"])
def test_what_are_no_hours(value):
    assert isinstance(parsing.hours(value), Unparsed)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("20100630123723Z", datetime(2010, 6, 30, 12, 37, 23, tzinfo=UTC)),
        ("20100630123723", datetime(2010, 6, 30, 10, 37, 23, tzinfo=UTC)),
        ("20160121", datetime(2016, 1, 20, 23, 0, tzinfo=UTC)),
    ],
)
def test_times_in_utc_or_swedish(value, moment):
    assert parsing.instant(value) == moment


@pytest.mark.parametrize("value", ["", "20101350000000Z", "00000000000000Z", "99991231235959", "igår", "2010-06-30"])
def test_what_are_no_times(value):
    parsed = parsing.instant(value)
    assert isinstance(parsed, Unparsed) or value.startswith("9999")


def test_addresses_are_split_at_dollars_without_empty_lines():
    value = "Vårdcentral Bjurslätt$ $Bjurslätts Torg 6\r$ $417 26$Göteborg"
    assert parsing.address(value) == ("Vårdcentral Bjurslätt", "Bjurslätts Torg 6", "417 26", "Göteborg")
    assert parsing.address(" $ $\r") == Unparsed("empty")


@pytest.mark.parametrize("value", ["X: 6407478, Y: 1268655", "X:6407478,Y:1268655", "x: 6407478 , y: 1268655"])
def test_rt90_coordinates(value):
    assert parsing.coordinates(value) == Rt90(6407478, 1268655)


def test_coordinates_that_are_none():
    assert parsing.coordinates("X: 1268655, Y: 6407478") == Unparsed("outside_sweden")
    assert parsing.coordinates("57.7, 11.9") == Unparsed("not_coordinates")


@pytest.mark.parametrize(
    ("value", "number"),
    [("+46317478430", "+46317478430"), ("031-747 84 30", "+46317478430"), (" 070-174 06 05 ", "+46701740605")],
)
def test_phones_in_e164(value, number):
    assert parsing.phone(value) == number


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "empty"), ("1177", "short_number"), ("-", "not_a_phone_number"), ("+4612", "not_a_phone_number")],
)
def test_phones_without_such_a_form(value, reason):
    assert parsing.phone(value) == Unparsed(reason)


@pytest.mark.parametrize("value", ["-", "se Mina Vårdkontakter", "a@b.se, c@d.se", "@vgregion.se", "x@y"])
def test_what_are_no_mail_addresses(value):
    assert parsing.email(value) == Unparsed("not_an_email_address")


def test_links():
    assert parsing.link(" http://www.vgregion.se/vc ") == "http://www.vgregion.se/vc"
    assert parsing.link("www.vgregion.se/vc") == "https://www.vgregion.se/vc"
    assert parsing.link("saknas") == Unparsed("not_a_link")
    assert parsing.link("javascript:alert(1)") == Unparsed("not_a_link")
    for value in ("https://saknar-punkt/vc", "https://.se", "https://vgregion.", "https://vgregion.se/en vc"):
        assert parsing.link(value) == Unparsed("not_a_link")
    assert parsing.link("HTTPS://1.se:8443/vc?a=å#b") == "HTTPS://1.se:8443/vc?a=å#b"


def test_no_value_holds_a_run_up_r_dir_12():
    """A source's longest value has four million characters; the work on it must not grow faster than it does."""
    blanks = " " * 50_000
    for value in (
        "https://" + "a." * 50_000 + " x",
        "X: 6407478" + blanks + "z",
        "20260101" + blanks,
        "1" + blanks + "2",
    ):
        began = time.monotonic()
        for parse in EVERY:
            parse(value)
        assert time.monotonic() - began < 1.0


def test_temporary_information_with_its_days():
    parsed = parsing.notice("20100520-20100822 OBS! Ingen drop-in\r\nunder veckorna 27-33")
    assert parsed == Notice(date(2010, 5, 20), date(2010, 8, 22), "OBS! Ingen drop-in\nunder veckorna 27-33")
    assert parsing.notice("20100822-20100520 baklänges") == Unparsed("ends_before_it_begins")
    assert parsing.notice("20101320-20101321 nej") == Unparsed("not_a_date")
    assert parsing.notice("utan datum") == Unparsed("not_temporary_information")


@pytest.mark.parametrize("value", ["se2321000131-e000000001708", " SE2321000131 -\u00a0E00000\u200b0001708 "])
def test_hsa_ids_with_blanks_and_in_any_case_r_id_7(value):
    assert parsing.hsa_id(value) == "SE2321000131-E000000001708"


def test_folding_hides_accents_case_and_blanks():
    assert parsing.folded("Vårdcentralen  ÅNGSTRÖM Café") == "vardcentralen angstrom cafe"
    assert parsing.folded("SE2321\u200b000131\ufeff-E1") == "se2321000131-e1"


@given(st.text())
def test_what_is_folded_stays_so(value):
    once = parsing.folded(value)
    assert parsing.folded(once) == once


def test_text_with_carriage_returns_and_dollars():
    assert parsing.prose("Vid torget. \r$Buss 25.\r$\r$\r$\r$\r$") == "Vid torget.\nBuss 25."


def test_text_that_the_database_could_not_keep():
    assert parsing.storable({"a\x00": ["x\ud800", 1, None]}) == {"a\ufffd": ["x\ufffd", 1, None]}
