"""Who of the staff has read what (R-CASE-18)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import HsaId, Instant, Query, Reply
from shared.contracts.cases.common import Cursor, PageSize, cases
from shared.contracts.cases.reading import ResidentCard


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
