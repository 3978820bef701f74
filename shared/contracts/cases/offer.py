"""What a clinic offers: its case types and their forms (R-CASE-1)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, HsaId, Line, Part, Query, Reply, Text
from shared.contracts.cases.common import MESSAGE_LENGTH, ComponentId, ComponentKind, DateLimit, Name, cases


class Component(Part):
    """A part of a case type's form (R-CASE-1). Its id names it in answers; options are for the two kinds of choice.

    Rules for answers: `max_length` of a text, in characters; how many choices of a multiple choice; the first and the
    last date, as ÅÅÅÅ-MM-DD or `today`.
    """

    id: ComponentId
    kind: ComponentKind
    label: Annotated[str, Text(500)]
    required: bool = False
    options: Annotated[list[Annotated[str, Line(200)]], Field(max_length=50)] = Field(default_factory=list)
    help: Annotated[str, Text(1000)] | None = None
    max_length: Annotated[int, Field(ge=1, le=MESSAGE_LENGTH)] | None = None
    min_choices: Annotated[int, Field(ge=1, le=50)] | None = None
    max_choices: Annotated[int, Field(ge=1, le=50)] | None = None
    earliest: DateLimit | None = None
    latest: DateLimit | None = None


class ActivateCaseType(Command):
    """A local administrator offers a case type at the clinic: a name, and the form to fill in (R-CASE-1).

    `information` is what a resident must have read before they start a case. With `active` false it is only kept ready.
    """

    clinic: HsaId
    name: Name
    components: Annotated[list[Component], Field(min_length=1, max_length=50)]
    description: Annotated[str, Text(1000, empty=True)] = ""
    information: Annotated[str, Text(MESSAGE_LENGTH, empty=True)] = ""
    active: bool = True


class CaseTypeActivated(Reply):
    case_type: UUID


ACTIVATE_CASE_TYPE = cases.call("activate_case_type", ActivateCaseType, CaseTypeActivated, who=("staff",))


class DeactivateCaseType(Command):
    """A local administrator takes a case type out of use. Cases already started go on (R-CASE-1, R-DIR-3)."""

    case_type: UUID


class CaseTypeDeactivated(Reply):
    case_type: UUID


DEACTIVATE_CASE_TYPE = cases.call("deactivate_case_type", DeactivateCaseType, CaseTypeDeactivated, who=("staff",))


class ListCaseTypes(Query):
    """The clinic's active case types with their forms, in the clinic's order; its local administrators see all.

    A resident sees those that they can start a case from (R-ID-15, R-ID-22).
    """

    clinic: HsaId


class ComponentShown(Reply):
    id: str
    kind: ComponentKind
    label: str
    required: bool
    options: list[str]
    help: str | None = None
    max_length: int | None = None
    min_choices: int | None = None
    max_choices: int | None = None
    earliest: str | None = None
    latest: str | None = None


class CaseTypeShown(Reply):
    case_type: UUID
    name: str
    active: bool
    components: list[ComponentShown]
    description: str = ""
    information: str = Field("", description="what a resident must have read before they start a case")
    form_version: int = 1
    central: UUID | None = Field(None, description="the national or regional case type that it follows")


class CaseTypes(Reply):
    case_types: list[CaseTypeShown]


LIST_CASE_TYPES = cases.call("list_case_types", ListCaseTypes, CaseTypes, who=("resident", "staff"))
