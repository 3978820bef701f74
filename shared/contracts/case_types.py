"""Cases, part two: what clinics offer and have ready: case types, national and regional ones, templates, answers.

These calls belong to the contract of cases; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Done, HsaId, Instant, Query, Reply, Text
from shared.contracts.cases import (
    MESSAGE_LENGTH,
    CaseTypeActivated,
    CaseTypeDeactivated,
    CaseTypeShown,
    Component,
    ComponentShown,
    FormVersion,
    Message,
    Name,
    cases,
)

Purpose = Literal["resident", "information", "questions"]
"""Who starts a case from it: a resident; or the clinic, to inform, or to ask (R-CASE-14)."""
TemplatePurpose = Literal["information", "questions"]
Level = Literal["national", "regional"]
LongText = Annotated[str, Text(MESSAGE_LENGTH, empty=True)]
Description = Annotated[str, Text(1000, empty=True)]
Components = Annotated[list[Component], Field(max_length=50)]
MOST_CASE_TYPES = 200
"""Case types and templates that one clinic may have, those out of use included."""
MOST_STANDARD_ANSWERS = 500


# --- case types of a clinic -----------------------------------------------------------------------------------------


class UpdateCaseType(Command):
    """A local administrator changes a case type or a template. What is not named stays as it is.

    `form_version` is the one the caller has read; each change makes a new one, and cases that are under way keep theirs
    (R-CASE-1). One that follows a national or regional case type is changed there: `conflict`, `case_type_is_central`.
    """

    case_type: UUID
    form_version: FormVersion
    name: Name | None = None
    description: Description | None = None
    information: LongText | None = None
    text: LongText | None = Field(None, description="of templates: what the message says unless it is written anew")
    components: Components | None = None


class CaseTypeUpdated(Reply):
    case_type: UUID
    form_version: int


class ReactivateCaseType(Command):
    """A local administrator takes a case type or a template into use, at once (R-CASE-1)."""

    case_type: UUID


class OrderCaseTypes(Command):
    """A local administrator sets the order of the clinic's case types: each of them once, the inactive ones too
    (R-CASE-1)."""

    clinic: HsaId
    case_types: Annotated[list[UUID], Field(min_length=1, max_length=MOST_CASE_TYPES)]


UPDATE_CASE_TYPE = cases.call("update_case_type", UpdateCaseType, CaseTypeUpdated, who=("staff",))
REACTIVATE_CASE_TYPE = cases.call("reactivate_case_type", ReactivateCaseType, CaseTypeActivated, who=("staff",))
ORDER_CASE_TYPES = cases.call("order_case_types", OrderCaseTypes, Done, who=("staff",))


# --- which of them a resident can use ---------------------------------------------------------------------------------


class ListUsableCaseTypes(Query):
    """Which of these clinics the resident may turn to, and with which case types (R-ID-15, R-ID-22)."""

    clinics: Annotated[list[HsaId], Field(min_length=1, max_length=50)]


class UsableAtClinic(Reply):
    clinic: str
    case_types: list[CaseTypeShown]


class UsableCaseTypes(Reply):
    """In the order asked for; clinics that the resident may not turn to, or that offer nothing, are left out."""

    clinics: list[UsableAtClinic]


LIST_USABLE_CASE_TYPES = cases.call("list_usable_case_types", ListUsableCaseTypes, UsableCaseTypes, who=("resident",))


# --- templates of a clinic (R-CASE-14, R-CASE-20) -------------------------------------------------------------------


class CreateTemplate(Command):
    """A local administrator makes a template that handlers start cases from: of information, or with questions.

    `components` are the questions; one of information has none.
    """

    clinic: HsaId
    purpose: TemplatePurpose
    name: Name
    text: LongText = ""
    description: Description = ""
    components: Components = Field(default_factory=list)


class ListTemplates(Query):
    """The clinic's templates in use, for its handlers and receivers; its local administrators see all."""

    clinic: HsaId


