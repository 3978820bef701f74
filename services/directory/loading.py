"""Takes one whole catalogue into the copy, in one transaction: only what differs is parsed, written and told.

Records stream by. Each is known by its HSA-id and by a digest of its content: the ids of those whose digest is the same
as last time are only noted; the others go by COPY into a temporary table and are merged in from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import MetaData, Table, delete, false, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from services.directory import parsing, rules
from services.directory.parsing import Unparsed
from services.directory.records import FORMAT, Raw
from services.directory.sources import Catalogue
from services.directory.tables import source_states
from shared.database.transaction import Transaction

Record = TypeVar("Record")

_LONGEST_SECONDS = 1800
_SHOWN_OF_A_NAME = 200


class TooLittle(Exception):
    """A part of a catalogue does not fit to the copy: the whole is needed."""


class Stopped(Exception):
    """The run must change nothing: too much would be removed, or the source is empty (R-DIR-12)."""

    def __init__(self, reason: str, counts: Counts) -> None:
        self.reason = reason
        self.counts = counts
        super().__init__(reason)


@dataclass
class Counts:
    """What a run did with one part of a source."""

    read: int = 0
    added: int = 0
    changed: int = 0
    missing: int = 0
    removed: int = 0
    returned: int = 0


@dataclass(frozen=True)
class Kind(Generic[Record]):
    """What differs between units and staff. The functions get the ids, or find the new rows in `staged(table)`."""

    part: str
    table: Table
    parse: Callable[[Raw], Record | Unparsed]
    columns: tuple[str, ...]
    row: Callable[[Record, Raw, Transaction], tuple[Any, ...]]
    before_merge: Callable[[Transaction], list[str]]
    gone: Callable[[Transaction, list[str]], int]
    """Answers how many of them are gone by it."""
    back: Callable[[Transaction, list[str]], None]
    after_merge: Callable[[Transaction, list[str]], object] = lambda _tx, _ids: None
    """With what `before_merge` has given."""
    after: Callable[[Transaction], object] = lambda _tx: None
    kept: Callable[[Any], dict[str, Any]] = lambda _new: {}
    """Columns in which a new record does not simply overwrite what is known: their values, from the new row's."""
    later: Callable[[datetime], Any] = lambda _since: false()
    """The condition for rows of which more has been learnt since, otherwise than by a catalogue."""


@dataclass
class _Known:
    """The copy as it is: digest by id, in how many runs in a row each of the absent ones has been missing, and which
    are another source's that is believed before this one."""

    digests: dict[str, bytes]
    absent: dict[str, int]
    others: set[str]


@dataclass
class _Seen:
    ids: set[str] = field(default_factory=set)
    staged: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    others: int = 0
    count: int = 0


def load(
    tx: Transaction,
    kind: Kind[Any],
    source: str,
    catalogue: Catalogue | None,
    *,
    run: UUID,
    read_since: datetime,
    removable_share: float,
    believed_before: Collection[str] = (),
) -> Counts:
    """Takes the catalogue in; None: the source says that it is the same as last time. Publishes what changed.

    What has been learnt `read_since` it began to be read stands, and the whole is read again the next time.

    What one of the sources `believed_before` has, and has not lost, is left as it is. Raises `Stopped` if more than the
    share would be absent, `SourceError` if the catalogue is broken somewhere, or `TooLittle`; the transaction must then
    be rolled back.
    """
    tx.execute(text(f"SET LOCAL statement_timeout = '{_LONGEST_SECONDS}s'"))
    known = _known(tx, kind, source, believed_before)
    if catalogue is None:
        return _still_so(tx, kind, source, known, run)
    new = staged(kind.table).name
    tx.execute(text(f"CREATE TEMP TABLE {new} (LIKE {kind.table.name} INCLUDING DEFAULTS) ON COMMIT DROP"))
    seen = _stage(tx, kind, source, catalogue, known)
    counts = Counts(read=seen.count)
    _guard(known, seen, counts, removable_share, answers=catalogue.answers)

    back = [one for one in known.absent if one in seen.ids]
    absent = [one for one in known.digests if one not in seen.ids]
    _hold(tx, kind, [*back, *absent])
    overtaken = _drop_overtaken(tx, kind, seen, read_since)
    changing = kind.before_merge(tx)
    _merge(tx, kind)
    kind.after_merge(tx, changing)
    counts.returned = sum(1 for one in back if rules.is_gone(known.absent[one]))
    counts.added = sum(1 for one in seen.staged if one not in known.digests)
    counts.changed = len(seen.staged) - counts.added
    kind.back(tx, back)
    _count_absent(tx, kind, source, absent, counts)
    kind.after(tx)
    left_to = _fingerprint(known.others) if seen.others else None
    own = len(known.digests.keys() | set(seen.staged))
    handed_back = None if overtaken else catalogue.state
    state = {"read": counts.read, "source": handed_back, "left_to": left_to, "own": own, **_done(run, counts)}
    values = {"state": state, "refused": seen.refused, "confirmed_at": tx.now}
    remember = insert(source_states).values(source=source, part=kind.part, **values)
    tx.execute(remember.on_conflict_do_update(index_elements=["source", "part"], set_=values))
    return counts


