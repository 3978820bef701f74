"""Cases, part two: cases as documents for the medical record, review of the access log, statistics, keys.

These calls belong to the contract of cases; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, HsaId, Instant, Query, Reply
from shared.contracts.cases import AccessLogEntry, cases

# --- the medical record ---------------------------------------------------------------------------------------------


class TakeOutCase(Query):
    """The whole case as a document for the medical record, for staff who may read it (R-CASE-16).

    It is a reading of the case, and logged as one (R-CASE-18).
    """

    case: UUID
    format: Literal["text", "pdf"]


class CaseDocument(Reply):
    case: UUID
    version: int = Field(description="of the case, as the document shows it")
    file_name: str
    content_type: str
    content: str = Field(description="the file, in base64; text is UTF-8")


TAKE_OUT_CASE = cases.call("take_out_case", TakeOutCase, CaseDocument, who=("staff",))


class MarkRecorded(Command):
    """Notes that the case, as it is in this version, is now in the medical record (R-CASE-16); closed ones too."""

    case: UUID
    version: int


class CaseRecorded(Reply):
    case: UUID
    recorded_at: Instant


MARK_RECORDED = cases.call("mark_recorded", MarkRecorded, CaseRecorded, who=("staff",))


# --- review of the access log ---------------------------------------------------------------------------------------


class SampleAccessLog(Query):
    """Readings of the clinic's cases in a period, drawn at random, for its log reviewers (R-CASE-18).

    `population` is how many there are to draw from. Each call draws anew.
    """

    clinic: HsaId
    since: Instant
    until: Instant
    person: HsaId | None = None
    size: Annotated[int, Field(ge=1, le=100)] = 20


class AccessLogSample(Reply):
    entries: list[AccessLogEntry]
    population: int


SAMPLE_ACCESS_LOG = cases.call("sample_access_log", SampleAccessLog, AccessLogSample, who=("staff",))


class ExtractAccessLog(Query):
    """Who has read about a resident at the clinic, as a document to hand to them, for its log reviewers (R-CASE-18).

    Staff are named, never by their HSA-ids. Earliest first. More than 1 000 readings are `limit_exceeded`: shorter
    periods then give them all.
    """

    clinic: HsaId
    identity_number: Annotated[str, Field(max_length=40)]
    since: Instant
    until: Instant
    format: Literal["text", "pdf"]


class AccessLogExtract(Reply):
    readings: int
    file_name: str
    content_type: str
    content: str = Field(description="the file, in base64; text is UTF-8")


EXTRACT_ACCESS_LOG = cases.call("extract_access_log", ExtractAccessLog, AccessLogExtract, who=("staff",))


# --- statistics -----------------------------------------------------------------------------------------------------


class AskStatistics(Query):
    """How the clinic fared with the cases that came in on these days, the last one included, by Swedish date
    (R-CASE-20).

    For its local administrators and receivers.
    """

    clinic: HsaId
    first_day: date
    last_day: date


class CaseTypeStatistics(Reply):
    """Of the cases that residents started in the period; what the clinic started itself is not counted.

    `answered` were closed with an answer, `closed_otherwise` without, `open` are open now: together they are `arrived`.
    Times are from the start of the case, of those that have such a reply.
    """

    case_type: UUID | None = Field(description="none: all of them together")
    case_type_name: str
    arrived: int
    answered: int
    closed_otherwise: int
    open: int
    median_seconds_to_first_reply: int | None
    median_seconds_to_last_reply: int | None = Field(description="of those that were answered")


class Statistics(Reply):
    clinic: str
    total: CaseTypeStatistics
    case_types: list[CaseTypeStatistics]


STATISTICS = cases.call("statistics", AskStatistics, Statistics, who=("staff",))


# --- keys -----------------------------------------------------------------------------------------------------------


class AskResealing(Query):
    """How far the change to the current key has come: what may still be sealed with an older one (R-SYS-2)."""


class ResealedTable(Reply):
    """`finished_at`: when all of it had been looked through twice; until then older keys are still needed."""

    table: str
    key: str
    rounds_done: int
    resealed: int = Field(description="values sealed anew with this key")
    lost: int = Field(description="values that could not be opened: their key is not in the ring, or they are damaged")
    finished_at: Instant | None


class Resealing(Reply):
    current_key: str
    tables: list[ResealedTable]


RESEALING = cases.call("resealing", AskResealing, Resealing, who=("operator",))
