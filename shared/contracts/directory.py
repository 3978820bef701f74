"""What the directory offers and tells: clinics and staff as the care directories have them, and how they got here."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Contract, EventBody, HsaId, Instant, Query, Reply, Text

directory = Contract("directory")

SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
StaffStatus = Literal["fine", "missing"]
RunState = Literal["requested", "running", "done", "stopped", "failed"]
ClinicWarning = Literal["not_in_directory", "ended"]
ApplicationState = Literal["waiting", "approved", "refused"]
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
    """`reason` says why a run failed or stopped, and `failed_part` in which source and part first; the other parts are
    done all the same. Changed counts what differs from the copy, missing what was absent for
    the first time, removed what is now held to be gone, returned what has come back."""

    run: UUID
    source: str | None
    state: RunState
    reason: str | None
    failed_part: str | None = None
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


class ListSyncRuns(Query):
    """Runs, newest first, for an operator or a regional administrator; `before` is the last run already seen."""

    limit: int = Field(20, ge=1, le=100)
    before: UUID | None = None


class SyncRuns(Reply):
    """Their records without the refused values, which `get_sync_run` has."""

    runs: list[SyncRun]


LIST_SYNC_RUNS = directory.call("list_sync_runs", ListSyncRuns, SyncRuns, who=("operator", "staff"))


# --- clinics --------------------------------------------------------------------------------------------------------


class ActivateClinic(Command):
    """A regional administrator makes a unit of the directory a clinic in the e-services (R-DIR-3)."""

    clinic: HsaId
    replaces: HsaId | None = Field(None, description="the clinic that it takes the place of: its former HSA-id")


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


class ApplyForClinic(Command):
    """Applies for a unit of the directory to become a clinic. Where a clinic has got a new HSA-id, `replaces` is the
    old one, and whoever applies administers that (R-DIR-3)."""

    clinic: HsaId
    replaces: HsaId | None = None
    note: Annotated[str, Text(2000, empty=True)] = ""


class ApplicationMade(Reply):
    application: UUID


APPLY_FOR_CLINIC = directory.call("apply_for_clinic", ApplyForClinic, ApplicationMade, who=("staff",))


class DecideApplication(Command):
    """A regional administrator approves an application, which activates the clinic, or refuses it and says why."""

    application: UUID
    approved: bool
    reason: Annotated[str, Text(1000, empty=True)] = Field("", description="required for a refusal")


class ApplicationDecided(Reply):
    """`version` is the clinic's after an approval."""

    application: UUID
    state: ApplicationState
    version: int | None


DECIDE_APPLICATION = directory.call("decide_application", DecideApplication, ApplicationDecided, who=("staff",))


class ListApplications(Query):
    """Applications, oldest first: regional administrators see all, others their own."""

    state: ApplicationState | None = None
    limit: int = Field(50, ge=1, le=200)
    after: Cursor | None = None


class ApplicationShown(Reply):
    application: UUID
    clinic: str
    name: str
    replaces: str | None
    note: str
    state: ApplicationState
    reason: str
    applied_by: str
    applied_at: Instant
    decided_at: Instant | None


