"""Who acts for a child: guardians by the register's word, until the 13th birthday, unless a clinic blocks it
(R-ID-11, R-ID-13)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or_update

from services.identity import resident_accounts, residents, rules, sessions
from services.identity.identity_numbers import IdentityNumber, NotANumber, parse
from services.identity.population_register import MANY, PopulationRegister, RegisteredPerson
from services.identity.resident_accounts import NumberKey
from services.identity.tables import blocked_guardians, guardianships, identity_numbers
from services.identity.tables import sessions as sessions_table
from shared.contracts import access, logging_in
from shared.contracts.base import Done
from shared.messaging.errors import Forbidden, NotAuthenticated
from shared.operations.clock import SWEDEN

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_NOW = text(
    """SELECT guardianships.ends_on, guardians.protected OR children.protected AS protected,
              guardians.active AND children.active AS active,
              (SELECT coalesce(array_agg(DISTINCT blocked.clinic ORDER BY blocked.clinic), '{}')
               FROM blocked_guardians AS blocked
               WHERE blocked.lifted_at IS NULL
                 AND blocked.guardian IN (SELECT hash FROM numbers_of_person WHERE resident = :guardian)
                 AND blocked.child IN (SELECT hash FROM numbers_of_person WHERE resident = :child)) AS blocked_at
       FROM guardianships
       JOIN residents AS guardians ON guardians.resident = guardianships.guardian
       JOIN residents AS children ON children.resident = guardianships.child
       WHERE guardianships.guardian = :guardian AND guardianships.child = :child AND guardianships.ended_at IS NULL"""
)


def now(tx: Transaction, guardian: UUID, child: UUID) -> access.RepresentationNow:
    """Whether someone acts for a child at this moment, and where a clinic has blocked it; one statement."""
    row = tx.execute(_NOW, {"guardian": guardian, "child": child}).one_or_none()
    today = tx.now.astimezone(SWEDEN).date()
    if row is None or not row.active or row.protected or today >= row.ends_on:
        return access.RepresentationNow(acting=False)
    return access.RepresentationNow(acting=True, blocked_at=list(row.blocked_at))


def asked(tx: Transaction, request: access.Representation) -> access.RepresentationNow:
    """Answers another service."""
    return now(tx, request.guardian, request.child)


_GUARDIANS = text(
    """SELECT guardianships.guardian, guardianships.child,
              (SELECT coalesce(array_agg(DISTINCT blocked.clinic ORDER BY blocked.clinic), '{}')
               FROM blocked_guardians AS blocked
               WHERE blocked.lifted_at IS NULL
                 AND blocked.guardian IN (SELECT hash FROM numbers_of_person WHERE resident = guardianships.guardian)
                 AND blocked.child IN (SELECT hash FROM numbers_of_person WHERE resident = guardianships.child)
              ) AS blocked_at
       FROM guardianships
       JOIN residents AS guardians ON guardians.resident = guardianships.guardian
       JOIN residents AS children ON children.resident = guardianships.child
       WHERE guardianships.child = ANY(:children) AND guardianships.ended_at IS NULL AND guardianships.ends_on > :today
         AND guardians.active AND children.active AND NOT guardians.protected AND NOT children.protected
       ORDER BY guardianships.child, guardianships.guardian"""
)


def guardians_of(tx: Transaction, children: Sequence[UUID]) -> Sequence[Row[Any]]:
    """Who may act for these children now: `guardian`, `child`, and `blocked_at`, the clinics that have blocked it."""
    return tx.execute(_GUARDIANS, {"children": list(children), "today": tx.now.astimezone(SWEDEN).date()}).all()


# --- the family, as the register has it -----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Family:
    """Someone, and the children whom they may act for, by what the register was asked at `asked_at` or later."""

    asked_at: datetime
    guardian: RegisteredPerson | None
    children: tuple[RegisteredPerson, ...] = ()


def require_oneself(tx: Transaction, _request: object) -> IdentityNumber:
    """The number of the caller, who acts in their own name. Raises `Forbidden` for one who acts for a child."""
    if tx.caller.acting_for is not None:
        raise Forbidden("Det kan du bara göra i ditt eget namn.", reason="acting_for_child")
    row = tx.execute(
        select(identity_numbers).where(
            identity_numbers.c.resident == UUID(tx.caller.subject), identity_numbers.c.current
        )
    ).one()
    return parse(resident_accounts.opened_number(tx, row), tx.now.astimezone(SWEDEN).date())


def look_up(register: PopulationRegister, number: IdentityNumber, now: datetime) -> Family:
    """Asks the register now whose custody someone has, and about these children; each by the number in force now: what
    the record of a replaced one says of protection and custody may be long gone (R-ID-13). Raises `Unavailable`."""
    today = now.astimezone(SWEDEN).date()
    guardian = register.look_up_current(number, relations=True)
    if guardian is None or guardian.protected or guardian.replaced_by:
        return Family(now, guardian)
    named = {one.number for one in guardian.relations if one.other == "child" and one.in_force(today)}
    numbers = [one for one in (_number(one, today) for one in sorted(named)) if one is not None]
    return Family(now, guardian, tuple(_children(register, numbers, guardian.number, today)))


def _children(
    register: PopulationRegister, named: Sequence[IdentityNumber], guardian: str, today: date
) -> Iterable[RegisteredPerson]:
    """Those of them who are children in this guardian's custody, each once."""
    asked = [one for one in named if _is_child(one, today)][:MANY]
    found = register.look_up_many(asked, relations=True) if asked else {}
    told = [one for one in found.values() if one is not None]
    theirs = [one for one in told if has_custody(one, guardian, today)]
    replaced = [register.look_up_current(parse(one.number, today), relations=True) for one in told if one.replaced_by]
    followed = [one for one in replaced if one is not None and _is_child(parse(one.number, today), today)]
    theirs_too = [one for one in followed if has_custody(one, guardian, today)]
    return {one.number: one for one in (*_with_confirmed_former(register, theirs, today), *theirs_too)}.values()


