"""Lists of cases, and one with its messages (R-CASE-3, R-CASE-15, R-CASE-19)."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import HsaId, Instant, Query, Reply
from shared.contracts.cases.common import CaseState, ClosedReason, Cursor, MessageKind, PageSize, Writer, cases
from shared.contracts.cases.offer import ComponentShown


class CaseFilter(Query):
    """Which cases: those that fit everything that is named (R-CASE-19).

    `started_from` and `started_to` are Swedish dates, both included. `identity_number` is looked up by identity, who
    alone has it (R-ID-24). `unread`: with something from the resident that nobody who should has read.
    """

    state: CaseState | None = None
    case_type: UUID | None = None
    handler: HsaId | None = None
    started_from: date | None = None
    started_to: date | None = None
    identity_number: Annotated[str, Field(max_length=40)] | None = None
    number: Annotated[str, Field(pattern=r"^ *[0-9]{4}-[0-9]{1,12} *$")] | None = None
    unread: bool | None = None


class ListClinicCases(CaseFilter):
    """The clinic's cases, newest first, for its receivers (R-CASE-3). `after` is the cursor of the page before."""

    clinic: HsaId
    after: Cursor | None = None
    limit: PageSize = 50


class ListMyCases(CaseFilter):
    """The cases assigned to the caller, newest first, at one clinic or at all where they handle cases (R-CASE-3)."""

    clinic: HsaId | None = None
    after: Cursor | None = None
    limit: PageSize = 50


class CaseListed(Reply):
    case: UUID
    number: str
    clinic: str
    case_type: UUID
    case_type_name: str
    state: CaseState
    closed_reason: ClosedReason | None
    version: int
    handler: str | None
    started_at: Instant
    latest_message_at: Instant
    latest_written_by: Writer
    unread: bool = Field(False, description="something from the resident, or the case itself, is new to who has it")
    waiting_since: Instant | None = Field(None, description="since when the resident waits for the clinic")


class CasePage(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    cases: list[CaseListed]
    after: str | None


LIST_CLINIC_CASES = cases.call("list_clinic_cases", ListClinicCases, CasePage, who=("staff",))
LIST_MY_CASES = cases.call("list_my_cases", ListMyCases, CasePage, who=("staff",))


class ListInbox(Query):
    """The resident's cases of the last two years, the one with the latest message first (R-CASE-10).

    A case that is written in while someone pages on moves to the front: it is on the first page, asked for anew, and on
    none that follows.
    """

    after: Cursor | None = None
    limit: PageSize = 50


class InboxItem(Reply):
    case: UUID
    number: str
    clinic: str
    case_type_name: str
    state: CaseState
    inbox_state: Literal["new", "waiting_for_me", "waiting_for_clinic", "closed"]
    unopened: int
    started_at: Instant
    latest_message_at: Instant
    title: str | None = Field(None, description="of messages of other systems: the latest one's (R-CASE-21)")


class Inbox(Reply):
    """`after` is the cursor for the next page; none: this was the last. `unopened` counts the messages of all pages."""

    cases: list[InboxItem]
    after: str | None
    unopened: int = 0


LIST_INBOX = cases.call("list_inbox", ListInbox, Inbox, who=("resident",))


class GetCase(Query):
    """A case with its messages. Each reading by staff is logged (R-CASE-18); a resident's opens the messages."""

    case: UUID


class ResidentCard(Reply):
    """What staff see of the resident: this and nothing else (R-ID-14)."""

    name: str
    identity_number: str
    active: bool
    protected: bool


class AttachmentShown(Reply):
    attachment: UUID
    name: str
    size: int = Field(description="bytes")
    content_type: str


class AnswerShown(Reply):
    component: str
    label: str
    values: list[str]


class ReferralShown(Reply):
    """A link to a clinic's contact card (R-CASE-8)."""

    clinic: str
    name: str = Field(description="as it was when the message was sent")


class LinkShown(Reply):
    """An https address, with the words to show for it."""

    text: str
    url: str


class MessageShown(Reply):
    message: UUID
    kind: MessageKind
    sent_at: Instant
    written_by: Writer
    sender_name: str | None = Field(description="none to residents of what they wrote themselves")
    text: str
    answers: list[AnswerShown] = Field(default_factory=list)
    signature: str | None
    attachments: list[AttachmentShown]
    opened_at: Instant | None = Field(
        description="when the resident first opened a message from the clinic (R-CASE-15)"
    )
    referral: ReferralShown | None = None
    title: str | None = Field(None, description="of messages of other systems (R-CASE-21)")
    links: list[LinkShown] = Field(default_factory=list)


class ActivityShown(Reply):
    at: Instant
    kind: str
    by: Writer
    person: str | None
    handler: str | None
    reason: str | None
    message: UUID | None


class NoteShown(Reply):
    note: UUID
    at: Instant
    person: str
    text: str


class OtherWriting(Reply):
    """Someone else at the clinic has begun to answer (R-CASE-17)."""

    person: str
    saved_at: Instant


class CaseShown(Reply):
    case: UUID
    number: str
    clinic: str
    care_provider: str
    case_type: UUID
    case_type_name: str
    state: CaseState
    closed_reason: ClosedReason | None
    version: int
    handler: str | None = Field(description="for staff only")
    started_at: Instant
    answer_before: Instant | None = Field(description="when an unanswered counter-question closes the case (R-CASE-7)")
    may_write: bool = Field(description="whether the resident may write in it now")
    may_attach: bool = Field(description="whether the resident may attach files (R-ATT-4)")
    questions: list[ComponentShown] = Field(
        default_factory=list, description="what the clinic has asked and the resident is still to answer (R-CASE-14)"
    )
    resident: ResidentCard | None = Field(description="for staff only")
    messages: list[MessageShown]
    activities: list[ActivityShown] = Field(description="for staff only")
    notes: list[NoteShown] = Field(default_factory=list, description="internal ones, for staff only")
    others_writing: list[OtherWriting] = Field(default_factory=list, description="for staff only (R-CASE-17)")
    recorded_at: Instant | None = Field(None, description="when it was last marked as recorded (R-CASE-16); staff only")
    recorded_by: str | None = Field(None, description="for staff only")
    recorded_version: int | None = Field(
        None, description="the version that is in the medical record; less than `version`: more has come since"
    )


GET_CASE = cases.call("get_case", GetCase, CaseShown, who=("resident", "staff"))


class OpenAttachment(Query):
    """A link, good for at most a minute, to a file of a case that the caller may read; logged (R-ATT-6)."""

    case: UUID
    attachment: UUID


class AttachmentOpened(Reply):
    url: str
    expires_at: Instant
    name: str
    content_type: str
    preview_url: str | None = None
    """As short-lived: a PNG that shows the picture or the first page; None where there is none."""
    cleaned: bool = False
    """Active content (scripts, embedded files) was removed from the file when it was checked (R-ATT-7)."""


OPEN_ATTACHMENT = cases.call("open_attachment", OpenAttachment, AttachmentOpened, who=("resident", "staff"))
