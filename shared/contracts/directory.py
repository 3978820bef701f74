"""What the directory offers and tells: clinics and staff as the care directories have them, and how they got here."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Contract, EventBody, HsaId, Instant, Query, Reply, Text

directory = Contract("directory")

SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
StaffStatus = Literal["fine", "missing"]
RunState = Literal["requested", "running", "done", "stopped", "failed"]
ClinicWarning = Literal["not_in_directory", "ended"]
Cursor = Annotated[str, Field(max_length=1000)]


# --- syncs ----------------------------------------------------------------------------------------------------------


class StartSync(Command):
    """Asks for a sync with a source, or with all that are configured (R-DIR-1). It is run by the worker, one at a time.

    With `accept_removals` the guard against mass removal is off for this run (R-DIR-12): when so much really is gone.
    """

    source: SourceName | None = None
    accept_removals: bool = False


class SyncRequested(Reply):
    run: UUID


START_SYNC = directory.call("start_sync", StartSync, SyncRequested, who=("operator", "staff"))


class GetSyncRun(Query):
    """What a run has done so far, for an operator or a regional administrator; refused values are given in pages."""

    run: UUID
    refused_after: int = Field(0, ge=0, description="number of the last refused value already seen")
    refused_limit: int = Field(200, ge=0, le=1000)


class RefusedValue(Reply):
    """A value that could not be parsed, or an object that could not be taken: kept as it came, listed here."""

    number: int
    object: str = Field(description="HSA-id, or where in the source it stood")
    field: str
    reason: str


class SyncRun(Reply):
    """`reason` says why a run failed or stopped. Changed counts what differs from the copy, missing what was absent for
    the first time, removed what is now held to be gone, returned what has come back."""

    run: UUID
    source: str | None
    state: RunState
    reason: str | None
    requested_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    seconds: float | None
    units_read: int = 0
    units_added: int = 0
    units_changed: int = 0
    units_missing: int = 0
    units_removed: int = 0
    units_returned: int = 0
    staff_read: int = 0
    staff_added: int = 0
    staff_changed: int = 0
    staff_missing: int = 0
    staff_removed: int = 0
    staff_returned: int = 0
    refused_count: int = 0
    refused: list[RefusedValue] = []


GET_SYNC_RUN = directory.call("get_sync_run", GetSyncRun, SyncRun, who=("operator", "staff"))


# --- clinics --------------------------------------------------------------------------------------------------------


class ActivateClinic(Command):
    """A regional administrator makes a unit of the directory a clinic in the e-services (R-DIR-3)."""

    clinic: HsaId


class ClinicActivated(Reply):
    clinic: str
    name: str
    care_provider: str
    version: int


ACTIVATE_CLINIC = directory.call("activate_clinic", ActivateClinic, ClinicActivated, who=("staff",))


class InactivateClinic(Command):
    """A regional administrator takes a clinic out of the e-services; refused while case types are active or cases open
    (R-DIR-3)."""

    clinic: HsaId


class ClinicInactivated(Reply):
    clinic: str
    version: int


INACTIVATE_CLINIC = directory.call("inactivate_clinic", InactivateClinic, ClinicInactivated, who=("staff",))


class GetClinics(Query):
    """Facts about clinics and units, by HSA-id; ids that were never in the directory are left out."""

    clinics: Annotated[list[HsaId], Field(max_length=500)]


class ClinicFacts(Reply):
    """`warning` is the warning triangle (R-DIR-4); `missing_attributes` keep it from being shown publicly (R-DIR-5)."""

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


class Clinics(Reply):
    clinics: list[ClinicFacts]


GET_CLINICS = directory.call("get_clinics", GetClinics, Clinics, who=("resident", "staff", "operator", "service"))


class SearchClinics(Query):
    """Clinics whose name, place or HSA-id holds every word of the text, in order of name (R-DIR-11, R-DIR-13).

    Accents and letter case don't matter. Residents find active clinics, staff every unit of the directory.
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


class FoundClinics(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    clinics: list[FoundClinic]
    after: str | None


SEARCH_CLINICS = directory.call("search_clinics", SearchClinics, FoundClinics, who=("resident", "staff"))


# --- staff ----------------------------------------------------------------------------------------------------------


class GetStaff(Query):
    """What the copy says of these persons. One whom it does not know is `missing` (R-ID-9)."""

    people: Annotated[list[HsaId], Field(max_length=1000)]


class StaffFacts(Reply):
    """`protected` is the protected mark (R-ID-14, R-ID-16). `mobile` is in E.164. `as_of`: last known so."""

    person: str
    status: StaffStatus
    given_name: str | None = None
    surname: str | None = None
    title: str | None = None
    email: str | None = None
    mobile: str | None = None
    protected: bool = False
    as_of: Instant | None = None


class Staff(Reply):
    staff: list[StaffFacts]


GET_STAFF = directory.call("get_staff", GetStaff, Staff, who=("service:cases", "service:identity"))


class FindStaff(Query):
    """Asks HSA about one person, for login and the giving of rights; while HSA is down a copy under 24 hours old will
    do, else the answer is `unavailable` (R-DIR-12)."""

    person: HsaId


FIND_STAFF = directory.call("find_staff", FindStaff, StaffFacts, who=("service:identity",))


# --- events ---------------------------------------------------------------------------------------------------------


class ClinicChanged(EventBody):
    """Something about the clinic changed; `version` grows with each change."""

    clinic: HsaId
    version: int


class StaffChanged(EventBody):
    """What the directory says of a person that it already knew changed; `version` grows with each change."""

    person: HsaId
    status: StaffStatus
    version: int


CLINIC_ACTIVATED = directory.event("clinic_activated", ClinicChanged)
CLINIC_INACTIVATED = directory.event("clinic_inactivated", ClinicChanged)
CLINIC_RENAMED = directory.event("clinic_renamed", ClinicChanged)
STAFF_CHANGED = directory.event("staff_changed", StaffChanged)
