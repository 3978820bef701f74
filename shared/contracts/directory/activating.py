"""How a unit of the directory becomes a clinic, and ceases to be one."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, HsaId, Instant, Query, Reply, Text
from shared.contracts.directory.common import Cursor, directory

ApplicationState = Literal["waiting", "approved", "refused"]


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
