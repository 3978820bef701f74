"""What the cases service offers and tells: case types, cases, their messages, and who has read them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Contract, EventBody, HsaId, Instant, Line, Part, Query, Reply, Text

cases = Contract("cases")

ComponentKind = Literal["text", "single_choice", "multiple_choice", "date", "phone", "info", "attachments"]
CaseState = Literal["new", "assigned", "awaiting_resident", "closed"]
ClosedReason = Literal["answered", "counter_question_expired", "closed_by_clinic", "information"]
MessageKind = Literal["start", "resident_message", "partial_reply", "counter_question", "answer"]
ReplyKind = Literal["partial_reply", "counter_question", "answer"]
Writer = Literal["resident", "guardian", "staff", "system"]

MESSAGE_LENGTH = 10_000
Message = Annotated[str, Text(MESSAGE_LENGTH)]
Cursor = Annotated[str, Field(max_length=200)]
PageSize = Annotated[int, Field(ge=1, le=100)]
ComponentId = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
DateLimit = Annotated[str, Field(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2}|today)$")]
Name = Annotated[str, Line(100)]
FormVersion = Annotated[int, Field(ge=1, le=2**31 - 1)]
# A bound for the wire; the rule's own limit is a setting of the service (R-ATT-3).
Attachments = Annotated[list[UUID], Field(max_length=100)]


# --- case types -----------------------------------------------------------------------------------------------------


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


# --- starting and working on a case ---------------------------------------------------------------------------------


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


# --- lists and reading ----------------------------------------------------------------------------------------------


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
    """The resident's cases of the last two years, the one with the latest message first (R-CASE-10)."""

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


# --- the access log -------------------------------------------------------------------------------------------------


class ReadAccessLog(Query):
    """Who of the staff has read the clinic's cases, latest first, for its log reviewers (R-CASE-18).

    What is given narrows the search: a case, a member of staff, a resident by identity number (an extract of who has
    read about them), a period from `since` to just before `until`.
    """

    clinic: HsaId
    case: UUID | None = None
    person: HsaId | None = None
    identity_number: Annotated[str, Field(max_length=40)] | None = None
    since: Instant | None = None
    until: Instant | None = None
    after: Cursor | None = None
    limit: PageSize = 50


class AccessLogEntry(Reply):
    entry: int
    at: Instant
    person: str
    clinic: str
    care_provider: str
    case: UUID
    number: str
    resident: UUID
    what: Literal["case", "attachment"]
    attachment: UUID | None
    sealed: bool = Field(description="whether the row is in the sealed chain yet")
    as_document: bool = Field(False, description="the case was taken out as a document (R-CASE-16)")
    in_list: bool = Field(False, description="it was listed or counted as one of the resident's, by identity number")
    staff_name: str | None = Field(None, description="as the directory has it now")
    staff_title: str | None = None
    staff_protected: bool = Field(False, description="the protected mark (R-ID-14)")
    resident_card: ResidentCard | None = None


class AccessLog(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    entries: list[AccessLogEntry]
    after: str | None


ACCESS_LOG = cases.call("access_log", ReadAccessLog, AccessLog, who=("staff",))


class ReadMyAccessLog(Query):
    """Which staff have read the resident's cases, latest first (R-CASE-18)."""

    after: Cursor | None = None
    limit: PageSize = 50


class MyAccessLogEntry(Reply):
    at: Instant
    clinic: str
    care_provider: str
    number: str = Field(description="empty: of a case that is shown no more, after two years (R-CASE-10)")
    staff_name: str
    staff_title: str | None
    what: Literal["case", "attachment"]
    in_list: bool = Field(False, description="it was listed or counted as one of the resident's, by identity number")


class MyAccessLog(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    entries: list[MyAccessLogEntry]
    after: str | None


MY_ACCESS_LOG = cases.call("my_access_log", ReadMyAccessLog, MyAccessLog, who=("resident",))


# --- for other services ---------------------------------------------------------------------------------------------


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
    """A clinic, and the moments between which something was last written in the cases that are asked about."""

    clinic: HsaId
    silent_since: Instant = Field(description="nothing has been written in the case after this moment")
    written_after: Instant | None = Field(
        None, description="only cases that became silent after this one: those not asked about before"
    )


class AskUnhandledCases(Query):
    """Which clinics have cases that stand with them and in which nothing has been written for so long (R-NOT-2).

    Cases that wait for the resident are not among them. Clinics without such cases are left out of the answer.
    """

    clinics: Annotated[list[UnhandledAt], Field(max_length=500)]


class UnhandledOfClinic(Reply):
    clinic: str
    count: int
    oldest: Instant = Field(description="when something was last written in the one that has been silent for longest")


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


# --- events ---------------------------------------------------------------------------------------------------------


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
CASE_CLOSED = cases.event("case_closed", CaseClosedEvent)
ANSWER_REMINDER = cases.event("answer_reminder", AnswerReminderEvent, heard_by=("notifications",))