def let_go(tx: Transaction, kind: Kind[Any], source: str, *, run: UUID, removable_share: float) -> Counts:
    """One more complete run without what a source had that is not configured any more (R-DIR-12); what others have is
    theirs already. If it is configured again it is read anew.

    Raises `Stopped` if that would be more than the share of all that there is.
    """
    known = _known(tx, kind, source, ())
    present = sum(1 for one in known.digests if one not in known.absent)
    there = (kind.table.c.content.is_not(None), kind.table.c.missing_runs == 0)
    counts = Counts()
    if rules.removes_too_much(
        present=tx.execute(select(func.count()).where(*there)).scalar_one(), absent=present, share=removable_share
    ):
        counts.missing = present
        raise Stopped("too_many_missing", counts)
    _count_absent(tx, kind, source, list(known.digests), counts)
    one_state = (source_states.c.source == source) & (source_states.c.part == kind.part)
    if counts.missing or counts.removed:
        state = {"read": 0, "source": None, "left_to": None, **_done(run, counts)}
        tx.execute(update(source_states).where(one_state).values(state=state, refused=[]))
    else:
        tx.execute(delete(source_states).where(one_state))
    kind.after(tx)
    return counts


def last_state(tx: Transaction, source: str, part: str) -> dict[str, Any] | None:
    """What the source gave to be handed back to it the next time."""
    query = select(source_states.c.state).where(source_states.c.source == source, source_states.c.part == part)
    state = tx.execute(query).scalar_one_or_none()
    return state["source"] if state else None


def done_by(tx: Transaction, source: str, part: str, run: UUID) -> Counts | None:
    """What this very run has done with the part before its worker died; None if it has not come to it.

    Done twice it would count as two complete runs, and what is absent would be gone after one (R-DIR-12).
    """
    query = select(source_states.c.state).where(source_states.c.source == source, source_states.c.part == part)
    state = tx.execute(query).scalar_one_or_none()
    return Counts(**state["counts"]) if state and state.get("run") == str(run) else None


def _done(run: UUID, counts: Counts) -> dict[str, Any]:
    return {"run": str(run), "counts": asdict(counts)}


def _fingerprint(ids: Collection[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(ids)).encode(), digest_size=16).hexdigest()


def _known(tx: Transaction, kind: Kind[Any], source: str, believed_before: Collection[str]) -> _Known:
    table = kind.table
    query = select(table.c.hsa_id, table.c.content, table.c.missing_runs).where(
        table.c.source == source, table.c.content.is_not(None)
    )
    known = _Known({}, {}, set())
    for row in tx.execute(query):
        known.digests[row.hsa_id] = bytes(row.content)
        if row.missing_runs:
            known.absent[row.hsa_id] = row.missing_runs
    if believed_before:
        theirs = (table.c.source.in_(believed_before), table.c.missing_runs < rules.RUNS_UNTIL_GONE)
        others = select(table.c.hsa_id).where(*theirs, table.c.content.is_not(None))
        known.others = set(tx.execute(others).scalars())
    return known


def _stage(tx: Transaction, kind: Kind[Any], source: str, catalogue: Catalogue, known: _Known) -> _Seen:
    seen = _Seen()
    driver = tx.connection.connection.driver_connection
    assert driver is not None
    copying = f"COPY {staged(kind.table).name} ({', '.join(_written(kind))}) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(copying) as copy:
        for hsa_id, content, record, raw in _new(kind, catalogue, known, seen):
            seen.staged.append(hsa_id)
            copy.write_row((*kind.row(record, raw, tx), content, source, tx.now))
    if catalogue.present is not None:
        _note_present(tx, kind, source, catalogue.present, known, seen)
    return seen


