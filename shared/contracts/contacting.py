"""Cases, part five: cases that a clinic starts, with one resident or with many (R-CASE-14).

These calls belong to the contract of cases; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Done, HsaId, Instant, Query, Reply
from shared.contracts.case_types import LongText
from shared.contracts.cases import Attachments, CaseState, Cursor, FormVersion, PageSize, ResidentCard, cases

PastedNumber = Annotated[str, Field(max_length=40, description="an identity number in any of its written forms")]
RECIPIENTS_AT_ONCE = 500
MOST_RECIPIENTS = 20_000
"""How many residents one mailing may go to."""


# --- with one resident ----------------------------------------------------------------------------------------------


class ContactResident(Command):
    """A handler starts a case with a resident from one of the clinic's templates (R-CASE-14).

    One of information is closed at once and can't be answered; one with questions waits for the resident, and the
    handler has it. `text` null: the template's own words. `form_version` is that of the template that the caller has
    read; null: whatever it is now. Refused as `conflict`: `form_changed` where the template is another since,
    `resident_without_account` and `resident_locked` (R-CASE-22). Catchment and protection limit what residents turn to
    (R-ID-15, R-ID-22), not whom a clinic writes to: a refusal would tell where someone lives (R-ID-14).
    """

    clinic: HsaId
    template: UUID
    form_version: FormVersion | None = None
    identity_number: PastedNumber
    text: LongText | None = None
    attachments: Attachments = Field(default_factory=list)


class ResidentContacted(Reply):
    case: UUID
    number: str
    message: UUID
    state: CaseState
    version: int
    resident_active: bool = Field(
        True, description="false: the account is inactive, it was sent all the same (R-CASE-12)"
    )


CONTACT_RESIDENT = cases.call("contact_resident", ContactResident, ResidentContacted, who=("staff",))


# --- with many ------------------------------------------------------------------------------------------------------

MailingState = Literal["draft", "sending", "done", "cancelled", "stopped"]
RecipientResult = Literal["waiting", "sent", "sent_to_inactive", "no_account", "locked", "clinic_not_open", "not_sent"]


class CreateMailing(Command):
    """A handler prepares to start the same case with many residents. `text` null: the template's own words.

    What is sent is the template as it is now; it is refused as `conflict`, `form_changed`, where that is no longer the
    `form_version` that the caller has read. Only its author works with a mailing, and only while a handler there; the
    clinic's administrators see how far it has come and can stop it. One that is not sent is removed, with its
    recipients, a week after it was last changed.
    """

    clinic: HsaId
    template: UUID
    form_version: FormVersion | None = None
    text: LongText | None = None


class MailingCreated(Reply):
    mailing: UUID


class AddRecipients(Command):
    """Adds residents to a mailing that is not sent yet, by their numbers, some hundreds in each call."""

    mailing: UUID
    identity_numbers: Annotated[list[PastedNumber], Field(min_length=1, max_length=RECIPIENTS_AT_ONCE)]


class RefusedRecipient(Reply):
    position: int = Field(description="in the request, from 0")
    reason: Literal["not_an_identity_number", "no_account", "already_there"]


class RecipientsAdded(Reply):
    added: int
    recipients: int = Field(description="all that the mailing has now")
    refused: list[RefusedRecipient]


class SendMailing(Command):
    """Begins to send; each recipient gets one case, also when the service is stopped in between.

    `get_mailing` tells how far it has come.
    """

    mailing: UUID


class CancelMailing(Command):
    """Sends to no more recipients; what has been sent stays sent (R-CASE-9).

    For its author, and for local administrators of the clinic.
    """

    mailing: UUID


class ListMailings(Query):
    """A clinic's mailings, latest first: all of them for its local administrators, their own for handlers."""

    clinic: HsaId
    after: Cursor | None = None
    limit: PageSize = 50


class MailingListed(Reply):
    mailing: UUID
    author: str
    template_name: str
    state: MailingState
    recipients: int
    created_at: Instant
    sent_from: Instant | None
    finished_at: Instant | None


class Mailings(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    mailings: list[MailingListed]
    after: str | None


class GetMailing(Query):
    """How far a mailing has come, for its author and for local administrators of the clinic."""

    mailing: UUID


class ResultCount(Reply):
    result: RecipientResult
    count: int


class MailingShown(Reply):
    """`stopped`: the author lost the right, or the clinic went out of use, before all was sent."""

    mailing: UUID
    clinic: str
    template: UUID
    template_name: str
    state: MailingState
    recipients: int
    results: list[ResultCount]
    created_at: Instant
    sent_from: Instant | None
    finished_at: Instant | None


class ListRecipients(Query):
    """What became of each recipient, in the order they were added."""

    mailing: UUID
    result: RecipientResult | None = None
    after: Cursor | None = None
    limit: PageSize = 50


class RecipientShown(Reply):
    """`resident` only where they have got a case by it that the caller may read; that it is told of is logged as a
    reading of the case (R-CASE-18). `position`: the place in the order of adding, from 0 on.

    `clinic_not_open` stands in mailings of earlier versions alone.
    """

    resident: ResidentCard | None
    result: RecipientResult
    case: UUID | None
    position: int = 0


class Recipients(Reply):
    """`after` is the cursor for the next page; none: this was the last."""

    recipients: list[RecipientShown]
    after: str | None


CREATE_MAILING = cases.call("create_mailing", CreateMailing, MailingCreated, who=("staff",))
ADD_RECIPIENTS = cases.call("add_recipients", AddRecipients, RecipientsAdded, who=("staff",))
SEND_MAILING = cases.call("send_mailing", SendMailing, Done, who=("staff",))
CANCEL_MAILING = cases.call("cancel_mailing", CancelMailing, Done, who=("staff",))
LIST_MAILINGS = cases.call("list_mailings", ListMailings, Mailings, who=("staff",))
GET_MAILING = cases.call("get_mailing", GetMailing, MailingShown, who=("staff",))
LIST_RECIPIENTS = cases.call("list_recipients", ListRecipients, Recipients, who=("staff",))
