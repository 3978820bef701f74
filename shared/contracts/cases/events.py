"""What cases tells."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.attachments import OwnerKind
from shared.contracts.base import EventBody, HsaId, Instant
from shared.contracts.cases.common import ClosedReason, MessageKind, cases


class CaseStartedEvent(EventBody):
    """A case came in to the clinic."""

    case: UUID
    clinic: HsaId
    resident: UUID
    message: UUID


class CaseAssignedEvent(EventBody):
    """The case was given to this handler, in this version of it, by this person (who need not be told of it)."""

    case: UUID
    clinic: HsaId
    resident: UUID
    handler: HsaId
    version: int
    assigned_by: HsaId | None = None


class MessageSentEvent(EventBody):
    """A message was sent in a case, the first one too. `handler` is who has the case; the attachments are now sent."""

    case: UUID
    message: UUID
    clinic: HsaId
    resident: UUID
    kind: MessageKind
    written_by: Literal["resident", "staff", "system"]
    handler: HsaId | None
    attachments: list[UUID] = Field(default_factory=list)
    notify: bool = Field(True, description="false: a message of another system that nobody is to be told of")


class DraftSavedEvent(EventBody):
    """Someone has saved a draft with these files in the case: they are kept for another day (R-ATT-8).

    Told for drafts with files only. `owner` is the writer: files of anyone else's are none of the draft's.
    """

    case: UUID
    owner_kind: OwnerKind
    owner: str
    attachments: list[UUID]


class CaseClosedEvent(EventBody):
    """The case is closed, for this reason."""

    case: UUID
    clinic: HsaId
    resident: UUID
    reason: ClosedReason


class AnswerReminderEvent(EventBody):
    """The resident is to be reminded: a week is left before this counter-question closes the case (R-CASE-7, R-NOT-3).

    Told once for each counter-question, and not if the resident has written since.
    """

    case: UUID
    message: UUID
    clinic: HsaId
    resident: UUID
    answer_before: Instant


CASE_STARTED = cases.event("case_started", CaseStartedEvent, heard_by=("notifications",))
CASE_ASSIGNED = cases.event("case_assigned", CaseAssignedEvent, heard_by=("notifications",))
MESSAGE_SENT = cases.event("message_sent", MessageSentEvent, heard_by=("attachments", "notifications"))
DRAFT_SAVED = cases.event("draft_saved", DraftSavedEvent, heard_by=("attachments",))
CASE_CLOSED = cases.event("case_closed", CaseClosedEvent)
ANSWER_REMINDER = cases.event("answer_reminder", AnswerReminderEvent, heard_by=("notifications",))
