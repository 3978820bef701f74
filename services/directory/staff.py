"""Staff: as the directory has them, by runs and by direct questions, and who is told when it changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from services.directory import records, rules
from services.directory.loading import Kind, staged
from services.directory.records import Person, Raw
from services.directory.tables import source_states, staff
from services.directory.units import refused_parts
from shared.contracts.directory import STAFF_CHANGED, FindStaff, GetStaff, Staff, StaffChanged, StaffFacts, StaffStatus
from shared.database.transaction import Transaction
from shared.messaging.errors import Unavailable

HSA_DOWN = "Katalogtjänsten HSA svarar inte just nu. Försök igen om en stund."

_SHOWN = ("given_name", "surname", "title", "email", "mobile", "protected")
_COLUMNS = ("hsa_id", *_SHOWN, "hidden", "end_date", "refused", "status")


# --- reading --------------------------------------------------------------------------------------------------------


def get_staff(tx: Transaction, request: GetStaff) -> Staff:
    """What the copy says of each, in the order asked for; one that it does not know is missing (R-ID-9)."""
    rows = {row.hsa_id: row for row in tx.execute(_copy().where(staff.c.hsa_id.in_(request.people)))}
    return Staff(staff=[_facts(person, rows.get(person), tx.now) for person in dict.fromkeys(request.people)])


def from_copy(tx: Transaction, request: FindStaff, *, copy_is_all: bool) -> StaffFacts:
    """The copy's word for HSA's, while it is under 24 hours old; else `Unavailable` (R-DIR-12).

    A person whom the copy does not know may still be in HSA, unless `copy_is_all`: there is no other directory to ask.
    """
    row = tx.execute(_copy().where(staff.c.hsa_id == request.person)).one_or_none()
    facts = _facts(request.person, row, tx.now)
    if row is None and copy_is_all:
        read = select(func.max(source_states.c.confirmed_at)).where(source_states.c.part == "staff")
        facts = facts.model_copy(update={"as_of": tx.execute(read).scalar()})
    if not rules.copy_will_do(facts.as_of, tx.now):
        raise Unavailable(HSA_DOWN, reason="hsa_down")
    return facts


def _copy() -> Any:
    """The rows, and when each was last known to be so: asked for alone, or in the source when that was read whole."""
    confirmed = (
        select(source_states.c.confirmed_at)
        .where(source_states.c.source == staff.c.source, source_states.c.part == "staff", staff.c.missing_runs == 0)
        .scalar_subquery()
    )
    return select(staff, func.greatest(staff.c.asked_at, confirmed).label("as_of"))


def _facts(person: str, row: Row[Any] | None, now: datetime) -> StaffFacts:
    if row is None:
        return StaffFacts(person=person, status="missing")
    status = rules.staff_status(found=row.found, hidden=row.hidden, end_date=row.end_date, now=now)
    return StaffFacts(person=person, status=status, as_of=row.as_of, **{name: getattr(row, name) for name in _SHOWN})


# --- direct questions -----------------------------------------------------------------------------------------------


def take_answer(tx: Transaction, request: FindStaff, answer: list[Person]) -> StaffFacts:
    """Keeps HSA's answer about one person: who is not returned is `missing` at once (R-DIR-12).

    Of several person objects one that is valid is taken before one that is hidden or has ended.
    """
    status_of = {id(one): _status(one, tx.now) for one in answer}
    person = min(answer, key=lambda one: status_of[id(one)] != "fine", default=None)
    known = tx.execute(select(staff).where(staff.c.hsa_id == request.person).with_for_update()).one_or_none()
    if person is None:
        if known is None:
            return StaffFacts(person=request.person, status="missing", as_of=tx.now)
        values: dict[str, Any] = {"found": False, "status": "missing"}
    else:
        values = {name: getattr(person, name) for name in (*_SHOWN, "hidden", "end_date")}
        values |= {"found": True, "status": status_of[id(person)], "refused": refused_parts(person.refused)}
    changed = known is not None and any(
        getattr(known, name) != values.get(name, getattr(known, name)) for name in _TOLD
    )
    if known is None or known.missing_runs:
        # Not, or no longer, in a source that is read whole: from here on only questions tell of this person.
        values |= {"source": "hsa", "missing_runs": 0, "content": None}
    values |= {"asked_at": tx.now}
    if known is None or changed:
        values |= {"changed_at": tx.now}
    if known is None:
        made = insert(staff).values(hsa_id=request.person, **values).on_conflict_do_nothing()
        if tx.execute(made.returning(staff.c.hsa_id)).first() is None:
            return take_answer(tx, request, answer)  # a run has taken this person in at the same time
    else:
        version = known.version + changed
        tx.execute(staff.update().where(staff.c.hsa_id == request.person).values(version=version, **values))
        if changed:
            _tell(tx, [(request.person, values["status"], version)])
    row = tx.execute(_copy().where(staff.c.hsa_id == request.person)).one()
    return _facts(request.person, row, tx.now)


def refresh(tx: Transaction, _request: Any, answer: list[Person] | None) -> StaffFacts:
    """Keeps HSA's answer about the caller, who asked for it (R-DIR-1). Raises `Unavailable` where there is none."""
    if answer is None:
        raise Unavailable(HSA_DOWN, reason="hsa_down")
    return take_answer(tx, FindStaff(person=tx.caller.subject), answer)


