"""Clinics and units: their facts, and finding them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.base import HsaId, Instant, Query, Reply, Text
from shared.contracts.directory.common import Cursor, directory

ClinicWarning = Literal["not_in_directory", "ended"]


CLINICS_AT_ONCE = 500


class GetClinics(Query):
    """Facts about clinics and units, by HSA-id; ids that were never in the directory are left out."""

    clinics: Annotated[list[HsaId], Field(max_length=CLINICS_AT_ONCE)]


class ClinicFacts(Reply):
    """`warning` is the warning triangle (R-DIR-4); `missing_attributes` keep it from being shown publicly (R-DIR-5).
    `replaces` and `replaced_by`: the clinic's former and later HSA-id (R-DIR-3)."""

    clinic: str
    name: str
    place: str | None = None
    care_provider: str
    care_provider_name: str
    active: bool
    in_directory: bool
    end_date: Instant | None
    warning: ClinicWarning | None = None
    missing_attributes: list[str] = []
    county_code: str | None
    municipality_code: str | None
    version: int = 0
    replaces: str | None = None
    replaced_by: str | None = None


class Clinics(Reply):
    clinics: list[ClinicFacts]


GET_CLINICS = directory.call("get_clinics", GetClinics, Clinics, who=("resident", "staff", "operator", "service"))


class SearchClinics(Query):
    """Clinics whose name, place or HSA-id holds every word of the text, in order of name (R-DIR-11, R-DIR-13).

    Accents and letter case don't matter. Staff find every unit of the directory; residents active clinics that they may
    turn to, by identity's word (R-ID-15, R-ID-22). A page of theirs may be short or empty, and there is more all the
    same where the answer has `after`.
    """

    text: Annotated[str, Text(200, empty=True)]
    limit: int = Field(20, ge=1, le=100)
    after: Cursor | None = None
    active_only: bool = False


class FoundClinic(Reply):
    clinic: str
    name: str
    place: str | None
    active: bool
    warning: ClinicWarning | None = None
    county_code: str | None = None
    municipality_code: str | None = None


class FoundClinics(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    clinics: list[FoundClinic]
    after: str | None


SEARCH_CLINICS = directory.call("search_clinics", SearchClinics, FoundClinics, who=("resident", "staff"))
