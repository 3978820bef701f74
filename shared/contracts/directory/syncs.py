"""Runs with the care directories: asked for, and read as records."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Instant, Query, Reply
from shared.contracts.directory.common import directory

SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
RunState = Literal["requested", "running", "done", "stopped", "failed"]


class StartSync(Command):
    """Asks for a sync with a source, or with all that are configured (R-DIR-1). It is run by the worker, one at a time.

    With `accept_removals` the guard against mass removal is off for this run (R-DIR-12): when so much really is gone.
    """

    source: SourceName | None = None
    accept_removals: bool = False


class SyncRequested(Reply):
    run: UUID


START_SYNC = directory.call("start_sync", StartSync, SyncRequested, who=("operator", "staff"))


class GetSyncRun(Query):
    """What a run has done so far, for an operator or a regional administrator; refused values are given in pages."""

    run: UUID
    refused_after: int = Field(0, ge=0, le=2**31 - 1, description="number of the last refused value already seen")
    refused_limit: int = Field(200, ge=0, le=1000)


class RefusedValue(Reply):
    """A value that could not be parsed, or an object that could not be taken: kept as it came, listed here."""

    number: int
    object: str = Field(description="HSA-id, or where in the source it stood")
    field: str
    reason: str


class SyncRun(Reply):
    """`reason` says why a run failed or stopped, and `failed_part` in which source and part first; the other parts are
    done all the same. Changed counts what differs from the copy, missing what was absent for
    the first time, removed what is now held to be gone, returned what has come back."""

    run: UUID
    source: str | None
    state: RunState
    reason: str | None
    failed_part: str | None = None
    requested_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    seconds: float | None
    units_read: int = 0
    units_added: int = 0
    units_changed: int = 0
    units_missing: int = 0
    units_removed: int = 0
    units_returned: int = 0
    staff_read: int = 0
    staff_added: int = 0
    staff_changed: int = 0
    staff_missing: int = 0
    staff_removed: int = 0
    staff_returned: int = 0
    refused_count: int = 0
    refused: list[RefusedValue] = []


GET_SYNC_RUN = directory.call("get_sync_run", GetSyncRun, SyncRun, who=("operator", "staff"))


class ListSyncRuns(Query):
    """Runs, newest first, for an operator or a regional administrator; `before` is the last run already seen."""

    limit: int = Field(20, ge=1, le=100)
    before: UUID | None = None


class SyncRuns(Reply):
    """Their records without the refused values, which `get_sync_run` has."""

    runs: list[SyncRun]


LIST_SYNC_RUNS = directory.call("list_sync_runs", ListSyncRuns, SyncRuns, who=("operator", "staff"))
