"""Asking the register again about custody that acting for children rests on: nobody tells us when it ends (R-ID-11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Row, select, update

from services.identity import representation, resident_accounts, rules, sessions
from services.identity.identity_numbers import IdentityNumber, NotANumber, parse
from services.identity.population_register import MANY, AnswerNotTrusted, PopulationRegister, RegisteredPerson
from services.identity.tables import guardianships, identity_numbers
from shared.operations.clock import SWEDEN
from shared.operations.logs import log
from shared.security.sealing import SealBroken

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

Transactions = Callable[[], AbstractContextManager["Transaction"]]


def confirm(
    transaction: Transactions, register: PopulationRegister, older_than: datetime, stopping: Callable[[], bool]
) -> None:
    """Looks up the children of all custody that was last confirmed before then; what the register no longer tells of
    ends, and the sessions with it. Of a child whom the register does not know, or about whom its answer can't be
    trusted, and where a number can't be read any more, nothing is learnt. Raises `Unavailable`.
    """
    after: tuple[UUID, UUID] | None = None
    while not stopping():
        with transaction() as tx:
            today = tx.now.astimezone(SWEDEN).date()
            page = _page(tx, older_than, today, after)
            numbers = _numbers(tx, page, today)
        if not page:
            return
        after = (page[-1].child, page[-1].guardian)
        readable = [one for one in page if one.child in numbers and one.guardian in numbers]
        children = {numbers[one.child] for one in readable}
        found = _look_up(register, sorted(children, key=lambda one: one.number)) if children else {}
        for one in readable:
            person = found.get(numbers[one.child].number)
            if person is not None:
                with transaction() as tx:
                    _take_in(tx, one, person, numbers[one.guardian].number, today)


def _look_up(register: PopulationRegister, children: Sequence[IdentityNumber]) -> dict[str, RegisteredPerson | None]:
    """What the register says of them. Where an answer can't be trusted they are halved until the one child is found
    that it is about, who is asked about again at the next run. Raises `Unavailable`."""
    try:
        return register.look_up_many(children, relations=True)
    except AnswerNotTrusted:
        if len(children) == 1:
            log.warning("custody_not_confirmed")
            return {}
    half = len(children) // 2
    return _look_up(register, children[:half]) | _look_up(register, children[half:])


def _page(tx: Transaction, older_than: datetime, today: date, after: tuple[UUID, UUID] | None) -> list[Row[Any]]:
    query = select(guardianships.c.guardian, guardianships.c.child, guardianships.c.ends_on).where(
        guardianships.c.ended_at.is_(None),
        guardianships.c.ends_on > today,
        guardianships.c.confirmed_at < older_than,
    )
    if after is not None:
        query = query.where(
            (guardianships.c.child > after[0])
            | ((guardianships.c.child == after[0]) & (guardianships.c.guardian > after[1]))
        )
    return list(tx.execute(query.order_by(guardianships.c.child, guardianships.c.guardian).limit(MANY)))


def _numbers(tx: Transaction, page: list[Row[Any]], today: date) -> dict[UUID, IdentityNumber]:
    """The numbers of all these people, save for those that can't be read any more."""
    people = {one.child for one in page} | {one.guardian for one in page}
    rows = tx.execute(
        select(identity_numbers).where(identity_numbers.c.resident.in_(people), identity_numbers.c.current)
    )
    numbers = {}
    for row in rows:
        try:
            numbers[row.resident] = parse(resident_accounts.opened_number(tx, row), today)
        except (SealBroken, NotANumber) as error:
            log.error("resident_not_readable", resident=str(row.resident), error_type=type(error).__name__)
    return numbers


def _take_in(tx: Transaction, one: Row[Any], child: RegisteredPerson, guardian: str, today: date) -> None:
    this = (
        (guardianships.c.guardian == one.guardian)
        & (guardianships.c.child == one.child)
        & guardianships.c.ended_at.is_(None)
        & representation.answer_counts(tx, child.asked_at)
    )
    born = rules.birth_date(child.number)
    # A changed number can tell another birthday than the one by which custody was noted (R-ID-24).
    ends_on = one.ends_on if born is None else rules.independent_on(born)
    kept = representation.has_custody(child, guardian, today) and today < ends_on
    told = {"confirmed_at": child.asked_at, "ends_on": ends_on} if kept else {"ended_at": child.asked_at}
    took = tx.execute(update(guardianships).where(this).values(told).returning(guardianships.c.child)).first()
    # Also where it goes on: its sessions were opened to last until the other birthday; new ones can be begun.
    if took is not None and (not kept or ends_on != one.ends_on):
        sessions.end_acting(tx, one.child, "representation_ended", one.guardian)
