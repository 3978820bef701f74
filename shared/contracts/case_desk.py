"""Cases, part four: what those who answer have at hand: counts, internal notes, drafts, their signature.

These calls belong to the contract of cases; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Done, HsaId, Instant, Query, Reply, Text
from shared.contracts.cases import MESSAGE_LENGTH, Attachments, CaseFilter, Message, OtherWriting, ReplyKind, cases

Unfinished = Annotated[str, Text(MESSAGE_LENGTH, empty=True)]
CaseVersion = Annotated[int, Field(ge=1, le=2**31 - 1)]


# --- counting (R-CASE-19) -------------------------------------------------------------------------------------------


class CountCases(CaseFilter):
    """How many cases the list with the same filters has: the clinic's for its receivers, or with `mine` those that the
    caller handles there."""

    clinic: HsaId
    mine: bool = False


class CaseCounts(Reply):
    """By state; how many have something that nobody at the clinic has read; since when the one that has waited longest
    for the clinic does so."""

    new: int
    assigned: int
    awaiting_resident: int
    closed: int
    unread: int
    waiting_since: Instant | None


COUNT_CASES = cases.call("count_cases", CountCases, CaseCounts, who=("staff",))


# --- internal notes -------------------------------------------------------------------------------------------------


class AddNote(Command):
    """Writes an internal note in a case, for all staff who may read it, in a closed one too; never for a resident.

    Like what is sent it can't be changed or removed afterwards.
    """

    case: UUID
    text: Message


class NoteAdded(Reply):
    note: UUID


ADD_NOTE = cases.call("add_note", AddNote, NoteAdded, who=("staff",))


# --- drafts (R-CASE-17) ---------------------------------------------------------------------------------------------


class SaveDraft(Command):
    """Keeps what the caller is writing in a case, in place of what was kept before; it survives logging out.

    `version` is the case's as the caller has read it. One that comes late is refused as `conflict`, `draft_late`: what
    the caller has sent since, or a draft of a later version, is not followed by what they wrote before it. Nobody else
    sees a draft; other staff see that one is written, while the case is open. The caller's own files that it names are
    kept until 24 hours after it was last saved (R-ATT-8).
    """

    case: UUID
    version: CaseVersion
    text: Unfinished = ""
    kind: ReplyKind | None = None
    attachments: Attachments = Field(default_factory=list)


class DraftSaved(Reply):
    saved_at: Instant
    version: int = Field(description="the case's now: another than the draft's means that something has happened")
    others_writing: list[OtherWriting]


class GetDraft(Query):
    """The caller's own draft in a case, if there is one."""

    case: UUID


class DraftShown(Reply):
    text: str
    kind: ReplyKind | None
    attachments: list[UUID]
    version: int = Field(description="the case's when the draft was written")
    saved_at: Instant


class DraftFound(Reply):
    draft: DraftShown | None
    others_writing: list[OtherWriting]


class DiscardDraft(Command):
    """Removes the caller's own draft in a case; none there is as well."""

    case: UUID


SAVE_DRAFT = cases.call("save_draft", SaveDraft, DraftSaved, who=("resident", "staff"))
GET_DRAFT = cases.call("get_draft", GetDraft, DraftFound, who=("resident", "staff"))
DISCARD_DRAFT = cases.call("discard_draft", DiscardDraft, Done, who=("resident", "staff"))


# --- signature (R-CASE-11) ------------------------------------------------------------------------------------------


class SetSignature(Command):
    """Writes the caller's personal signature, used in replies from now on; null: made from the directory again."""

    text: Annotated[str, Text(500)] | None


class GetSignature(Query):
    """The caller's signature, as the next reply will have it."""


class Signature(Reply):
    text: str
    personal: bool = Field(description="false: made from name and title in the directory")


SET_SIGNATURE = cases.call("set_signature", SetSignature, Done, who=("staff",))
GET_SIGNATURE = cases.call("get_signature", GetSignature, Signature, who=("staff",))
