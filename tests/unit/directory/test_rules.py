"""The directory's decisions.

Proves R-DIR-3, R-DIR-4, R-DIR-5, R-DIR-9, R-DIR-12, R-ID-9.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.directory import rules

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
WHOLE = {
    "county_code": "14",
    "has_coordinates": True,
    "destinations": ["03"],
    "care_types": ["01"],
    "business_types": ["02"],
}


@pytest.mark.parametrize(
    ("gone", "end_date", "warning"),
    [
        (False, None, None),
        (False, AFTER, None),
        (False, NOW, "ended"),
        (False, BEFORE, "ended"),
        (True, None, "not_in_directory"),
        (True, BEFORE, "not_in_directory"),
    ],
)
def test_the_warning_says_which_r_dir_4(gone, end_date, warning):
    assert rules.warning(gone=gone, end_date=end_date, now=NOW) == warning


def test_a_unit_with_every_mandatory_attribute_r_dir_5():
    assert rules.missing_attributes(**WHOLE) == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"county_code": None}, ["county_code"]),
        ({"has_coordinates": False}, ["coordinates"]),
        ({"destinations": ["01"]}, ["destination_indicator"]),
        ({"care_types": []}, ["care_type"]),
        ({"county_code": None, "has_coordinates": False, "business_types": ["03"]}, []),
        ({"destinations": [], "care_types": [], "business_types": ["03"]}, ["destination_indicator", "care_type"]),
    ],
)
def test_what_is_missing_is_named_r_dir_5(change, missing):
    assert rules.missing_attributes(**(WHOLE | change)) == missing


def test_gone_only_after_two_complete_runs_r_dir_12():
    assert [rules.is_gone(runs) for runs in (0, 1, 2, 3)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("present", "absent", "share", "too_much"),
    [(100, 10, 0.1, False), (100, 11, 0.1, True), (0, 0, 0.1, False), (5, 1, 0.1, True), (5, 5, 1.0, False)],
)
def test_a_run_that_lacks_too_many_r_dir_12(present, absent, share, too_much):
    assert rules.removes_too_much(present=present, absent=absent, share=share) is too_much


@given(st.integers(1, 10**6), st.floats(0, 0.99))
def test_a_whole_catalogue_is_never_removed_r_dir_12(present, share):
    assert rules.removes_too_much(present=present, absent=present, share=share)


@pytest.mark.parametrize(
    ("found", "hidden", "end_date", "status"),
    [
        (True, False, None, "fine"),
        (True, False, AFTER, "fine"),
        (True, False, NOW, "missing"),
        (True, True, None, "missing"),
        (False, False, None, "missing"),
    ],
)
def test_absent_hidden_or_ended_is_missing_r_id_9(found, hidden, end_date, status):
    assert rules.staff_status(found=found, hidden=hidden, end_date=end_date, now=NOW) == status


def test_a_copy_under_24_hours_will_do_r_dir_12():
    day = timedelta(hours=24)
    assert rules.copy_will_do(NOW - day + timedelta(seconds=1), NOW)
    assert not rules.copy_will_do(NOW - day, NOW)
    assert not rules.copy_will_do(None, NOW)


@pytest.mark.parametrize(
    ("case_types", "cases", "reason"), [(0, 0, None), (1, 0, "case_types_active"), (0, 1, "cases_open")]
)
def test_inactivation_waits_r_dir_3(case_types, cases, reason):
    assert rules.reason_not_to_inactivate(active_case_types=case_types, open_cases=cases) == reason


@pytest.mark.parametrize(
    ("own", "regional", "order"),
    [
        ("abc", None, "abc"),
        ("abc", "", "abc"),
        ("abc", "cb", "cba"),
        ("abc", "cxa", "cab"),  # what is not active is on no card
        ("abc", "cca", "cab"),
        ("", "abc", ""),
    ],
)
def test_the_regional_order_goes_first_r_dir_9(own, regional, order):
    assert "".join(rules.public_order(list(own), regional)) == order


@pytest.mark.parametrize(
    ("active", "warning", "missing", "reason"),
    [
        (True, None, [], None),
        (False, None, [], "not_a_clinic"),
        (True, "ended", [], "ended"),
        (True, "not_in_directory", ["care_type"], "not_in_directory"),
        (True, None, ["care_type"], "missing_attributes"),
    ],
)
def test_why_there_is_no_public_card_r_dir_5(active, warning, missing, reason):
    assert rules.not_shown(active=active, warning=warning, missing=missing) == reason


@pytest.mark.parametrize(
    ("asked", "absent", "too_many"), [(1, 1, False), (3, 3, False), (4, 4, True), (100, 10, False), (100, 11, True)]
)
def test_a_refresh_that_finds_too_few_is_not_believed_r_dir_12(asked, absent, too_many):
    assert rules.too_many_not_found(asked=asked, absent=absent, share=0.1) is too_many