def _note_present(
    tx: Transaction, kind: Kind[Any], source: str, present: Sequence[str], known: _Known, seen: _Seen
) -> None:
    """Those that were not read, because nothing of theirs has changed. Raises `TooLittle` if one of them is new."""
    one_state = (source_states.c.source == source) & (source_states.c.part == kind.part)
    refused = tx.execute(select(source_states.c.refused).where(one_state)).scalar_one_or_none() or []
    if len(set(present)) < len(present):
        raise TooLittle  # of two with one id it takes the whole to know which is the first
    read_now = seen.ids | {one["object"] for one in seen.refused}
    seen.refused = [one for one in refused if one["object"] not in read_now] + seen.refused
    without_use = {one["object"] for one in seen.refused}
    for hsa_id in present:
        if hsa_id in known.digests:
            seen.ids.add(hsa_id)
        elif hsa_id in known.others:
            seen.others += 1
        elif hsa_id not in seen.ids and hsa_id not in without_use:
            raise TooLittle
    seen.count = len(present)


def _new(kind: Kind[Any], catalogue: Catalogue, known: _Known, seen: _Seen) -> Iterator[tuple[str, bytes, Any, Raw]]:
    """Those that are new or differ; notes the ids of all, and what has to be refused whole."""
    for raw in catalogue.records():
        seen.count += 1
        if raw is None:
            seen.refused.append(_refusal(f"#{seen.count}", "", "not_a_record"))
            continue
        where = parsing.storable(raw.dn)[:_SHOWN_OF_A_NAME] if kind.part == "units" and raw.dn else f"#{seen.count}"
        hsa_id = _identity(raw)
        if isinstance(hsa_id, Unparsed):
            seen.refused.append(_refusal(where, "hsaidentity", hsa_id.reason))
            continue
        if hsa_id in seen.ids:
            seen.refused.append(_refusal(hsa_id, "hsaidentity", "duplicate"))
            continue
        if hsa_id in known.others:
            seen.others += 1
            continue
        if raw.fault is not None:
            seen.refused.append(_refusal(hsa_id, "", raw.fault))
            if hsa_id in known.digests:
                seen.ids.add(hsa_id)
            continue
        if parsing.too_deep(raw.attributes):
            seen.refused.append(_refusal(hsa_id, "", "nested_too_deep"))
            if hsa_id in known.digests:
                seen.ids.add(hsa_id)
            continue
        content = _digest(raw)
        if known.digests.get(hsa_id) == content:
            seen.ids.add(hsa_id)
            continue
        record = kind.parse(raw)
        if isinstance(record, Unparsed):
            seen.refused.append(_refusal(hsa_id, "", record.reason))
            # It is there, though not usable: what is known of it stays.
            if hsa_id in known.digests:
                seen.ids.add(hsa_id)
            continue
        seen.ids.add(hsa_id)
        yield hsa_id, content, record, raw


def _refusal(thing: str, name: str, reason: str) -> dict[str, str]:
    return {"object": thing, "field": name, "reason": reason}


def _identity(raw: Raw) -> str | Unparsed:
    for key, value in raw.attributes.items():
        if key.casefold() == "hsaidentity":
            texts, _ = parsing.values(value)
            return parsing.hsa_id(texts[0]) if texts else Unparsed("no_hsa_id")
    return Unparsed("no_hsa_id")