class TemplateShown(Reply):
    template: UUID
    purpose: TemplatePurpose
    name: str
    description: str
    text: str
    components: list[ComponentShown]
    active: bool
    form_version: int
    central: UUID | None


class Templates(Reply):
    templates: list[TemplateShown]


CREATE_TEMPLATE = cases.call("create_template", CreateTemplate, CaseTypeActivated, who=("staff",))
LIST_TEMPLATES = cases.call("list_templates", ListTemplates, Templates, who=("staff",))


# --- national and regional case types and templates -----------------------------------------------------------------


class WriteCentralCaseType(Command):
    """Makes a national or regional case type or template, or changes one (R-CASE-1).

    The operator writes national ones, regional administrators regional ones. A change shows at once at each clinic that
    has taken it up; cases that are under way keep their form. `version` is the one read; none for a new one.
    """

    central: UUID | None = None
    version: FormVersion | None = None
    level: Level
    purpose: Purpose
    name: Name
    description: Description = ""
    information: LongText = ""
    text: LongText = ""
    components: Components = Field(default_factory=list)


class CentralCaseTypeWritten(Reply):
    central: UUID
    version: int
    clinics: int = Field(description="how many clinics have taken it up")


class WithdrawCentralCaseType(Command):
    """Takes a national or regional case type out of use, at every clinic, at once."""

    central: UUID


class ListCentralCaseTypes(Query):
    """The national and regional ones in use, for all staff."""


class CentralCaseTypeShown(Reply):
    central: UUID
    version: int
    level: Level
    purpose: Purpose
    name: str
    description: str
    information: str
    text: str
    components: list[ComponentShown]


class CentralCaseTypes(Reply):
    case_types: list[CentralCaseTypeShown]


class TakeUpCentralCaseType(Command):
    """A local administrator offers a national or regional case type or template at the clinic (R-CASE-1).

    It follows the central one from then on. Taken up before and out of use since: it is in use again.
    """

    clinic: HsaId
    central: UUID


WRITE_CENTRAL_CASE_TYPE = cases.call(
    "write_central_case_type", WriteCentralCaseType, CentralCaseTypeWritten, who=("operator", "staff")
)
WITHDRAW_CENTRAL_CASE_TYPE = cases.call(
    "withdraw_central_case_type", WithdrawCentralCaseType, CaseTypeDeactivated, who=("operator", "staff")
)
LIST_CENTRAL_CASE_TYPES = cases.call(
    "list_central_case_types", ListCentralCaseTypes, CentralCaseTypes, who=("operator", "staff")
)
TAKE_UP_CENTRAL_CASE_TYPE = cases.call(
    "take_up_central_case_type", TakeUpCentralCaseType, CaseTypeActivated, who=("staff",)
)


# --- standard answers (R-CASE-20) -----------------------------------------------------------------------------------


class SaveStandardAnswer(Command):
    """A local administrator writes a standard answer of the clinic, or changes one (`version` is the one read)."""

    clinic: HsaId
    standard_answer: UUID | None = None
    version: FormVersion | None = None
    title: Name
    text: Message


class StandardAnswerSaved(Reply):
    standard_answer: UUID
    version: int


class RemoveStandardAnswer(Command):
    """A local administrator removes a standard answer; what was sent with its words stays (R-CASE-9)."""

    clinic: HsaId
    standard_answer: UUID


class ListStandardAnswers(Query):
    """The clinic's standard answers by title, for its handlers, receivers and local administrators."""

    clinic: HsaId


class StandardAnswerShown(Reply):
    standard_answer: UUID
    version: int
    title: str
    text: str
    changed_at: Instant


class StandardAnswers(Reply):
    standard_answers: list[StandardAnswerShown]


SAVE_STANDARD_ANSWER = cases.call("save_standard_answer", SaveStandardAnswer, StandardAnswerSaved, who=("staff",))
REMOVE_STANDARD_ANSWER = cases.call("remove_standard_answer", RemoveStandardAnswer, Done, who=("staff",))
LIST_STANDARD_ANSWERS = cases.call("list_standard_answers", ListStandardAnswers, StandardAnswers, who=("staff",))
