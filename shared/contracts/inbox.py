"""Cases, part six: messages that other systems put into residents' inboxes (R-CASE-21).

These calls belong to the contract of cases; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, HsaId, Line, Part, Reply, Text
from shared.contracts.cases import cases

MARKUP_LENGTH = 50_000


class InboxLink(Part):
    """A link that goes with the message: to an https address."""

    text: Annotated[str, Line(200)]
    url: Annotated[str, Field(max_length=2000)]


class PutInboxMessage(Command):
    """A booking or calling system puts a message of a clinic into a resident's inbox (R-CASE-21).

    `format` docbook: a subset of DocBook (article, info, title, section, para, ulink, variablelist, varlistentry, term,
    listitem, bibliography) with HTML's named characters; of that the text and the links are kept. Anything else, a DTD
    above all, is `invalid`. Messages with the same `thread`, from the same system and clinic, stand together.
    """

    clinic: HsaId
    identity_number: Annotated[str, Field(max_length=40)]
    title: Annotated[str, Line(200)]
    text: Annotated[str, Text(MARKUP_LENGTH)]
    format: Literal["text", "docbook"] = "text"
    link: InboxLink | None = None
    thread: Annotated[str, Field(pattern="^[!-~]{1,100}$")] | None = None
    notify: bool = True


class InboxMessagePut(Reply):
    """`no_account`, `locked`: the resident has none, or has locked their login, and nothing was stored."""

    result: Literal["stored", "no_account", "locked"]
    case: UUID | None = None
    message: UUID | None = None
    resident_active: bool = True


PUT_INBOX_MESSAGE = cases.call(
    "put_inbox_message", PutInboxMessage, InboxMessagePut, who=("system:booking", "system:calling")
)