def _digest(raw: Raw) -> bytes:
    content = json.dumps([FORMAT, raw.dn, raw.attributes], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _guard(known: _Known, seen: _Seen, counts: Counts, share: float, *, answers: bool) -> None:
    present = [one for one in known.digests if one not in known.absent]
    absent = sum(1 for one in present if one not in seen.ids)
    if not answers and not seen.ids and not seen.others:
        raise Stopped("empty_catalogue", counts)
    if answers:
        too_many = rules.too_many_not_found(asked=len(present), absent=absent, share=share)
    else:
        too_many = rules.removes_too_much(present=len(present), absent=absent, share=share)
    if too_many:
        counts.missing = absent
        raise Stopped("too_many_missing", counts)


@cache
def staged(table: Table) -> Table:
    """The temporary table that holds what is new or differs, while a catalogue is loaded."""
    return table.to_metadata(MetaData(), name=f"staged_{table.name}")


def _hold(tx: Transaction, kind: Kind[Any], others: Collection[str]) -> None:
    """Holds the rows that are to change until the transaction ends, those that are staged and the others, in the order
    of their ids, and before anything that hangs on them: so that nobody who holds some of them in that order waits for
    this run while it waits for them."""
    table, new = kind.table, staged(kind.table)
    changing = or_(table.c.hsa_id.in_(select(new.c.hsa_id)), table.c.hsa_id == text("ANY(:others)"))
    rows = select(table.c.hsa_id).where(changing).order_by(table.c.hsa_id).with_for_update(of=table, key_share=True)
    tx.execute(select(func.count()).select_from(rows.subquery()), {"others": list(others)})


def _drop_overtaken(tx: Transaction, kind: Kind[Any], seen: _Seen, read_since: datetime) -> bool:
    """Leaves out what is known better by now. Answers whether there is any."""
    new = staged(kind.table)
    later = select(kind.table.c.hsa_id).where(kind.later(read_since))
    query = delete(new).where(new.c.hsa_id.in_(later)).returning(new.c.hsa_id)
    overtaken = set(tx.execute(query).scalars())
    seen.staged = [one for one in seen.staged if one not in overtaken]
    return bool(overtaken)


def _merge(tx: Transaction, kind: Kind[Any]) -> None:
    columns, table = _written(kind), kind.table
    rows = select(*(staged(table).c[name] for name in columns))
    merge = insert(table).from_select(columns, rows)
    changes: dict[str, Any] = {name: merge.excluded[name] for name in columns if name != "hsa_id"}
    changes |= {"version": table.c.version + 1, "missing_runs": 0, **kind.kept(merge.excluded)}
    tx.execute(merge.on_conflict_do_update(index_elements=["hsa_id"], set_=changes))


def _written(kind: Kind[Any]) -> list[str]:
    return [*kind.columns, "content", "source", "changed_at"]


def _count_absent(tx: Transaction, kind: Kind[Any], source: str, absent: list[str], counts: Counts) -> None:
    """One more run without them. A unit is gone only after two complete runs (R-DIR-12).

    What has become another's since the run looked is not this source's to lose. The rows are held as `_hold` does.
    """
    table = kind.table
    counted = (table.c.hsa_id == text("ANY(:ids)"), table.c.source == source)
    query = select(table.c.hsa_id, table.c.missing_runs).where(*counted, table.c.missing_runs < rules.RUNS_UNTIL_GONE)
    held = query.order_by(table.c.hsa_id).with_for_update(key_share=True)
    runs = {row.hsa_id: row.missing_runs for row in tx.execute(held, {"ids": absent})}
    gone = [one for one, before in runs.items() if rules.is_gone(before + 1)]
    counts.missing = sum(1 for before in runs.values() if not before)
    if runs:
        more = update(table).where(table.c.hsa_id == text("ANY(:ids)")).values(missing_runs=table.c.missing_runs + 1)
        tx.execute(more, {"ids": list(runs)})
    if gone:
        counts.removed = kind.gone(tx, gone)


def _still_so(tx: Transaction, kind: Kind[Any], source: str, known: _Known, run: UUID) -> Counts:
    """The source holds what it held last time: one more complete run without those that were absent then.

    Raises `TooLittle` if a source that is believed before it has taken some over, or if it had left some to those and
    they do not have the same ones any more: what they have lost is this one's now.
    """
    one_state = (source_states.c.source == source) & (source_states.c.part == kind.part)
    state = tx.execute(select(source_states.c.state).where(one_state)).scalar_one()
    left_to = state.get("left_to", "")  # not known of what was read by an earlier version
    if left_to is not None and left_to != _fingerprint(known.others):
        raise TooLittle
    if state.get("own") != len(known.digests):
        raise TooLittle
    counts = Counts(read=state["read"])
    _count_absent(tx, kind, source, list(known.absent), counts)
    kind.after(tx)
    values = {"state": {**state, **_done(run, counts)}, "confirmed_at": tx.now}
    tx.execute(update(source_states).where(one_state).values(values))
    return counts


def list_refused(tx: Transaction, kind: Kind[Any], source: str, run: Any) -> None:
    """Lists in the run every value of the source that could not be taken, whether it is new or was so before."""
    tx.execute(
        text(
            f"""
            INSERT INTO sync_refused (run, number, object, field, reason)
            SELECT :run, (SELECT coalesce(max(number), 0) FROM sync_refused WHERE run = :run)
                   + row_number() OVER (ORDER BY place, object, ordinal), object, field, reason
            FROM (
                SELECT 0 AS place, ordinal, one ->> 'object' AS object, one ->> 'field' AS field,
                       one ->> 'reason' AS reason
                FROM source_states, jsonb_array_elements(refused) WITH ORDINALITY AS listed (one, ordinal)
                WHERE source = :source AND part = :part
                UNION ALL
                SELECT 1, ordinal, hsa_id, one ->> 'field', one ->> 'reason'
                FROM {kind.table.name}, jsonb_array_elements(refused) WITH ORDINALITY AS listed (one, ordinal)
                WHERE source = :source AND refused IS NOT NULL AND missing_runs = 0
            ) AS everything
            """  # noqa: S608 - the name of a table
        ),
        {"run": run, "source": source, "part": kind.part},
    )
