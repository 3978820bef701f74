"""Clinics: activated, inactivated, warned about and found.

Proves R-DIR-3, R-DIR-4, R-DIR-5, R-DIR-11, R-DIR-13, R-ID-25.
"""

from __future__ import annotations

import base64
from uuid import uuid4

import pytest

from services.directory import clinics, inactivating, searching
from shared.contracts.cases import ClinicActivity
from shared.contracts.directory import ActivateClinic, GetClinics, InactivateClinic, SearchClinics
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from tests.integration.directory_support import (
    ADMINISTRATOR,
    OPERATOR,
    REGION,
    RESIDENT,
    STAFF,
    FakeSource,
    unit,
    unit_id,
)

QUIET = ClinicActivity(active_case_types=0, open_cases=0)
OPEN_CASE = ClinicActivity(active_case_types=0, open_cases=1)
WHOLE = {
    "hsacountycode": "14",
    "hsamunicipalitycode": "1480",
    "hsageographicalcoordinates": "X: 6407478, Y: 1268655",
    "hsadestinationindicator": "03",
    "vgrcaretype": "01",
}


def activate(directory, number, caller=ADMINISTRATOR):
    return directory.do(clinics.activate, ActivateClinic(request_id=uuid4(), clinic=unit_id(number)), caller=caller)


def inactivate(directory, number, activity=QUIET, caller=ADMINISTRATOR, version=None):
    asked = InactivateClinic(request_id=uuid4(), clinic=unit_id(number))
    version = version or directory.do(inactivating.version_of, asked)
    return directory.do(inactivating.inactivate, asked, version, activity, caller=caller)


def facts(directory, *numbers):
    return directory.do(clinics.get_clinics, GetClinics(clinics=[unit_id(n) for n in numbers])).clinics


def names(found):
    return [one.name for one in found.clinics]


def search(directory, words, caller=STAFF, **options):
    return directory.do(searching.search, SearchClinics(text=words, **options), caller=caller)


def search_as_resident(directory, words, *open_clinics, **options):
    """As the service does it, when identity says that these are open."""
    asked = SearchClinics(text=words, **options)
    hits = directory.do(searching.for_resident, asked, caller=RESIDENT)
    return searching.page(hits, asked.limit, {unit_id(n) for n in open_clinics})


# --- activation -----------------------------------------------------------------------------------------------------


def test_a_regional_administrator_activates_a_unit_r_dir_3(directory):
    directory.run(FakeSource([unit(1, "Vårdcentralen Ek"), unit(2)]))
    made = activate(directory, 1)
    assert (made.clinic, made.name, made.care_provider, made.version) == (unit_id(1), "Vårdcentralen Ek", REGION, 1)
    assert directory.told() == [("clinic_activated", {"clinic": unit_id(1), "version": 1})]
    assert [one.active for one in facts(directory, 1, 2)] == [True, False]


def test_activating_twice_is_told_once(directory):
    directory.run(FakeSource([unit(1)]))
    assert activate(directory, 1) == activate(directory, 1)
    assert len(directory.told()) == 1


@pytest.mark.parametrize("caller", [STAFF, RESIDENT, OPERATOR])
def test_nobody_else_activates_or_inactivates(directory, caller):
    directory.run(FakeSource([unit(1)]))
    with pytest.raises(Forbidden):
        activate(directory, 1, caller)
    activate(directory, 1)
    with pytest.raises(Forbidden):
        inactivate(directory, 1, caller=caller)


def test_only_what_is_in_the_directory_and_has_not_ended_is_activated(directory):
    source = FakeSource([unit(1), unit(2, hsaenddate="20261123115959Z"), unit(3)])
    directory.run(source)
    with pytest.raises(NotFound):
        activate(directory, 99)
    with pytest.raises(Conflict) as ended:
        activate(directory, 2)
    assert ended.value.reason == "unit_ended"
    source.unit_records = source.unit_records[:2]
    directory.run(source)
    directory.run(source)
    with pytest.raises(NotFound):
        activate(directory, 3)


@pytest.mark.parametrize(
    ("activity", "reason"),
    [
        (ClinicActivity(active_case_types=1, open_cases=0), "case_types_active"),
        (ClinicActivity(active_case_types=0, open_cases=1), "cases_open"),
    ],
)
def test_inactivation_is_refused_while_something_is_active_r_dir_3(directory, activity, reason):
    directory.run(FakeSource([unit(1)]))
    activate(directory, 1)
    with pytest.raises(Conflict) as refused:
        inactivate(directory, 1, activity)
    assert refused.value.reason == reason
    assert facts(directory, 1)[0].active


