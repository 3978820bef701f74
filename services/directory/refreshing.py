"""Runs with HSA: asking about each member of staff once a month (R-DIR-1), and each night about the clinics that no
catalogue describes. One question at a time, after all direct ones (R-DIR-12)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Row, and_, func, or_, select

from services.directory import rules, sync
from services.directory.hsa_queue import HsaQueue
from services.directory.loading import Counts, Stopped
from services.directory.records import Raw
from services.directory.sources import HSA, Catalogue, SourceError
from services.directory.sources.hsa import Hsa
from services.directory.staff import take_answer
from services.directory.sync import Begun, Interrupted, Transactions
from services.directory.tables import clinics, staff, sync_refused, sync_runs, units
from services.directory.units import UNITS
from shared.contracts.directory import FindStaff
from shared.database.transaction import Transaction

Answer = TypeVar("Answer")

_AT_A_TIME = 200
_PAUSES_SECONDS = (1.0, 5.0, 30.0, 60.0)
"""After a question without an answer, before it is asked again; then it is left."""
_DOWN_AFTER = 3
"""So many left in a row, and HSA is down: the run fails, and the next goes on from there."""


class Asking:
    """Asks HSA for the bulk refresh."""

    def __init__(self, hsa: Hsa, queue: HsaQueue, stopping: threading.Event) -> None:
        self._hsa = hsa
        self._queue = queue
        self._stopping = stopping

    def ask(self, question: Callable[[Hsa], Answer]) -> Answer:
        """Raises `SourceError` if HSA does not answer, again and again, or `Interrupted`."""
        for pause in (*_PAUSES_SECONDS, None):
            if self._stopping.is_set():
                break
            try:
                with self._queue.turn_after_others(self._stopping):
                    return question(self._hsa)
            except SourceError:
                if pause is None and not self._stopping.is_set():
                    raise
                self._stopping.wait(pause)
        raise Interrupted


class _Part:
    """The questions of one part of a run. One unit or person that HSA always faults on keeps no other from being asked
    about (R-DIR-1)."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._in_a_row: Counter[str] = Counter()
        self._answered: set[str] = set()
        self.refused: dict[str, str] = {}
        """Why there is no answer, by HSA-id."""

    def ask(
        self, contract: str, hsa_id: str, question: Callable[[Hsa], Answer], *, silent_before: bool = False
    ) -> Answer | SourceError:
        """The answer, or why there is none. Raises `SourceError` if HSA does not answer by this contract, or
        `Interrupted`. `silent_before`: there was no answer about this one in an earlier run either, which says nothing
        of HSA where it has answered about others."""
        try:
            answer = self._asking.ask(question)
        except SourceError as error:
            if not (silent_before and contract in self._answered):
                self._in_a_row[contract] += 1
            if self._in_a_row[contract] >= _DOWN_AFTER:
                raise
            self.refused[hsa_id] = error.reason
            return error
        self._in_a_row[contract] = 0
        self._answered.add(contract)
        return answer

    def end(self) -> None:
        """Raises `SourceError` if there were questions and not one answer."""
        if self.refused and not self._answered:
            raise SourceError(next(iter(self.refused.values())))


def run_next(
    transactions: Transactions, asking: Asking | None, max_removed_share: float, richer: Sequence[str]
) -> bool:
    """Does the run with HSA that has waited longest. Answers False if none waits. As `sync.run_next`; a run that was
    left goes on with those who have not been asked about. `richer`: the sources of units that are configured and
    believed before HSA, which is not asked about what they have."""

    def work(begun: Begun) -> None:
        if asking is None:
            raise SourceError("source_not_configured")
        share = 1.0 if begun.accept_removals else max_removed_share
        parts = sync.Parts(begun)
        with parts.part(HSA, "units"):
            _units(transactions, begun, asking, share, richer)
        with parts.part(HSA, "staff"):
            _staff(transactions, begun, asking, share)
        parts.end()

    return sync.do_next(transactions, sync_runs.c.source == HSA, work)


def _units(transactions: Transactions, begun: Begun, asking: Asking, share: float, richer: Sequence[str]) -> None:
    """Active clinics that no richer source has, or has any more: what GetUnit and GetHealthCareUnit say of them."""
    query = (
        select(units.c.hsa_id)
        .outerjoin(clinics, clinics.c.hsa_id == units.c.hsa_id)
        .where(
            or_(
                units.c.source == HSA,
                and_(
                    clinics.c.active,
                    or_(units.c.source.not_in(richer), units.c.missing_runs >= rules.RUNS_UNTIL_GONE),
                ),
            )
        )
        .order_by(units.c.hsa_id)
    )
    with transactions() as tx:
        if sync.was_done(tx, begun, UNITS, HSA):
            return
        wanted, since = list(tx.execute(query).scalars()), tx.now
    if not wanted:
        return
    part = _Part(asking)
    found: list[Raw] = []
    for hsa_id in wanted:
        raw = part.ask("unit", hsa_id, lambda hsa, hsa_id=hsa_id: hsa.unit(hsa_id))  # type: ignore[misc]
        named: Any = {}
        if isinstance(raw, Raw):
            provider = part.ask("provider", hsa_id, lambda hsa, hsa_id=hsa_id: hsa.care_provider(hsa_id))  # type: ignore[misc]
            named = {"hsaResponsibleHealthCareProvider": [provider]} if provider else {}
            raw = provider if isinstance(provider, SourceError) else raw
        if isinstance(raw, SourceError):
            # Not known to be absent: what is known of it stays.
            found.append(Raw("", {"hsaIdentity": [hsa_id]}, fault=raw.reason))
        elif raw is not None:
            found.append(Raw(raw.dn, {**raw.attributes, **named}))
    part.end()
    catalogue = Catalogue({}, lambda: iter(found), answers=True)
    sync.load_part(transactions, begun, UNITS, HSA, catalogue, share, richer, since)