def _with_confirmed_former(
    register: PopulationRegister, people: Sequence[RegisteredPerson], today: date
) -> tuple[RegisteredPerson, ...]:
    """Each with only those former numbers whose own records refer to them, so that a changed number keeps the account
    and an error in one record never makes one person's account another's (R-ID-24). One look-up for all."""
    told = [_number(one, today) for person in people for one in person.former]
    asked = [one for one in told if one is not None][:MANY]
    found = register.look_up_many(asked) if asked else {}

    def refers(former: str, person: RegisteredPerson) -> bool:
        record = found.get(former)
        return record is not None and record.replaced_by == person.number

    return tuple(replace(each, former=tuple(one for one in each.former if refers(one, each))) for each in people)


def _number(number: str, today: date) -> IdentityNumber | None:
    try:
        return parse(number, today)
    except NotANumber:
        return None


def _is_child(number: IdentityNumber, today: date) -> bool:
    born = rules.birth_date(number.number)
    return rules.may_act_for(today=today, born=born, guardian_protected=False, child_protected=False)


def has_custody(child: RegisteredPerson, guardian: str, today: date) -> bool:
    """Whether the child's own record says so: that of the number in force, neither protected nor dead, and the
    guardian's number named (R-ID-13)."""
    custody = {one.number for one in child.relations if one.other == "guardian" and one.in_force(today)}
    dead = rules.register_code(child.code) is rules.RegisterCode.INACTIVATES
    return not child.replaced_by and not child.protected and not dead and guardian in custody


def take_in(tx: Transaction, _request: object, family: Family, key: NumberKey) -> access.ChildrenFound:
    """Keeps what the register said of the family: accounts for the children, and whom custody has ended of.

    Answers the children whom the caller may act for by what is known then: a newer answer may have told of other
    custody or protection meanwhile.
    """
    if family.guardian is not None:
        resident_accounts.hold(tx, [family.guardian, *family.children], key)
        residents.bring_up_to_date(tx, None, family.guardian, key)
    guardian = UUID(tx.caller.subject)
    found = []
    for child in sorted(family.children, key=lambda one: one.number):
        try:
            resident, active = residents.keep(tx, child, key)
        except resident_accounts.NumberInDoubt:
            continue
        born = rules.birth_date(child.number)
        if not active or born is None:
            continue
        _note(tx, guardian, resident, rules.independent_on(born), family.asked_at)
        last_day = rules.independent_on(born) - timedelta(days=1)
        found.append(
            access.Child(child=resident, name=f"{child.given_name} {child.surname}".strip(), last_day=last_day)
        )
    _end_others(tx, guardian, [one.child for one in found], family.asked_at)
    theirs = {row.child for row in guardians_of(tx, [one.child for one in found]) if row.guardian == guardian}
    return access.ChildrenFound(children=[one for one in found if one.child in theirs])


def answer_counts(tx: Transaction, asked_at: datetime) -> ColumnElement[bool]:
    """`rules.answer_counts` for custody, which is known to be, or to have ended, as of a moment."""
    known_as_of = func.greatest(guardianships.c.confirmed_at, guardianships.c.ended_at)
    return or_(known_as_of <= asked_at, known_as_of > tx.now + rules.CLOCK_DIFFERENCE)


def _note(tx: Transaction, guardian: UUID, child: UUID, ends_on: date, asked_at: datetime) -> None:
    this = (guardianships.c.guardian == guardian) & (guardianships.c.child == child)
    before = tx.execute(select(guardianships.c.ends_on).where(this)).scalar_one_or_none()
    values = {"ends_on": ends_on, "confirmed_at": asked_at, "ended_at": None}
    noted = tx.execute(
        insert_or_update(guardianships)
        .values(guardian=guardian, child=child, **values)
        .on_conflict_do_update(index_elements=["guardian", "child"], set_=values, where=answer_counts(tx, asked_at))
        .returning(guardianships.c.child)
    ).first()
    if noted is not None and before not in (None, ends_on):
        # Its sessions were opened to last until the other birthday; new ones can be begun.
        sessions.end_acting(tx, child, "representation_ended", guardian)


