"""What other services ask cases."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.contracts.base import HsaId, Instant, Part, Query, Reply
from shared.contracts.cases.common import cases


class MessagesExist(Query):
    """Which of these messages have been sent: files of the others may be let go."""

    messages: Annotated[list[UUID], Field(max_length=1000)]


class MessagesThatExist(Reply):
    existing: list[UUID]


MESSAGES_EXIST = cases.call("messages_exist", MessagesExist, MessagesThatExist, who=("service:attachments",))


class AskClinicActivity(Query):
    """What stands in the way of inactivating a clinic (R-DIR-3)."""

    clinic: HsaId


class ClinicActivity(Reply):
    active_case_types: int
    open_cases: int


class UnhandledAt(Part):
    """A clinic, and the moments between which the waits began in the cases that are asked about."""

    clinic: HsaId
    silent_since: Instant = Field(description="the wait had begun at this moment")
    written_after: Instant | None = Field(
        None, description="only where the wait began after this one: those not asked about before"
    )


class AskUnhandledCases(Query):
    """Which clinics have cases that stand with them, and in which the resident has waited for so long (R-NOT-2).

    A wait begins with the first message that the clinic has written nothing after, however often the resident has
    written since; after a partial reply it begins with that. Cases that wait for the resident are not among them.
    Clinics without such cases are left out of the answer.
    """

    clinics: Annotated[list[UnhandledAt], Field(max_length=500)]


class UnhandledOfClinic(Reply):
    clinic: str
    count: int
    oldest: Instant = Field(description="when the longest of these waits began")


class UnhandledCases(Reply):
    clinics: list[UnhandledOfClinic]


UNHANDLED_CASES = cases.call("unhandled_cases", AskUnhandledCases, UnhandledCases, who=("service:notifications",))

CLINIC_ACTIVITY = cases.call("clinic_activity", AskClinicActivity, ClinicActivity, who=("service:directory",))


class AskOfferedCaseTypes(Query):
    """Which case types these clinics offer now, for their contact cards (R-DIR-6, R-DIR-10)."""

    clinics: Annotated[list[HsaId], Field(max_length=200)]


class OfferedCaseType(Reply):
    case_type: UUID
    name: str


class OfferedAtClinic(Reply):
    clinic: str
    case_types: list[OfferedCaseType] = Field(description="in the clinic's own order")


class OfferedCaseTypes(Reply):
    """Clinics that offer none are left out."""

    clinics: list[OfferedAtClinic]


OFFERED_CASE_TYPES = cases.call("offered_case_types", AskOfferedCaseTypes, OfferedCaseTypes, who=("service:directory",))
