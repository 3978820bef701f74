"""Cases, part two: cases as documents for the medical record, review of the access log, statistics, keys.

These calls belong to the contract of cases; they stand apart only to keep the pages short.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.contracts.base import HsaId, Instant, Query, Reply
from shared.contracts.cases import AccessLogEntry, cases

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