def _end_others(tx: Transaction, guardian: UUID, still: Sequence[UUID], asked_at: datetime) -> None:
    """Custody that the register no longer tells of has ended, and so have the sessions that rest on it."""
    ended = tx.execute(
        update(guardianships)
        .where(
            guardianships.c.guardian == guardian,
            guardianships.c.child.not_in(still),
            guardianships.c.ended_at.is_(None),
            answer_counts(tx, asked_at),
        )
        .values(ended_at=asked_at)
        .returning(guardianships.c.child)
    ).scalars()
    for child in list(ended):
        sessions.end_acting(tx, child, "representation_ended", guardian)


# --- acting for a child ---------------------------------------------------------------------------------------------


def act(tx: Transaction, request: access.ActForChild, desk: sessions.TokenDesk) -> logging_in.SessionOpened:
    """Opens a session in which the caller acts for the child. Call it after `take_in`.

    Raises `Forbidden` with reason `not_representative`, `NotAuthenticated` if the caller's own session has ended.
    """
    guardian = UUID(tx.caller.subject)
    # What ends it waits for us, or we for it: the accounts, then what it rests on, and only then whether it holds.
    resident_accounts.hold_accounts(tx, [guardian, request.child], to_read=True)
    this = (guardianships.c.guardian == guardian) & (guardianships.c.child == request.child)
    tx.execute(select(guardianships.c.ends_on).where(this).with_for_update(read=True))
    own = tx.execute(
        select(sessions_table).where(sessions_table.c.session == tx.caller.session).with_for_update()
    ).one_or_none()
    if own is None or own.ended_at is not None:
        raise NotAuthenticated(reason="session_ended")
    if not now(tx, guardian, request.child).acting:
        raise Forbidden("Du kan inte agera ombud för den personen.", reason="not_representative")
    ends_on: date = tx.execute(select(guardianships.c.ends_on).where(this)).scalar_one()
    acting = sessions.Acting(request.child, own.session, min(own.ends_at, _midnight(ends_on)))
    [opened] = sessions.open_sessions(tx, "resident", [tx.caller.subject], desk, acting)
    return opened


def _midnight(day: date) -> datetime:
    """When the day begins in Sweden, in UTC."""
    return datetime.combine(day, time(), SWEDEN).astimezone(UTC)


# --- blocking by a clinic -------------------------------------------------------------------------------------------


def block(tx: Transaction, request: access.BlockGuardian, key: NumberKey) -> Done:
    """Blocks a guardian of a child at the clinic, or takes that back; by number, since neither needs an account.

    A block by one of a person's numbers is the same as one by another of them (R-ID-24). Raises `Forbidden`, or
    `Invalid` for what is no identity number.
    """
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    guardian = residents.number_in(tx, "guardian_number", request.guardian_number)
    child = residents.number_in(tx, "child_number", request.child_number)
    guardians, children = resident_accounts.hold_every_number(tx, key.hash(guardian), key.hash(child))
    this = (
        (blocked_guardians.c.clinic == request.clinic)
        & blocked_guardians.c.guardian.in_(guardians)
        & blocked_guardians.c.child.in_(children)
        & blocked_guardians.c.lifted_at.is_(None)
    )
    if not request.blocked:
        tx.execute(update(blocked_guardians).where(this).values(lifted_at=tx.now, lifted_by=tx.caller.subject))
    elif tx.execute(select(blocked_guardians.c.block).where(this)).first() is None:
        one = uuid4()
        tx.execute(
            insert(blocked_guardians).values(
                block=one,
                clinic=request.clinic,
                guardian=key.hash(guardian),
                child=key.hash(child),
                sealed=tx.sealer.seal(json.dumps([guardian, child]).encode(), _context(one)),
                blocked_at=tx.now,
                blocked_by=tx.caller.subject,
            )
        )
    return Done()


def list_blocked(tx: Transaction, request: access.ListBlockedGuardians) -> access.BlockedGuardians:
    """Whom the clinic has blocked. Raises `Forbidden`."""
    tx.caller.require(request.clinic, *rules.MANAGES_ACCESS)
    rows = tx.execute(
        select(blocked_guardians)
        .where(blocked_guardians.c.clinic == request.clinic, blocked_guardians.c.lifted_at.is_(None))
        .order_by(blocked_guardians.c.blocked_at, blocked_guardians.c.block)
    )
    found = []
    for row in rows:
        guardian, child = json.loads(tx.sealer.open(row.sealed, _context(row.block)))
        found.append(
            access.BlockedGuardian(
                guardian_number=guardian, child_number=child, blocked_at=row.blocked_at, blocked_by=row.blocked_by
            )
        )
    return access.BlockedGuardians(blocked=found)


def _context(block_id: UUID) -> bytes:
    return b"blocked guardian " + block_id.bytes
