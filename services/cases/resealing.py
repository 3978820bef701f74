"""After a change of keys every sealed value is sealed anew with the current one, while the system is used (R-SYS-2).

The ring has the new key as its current one, and the older ones for reading. A job goes through each table in its order,
a little at a time, and notes how far it has come: whoever dies in between, the next run goes on from there. It goes
through twice, with a day in between, since a process that was started with the older ring may seal with an older key
for as long as it lives. After that an older key is needed for nothing but the answers to repeated requests, which are
kept for seven days (see docs/operations.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Table, bindparam, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from services.cases import drafts as of_drafts
from services.cases import mailings as of_mailings
from services.cases import messages as of_messages
from services.cases import notes as of_notes
from services.cases import seals
from services.cases import system_messages as of_systems
from services.cases.tables import Row, access_log_seals, cases, drafts, mailings, messages, notes, resealing
from shared.contracts.case_records import AskResealing, ResealedTable, Resealing
from shared.database.transaction import Transaction
from shared.operations.logs import log
from shared.security.sealing import KeyMissing, SealBroken

AT_ONCE = 500
ROUNDS = 2
BETWEEN_ROUNDS = timedelta(days=1)
_GIVE_WAY_SECONDS = 0.01


@dataclass(frozen=True)
class Sealed:
    """A column of sealed values: in the order of which key they are gone through, and what each is bound to."""

    key: Column[Any]
    value: Column[Any]
    context: Callable[[Row], bytes]
    read_key: Callable[[str], Any]

    @property
    def table(self) -> Table:
        return self.value.table

    @property
    def name(self) -> str:
        """The table's name, and the column's, since a table may have several."""
        return f"{self.table.name}.{self.value.name}"


SEALED = (
    Sealed(messages.c.id, messages.c.content, lambda row: of_messages.context(row["case_id"], row["id"]), UUID),
    Sealed(notes.c.id, notes.c.content, lambda row: of_notes.context(row["case_id"], row["id"]), UUID),
    Sealed(drafts.c.id, drafts.c.content, lambda row: of_drafts.context(row["case_id"], row["writer"]), UUID),
    Sealed(mailings.c.id, mailings.c.content, lambda row: of_mailings.context(row["id"]), UUID),
    Sealed(cases.c.id, cases.c.title, lambda row: of_systems.context(row["id"]), UUID),
    Sealed(access_log_seals.c.seal, access_log_seals.c.proof, lambda row: seals.context(row["seal"]), int),
)
"""Every column of this service that holds sealed values, but for those that are never older than some days."""


def reseal_all(run: Any) -> int:
    """Goes on with every table that is not finished, until all are or the process stops; how many were sealed anew."""
    total = 0
    for sealed in SEALED:
        more = True
        while more and not run.stopping.is_set():
            with run.transaction() as tx:
                done, more = reseal_some(tx, sealed)
            total += done
            time.sleep(_GIVE_WAY_SECONDS)
    if total:
        log.info("values_resealed", count=total)
    return total


def reseal_some(tx: Transaction, sealed: Sealed) -> tuple[int, bool]:
    """Looks through the next `AT_ONCE` rows; how many it sealed anew, and whether there is more to do now."""
    state = _state(tx, sealed)
    if state["finished_at"] is not None:
        return 0, False
    if state["rounds_done"] and state["place"] is None and tx.now < state["round_ended_at"] + BETWEEN_ROUNDS:
        return 0, False
    after = sealed.key > sealed.read_key(state["place"]) if state["place"] is not None else literal(True)
    last = tx.execute(select(sealed.key).where(after).order_by(sealed.key).offset(AT_ONCE - 1).limit(1)).scalar()
    upto = sealed.key <= last if last is not None else literal(True)
    older = func.substring(sealed.value, 1, len(tx.sealer.prefix)) != tx.sealer.prefix
    found = tx.execute(select(sealed.table).where(after, upto, older).order_by(sealed.key)).mappings().all()
    anew, lost = _sealed_anew(tx, sealed, found)
    if anew:
        tx.execute(select(func.set_config("cases.resealing", "on", True)))
        tx.execute(
            # not over what has been saved since: that is sealed with the current key already
            update(sealed.table)
            .where(sealed.key == bindparam("_key"), sealed.value == bindparam("_was"))
            .values({sealed.value: bindparam("_value")}),
            anew,
        )
        tx.execute(select(func.set_config("cases.resealing", "off", True)))
    _note(tx, sealed, state, last, len(anew), lost)
    return len(anew), last is not None


def _sealed_anew(tx: Transaction, sealed: Sealed, found: Any) -> tuple[list[dict[str, Any]], int]:
    anew: list[dict[str, Any]] = []
    lost = 0
    for row in found:
        context = sealed.context(row)
        try:
            plain = tx.sealer.open(bytes(row[sealed.value.name]), context)
        except SealBroken as error:
            lost += 1
            missing = error.key if isinstance(error, KeyMissing) else None
            log.error("sealed_value_lost", table=sealed.name, key_id=missing)
            continue
        was = row[sealed.value.name]
        anew.append({"_key": row[sealed.key.name], "_was": was, "_value": tx.sealer.seal(plain, context)})
    return anew, lost


def _state(tx: Transaction, sealed: Sealed) -> Row:
    """How far the current key has come in the table; locked, so that no two go through it at once."""
    begun = insert(resealing).values(table_name=sealed.name, key=tx.sealer.current, rounds_done=0, resealed=0, lost=0)
    tx.execute(begun.on_conflict_do_nothing())
    mine = select(resealing).where(resealing.c.table_name == sealed.name, resealing.c.key == tx.sealer.current)
    return tx.execute(mine.with_for_update()).mappings().one()


def _note(tx: Transaction, sealed: Sealed, state: Row, last: Any, count: int, lost: int) -> None:
    first = state["place"] is None
    values: dict[str, Any] = {
        "place": str(last) if last is not None else None,
        "resealed": state["resealed"] + count,
        "lost": lost if first else state["lost"] + lost,  # of this round
    }
    if last is None:
        rounds = state["rounds_done"] + 1
        values |= {"rounds_done": rounds, "round_ended_at": tx.now}
        if rounds >= ROUNDS:
            values["finished_at"] = tx.now
        log.info("resealing_round_done", table=sealed.name, key_id=tx.sealer.current, number=rounds)
    mine = update(resealing).where(resealing.c.table_name == sealed.name, resealing.c.key == tx.sealer.current)
    tx.execute(mine.values(values))


def progress(tx: Transaction, request: AskResealing) -> Resealing:
    """How far the current key has come in each table (for operators)."""
    rows = tx.execute(select(resealing).where(resealing.c.key == tx.sealer.current)).mappings()
    known = {row["table_name"]: row for row in rows}
    nothing = {"rounds_done": 0, "resealed": 0, "lost": 0, "finished_at": None}
    return Resealing(
        current_key=tx.sealer.current,
        tables=[
            ResealedTable(
                table=sealed.name,
                key=tx.sealer.current,
                **{name: known.get(sealed.name, nothing)[name] for name in nothing},
            )
            for sealed in SEALED
        ],
    )