def test_a_clinic_is_inactivated_and_may_be_activated_again(directory):
    directory.run(FakeSource([unit(1)]))
    activate(directory, 1)
    assert inactivate(directory, 1).version == 2
    assert not facts(directory, 1)[0].active
    with pytest.raises(NotFound):
        inactivate(directory, 1)
    assert activate(directory, 1).version == 3
    assert [kind for kind, _ in directory.told()] == ["clinic_activated", "clinic_inactivated", "clinic_activated"]


def test_what_cases_has_told_before_an_inactivation_and_an_activation_counts_no_more_r_dir_3(directory):
    directory.run(FakeSource([unit(1)]))
    before = activate(directory, 1).version
    inactivate(directory, 1)
    activate(directory, 1)
    with pytest.raises(Conflict) as refused:
        inactivate(directory, 1, QUIET, version=before)
    assert refused.value.reason == "clinic_changed"
    assert facts(directory, 1)[0].active


@pytest.mark.parametrize("activity", [ClinicActivity(active_case_types=1, open_cases=0), OPEN_CASE])
def test_an_inactivation_that_something_slipped_past_is_taken_back_r_dir_3(directory, activity):
    directory.run(FakeSource([unit(n) for n in (1, 2, 3)]))
    for number in (1, 2, 3):
        activate(directory, number)
    for number in (1, 2):
        inactivate(directory, number)
    directory.told()
    asked = []

    def told(clinic):
        asked.append(clinic)
        return activity if clinic == unit_id(1) else QUIET

    assert inactivating.take_back(directory.transaction, told) == 1
    assert asked == [unit_id(1), unit_id(2)]
    assert [one.active for one in facts(directory, 1, 2, 3)] == [True, False, True]
    assert directory.told() == [("clinic_activated", {"clinic": unit_id(1), "version": 3})]
    assert inactivate(directory, 1).version == 4


def test_a_clinic_that_cases_does_not_answer_about_keeps_no_other_from_being_taken_back_r_dir_3(directory):
    directory.run(FakeSource([unit(1), unit(2)]))
    for number in (1, 2):
        activate(directory, number)
        inactivate(directory, number)

    def told(clinic):
        if clinic == unit_id(1):
            raise Unavailable(reason="deadline")
        return OPEN_CASE

    with pytest.raises(Unavailable):
        inactivating.take_back(directory.transaction, told)
    assert [one.active for one in facts(directory, 1, 2)] == [False, True]


def test_only_what_was_asked_about_is_taken_back_r_dir_3(directory):
    directory.run(FakeSource([unit(1)]))
    activate(directory, 1)
    inactivate(directory, 1)

    def meanwhile(_clinic):
        activate(directory, 1)
        inactivate(directory, 1)
        return OPEN_CASE

    assert inactivating.take_back(directory.transaction, meanwhile) == 0
    assert facts(directory, 1)[0].version == 4
    # Cases has long since answered all that was under way.
    directory.move(days=2)
    assert inactivating.take_back(directory.transaction, lambda _clinic: OPEN_CASE) == 0
    assert not facts(directory, 1)[0].active


# --- reading --------------------------------------------------------------------------------------------------------


def test_facts_come_in_the_order_asked_for_and_unknown_ids_are_left_out(directory):
    directory.run(FakeSource([unit(1), unit(2)]))
    assert [one.clinic for one in facts(directory, 2, 9, 1, 2)] == [unit_id(2), unit_id(1)]


def test_the_care_provider_is_the_directorys_word_else_the_default_r_id_25(directory):
    own = {"hsaresponsiblehealthcareprovider": unit_id(7)}
    directory.run(FakeSource([unit(1), unit(2, **own), unit(7, "Ek Vård AB")]))
    first, second = facts(directory, 1, 2)
    assert (first.care_provider, first.care_provider_name) == (REGION, "Regionen")
    assert (second.care_provider, second.care_provider_name) == (unit_id(7), "Ek Vård AB")
    assert activate(directory, 2).care_provider == unit_id(7)


def test_the_warning_says_that_the_end_date_has_passed_r_dir_4(directory):
    directory.run(FakeSource([unit(1, hsaenddate="20261123130000Z")]))
    activate(directory, 1)
    assert facts(directory, 1)[0].warning is None
    directory.move(hours=1)
    [late] = facts(directory, 1)
    assert (late.warning, late.in_directory, late.active) == ("ended", True, True)


def test_the_warning_says_that_the_id_is_gone_r_dir_4(directory):
    source = FakeSource([unit(1), unit(2)])
    directory.run(source)
    activate(directory, 1)
    source.unit_records = [unit(2), unit(3)]
    directory.run(source)
    assert facts(directory, 1)[0].warning is None
    directory.run(source)
    [gone] = facts(directory, 1)
    assert (gone.warning, gone.in_directory, gone.active) == ("not_in_directory", False, True)


