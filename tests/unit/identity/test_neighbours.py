"""What identity asks of the other services within a call, however much it is."""

from __future__ import annotations

from typing import Any

from services.identity import neighbours
from shared.contracts import directory


class Call:
    """One whose directory knows everybody, and every clinic; the kernel validates what it is asked."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def ask(self, call: Any, request: Any, timeout: float | None = None) -> Any:
        asked = request.people if call is directory.GET_STAFF else request.clinics
        self.sizes.append(len(asked))
        if call is directory.GET_STAFF:
            return directory.Staff(staff=[directory.StaffFacts(person=one, status="fine") for one in asked])
        return directory.Clinics(clinics=[facts(one) for one in asked])


def facts(clinic: str) -> directory.ClinicFacts:
    return directory.ClinicFacts(
        clinic=clinic,
        name="",
        care_provider="",
        care_provider_name="",
        active=True,
        in_directory=True,
        end_date=None,
        county_code=None,
        municipality_code=None,
    )


def test_r_id_9_a_list_of_rights_may_be_longer_than_the_directory_takes_at_once() -> None:
    """R-ID-9: each person in it carries a directory status; it was an internal error."""
    call, people = Call(), [f"SE2321000131-P{one:06}" for one in range(2001)]
    assert [one.person for one in neighbours.staff(call, people)] == people  # type: ignore[arg-type]
    assert call.sizes == [1000, 1000, 1]
    assert neighbours.staff(call, []) == []  # type: ignore[arg-type]
    assert len(call.sizes) == 3


def test_r_id_15_as_many_clinics_as_may_be_asked_about_and_the_one_of_the_listing() -> None:
    """R-ID-15: for someone whose county the register does not give; it was an internal error."""
    call, clinics = Call(), [f"SE2321000131-E{one:06}" for one in range(501)]
    found = neighbours.clinics(call, clinics, 2.0).clinics  # type: ignore[arg-type]
    assert [one.clinic for one in found] == clinics
    assert call.sizes == [500, 1]