_TOLD = (*_SHOWN, "status")


def _status(person: Person, now: datetime) -> StaffStatus:
    return rules.staff_status(found=True, hidden=person.hidden, end_date=person.end_date, now=now)


def _tell(tx: Transaction, changed: Iterable[tuple[str, StaffStatus, int]]) -> None:
    for person, status, version in changed:
        tx.publish(STAFF_CHANGED, StaffChanged(person=person, status=status, version=version), aggregate=person)


# --- runs -----------------------------------------------------------------------------------------------------------


def _row(person: Person, _raw: Raw, tx: Transaction) -> tuple[Any, ...]:
    refused = refused_parts(person.refused)
    return (
        person.hsa_id,
        *(getattr(person, name) for name in _SHOWN),
        person.hidden,
        person.end_date,
        json.dumps(refused, ensure_ascii=False) if refused else None,
        _status(person, tx.now),
    )


def _kept(new: Any) -> dict[str, Any]:
    """A protected person stays so whatever a catalogue says, or does not say: where HSA has been asked about someone,
    only HSA takes the mark away (R-ID-14)."""
    return {"protected": or_(new.protected, and_(staff.c.asked_at.is_not(None), staff.c.protected))}


def _later(since: datetime) -> Any:
    """HSA has answered about them since: no older record overrules that (R-ID-9, R-ID-14)."""
    return staff.c.asked_at > since


def _changed(tx: Transaction) -> list[str]:
    """Tells of those that were known before and whose shown facts differ. A person's first appearance is no change."""
    new = staged(staff)
    query = (
        select(staff.c.hsa_id, new.c.status, staff.c.version + 1)
        .join(new, new.c.hsa_id == staff.c.hsa_id)
        .where(or_(*(staff.c[name].is_distinct_from({**new.c, **_kept(new.c)}[name]) for name in _TOLD)))
        .order_by(staff.c.hsa_id)
    )
    rows = tx.execute(query)
    _tell(tx, [tuple(row) for row in rows])
    # A record that says something new is taken at its word, also where a direct question had found nobody: that answer
    # is overruled, and keeps nobody when the catalogue loses them again. That of the protected stays, for the mark.
    tx.execute(
        text(
            "UPDATE staff SET found = true, missing_runs = 0,"
            " asked_at = CASE WHEN staff.found OR staff.protected THEN staff.asked_at END"
            " FROM staged_staff AS new WHERE new.hsa_id = staff.hsa_id"
        )
    )
    return []


def _back(tx: Transaction, ids: list[str]) -> None:
    """They are in the source again; those whose record is the same as before have not been merged in. Who had not been
    held to be gone by the runs themselves stays missing, if HSA has said so (R-ID-9)."""
    if not ids:
        return
    tx.execute(
        text("UPDATE staff SET missing_runs = 0, found = found OR missing_runs >= :gone WHERE hsa_id = ANY(:ids)"),
        {"ids": ids, "gone": rules.RUNS_UNTIL_GONE},
    )
    _retell(tx, text("hsa_id = ANY(:ids)").bindparams(ids=ids))


def _gone(tx: Transaction, ids: list[str]) -> int:
    """Whom a catalogue has lost is missing, unless HSA has been asked: then its word stands until it is asked again, as
    it is in the next bulk refresh (R-ID-9, R-DIR-12). Answers how many are missing by it."""
    lost = text("UPDATE staff SET found = false WHERE hsa_id = ANY(:ids) AND asked_at IS NULL")
    missing = tx.execute(lost, {"ids": ids}).rowcount
    _retell(tx, text("hsa_id = ANY(:ids)").bindparams(ids=ids))
    return missing


def tell_of_ended(tx: Transaction) -> int:
    """Tells of persons whose end date has passed since they were last told of. Answers how many (R-ID-9).

    Whom a run or a direct question is changing at this moment, that one tells of, or the next time does.
    """
    return _retell(tx, (staff.c.status == "fine") & (staff.c.end_date <= tx.now), skip_locked=True)


def _retell(tx: Transaction, which: Any, *, skip_locked: bool = False) -> int:
    """Sets the status of these anew from what is kept, and tells of those where it differs."""
    query = select(staff).where(which).order_by(staff.c.hsa_id).with_for_update(skip_locked=skip_locked)
    rows = tx.execute(query).all()
    told: list[tuple[str, StaffStatus, int]] = []
    for row in rows:
        status = rules.staff_status(found=row.found, hidden=row.hidden, end_date=row.end_date, now=tx.now)
        if status != row.status:
            told.append((row.hsa_id, status, row.version + 1))
    if told:
        tx.execute(
            text("UPDATE staff SET status = :status, version = :version, changed_at = :now WHERE hsa_id = :person"),
            [
                {"person": person, "status": status, "version": version, "now": tx.now}
                for person, status, version in told
            ],
        )
        _tell(tx, told)
    return len(told)


STAFF = Kind(
    part="staff",
    table=staff,
    parse=records.person,
    columns=_COLUMNS,
    row=_row,
    before_merge=_changed,
    gone=_gone,
    back=_back,
    after=tell_of_ended,
    kept=_kept,
    later=_later,
)
