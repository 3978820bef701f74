"""Identity, part two: which clinics a resident may turn to, who acts for a child, where residents are listed.

These calls belong to identity's contract; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Done, HsaId, Instant, Part, Query, Reply
from shared.contracts.identity import MANY, identity
from shared.contracts.logging_in import SessionOpened

AccessRefusal = Literal[
    "outside_catchment", "protected_outside_county", "guardian_blocked", "not_representative", "unknown_resident"
]
County = Annotated[str, Field(pattern=r"^\d\d$", description="two digits, as 14 for Västra Götaland")]
Municipality = Annotated[str, Field(pattern=r"^\d{4}$", description="four digits, county first, as 1480")]
PastedNumber = Annotated[str, Field(max_length=40, description="an identity number in any of its written forms")]

LISTINGS_AT_ONCE = 2000
MOST_APPROVALS_AT_ONCE = 500
MOST_CLINICS = 100
MOST_CASE_TYPES = 200


# --- may this resident turn to this clinic? -------------------------------------------------------------------------


class ClinicPlace(Part):
    """The county where a clinic lies; null: the directory names none."""

    clinic: HsaId
    county_code: str | None = Field(None, max_length=20)


class AccessToClinics(Query):
    """Which of these clinics a resident may turn to now: the one question for catchment, approval, protection and
    blocked guardians (R-ID-13, R-ID-15, R-ID-22).

    `resident` is whom the case is about; `guardian` who acts for them, if someone does (`subject` of a caller with
    `acting_for`). `places` is what the asker knows of where these clinics lie, so that the directory, where it asks for
    a search, is not asked back.
    """

    resident: UUID
    clinics: list[HsaId] = Field(min_length=1, max_length=MANY)
    guardian: UUID | None = None
    places: list[ClinicPlace] = Field(default_factory=list, max_length=MANY)


class ClinicAccess(Reply):
    clinic: HsaId
    allowed: bool
    reason: AccessRefusal | None = None
    """Why not. To the resident, `outside_catchment` and `protected_outside_county` are one and the same answer."""
    case_types: list[UUID] | None = None
    """Only these case types, where an approval is limited to some; null: all that the clinic offers."""


class AccessFound(Reply):
    """One answer for each clinic asked about, in the same order."""

    access: list[ClinicAccess]


ACCESS_TO_CLINICS = identity.call(
    "access_to_clinics", AccessToClinics, AccessFound, who=("service:cases", "service:directory")
)


class Representation(Query):
    """Whether someone acts for a child at this moment, and where a clinic has blocked it (R-ID-11, R-ID-13)."""

    guardian: UUID
    child: UUID


class RepresentationNow(Reply):
    acting: bool
    blocked_at: list[HsaId] = []
    """Clinics where the guardian neither acts for the child nor sees anything of them."""


REPRESENTATION = identity.call("representation", Representation, RepresentationNow, who=("service",))


# --- catchment and approval (R-ID-15, R-ID-22) ----------------------------------------------------------------------


class SetCatchment(Command):
    """Limits a clinic to residents of these counties and municipalities; nothing named: open to all (R-ID-22)."""

    clinic: HsaId
    counties: list[County] = Field(default_factory=list, max_length=30)
    municipalities: list[Municipality] = Field(default_factory=list, max_length=300)


class GetCatchment(Query):
    """The clinic's catchment, for those who administer there."""

    clinic: HsaId


class Catchment(Reply):
    """Nothing named: the clinic is open to all."""

    clinic: HsaId
    counties: list[str]
    municipalities: list[str]


class ApproveResident(Command):
    """Lets one resident in from outside the catchment, or a protected one from outside their county (R-ID-15, R-ID-22).

    By identity number; an account is not needed. Approving again replaces the limits. `case_types` null: all;
    `last_day` null: until it is taken back, else the last day on which it holds, Swedish date.
    """

    clinic: HsaId
    identity_number: PastedNumber
    case_types: list[UUID] | None = Field(None, min_length=1, max_length=MOST_CASE_TYPES)
    last_day: date | None = None


class ResidentApproved(Reply):
    approval: UUID


class WithdrawApprovals(Command):
    """Takes approvals back, one or several at once; those that are gone already are passed over (R-ID-22)."""

    clinic: HsaId
    approvals: list[UUID] = Field(min_length=1, max_length=MOST_APPROVALS_AT_ONCE)


class ApprovalsWithdrawn(Reply):
    withdrawn: list[UUID]


class ListApprovals(Query):
    """The clinic's approvals, the newest first, for those who administer there."""

    clinic: HsaId
    after: UUID | None = Field(None, description="the last approval of the page before")
    limit: int = Field(50, ge=1, le=200)


