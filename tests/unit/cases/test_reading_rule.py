"""Who may read a case, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.cases.rules import Facts, State, Viewer, grounds_for_reading, may_read, years_before

CLINICS = [f"SE2321000131-E00000000000{n}" for n in range(3)]
PEOPLE = [f"SE2321000131-P00000000000{n}" for n in range(3)]
RESIDENTS = [UUID(int=n) for n in range(3)]
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
CASE = Facts(CLINICS[0], RESIDENTS[0], State.ASSIGNED, 3, PEOPLE[0], NOW - timedelta(days=5), None, None)

clinic_sets = st.frozensets(st.sampled_from(CLINICS))
moments = st.datetimes(datetime(2023, 1, 1), datetime(2026, 3, 15)).map(lambda moment: moment.replace(tzinfo=UTC))
a_case = st.builds(
    Facts,
    clinic=st.sampled_from(CLINICS),
    resident=st.sampled_from(RESIDENTS),
    state=st.sampled_from(State),
    version=st.just(1),
    handler=st.none() | st.sampled_from(PEOPLE),
    latest_message_at=moments,
    counter_question_at=st.none(),
    resident_wrote_at=st.none(),
)


@given(case=a_case, person=st.sampled_from(PEOPLE), receiver_at=clinic_sets, handler_at=clinic_sets)
def test_r_case_3_staff_read_as_receiver_or_what_is_assigned_to_them(
    case: Facts, person: str, receiver_at: frozenset[str], handler_at: frozenset[str]
) -> None:
    """R-CASE-3, R-SYS-1"""
    viewer = Viewer(person, receiver_at, handler_at)
    expected = case.clinic in receiver_at or (case.handler == person and case.clinic in handler_at)
    assert may_read(viewer, case, NOW) == expected


@given(case=a_case, resident=st.sampled_from(RESIDENTS))
def test_r_case_10_residents_read_their_own_for_two_years_from_the_latest_message(case: Facts, resident: UUID) -> None:
    """R-CASE-10"""
    expected = case.resident == resident and case.latest_message_at > datetime(2024, 3, 15, 12, tzinfo=UTC)
    assert may_read(Viewer(resident=resident), case, NOW) == expected


def test_r_sys_1_nobody_else_reads_anything() -> None:
    """R-SYS-1"""
    assert grounds_for_reading(Viewer(), NOW) == ()
    assert not may_read(Viewer(), replace(CASE, handler=None), NOW)
    assert grounds_for_reading(Viewer(PEOPLE[0]), NOW) == ()


def test_r_case_10_the_last_moment() -> None:
    """R-CASE-10"""
    viewer = Viewer(resident=RESIDENTS[0])
    written = datetime(2024, 2, 29, 9, tzinfo=UTC)
    case = replace(CASE, latest_message_at=written)
    assert may_read(viewer, case, datetime(2026, 2, 28, 22, 59, tzinfo=UTC))
    assert not may_read(viewer, case, datetime(2026, 2, 28, 23, 0, tzinfo=UTC))  # 1 March in Sweden


def test_two_years_before_is_the_same_swedish_clock_time() -> None:
    # 12:00 UTC is 14:00 in summer; two years earlier the 31st of March had summer time too, the 30th of 2024 had not
    assert years_before(datetime(2026, 3, 30, 12, tzinfo=UTC), 2) == datetime(2024, 3, 30, 13, tzinfo=UTC)
    assert years_before(datetime(2024, 2, 29, 12, tzinfo=UTC), 2) == datetime(2022, 2, 28, 12, tzinfo=UTC)
