"""Who may turn to which clinic, and who may act for a child: the decisions (R-ID-11, R-ID-13, R-ID-15, R-ID-22)."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity import rules
from services.identity.rules import Access, AccessRefused, Area, LetIn, Whereabouts

HERE, LISTED, TODAY = "SE2321000131-E1", "SE2321000131-E2", date(2026, 11, 25)
OUTSIDE, ELSEWHERE = AccessRefused.OUTSIDE_CATCHMENT, AccessRefused.PROTECTED_OUTSIDE_COUNTY
GOTHENBURG = Whereabouts(False, "14", "1480", None)


def decided(
    who: Whereabouts, *, county: str | None = "14", area: Area = rules.EVERYWHERE, let_in: LetIn | None = None
) -> Access:
    return rules.access_to_clinic(who, HERE, county, area, let_in, TODAY)


@pytest.mark.parametrize(
    ("area", "refused"),
    [
        (Area(), None),
        (Area(frozenset({"14"})), None),
        (Area(frozenset({"13"})), OUTSIDE),
        (Area(frozenset(), frozenset({"1480"})), None),
        (Area(frozenset(), frozenset({"1481"})), OUTSIDE),
        (Area(frozenset({"13"}), frozenset({"1480"})), None),
    ],
)
def test_r_id_22_a_clinic_may_limit_itself_to_counties_or_municipalities(
    area: Area, refused: AccessRefused | None
) -> None:
    """R-ID-22"""
    assert decided(GOTHENBURG, area=area).refused is refused


def test_r_id_22_nobody_knows_where_someone_lives_who_lives_nowhere() -> None:
    """R-ID-22, R-ID-18: the emigrated are inside only where everybody is, or where they are listed."""
    abroad = rules.whereabouts(protected=False, county=None, municipality=None, listed_at=None, listed_county=None)
    assert decided(abroad).refused is None
    assert decided(abroad, area=Area(frozenset({"14"}))).refused is OUTSIDE


def test_r_id_22_residents_outside_are_let_in_by_approval_and_its_limits() -> None:
    """R-ID-22: limited to case types, to a last day which still counts, and not after it."""
    area, types = Area(frozenset({"13"})), frozenset({uuid4()})
    assert decided(GOTHENBURG, area=area, let_in=LetIn()) == Access()
    assert decided(GOTHENBURG, area=area, let_in=LetIn(types)) == Access(case_types=types)
    assert decided(GOTHENBURG, area=area, let_in=LetIn(last_day=TODAY)) == Access()
    assert decided(GOTHENBURG, area=area, let_in=LetIn(last_day=TODAY - timedelta(days=1))).refused is OUTSIDE
    # Whoever belongs there anyway is not limited by it.
    assert decided(GOTHENBURG, let_in=LetIn(types)) == Access()


@pytest.mark.parametrize(
    ("listed_county", "clinic_county", "refused"),
    [
        ("14", "14", None),
        ("14", "13", ELSEWHERE),
        (None, "14", ELSEWHERE),
        ("14", None, ELSEWHERE),
        (None, None, ELSEWHERE),
    ],
)
def test_r_id_15_the_protected_reach_their_own_county(
    listed_county: str | None, clinic_county: str | None, refused: AccessRefused | None
) -> None:
    """R-ID-15: it is that of the clinic where they are listed; unknown counts as outside, also when both are."""
    who = rules.whereabouts(
        protected=True, county=None, municipality=None, listed_at=LISTED, listed_county=listed_county
    )
    assert decided(who, county=clinic_county).refused is refused
    assert decided(who, county=clinic_county, let_in=LetIn()).refused is None


def test_r_id_15_the_protected_reach_the_clinic_where_they_are_listed() -> None:
    """R-ID-15: wherever it lies and whatever its catchment."""
    who = rules.whereabouts(protected=True, county=None, municipality=None, listed_at=HERE, listed_county=None)
    assert decided(who, county=None, area=Area(frozenset({"01"}))).refused is None


def test_r_id_15_what_the_register_lets_slip_of_the_protected_decides_nothing() -> None:
    """R-ID-14, R-ID-15: a county that the register should not have given is not used."""
    who = rules.whereabouts(protected=True, county="13", municipality="80", listed_at=LISTED, listed_county="14")
    assert (who.county, who.municipality) == ("14", None)


def test_r_id_15_within_their_county_the_protected_are_like_anyone_else() -> None:
    """R-ID-15, R-ID-22"""
    who = rules.whereabouts(protected=True, county=None, municipality=None, listed_at=LISTED, listed_county="14")
    assert decided(who, area=Area(frozenset({"14"}))).refused is None
    assert decided(who, area=Area(frozenset({"13"}))).refused is OUTSIDE


codes = st.sampled_from([None, "14", "13"])


@given(
    protected=st.booleans(),
    county=codes,
    listed_county=codes,
    clinic_county=codes,
    counties=st.frozensets(st.sampled_from(["13", "14"])),
    days=st.none() | st.integers(-2, 2),
)
def test_r_id_15_r_id_22_nobody_is_let_in_from_outside_without_an_approval_that_holds(
    protected: bool,
    county: str | None,
    listed_county: str | None,
    clinic_county: str | None,
    counties: frozenset[str],
    days: int | None,
) -> None:
    """R-ID-15, R-ID-22"""
    who = rules.whereabouts(
        protected=protected, county=county, municipality=None, listed_at=LISTED, listed_county=listed_county
    )
    let_in = None if days is None else LetIn(last_day=TODAY + timedelta(days=days))
    found = rules.access_to_clinic(who, HERE, clinic_county, Area(counties), let_in, TODAY)
    own = listed_county if protected or county is None else county
    inside = (not counties or own in counties) and (not protected or (own is not None and own == clinic_county))
    assert (found.refused is None) is (inside or (days is not None and days >= 0))


# --- acting for a child ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "born"),
    [
        ("201410012387", date(2014, 10, 1)),
        ("201410612387", date(2014, 10, 1)),
        ("201402292387", None),
        ("201400002387", None),
        ("201410602387", None),
    ],
)
def test_r_id_11_birth_dates_of_numbers(number: str, born: date | None) -> None:
    """R-ID-11: of a samordningsnummer too; one that does not tell the whole date tells none."""
    assert rules.birth_date(number) == born


@pytest.mark.parametrize(
    ("born", "independent"),
    [
        (date(2013, 11, 25), date(2026, 11, 25)),
        (date(2012, 2, 29), date(2025, 2, 28)),
    ],
)
def test_r_id_11_until_the_13th_birthday(born: date, independent: date) -> None:
    """R-ID-11: the day before it still, the day itself no more."""
    assert rules.independent_on(born) == independent

    def may(today: date) -> bool:
        return rules.may_act_for(today=today, born=born, guardian_protected=False, child_protected=False)

    assert may(independent - timedelta(days=1))
    assert not may(independent)
    assert not may(born - timedelta(days=1))


@pytest.mark.parametrize(("guardian", "child"), [(True, False), (False, True), (True, True)])
def test_r_id_13_no_representation_where_either_is_protected(guardian: bool, child: bool) -> None:
    """R-ID-13"""
    assert not rules.may_act_for(today=TODAY, born=date(2020, 1, 1), guardian_protected=guardian, child_protected=child)
    assert not rules.may_act_for(today=TODAY, born=None, guardian_protected=False, child_protected=False)


def test_r_id_22_approvals_of_one_person_let_in_together() -> None:
    """R-ID-22: what has passed shadows nothing, in whichever order they come; all types win over some."""
    one, other = uuid4(), uuid4()
    passed = LetIn(last_day=TODAY - timedelta(days=1))
    first, second = LetIn(frozenset({one}), TODAY), LetIn(frozenset({other}))
    both = LetIn(frozenset({one, other}))
    for approvals in ([passed, first, second], [second, first, passed]):
        assert rules.united(approvals, TODAY) == both
    assert rules.united([first, LetIn()], TODAY) == LetIn()
    assert rules.united([passed], TODAY) is None
    assert rules.united([], TODAY) is None