def test_missing_mandatory_attributes_are_named_r_dir_5(directory):
    directory.run(FakeSource([unit(1, **WHOLE), unit(2), unit(3, hsabusinesstype="03", vgrcaretype="01")]))
    whole, bare, distance = facts(directory, 1, 2, 3)
    assert (whole.missing_attributes, whole.county_code, whole.municipality_code) == ([], "14", "1480")
    assert bare.missing_attributes == ["county_code", "coordinates", "destination_indicator", "care_type"]
    assert distance.missing_attributes == ["destination_indicator"]


# --- searching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["vardcentral", "VÅRDCENTRALEN ang", "  änge ", "Göteborg angen", "goteborg", unit_id(1), "e000000000001"]
)
def test_units_are_found_by_name_place_and_hsa_id_r_dir_11(directory, words):
    directory.run(FakeSource([unit(1, "Vårdcentralen Ängen", l="Göteborg"), unit(2, "Barnmorskan Ek", l="Borås")]))
    assert names(search(directory, words)) == ["Vårdcentralen Ängen"]


@pytest.mark.parametrize("words", ["100%", "_", "\\", "%"])
def test_what_means_something_to_the_database_is_searched_for_literally(directory, words):
    directory.run(FakeSource([unit(1, "Vårdcentralen 1003"), unit(2, f"Mottagning {words}")]))
    assert names(search(directory, words)) == [f"Mottagning {words}"]


def test_residents_find_active_clinics_only_r_dir_13(directory):
    directory.run(FakeSource([unit(1), unit(2)]))
    activate(directory, 2)
    assert len(search(directory, "vårdcentral").clinics) == 2
    assert names(search(directory, "vårdcentral", active_only=True)) == ["Vårdcentralen 2"]
    assert names(search_as_resident(directory, "vårdcentral", 1, 2)) == ["Vårdcentralen 2"]
    assert names(search_as_resident(directory, "vårdcentral", 1)) == []


def test_a_residents_pages_hold_what_is_open_to_them_each_once_r_dir_13(directory):
    """However few of what is found is open: no page looks at all there is, and none stops for good before the end."""
    directory.run(FakeSource([unit(n, f"Vårdcentralen {n:02}") for n in range(60)]))
    for n in range(60):
        activate(directory, n)
    for wanted in ((), (0,), (59,), (3, 4, 5, 6, 7, 8, 9, 29, 30, 31, 58), tuple(range(60))):
        pages, after = [], None
        while True:
            page = search_as_resident(directory, "vard", *wanted, limit=2, after=after)
            assert len(page.clinics) <= 2
            pages.append(page)
            if (after := page.after) is None:
                break
        assert [one.clinic for page in pages for one in page.clinics] == [unit_id(n) for n in wanted]


def test_what_is_gone_is_found_only_as_a_clinic_with_its_warning(directory):
    source = FakeSource([unit(1), unit(2), unit(3), unit(4)])
    directory.run(source)
    activate(directory, 1)
    source.unit_records = [unit(3), unit(4)]
    directory.run(source)
    directory.run(source)
    found = search(directory, "").clinics
    assert [(one.clinic, one.warning) for one in found] == [
        (unit_id(1), "not_in_directory"),
        (unit_id(3), None),
        (unit_id(4), None),
    ]


def test_pages_go_through_everything_once(directory):
    wanted = [unit(n, f"Vårdcentralen {n % 3}") for n in range(10)]
    directory.run(FakeSource(wanted))
    seen, after = [], None
    while True:
        page = search(directory, "vard", limit=3, after=after)
        seen += [one.clinic for one in page.clinics]
        if (after := page.after) is None:
            break
    assert sorted(seen) == [unit_id(n) for n in range(10)]
    assert len(set(seen)) == 10


def test_names_in_any_letters_are_gone_through_r_dir_11(directory):
    """A cursor holds such a name too; a client sends it back within the contract's length."""
    directory.run(FakeSource([unit(n, "Приёмная врача " * 12) for n in range(3)]))
    seen, after = [], None
    for _ in range(3):
        page = search(directory, "", limit=1, after=after)
        seen += [one.clinic for one in page.clinics]
        after = page.after
    assert (seen, after) == ([unit_id(n) for n in range(3)], None)


def cursor(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "after",
    [
        *("x", "e30=", "WzEsMl0=", "å"),
        *map(cursor, ("5", "null", '["a\\u0000", "b"]', '["a", "b\\u0000"]', '["a", "\\ud800"]', '{"a": 1, "b": 2}')),
        *map(cursor, ('["a", "b", "c"]', "[" * 700, '["a"')),
    ],
)
def test_a_cursor_that_is_none_r_dir_11(directory, after):
    with pytest.raises(Invalid):
        search(directory, "", after=after)