class Applications(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    applications: list[ApplicationShown]
    after: str | None


LIST_APPLICATIONS = directory.call("list_applications", ListApplications, Applications, who=("staff",))


class GetClinics(Query):
    """Facts about clinics and units, by HSA-id; ids that were never in the directory are left out."""

    clinics: Annotated[list[HsaId], Field(max_length=500)]


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


# --- contact cards --------------------------------------------------------------------------------------------------


class OpeningHours(Reply):
    """Open on each of the days (1 is Monday); `closes` at or before `opens` is on the day after. From `first_day` to
    `last_day` alone, both included, where they are given."""

    days: list[int]
    opens: str
    closes: str
    comment: str | None = None
    first_day: date | None = None
    last_day: date | None = None


class Position(Reply):
    """The same point three times: RT90 2.5 gon V and SWEREF 99 TM in metres, WGS 84 in degrees."""

    rt90_x: int
    rt90_y: int
    sweref99_n: float
    sweref99_e: float
    latitude: float
    longitude: float


class TemporaryInformation(Reply):
    """Shown from the first day to the last, both included."""

    first_day: date
    last_day: date
    text: str


class CaseTypeOnCard(Reply):
    case_type: UUID
    name: str


class PublicCard(Reply):
    """What anyone may read about a clinic: the directory's word, and the clinic's case types (R-DIR-6).

    Phones by kind: public, text, sms, switchboard, fax; in E.164. Hours: surgery, phone, drop_in, visiting. Addresses,
    line by line: street, postal.
    """

    clinic: str
    name: str
    place: str | None
    county_code: str | None
    municipality_code: str | None
    position: Position | None
    phones: dict[str, list[str]]
    hours: dict[str, list[OpeningHours]]
    addresses: dict[str, list[str]]
    email: list[str]
    links: list[str]
    description: str | None
    route: str | None
    visiting_rules: str | None
    referral: str | None
    care_types: list[str]
    business_types: list[str]
    notices: list[TemporaryInformation]
    case_types: list[CaseTypeOnCard]
    published_at: Instant


NotShown = Literal["not_a_clinic", "not_in_directory", "ended", "missing_attributes", "not_yet_published"]


class NotShownCard(Reply):
    """Why there is no public card now: `missing_attributes` names the mandatory ones that the unit lacks (R-DIR-5)."""

    clinic: str
    reason: NotShown
    missing_attributes: list[str] = []


class GetPublicCards(Query):
    """Public contact cards as last published, at 10, 14 or 21 Swedish time (R-DIR-8); no login is needed."""

    clinics: Annotated[list[HsaId], Field(max_length=100)]


class PublicCards(Reply):
    cards: list[PublicCard]
    not_shown: list[NotShownCard]


GET_PUBLIC_CARDS = directory.call("get_public_cards", GetPublicCards, PublicCards, who=("anyone",))


class GetContactCard(Query):
    """The logged-in contact card: what the clinic's administrator has written, and the case types as they are now
    (R-DIR-7, R-DIR-10)."""

    clinic: HsaId


class CardAdministration(Reply):
    """For the clinic's administrators: whether and why not the clinic is shown publicly, and in which order.

    `order_differs`: a regional order overrides the clinic's own on the public card (R-DIR-9); `order_notice` says so in
    words, `public_order` is the order that is used there.
    """

    shown_publicly: bool
    not_shown: NotShownCard | None
    published_at: Instant | None
    order_differs: bool
    order_notice: str | None
    public_order: list[CaseTypeOnCard]


class ContactCard(Reply):
    """`case_types_known` is false while the cases service does not answer; `version` is the text's."""

    clinic: str
    name: str
    place: str | None
    active: bool
    text: str
    version: int
    updated_at: Instant | None
    case_types: list[CaseTypeOnCard]
    case_types_known: bool
    administration: CardAdministration | None = None


GET_CONTACT_CARD = directory.call("get_contact_card", GetContactCard, ContactCard, who=("resident", "staff"))


class WriteContactCard(Command):
    """The clinic's local administrator writes its logged-in contact card (R-DIR-7). `version` is the one that was read:
    if somebody has written since, nothing is changed."""

    clinic: HsaId
    text: Annotated[str, Text(5000, empty=True)]
    version: int = Field(ge=0)


class ContactCardWritten(Reply):
    clinic: str
    version: int


WRITE_CONTACT_CARD = directory.call("write_contact_card", WriteContactCard, ContactCardWritten, who=("staff",))


class SetPublicOrder(Command):
    """A regional administrator sets the order of a clinic's case types on the public card, in place of the clinic's own
    (R-DIR-9). None at all: the clinic's own order again. Case types that are not named follow in the clinic's order."""

    clinic: HsaId
    case_types: Annotated[list[UUID], Field(max_length=200)]


class PublicOrderSet(Reply):
    clinic: str


SET_PUBLIC_ORDER = directory.call("set_public_order", SetPublicOrder, PublicOrderSet, who=("staff",))


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


class RefreshMyFacts(Query):
    """Fetches what HSA says of the caller now: "Uppdatera information från HSA" in the personal settings (R-DIR-1).
    `unavailable` while HSA does not answer."""


REFRESH_MY_FACTS = directory.call("refresh_my_facts", RefreshMyFacts, StaffFacts, who=("staff",))


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
CLINIC_ENDED = directory.event("clinic_ended", ClinicChanged)
CLINIC_MISSING = directory.event("clinic_missing", ClinicChanged)
CLINIC_BACK = directory.event("clinic_back", ClinicChanged)
STAFF_CHANGED = directory.event("staff_changed", StaffChanged)
