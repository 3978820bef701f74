"""Which clinics a resident may turn to: gathers the facts for the one decision in rules.py (R-ID-13, R-ID-15, R-ID-22).

All facts are read in one statement. The directory is asked only about people whose county the register does not give,
and then once a day for each clinic: in which county it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert

from services.identity import representation, residents, rules
from services.identity.tables import clinic_places
from shared.contracts import access, directory
from shared.contracts.base import HsaId
from shared.messaging.errors import Unavailable
from shared.operations.clock import SWEDEN

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_FACTS = text(
    """WITH own AS (SELECT hash FROM numbers_of_person WHERE resident = :resident),
            listed AS (SELECT clinic FROM listings WHERE number IN (SELECT hash FROM own) ORDER BY as_of DESC LIMIT 1)
       SELECT resident, protected, particulars,
              (SELECT clinic FROM listed) AS listed_at,
              (SELECT coalesce(jsonb_agg(jsonb_build_array(clinic, counties, municipalities)), '[]')
               FROM catchments WHERE clinic = ANY(:clinics)) AS catchments,
              (SELECT coalesce(jsonb_agg(jsonb_build_array(clinic, case_types, last_day)), '[]') FROM approvals
               WHERE number IN (SELECT hash FROM own) AND clinic = ANY(:clinics) AND withdrawn_at IS NULL) AS approvals,
              (SELECT coalesce(jsonb_agg(jsonb_build_array(clinic, county_code, asked_at > :fresh)), '[]')
               FROM clinic_places WHERE clinic = ANY(:clinics) OR clinic = (SELECT clinic FROM listed)) AS places
       FROM residents WHERE resident = :resident"""
)


@dataclass(frozen=True)
class Facts:
    """What is known of a resident and the clinics asked about. `row` None: there is no such resident. `told`: the
    counties that came with the question."""

    row: Row[Any] | None
    county: str | None = None
    municipality: str | None = None
    told: Mapping[HsaId, str | None] = field(default_factory=dict)

    @property
    def places(self) -> dict[HsaId, str | None]:
        """The county of each clinic that the directory was ever asked about, or that came with the question."""
        return {**{clinic: county for clinic, county, _ in self.row.places}, **self.told} if self.row else {}

    def to_ask(self, clinics: Sequence[HsaId]) -> list[HsaId]:
        """The clinics whose county matters and is not freshly known; none where the register gave the resident's."""
        if self.row is None or (self.county is not None and not self.row.protected):
            return []
        fresh = {clinic for clinic, _, is_fresh in self.row.places if is_fresh}
        wanted = {*clinics, *([self.row.listed_at] if self.row.listed_at else [])}
        return sorted(wanted - fresh - self.told.keys())


def facts(tx: Transaction, request: access.AccessToClinics) -> Facts:
    """What is known here, in one statement."""
    row = tx.execute(
        _FACTS,
        {"resident": request.resident, "clinics": request.clinics, "fresh": tx.now - rules.PLACE_FRESH},
    ).one_or_none()
    if row is None:
        return Facts(None)
    particulars = residents.particulars(tx, row)
    told = {one.clinic: one.county_code for one in request.places}
    return Facts(row, particulars.county_code, particulars.municipality_code, told)


def keep_places(
    tx: Transaction, _request: access.AccessToClinics, asked: Sequence[HsaId], found: directory.Clinics
) -> None:
    """Keeps what the directory said of the clinics asked about; of one that it does not know, that it lies nowhere."""
    counties = {one.clinic: one.county_code for one in found.clinics}
    statement = insert(clinic_places).values(
        [{"clinic": clinic, "county_code": counties.get(clinic), "asked_at": tx.now} for clinic in asked]
    )
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["clinic"],
            set_={"county_code": statement.excluded.county_code, "asked_at": statement.excluded.asked_at},
        )
    )


def require_known(found: Facts, clinics: Sequence[HsaId]) -> None:
    """Raises `Unavailable` where the directory did not answer and was never asked about one of the clinics before."""
    if any(clinic not in found.places for clinic in found.to_ask(clinics)):
        raise Unavailable(reason="clinic_place_not_known")


def decide(tx: Transaction, request: access.AccessToClinics, found: Facts) -> access.AccessFound:
    """The answer for each clinic, in the order asked for."""
    if found.row is None:
        return _all(request, rules.AccessRefused.UNKNOWN_RESIDENT)
    blocked: frozenset[HsaId] = frozenset()
    if request.guardian is not None:
        now = representation.now(tx, request.guardian, request.resident)
        if not now.acting:
            return _all(request, rules.AccessRefused.NOT_REPRESENTATIVE)
        blocked = frozenset(now.blocked_at)
    row, places = found.row, found.places
    who = rules.whereabouts(
        protected=row.protected,
        county=found.county,
        municipality=found.municipality,
        listed_at=row.listed_at,
        listed_county=places.get(row.listed_at),
    )
    areas = {clinic: rules.Area(frozenset(two), frozenset(four)) for clinic, two, four in row.catchments}
    # Several, where the clinic has approved the person by several of their numbers.
    approved: dict[HsaId, list[rules.LetIn]] = {}
    for clinic, *limits in row.approvals:
        approved.setdefault(clinic, []).append(_let_in(*limits))
    today = tx.now.astimezone(SWEDEN).date()
    answers = []
    for clinic in request.clinics:
        let_in = rules.united(approved.get(clinic, []), today)
        decided = rules.access_to_clinic(
            who, clinic, places.get(clinic), areas.get(clinic, rules.EVERYWHERE), let_in, today
        )
        if clinic in blocked:
            decided = rules.Access(rules.AccessRefused.GUARDIAN_BLOCKED)
        answers.append(_answer(clinic, decided))
    return access.AccessFound(access=answers)


def _let_in(case_types: list[str] | None, last_day: str | None) -> rules.LetIn:
    return rules.LetIn(
        None if case_types is None else frozenset(UUID(one) for one in case_types),
        None if last_day is None else date.fromisoformat(last_day),
    )


def _all(request: access.AccessToClinics, why: rules.AccessRefused) -> access.AccessFound:
    return access.AccessFound(access=[_answer(clinic, rules.Access(why)) for clinic in request.clinics])


def _answer(clinic: HsaId, decided: rules.Access) -> access.ClinicAccess:
    return access.ClinicAccess(
        clinic=clinic,
        allowed=decided.refused is None,
        reason=decided.refused.value if decided.refused else None,
        case_types=None if decided.case_types is None else sorted(decided.case_types),
    )
