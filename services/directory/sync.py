"""Runs: asked for by a call or a job, done by the worker one at a time, kept as records that can be read."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, func, select, true, tuple_, update

from services.directory import loading, locks, sources, warnings
from services.directory.loading import Counts, Kind, Stopped, TooLittle
from services.directory.sources import Catalogue, Source, SourceError
from services.directory.staff import STAFF
from services.directory.tables import source_states, sync_refused, sync_runs
from services.directory.units import UNITS
from shared.contracts.directory import (
    GetSyncRun,
    ListSyncRuns,
    RefusedValue,
    StartSync,
    SyncRequested,
    SyncRun,
    SyncRuns,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid, NotFound, Refused
from shared.operations.logs import log

Transactions = Callable[[], AbstractContextManager[Transaction]]

LISTS_KEPT = timedelta(days=90)
MOST_ATTEMPTS = 5
"""A run that so many workers have begun, and none has ended, is given up; the next one has what it left."""
_WAITING = ("requested", "running")
_ANY = true()


# --- calls ----------------------------------------------------------------------------------------------------------


def request_run(tx: Transaction, request: StartSync) -> SyncRequested:
    """Asks for a run. Raises `Forbidden`, or `Invalid` for a source that there is not."""
    _may_see_runs(tx)
    if request.source is not None and request.source not in sources.NAMES:
        raise Invalid(fields=[("source", "är ingen känd källa")])
    run = _ask_for_run(tx, request.source, request.accept_removals, tx.caller.identity)
    return SyncRequested(run=run)


def request_by_itself(tx: Transaction, source: str | None = None) -> UUID | None:
    """Asks for a run with a source, or with all that give catalogues, unless one is waiting already."""
    waiting = select(sync_runs.c.id).where(
        sync_runs.c.state.in_(_WAITING), sync_runs.c.source.is_not_distinct_from(source)
    )
    if tx.execute(waiting.limit(1)).first() is not None:
        return None
    return _ask_for_run(tx, source, False, "directory")


def _ask_for_run(tx: Transaction, source: str | None, accept_removals: bool, by: str) -> UUID:
    run = uuid4()
    tx.execute(
        sync_runs.insert().values(
            id=run,
            source=source,
            accept_removals=accept_removals,
            state="requested",
            requested_at=tx.now,
            requested_by=by,
        )
    )
    return run


def get_run(tx: Transaction, request: GetSyncRun) -> SyncRun:
    """The record of a run. Raises `Forbidden` or `NotFound`."""
    _may_see_runs(tx)
    run = tx.execute(select(sync_runs).where(sync_runs.c.id == request.run)).one_or_none()
    if run is None:
        raise NotFound("Körningen finns inte.", reason="run_not_found")
    listed = sync_refused.c.run == request.run
    refused_count = tx.execute(select(func.count()).where(listed)).scalar_one()
    page = (
        select(sync_refused)
        .where(listed, sync_refused.c.number > request.refused_after)
        .order_by(sync_refused.c.number)
        .limit(request.refused_limit)
    )
    refused = [
        RefusedValue(number=row.number, object=row.object, field=row.field, reason=row.reason)
        for row in tx.execute(page)
    ]
    return _shown(run, refused_count, refused)


def list_runs(tx: Transaction, request: ListSyncRuns) -> SyncRuns:
    """The records of the latest runs, newest first. Raises `Forbidden`; a run that is not there has none before it."""
    _may_see_runs(tx)
    count = select(func.count()).where(sync_refused.c.run == sync_runs.c.id).scalar_subquery()
    query = select(sync_runs, count.label("refused_count"))
    if request.before is not None:
        seen = select(sync_runs.c.requested_at, sync_runs.c.id).where(sync_runs.c.id == request.before)
        query = query.where(tuple_(sync_runs.c.requested_at, sync_runs.c.id) < seen.scalar_subquery())
    newest = query.order_by(sync_runs.c.requested_at.desc(), sync_runs.c.id.desc()).limit(request.limit)
    return SyncRuns(runs=[_shown(row, row.refused_count, []) for row in tx.execute(newest)])


def _shown(run: Row[Any], refused_count: int, refused: list[RefusedValue]) -> SyncRun:
    return SyncRun(
        run=run.id,
        source=run.source,
        state=run.state,
        reason=run.reason,
        requested_at=run.requested_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        refused_count=refused_count,
        refused=refused,
        **{"seconds": None, **run.counts},
    )


def _may_see_runs(tx: Transaction) -> None:
    if tx.caller.kind == "staff":
        tx.caller.require_regional_admin()


# --- the worker -----------------------------------------------------------------------------------------------------


class Turn:
    """The one right to run syncs of a kind, if this process has it: it ends with its connection."""

    def __init__(self, database_url: str, lock: int = locks.SYNC) -> None:
        self._lock = lock
        self._connection = locks.connect(database_url, "directory.sync_lock")

    def taken(self) -> bool:
        """Takes the right, if nobody has it, or sees whether it is still ours. Raises `psycopg.Error` if the connection
        is gone. (Whoever has such a lock may take it again, and nobody else may.)"""
        got = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._lock,)).fetchone()
        return bool(got and got[0])

    def close(self) -> None:
        """Gives the right back."""
        self._connection.close()


def request_first_load(tx: Transaction, configured: Sequence[Source]) -> bool:
    """Asks for runs with the sources that have never been read whole; whether there are any.

    With them alone: each run counts against what the others lack (R-DIR-12), and is not to be had by another's fault.
    """
    read = {(row.source, row.part) for row in tx.execute(select(source_states.c.source, source_states.c.part))}
    unread = [one.name for one in configured if any((one.name, kind.part) not in read for kind in _kinds(one))]
    if len(unread) == len(configured) and unread:
        request_by_itself(tx)
    else:
        for name in unread:
            request_by_itself(tx, name)
    return bool(unread)


@dataclass(frozen=True)
class Begun:
    """A run that is being done. `counts` is what it has done so far, and `failed_part` what it could not do."""

    id: UUID
    attempt: int
    source: str | None
    accept_removals: bool
    counts: dict[str, Any] = field(default_factory=dict)

    def require_ours(self, tx: Transaction) -> None:
        """Raises `TakenOver` if another worker has begun this run anew; holds the run until the transaction ends."""
        if tx.execute(select(sync_runs.c.id).where(self.still_ours).with_for_update()).first() is None:
            raise TakenOver

    @property
    def still_ours(self) -> Any:
        """The condition for its row."""
        mine = (sync_runs.c.id == self.id) & (sync_runs.c.attempt == self.attempt)
        return mine & (sync_runs.c.state == "running")


class Parts:
    """Does the parts of a run, each by itself: one that fails or is stopped keeps no other from being read (R-DIR-12).
    The run ends as the first of them did; a fault of our own in one of them is logged as such."""

    def __init__(self, begun: Begun) -> None:
        self._counts = begun.counts
        self._first: Exception | None = None

    @contextmanager
    def part(self, source: str, part: str) -> Iterator[None]:
        """The work on one part."""
        try:
            yield
        except (Stopped, SourceError) as error:
            log.warning("sync_part_left", source=source, part=part, reason=error.reason)
            self._left(error, source, part)
        except (TakenOver, Interrupted, Refused):
            raise  # the run itself can not go on
        except Exception as error:
            log.error("sync_part_failed", source=source, part=part, exc_info=error)
            self._left(error, source, part)

    def _left(self, error: Exception, source: str, part: str) -> None:
        if self._first is None:
            self._first = error
            self._counts["failed_part"] = f"{source} {part}"

    @property
    def all_done(self) -> bool:
        """Whether none has failed or was stopped."""
        return self._first is None

    def end(self) -> None:
        """Raises what the first part that was not done had raised."""
        if self._first is not None:
            raise self._first


class TakenOver(Exception):
    """Another worker has begun this run anew: this one lost its lock somewhere on the way."""


class Interrupted(Exception):
    """The worker was told to stop: the run is left as it is, and started again by the next one."""


def run_next(
    transactions: Transactions, configured: Sequence[Source], max_removed_share: float, order: Sequence[str]
) -> bool:
    """Does the run with catalogues that has waited longest, to its end. Answers False if none waits.

    `order`: the names of all sources that are configured, also of HSA where it can be asked about single units; of two
    that have the same, the first is believed. To be called only by the one process that may. A run that is found
    running was left by one that died; it goes on with the parts that are not done: each part is one transaction.
    Raises `Unavailable` where the database does not answer.
    """

    def work(begun: Begun) -> None:
        chosen = [one for one in configured if begun.source in (None, one.name)]
        if not chosen:
            raise SourceError("source_not_configured")
        share = 1.0 if begun.accept_removals else max_removed_share
        parts = Parts(begun)
        for source in chosen:
            for kind in _kinds(source):
                with parts.part(source.name, kind.part):
                    _part(transactions, begun, source, kind, share, sources.believed_before(source.name, order))
        if begun.source is None and parts.all_done:
            _let_go(transactions, begun, parts, share, _has(configured, order))
        parts.end()

    return do_next(transactions, sync_runs.c.source.is_distinct_from(sources.HSA), work)


def do_next(transactions: Transactions, which: Any, work: Callable[[Begun], None]) -> bool:
    """Begins the run of these that has waited longest, has the work done, and keeps how it ended; see `run_next`."""
    with transactions() as tx:
        begun = _begin(tx, which)
    if begun is None:
        return False
    began = time.monotonic()
    state, reason = "done", None
    try:
        work(begun)
    except Stopped as stop:
        state, reason = "stopped", stop.reason
    except SourceError as error:
        state, reason = "failed", error.reason
    except (TakenOver, Interrupted) as end:
        log.warning("sync_left", run=str(begun.id), attempt=begun.attempt, why=type(end).__name__)
        return True
    except Refused:
        raise  # the database does not answer: the run is found where it was, and started again
    except Exception as error:
        log.error("sync_failed", run=str(begun.id), exc_info=error)
        state, reason = "failed", "internal"
    begun.counts["seconds"] = round(time.monotonic() - began, 3)
    with transactions() as tx:
        values = {"state": state, "reason": reason, "finished_at": tx.now, "counts": begun.counts}
        tx.execute(update(sync_runs).where(begun.still_ours).values(values))
        warnings.tell(tx)  # not before: what one source has lost the next may have
    log.info("sync_finished", run=str(begun.id), state=state, reason=reason, seconds=begun.counts["seconds"])
    return True


def _kinds(source: Source) -> list[Kind[Any]]:
    return [kind for kind, there in ((UNITS, source.has_units), (STAFF, source.has_staff)) if there]


def _begin(tx: Transaction, which: Any = _ANY) -> Begun | None:
    waiting = select(sync_runs).where(sync_runs.c.state.in_(_WAITING), which)
    oldest = waiting.order_by(sync_runs.c.requested_at).limit(1).with_for_update()
    run: Row[Any] | None = tx.execute(oldest).first()
    while run is not None and run.attempt >= MOST_ATTEMPTS:
        log.error("sync_given_up", run=str(run.id), attempts=run.attempt)
        ended = {"state": "failed", "reason": "too_many_attempts", "finished_at": tx.now}
        tx.execute(update(sync_runs).where(sync_runs.c.id == run.id).values(ended))
        run = tx.execute(oldest).first()
    if run is None:
        return None
    values = {"state": "running", "attempt": run.attempt + 1, "started_at": tx.now, "reason": None, "counts": {}}
    tx.execute(update(sync_runs).where(sync_runs.c.id == run.id).values(values))
    tx.execute(delete(sync_refused).where(sync_refused.c.run == run.id))
    return Begun(run.id, run.attempt + 1, run.source, run.accept_removals)


def _part(
    transactions: Transactions,
    begun: Begun,
    source: Source,
    kind: Kind[Any],
    share: float,
    believed_before: Sequence[str],
) -> None:
    """One part of one source. The source is read to its end first, outside every transaction."""
    with transactions() as tx:
        if was_done(tx, begun, kind, source.name):
            return
        state, since = loading.last_state(tx, source.name, kind.part), tx.now
    try:
        _read_and_load(transactions, begun, source, kind, share, believed_before, state, since)
    except TooLittle:
        _read_and_load(transactions, begun, source, kind, share, believed_before, None, since)


def _has(configured: Sequence[Source], order: Sequence[str]) -> set[tuple[str, str]]:
    """The parts that are configured, by source; HSA has both."""
    catalogues = {(one.name, kind.part) for one in configured for kind in _kinds(one)}
    return catalogues | ({(sources.HSA, kind.part) for kind in (UNITS, STAFF)} if sources.HSA in order else set())


def _let_go(
    transactions: Transactions, begun: Begun, parts: Parts, share: float, configured: set[tuple[str, str]]
) -> None:
    """What only a source has that is no longer configured, all others having been read whole."""
    with transactions() as tx:
        known = tx.execute(select(source_states.c.source, source_states.c.part)).all()
    for source, part in sorted({(row.source, row.part) for row in known} - configured):
        kind: Kind[Any] = UNITS if part == UNITS.part else STAFF
        with parts.part(source, part):
            _let_go_of(transactions, begun, kind, source, share)


def _let_go_of(transactions: Transactions, begun: Begun, kind: Kind[Any], source: str, share: float) -> None:
    with _stops_counted(begun, kind), transactions() as tx:
        begun.require_ours(tx)
        done = loading.done_by(tx, source, kind.part, begun.id) or loading.let_go(
            tx, kind, source, run=begun.id, removable_share=share
        )
    _add(begun.counts, kind, done)


def _read_and_load(
    transactions: Transactions,
    begun: Begun,
    source: Source,
    kind: Kind[Any],
    share: float,
    believed_before: Sequence[str],
    state: dict[str, Any] | None,
    since: datetime,
) -> None:
    with tempfile.TemporaryDirectory(prefix="directory-") as folder:
        catalogue = (source.units if kind is UNITS else source.staff)(Path(folder), state)
        load_part(transactions, begun, kind, source.name, catalogue, share, believed_before, since)


def was_done(tx: Transaction, begun: Begun, kind: Kind[Any], source: str) -> bool:
    """Whether this run had done the part before its worker died; then it is counted and listed, and not done again."""
    done = loading.done_by(tx, source, kind.part, begun.id)
    if done is None:
        return False
    loading.list_refused(tx, kind, source, begun.id)
    _add(begun.counts, kind, done)
    return True


def refuse(tx: Transaction, begun: Begun, thing: str, reason: str) -> None:
    """Lists in the run one thing that could not be taken at all."""
    last = select(func.coalesce(func.max(sync_refused.c.number), 0)).where(sync_refused.c.run == begun.id)
    row = {"run": begun.id, "number": last.scalar_subquery() + 1, "object": thing, "field": "", "reason": reason}
    tx.execute(sync_refused.insert().values(row))


def load_part(
    transactions: Transactions,
    begun: Begun,
    kind: Kind[Any],
    source: str,
    catalogue: Catalogue | None,
    share: float,
    believed_before: Sequence[str],
    since: datetime,
) -> None:
    """Takes one part into the copy, and counts it. `since` is when it began to be read. Raises what `loading.load`
    raises."""
    with _stops_counted(begun, kind), transactions() as tx:
        begun.require_ours(tx)
        done = loading.load(
            tx,
            kind,
            source,
            catalogue,
            run=begun.id,
            read_since=since,
            removable_share=share,
            believed_before=believed_before,
        )
        loading.list_refused(tx, kind, source, begun.id)
    _add(begun.counts, kind, done)


@contextmanager
def _stops_counted(begun: Begun, kind: Kind[Any]) -> Iterator[None]:
    """What a part would have done that was stopped, is told with the run."""
    try:
        yield
    except Stopped as stop:
        _add(begun.counts, kind, stop.counts)
        raise


def _add(counts: dict[str, Any], kind: Kind[Any], more: Counts) -> None:
    for name, number in asdict(more).items():
        key = f"{kind.part}_{name}"
        counts[key] = counts.get(key, 0) + number


def forget_old_lists(tx: Transaction) -> int:
    """Removes what was refused in runs that finished long ago; the runs themselves stay."""
    old = select(sync_runs.c.id).where(sync_runs.c.finished_at < tx.now - LISTS_KEPT)
    return tx.execute(delete(sync_refused).where(sync_refused.c.run.in_(old))).rowcount
