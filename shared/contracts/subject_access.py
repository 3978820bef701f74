"""The subject access report (registerutdrag, R-ID-19): what each service tells identity, and what residents get.

Each service that holds something about residents has one call of its own for it, which only identity may make.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.attachments import attachments
from shared.contracts.base import Command, Done, HsaId, Instant, Query, Reply
from shared.contracts.cases import cases
from shared.contracts.identity import identity
from shared.contracts.notifications import notifications

PartState = Literal["waiting_for_release", "gathering", "ready", "incomplete"]


# --- from each service to identity ----------------------------------------------------------------------------------


class SubjectAccess(Query):
    """All that this service holds about a resident, page by page, however old (R-ID-19).

    `care_provider`: what that one controls; null: what none does. `attachments`: for the service of these, which does
    not know who controls them: those in the care provider's messages and drafts. `cases`: where these are; of a file
    that belongs to another case nothing is told (R-ATT-6).
    """

    resident: UUID
    care_provider: HsaId | None = None
    attachments: list[UUID] = Field(default_factory=list, max_length=1000)
    cases: list[UUID] = Field(default_factory=list, max_length=1000)
    after: Annotated[str, Field(max_length=200)] | None = None


class HeldValue(Reply):
    name: str
    """In Swedish, as it stands in the document."""
    value: str


class Held(Reply):
    """One thing that is held: a case, a message, a reading, a file, a notification."""

    kind: str
    """In Swedish, the heading that it stands under."""
    at: Instant | None = None
    case: UUID | None = None
    attachments: list[UUID] = []
    """Files that belong to it, of which the service of attachments tells more."""
    values: list[HeldValue]


class HeldPage(Reply):
    """`after` is the cursor of the next page; null: this was the last."""

    held: list[Held]
    after: str | None = None


class CareProvidersOf(Query):
    """Which care providers control something about a resident (R-ID-25)."""

    resident: UUID


class CareProviders(Reply):
    care_providers: list[HsaId]


CARE_PROVIDERS_OF = cases.call("care_providers_of", CareProvidersOf, CareProviders, who=("service:identity",))
OF_CASES = cases.call("subject_access", SubjectAccess, HeldPage, who=("service:identity",))
OF_ATTACHMENTS = attachments.call("subject_access", SubjectAccess, HeldPage, who=("service:identity",))
OF_NOTIFICATIONS = notifications.call("subject_access", SubjectAccess, HeldPage, who=("service:identity",))


# --- the resident ---------------------------------------------------------------------------------------------------


class RequestReport(Command):
    """The resident asks for all that is held about them. While one that was asked for is under way, it is that one.

    What a care provider controls is gathered when it has released it; the rest at once.
    """


class ReportRequested(Reply):
    report: UUID


class MyReports(Query):
    """The resident's reports, the newest first, and how far each part has come. They are kept for 30 days from when the
    last part was ready, and for 120 days from when they were asked for where one never is."""


class ReportPart(Reply):
    """`care_provider` null: what the e-services hold themselves. `incomplete`: the services in `missing` have not
    answered for a day; they are asked on."""

    part: UUID
    care_provider: HsaId | None
    state: PartState
    missing: list[str] = []
    released_at: Instant | None = None


class Report(Reply):
    report: UUID
    requested_at: Instant
    whole: bool
    """Every part has been released and gathered, with nothing missing."""
    parts: list[ReportPart]
    ended: bool = False
    """It was asked for 90 days ago: what has not come is no longer waited for."""


class Reports(Reply):
    reports: list[Report]


class ReadReport(Query):
    """The report as it is now, as JSON or as a page to read and print (HTML), in pieces to be put together.

    A part may come between two pieces: give the `digest` of the first one with the questions for the others. Where the
    report is another one by then, `conflict` with reason `report_changed`: begin again. `not_found`, reason
    `no_such_piece`, for one past the last.
    """

    report: UUID
    format: Literal["json", "html"] = "html"
    piece: int = Field(0, ge=0, le=2**31 - 1)
    digest: Annotated[str, Field(max_length=64)] | None = None


class ReportPiece(Reply):
    text: str
    more: bool
    digest: str = ""
    """SHA-256 of the whole document in UTF-8, as 64 hex digits: the pieces belong together, and none is missing."""


REQUEST_REPORT = identity.call("request_subject_access_report", RequestReport, ReportRequested, who=("resident",))
MY_REPORTS = identity.call("my_subject_access_reports", MyReports, Reports, who=("resident",))
READ_REPORT = identity.call("read_subject_access_report", ReadReport, ReportPiece, who=("resident",))


# --- the care provider ----------------------------------------------------------------------------------------------


class ReportsToRelease(Query):
    """Parts that wait for the care provider of this clinic, for its operations managers and whom they appointed."""

    clinic: HsaId


class PartToRelease(Reply):
    part: UUID
    care_provider: HsaId
    requested_at: Instant
    name: str
    identity_number: str
    protected: bool


class PartsToRelease(Reply):
    parts: list[PartToRelease]


class ReleaseReport(Command):
    """Releases a part on behalf of the care provider of this clinic; it is then gathered."""

    clinic: HsaId
    part: UUID


REPORTS_TO_RELEASE = identity.call("subject_access_to_release", ReportsToRelease, PartsToRelease, who=("staff",))
RELEASE_REPORT = identity.call("release_subject_access", ReleaseReport, Done, who=("staff",))