class Approval(Reply):
    approval: UUID
    identity_number: str
    name: str | None = None
    """None: the person has no account here."""
    protected: bool = False
    case_types: list[UUID] | None
    last_day: date | None
    holds: bool
    """False: the last day has passed."""
    approved_at: Instant
    approved_by: HsaId


class Approvals(Reply):
    """A page. `more`: ask with `after` set to the last of these."""

    approvals: list[Approval]
    more: bool


SET_CATCHMENT = identity.call("set_catchment", SetCatchment, Catchment, who=("staff",))
GET_CATCHMENT = identity.call("get_catchment", GetCatchment, Catchment, who=("staff",))
APPROVE_RESIDENT = identity.call("approve_resident", ApproveResident, ResidentApproved, who=("staff",))
WITHDRAW_APPROVALS = identity.call("withdraw_approvals", WithdrawApprovals, ApprovalsWithdrawn, who=("staff",))
LIST_APPROVALS = identity.call("list_approvals", ListApprovals, Approvals, who=("staff",))


# --- where residents are listed, and their own list of clinics (R-ID-23) --------------------------------------------


class Listing(Part):
    """Where a resident is registered as a patient since `as_of`; `clinic` null: nowhere."""

    identity_number: PastedNumber
    clinic: HsaId | None
    as_of: Instant


class ImportListings(Command):
    """The region's listing system tells where residents are listed (R-ID-23).

    Harmless when repeated and in any order: of what is told about a person the newest `as_of` stands. A line that can't
    be used is named in the answer; the others are kept.
    """

    listings: list[Listing] = Field(min_length=1, max_length=LISTINGS_AT_ONCE)


class RefusedListing(Reply):
    position: int
    """In the request, from 0."""
    reason: Literal["not_an_identity_number", "from_the_future"]


class ListingsImported(Reply):
    changed: int
    unchanged: int
    refused: list[RefusedListing]


class MyClinics(Query):
    """The resident's own list of clinics; the one where they are listed is always in it (R-ID-23)."""


class MyClinic(Reply):
    clinic: HsaId
    listed: bool


class MyClinicsFound(Reply):
    """The clinic where the resident is listed first, then in the order they were added."""

    clinics: list[MyClinic]


class AddMyClinic(Command):
    """Adds an active clinic to the resident's own list."""

    clinic: HsaId


class RemoveMyClinic(Command):
    """Removes a clinic from the resident's own list; not the one where they are listed: `conflict`, `listed_there`."""

    clinic: HsaId


IMPORT_LISTINGS = identity.call("import_listings", ImportListings, ListingsImported, who=("system:listings",))
MY_CLINICS = identity.call("my_clinics", MyClinics, MyClinicsFound, who=("resident",))
ADD_MY_CLINIC = identity.call("add_my_clinic", AddMyClinic, MyClinicsFound, who=("resident",))
REMOVE_MY_CLINIC = identity.call("remove_my_clinic", RemoveMyClinic, MyClinicsFound, who=("resident",))


# --- representatives (R-ID-11 to R-ID-13) ---------------------------------------------------------------------------


class MyChildren(Query):
    """The children under 13 whom the caller may act for, as the population register has it now (R-ID-11).

    Nobody where the caller has a protected identity; no child that has (R-ID-13).
    """


class Child(Reply):
    child: UUID
    name: str
    last_day: date
    """The day before the 13th birthday."""


class ChildrenFound(Reply):
    children: list[Child]


class ActForChild(Command):
    """Opens a session in which the caller acts for a child, beside their own session (R-ID-11).

    It ends with the caller's own, and no token of it lives past the child's 13th birthday, Swedish date. `forbidden`,
    reason `not_representative`, for whoever does not have custody, for a child of 13, and where either is protected
    (R-ID-13).
    """

    child: UUID


class BlockGuardian(Command):
    """A clinic blocks a guardian: they neither act for the child there nor see anything of them (R-ID-13).

    With `blocked` false the block is taken back.
    """

    clinic: HsaId
    guardian_number: PastedNumber
    child_number: PastedNumber
    blocked: bool = True


class ListBlockedGuardians(Query):
    """Guardians whom the clinic has blocked, for those who administer there."""

    clinic: HsaId


class BlockedGuardian(Reply):
    guardian_number: str
    child_number: str
    blocked_at: Instant
    blocked_by: HsaId


class BlockedGuardians(Reply):
    blocked: list[BlockedGuardian]


MY_CHILDREN = identity.call("my_children", MyChildren, ChildrenFound, who=("resident",))
ACT_FOR_CHILD = identity.call("act_for_child", ActForChild, SessionOpened, who=("resident",))
BLOCK_GUARDIAN = identity.call("block_guardian", BlockGuardian, Done, who=("staff",))
LIST_BLOCKED_GUARDIANS = identity.call("list_blocked_guardians", ListBlockedGuardians, BlockedGuardians, who=("staff",))
