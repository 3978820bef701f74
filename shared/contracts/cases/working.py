"""Starting a case, and all that changes it (R-CASE-2, R-CASE-4 to R-CASE-6)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, HsaId, Part, Reply, Text
from shared.contracts.cases.common import (
    MESSAGE_LENGTH,
    Attachments,
    CaseState,
    ComponentId,
    FormVersion,
    Message,
    ReplyKind,
    cases,
)


class Answer(Part):
    """What the resident filled in for one component: one value, or several for a multiple choice."""

    component: ComponentId
    values: Annotated[list[Annotated[str, Text(MESSAGE_LENGTH, empty=True)]], Field(max_length=50)]


class StartCase(Command):
    """A resident starts a case from an active case type; the answers must fit its form (R-CASE-2).

    `form_version` is that of the form that the resident has read and filled in. Where there is information to be read
    first it must be said (else `conflict`, `information_not_read`), and a form that has been changed since is refused
    (`form_changed`).
    """

    clinic: HsaId
    case_type: UUID
    form_version: FormVersion | None = None
    answers: Annotated[list[Answer], Field(max_length=50)] = Field(default_factory=list)
    attachments: Attachments = Field(default_factory=list)


class CaseStarted(Reply):
    case: UUID
    number: str
    message: UUID


START_CASE = cases.call("start_case", StartCase, CaseStarted, who=("resident",))


class AssignCase(Command):
    """Gives a case to a handler of the same clinic, if wished with a partial reply in the same step (R-CASE-4).

    A receiver may, and a handler for a case of their own. `version` is the case's as the caller read it.
    Files go with the partial reply only (R-ATT-4).
    """

    case: UUID
    version: int
    handler: HsaId
    partial_reply: Message | None = None
    attachments: Attachments = Field(default_factory=list)


class CaseAssigned(Reply):
    case: UUID
    state: CaseState
    version: int
    message: UUID | None
    resident_active: bool = Field(
        True, description="false: the account is inactive, it was sent all the same (R-CASE-12)"
    )


ASSIGN_CASE = cases.call("assign_case", AssignCase, CaseAssigned, who=("staff",))


class WriteReply(Command):
    """The handler of the case writes to the resident (R-CASE-5).

    An answer closes the case, after a counter-question it awaits the resident, a partial reply leaves it as it is.
    `referral` names another clinic whose contact card the reply links to: cases are not moved there (R-CASE-8).
    """

    case: UUID
    version: int
    kind: ReplyKind
    text: Message
    attachments: Attachments = Field(default_factory=list)
    referral: HsaId | None = None


class ReplySent(Reply):
    case: UUID
    message: UUID
    state: CaseState
    version: int
    resident_active: bool = Field(
        True, description="false: the account is inactive, it was sent all the same (R-CASE-12)"
    )


REPLY = cases.call("reply", WriteReply, ReplySent, who=("staff",))


class SendMessage(Command):
    """The resident writes in a case after a counter-question, any number of times while it is open (R-CASE-6).

    `answers` are for a case that the clinic has started with questions: once, the first time the resident writes; the
    text can then be left out (R-CASE-14).
    """

    case: UUID
    text: Annotated[str, Text(MESSAGE_LENGTH, empty=True)] = ""
    answers: Annotated[list[Answer], Field(max_length=50)] = Field(default_factory=list)
    attachments: Attachments = Field(default_factory=list)


class MessageSentReply(Reply):
    case: UUID
    message: UUID
    state: CaseState
    version: int


SEND_MESSAGE = cases.call("send_message", SendMessage, MessageSentReply, who=("resident",))


class CloseCase(Command):
    """Closes a case without an answer; closed is final."""

    case: UUID
    version: int


class CaseClosedReply(Reply):
    case: UUID
    state: CaseState
    version: int


CLOSE_CASE = cases.call("close_case", CloseCase, CaseClosedReply, who=("staff",))
