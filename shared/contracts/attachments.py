"""What the attachments service offers: files on their way into messages, and links to those that were sent.

The bytes never pass through a call. The client asks for a place, uploads straight to the object store by the answer,
and may send the file in a message once it has been checked.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from shared.contracts.base import Command, Contract, Done, Instant, Query, Reply

attachments = Contract("attachments")


class State(StrEnum):
    """Where a file is on its way (R-ATT-7)."""

    WAITING = "waiting"
    """A place is given; the bytes are not all there yet."""
    CHECKING = "checking"
    """The bytes are there and wait for the check, or are in it."""
    USABLE = "usable"
    """Checked; it may be sent."""
    REFUSED = "refused"
    """It never will be usable; `refusal` says why."""


class OwnerKind(StrEnum):
    """What sort of person attached a file."""

    RESIDENT = "resident"
    STAFF = "staff"


RawName = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
"""A file's name as the client has it, a path included; it is cleaned before it is kept (R-ATT-1)."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
"""SHA-256 of the file, in hexadecimal."""

FileIds = Annotated[list[UUID], Field(max_length=100)]


# --- for the one who attaches ---------------------------------------------------------------------------------------


class AskUpload(Command):
    """Asks for a place to upload one file to (R-ATT-1, R-ATT-2).

    Refused at once: a type that is not PDF, GIF, JPEG or PNG (`type_not_allowed`), a name whose ending does not agree
    with it (`name_type_mismatch`), an empty file (`file_empty`), one that is too large (`file_too_large`), too many
    files that were never sent (`too_many_unsent`), or were refused or removed lately (`too_many_tries`).
    """

    name: RawName
    size: Annotated[int, Field(ge=0, le=2**53)]
    content_type: Annotated[str, StringConstraints(max_length=200)]
    sha256: Sha256
    draft: UUID | None = None
    """Any id that the client gives to the message it is writing: files of one draft are kept until 24 hours after the
    last of them was added, changed or removed, or named in a draft that was saved in a case (R-ATT-8). None:
    each file by itself."""


class UploadRequest(Reply):
    """The request that the client makes to the store, exactly so; the store refuses any other length, type or bytes."""

    method: str
    url: str
    headers: dict[str, str]
    """Every one of them is signed and must be sent as it is, `Content-Length` too."""
    fields: dict[str, str] | None = None
    """For stores that take forms (POST); None where the body is the file itself (PUT)."""


class UploadAsked(Reply):
    """A place for one file."""

    attachment: UUID
    upload: UploadRequest
    expires_at: Instant
    """The upload must have begun before this moment."""


class Uploaded(Command):
    """Says that the upload is done, so that the check begins at once. Not needed: the store is looked at anyway."""

    attachment: UUID


class GetAttachment(Query):
    """Shows a file of the caller's own that is not sent yet; a sent one is read through its case (R-ATT-6, R-ATT-7)."""

    attachment: UUID


class Attachment(Reply):
    """A file and how far it has come."""

    attachment: UUID
    name: str
    size: int
    content_type: str
    state: State
    refusal: str | None = None
    """Why it was refused, in Swedish, for the one who attached it."""
    refusal_reason: str | None = None
    """The same for programs: a stable snake_case word."""
    cleaned: bool = False
    """Active content (scripts, embedded files) was removed from it: it is not what was uploaded (R-ATT-7)."""
    preview: bool = False
    """Whether there is a picture of it to show: `preview_url` in a link."""
    draft: UUID | None = None
    """The draft that it was asked for with."""


class ListUnsent(Query):
    """Shows the caller's own files that belong to no message, in the order they were asked for.

    So a client that was closed in between finds them again, and what became of them (R-ATT-5, R-ATT-7).
    """

    draft: UUID | None = None
    """Only those of this draft."""


class UnsentAttachments(Reply):
    """Files that wait to be sent, and refused ones of the last 24 hours; at most 200, the latest."""

    attachments: list[Attachment]


class PreviewAttachment(Query):
    """Gives links to a checked file of the caller's own that is not sent yet, and to a picture of it (R-ATT-5)."""

    attachment: UUID


class RemoveAttachment(Command):
    """Removes a file of the caller's own before it is sent; afterwards nobody can (R-ATT-5)."""

    attachment: UUID


class GetLimits(Query):
    """Asks what may be attached (R-ATT-1, R-ATT-2, R-ATT-3)."""


class Limits(Reply):
    """What may be attached."""

    max_file_bytes: int
    max_files_resident: int
    max_files_staff: int
    content_types: list[str]
    endings: dict[str, list[str]]
    """For each type, how a file's name may end (lower case; letter case does not matter)."""
    upload_seconds: int
    link_seconds: int
    kept_unsent_hours: int


# --- for the cases service ------------------------------------------------------------------------------------------


class Claim(Command):
    """Binds files to a message that is about to be sent: all of them or none, and only the owner's (R-ATT-3..5, 7).

    The same message may claim the same files again, with the same answer, under any request id. Refused: more than
    `at_most` or than the owner's limit (`too_many_attachments`), not the owner's or unknown (not_found),
    `attachment_not_checked`, `attachment_refused`, `attachment_already_used` (another message has it).
    """

    attachments: FileIds
    owner_kind: OwnerKind
    owner: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    """The resident's id, or the staff member's HSA-id."""
    case: UUID
    message: UUID
    at_most: Annotated[int, Field(ge=0)]


class ClaimedFile(Reply):
    """What a message keeps of a file."""

    attachment: UUID
    name: str
    size: int
    content_type: str
    cleaned: bool = False
    """Active content was removed from it."""


class Claimed(Reply):
    """The claimed files, in the order they were asked for."""

    attachments: list[ClaimedFile]


class Release(Command):
    """Gives claimed files back to their owner, when the message was refused and surely never will exist.

    Only to spare the owner a wait: claims of messages that do not exist are found and released anyway.
    """

    message: UUID


class AskLink(Query):
    """Asks for a link to a file of a case, for someone who may read that case (R-ATT-6)."""

    attachment: UUID
    case: UUID


class Link(Reply):
    """An address that gives the file to anyone who has it, for at most 60 seconds."""

    url: str
    expires_at: Instant
    name: str
    content_type: str
    preview_url: str | None = None
    """An address, as short-lived, of a PNG that shows the picture or the first page; None where there is none."""
    cleaned: bool = False
    """Active content was removed from it: it is not what its sender uploaded."""


_PEOPLE = ("resident", "staff")
_CASES = ("service:cases",)

ASK_UPLOAD = attachments.call("ask_upload", AskUpload, UploadAsked, who=_PEOPLE)
UPLOADED = attachments.call("uploaded", Uploaded, Done, who=_PEOPLE)
GET_ATTACHMENT = attachments.call("get_attachment", GetAttachment, Attachment, who=_PEOPLE)
LIST_UNSENT = attachments.call("list_unsent", ListUnsent, UnsentAttachments, who=_PEOPLE)
PREVIEW_ATTACHMENT = attachments.call("preview_attachment", PreviewAttachment, Link, who=_PEOPLE)
REMOVE_ATTACHMENT = attachments.call("remove_attachment", RemoveAttachment, Done, who=_PEOPLE)
LIMITS = attachments.call("limits", GetLimits, Limits, who=(*_PEOPLE, "service"))
CLAIM = attachments.call("claim", Claim, Claimed, who=_CASES)
RELEASE = attachments.call("release", Release, Done, who=_CASES)
LINK = attachments.call("link", AskLink, Link, who=_CASES)