def _staff(transactions: Transactions, begun: Begun, asking: Asking, share: float) -> None:
    """Everyone whose month is over. Who is found is taken over at once, and so is who is missing still; who is missing
    now, when all have been asked about and they are not too many: HSA may have been half there (R-DIR-12). That takes
    hours: of whom HSA has been asked directly since, that later answer stands (R-ID-9)."""
    part, counts, absent = _Part(asking), Counts(), {}
    for person, silent_before in _due(transactions, begun):
        answer = part.ask(
            "persons",
            person,
            lambda hsa, person=person: hsa.persons(person),  # type: ignore[misc]
            silent_before=silent_before,
        )
        if isinstance(answer, SourceError):
            with transactions() as tx:
                begun.require_ours(tx)
                sync.refuse(tx, begun, person, answer.reason)
            continue
        counts.read += 1
        with transactions() as tx:
            begun.require_ours(tx)
            known = _last_word(tx, person)
            if not answer and known.status != "missing":
                absent[person] = known.asked_at
            else:
                counts.changed += _take(tx, person, answer)
    part.end()
    counts.missing = len(absent)
    begun.counts.update({f"staff_{name}": number for name, number in vars(counts).items()})
    with transactions() as tx:
        asked = len(absent) + _found_since(tx, begun)
    if rules.too_many_not_found(asked=asked, absent=len(absent), share=share):
        raise Stopped("too_many_missing", counts)
    for person, asked_at in absent.items():
        with transactions() as tx:
            begun.require_ours(tx)
            if _last_word(tx, person).asked_at == asked_at:
                _take(tx, person, [])
            else:
                begun.counts["staff_missing"] -= 1


def _last_word(tx: Transaction, person: str) -> Row[Any]:
    """A person's status, and when HSA's last word about them came; held until the transaction ends."""
    query = select(staff.c.status, staff.c.asked_at).where(staff.c.hsa_id == person)
    return tx.execute(query.with_for_update()).one()


def _found_since(tx: Transaction, begun: Begun) -> int:
    """Those who are there by HSA's word since the run was asked for, also by an attempt at it that was interrupted."""
    asked_for = select(sync_runs.c.requested_at).where(sync_runs.c.id == begun.id).scalar_subquery()
    found = select(func.count()).where(staff.c.asked_at >= asked_for, staff.c.status != "missing")
    return int(tx.execute(found).scalar_one())


def _take(tx: Transaction, person: str, answer: list[Any]) -> bool:
    before = tx.execute(select(staff.c.version).where(staff.c.hsa_id == person)).scalar_one()
    take_answer(tx, FindStaff(person=person), answer)
    return bool(tx.execute(select(staff.c.version).where(staff.c.hsa_id == person)).scalar_one() != before)


def _due(transactions: Transactions, begun: Begun) -> Iterator[tuple[str, bool]]:
    """Persons whom HSA has not been asked about for a month, or ever, and those whom it has confirmed and a catalogue
    has lost; those missing already are asked about too, for they may be back.

    Whom it gave no answer about in an earlier run, last, and marked so: they stay due when the others no longer are,
    and would come to stand in a row before those who have not been asked about (R-DIR-1).
    """
    unanswered = select(sync_refused.c.object, sync_refused.c.run).where(
        sync_refused.c.run == sync_runs.c.id, sync_runs.c.source == HSA, sync_refused.c.field == ""
    )
    with transactions() as tx:
        refused = tx.execute(unanswered).all()
    done = {row.object for row in refused if row.run == begun.id}
    before = {row.object for row in refused} - done
    for silent_before, which in ((False, staff.c.hsa_id.not_in(before | done)), (True, staff.c.hsa_id.in_(before))):
        last = ""
        while True:
            with transactions() as tx:
                some = list(tx.execute(_portion(last, tx.now).where(which)).scalars())
            if not some:
                break
            yield from ((person, silent_before) for person in some)
            last = some[-1]


def _portion(last: str, now: datetime) -> Any:
    old = now - rules.STAFF_REFRESHED_EVERY
    lost = staff.c.found & (staff.c.missing_runs >= rules.RUNS_UNTIL_GONE)
    due = or_(staff.c.asked_at.is_(None), staff.c.asked_at < old, lost)
    return select(staff.c.hsa_id).where(staff.c.hsa_id > last, due).order_by(staff.c.hsa_id).limit(_AT_A_TIME)
