"""Looking known residents up again: nobody tells us when the register changes, so it is asked, page by page.

A page is read, the register is asked for all of it at once, outside any transaction, and what has changed is written.
Where an answer can't be trusted the page is halved until the one person is found that it is about, who is left for the
next run. A register that is down ends the run, which is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Row, func, select, tuple_, update

from services.identity import resident_accounts, residents, rules
from services.identity.identity_numbers import IdentityNumber, NotANumber, parse
from services.identity.population_register import MANY, AnswerNotTrusted, PopulationRegister, RegisteredPerson
from services.identity.tables import identity_numbers
from services.identity.tables import residents as accounts
from shared.operations.clock import today
from shared.operations.logs import log
from shared.security.sealing import SealBroken

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

Transactions = Callable[[], AbstractContextManager["Transaction"]]


@dataclass(frozen=True, repr=False)
class _Known:
    """What is known of a resident, and as of when."""

    resident: UUID
    number: IdentityNumber
    read_at: datetime
    particulars: residents.Particulars
    protected: bool
    active: bool
    looked_up_at: datetime
    hashes: frozenset[bytes]


@dataclass
class Refreshed:
    """What a run came to, in people; and the deregistration codes of those of whom nothing else had changed."""

    asked: int = 0
    changed: int = 0
    unknown: int = 0
    not_trusted: int = 0
    codes: set[str | None] = field(default_factory=set)


def refresh(
    transaction: Transactions,
    register: PopulationRegister,
    key: resident_accounts.NumberKey,
    older_than: datetime,
    stopping: Callable[[], bool] = lambda: False,
) -> Refreshed:
    """Looks up everyone whose data are from before then (R-ID-17, R-ID-14, R-ID-24). Raises `Unavailable`."""
    total, after = Refreshed(), None
    while not stopping():
        with transaction() as tx:
            rows = _page(tx, older_than, after)
            page = [known for row in rows if (known := _known(tx, row)) is not None]
        if not rows:
            break
        after = (rows[-1].looked_up_at, rows[-1].resident)
        if page:
            _look_up(transaction, register, key, page, total)
    if total.asked:
        people = {name: count for name, count in vars(total).items() if name != "codes"}
        log.info("residents_refreshed", **people)
    return total


def _page(tx: Transaction, older_than: datetime, after: tuple[datetime, UUID] | None) -> list[Row[Any]]:
    place = tuple_(accounts.c.looked_up_at, accounts.c.resident)
    chosen = select(accounts).where(accounts.c.looked_up_at < older_than)
    if after is not None:
        chosen = chosen.where(place > after)
    some = chosen.order_by(accounts.c.looked_up_at, accounts.c.resident).limit(MANY).subquery()
    numbers = identity_numbers.c
    rows = tx.execute(
        select(some, numbers.sealed, func.array_agg(numbers.hash).over(partition_by=some.c.resident).label("hashes"))
        .add_columns(numbers.current)
        .join(identity_numbers, numbers.resident == some.c.resident)
        .order_by(some.c.looked_up_at, some.c.resident)
    )
    return [row for row in rows if row.current]


def _known(tx: Transaction, row: Row[Any]) -> _Known | None:
    """None for one whose number can't be read any more, who keeps nobody else from being looked up."""
    try:
        number, particulars = parse(resident_accounts.opened_number(tx, row), today()), residents.particulars(tx, row)
    except (SealBroken, NotANumber) as error:
        log.error("resident_not_readable", resident=str(row.resident), error_type=type(error).__name__)
        return None
    hashes = frozenset(bytes(one) for one in row.hashes)
    return _Known(row.resident, number, tx.now, particulars, row.protected, row.active, row.looked_up_at, hashes)


def _look_up(
    transaction: Transactions,
    register: PopulationRegister,
    key: resident_accounts.NumberKey,
    page: Sequence[_Known],
    total: Refreshed,
) -> None:
    try:
        found = register.look_up_many([one.number for one in page])
        current = {one.resident: _in_force(register, key, one, found[one.number.number]) for one in page}
    except AnswerNotTrusted:
        if len(page) > 1:
            for half in (page[: len(page) // 2], page[len(page) // 2 :]):
                _look_up(transaction, register, key, half, total)
            return
        total.asked += 1
        total.not_trusted += 1
        return
    same = [one for one in page if _is_as_known(one, current[one.resident])]
    changed = [one for one in page if not _is_as_known(one, current[one.resident])]
    codes = {person.code for one in same if (person := current[one.resident]) is not None}
    for code in codes - total.codes:
        # Once, however many have it: of whom something is taken in it is looked at there.
        residents.look_at_code(code)
    total.codes |= codes
    with transaction() as tx:
        overtaken = _note_look_up(tx, same)
    for one in [*changed, *overtaken]:
        if (person := current[one.resident]) is not None:
            with transaction() as tx:
                residents.bring_up_to_date(tx, None, person, key)
    total.asked += len(page)
    total.changed += len(changed)
    total.unknown += sum(person is None for person in current.values())


def _in_force(
    register: PopulationRegister, key: resident_accounts.NumberKey, known: _Known, found: RegisteredPerson | None
) -> RegisteredPerson | None:
    """The person by the number in force now; asked for where the register names a number that is not known here."""
    if found is None or not (found.replaced_by or any(key.hash(one) not in known.hashes for one in found.former)):
        return found
    return register.look_up_current(known.number)


def _is_as_known(known: _Known, person: RegisteredPerson | None) -> bool:
    """Whether there is nothing to take in; of someone whom the register does not know nothing is learnt."""
    if person is None:
        return True
    return (
        person.number == known.number.number
        and residents.Particulars.of(person) == known.particulars
        and person.protected == known.protected
        and rules.active_after(person.code, known.active) == known.active
        and not person.replaced_by
        and not person.former
    )


def _note_look_up(tx: Transaction, same: Sequence[_Known]) -> list[_Known]:
    """Notes of these that the register says what is known. Answers those whose data something else has replaced
    meanwhile: of them it may say another thing than is known now, and it may be the newer."""
    if not same:
        return []
    resident_accounts.hold_accounts(tx, [one.resident for one in same])
    as_read = tuple_(accounts.c.resident, accounts.c.looked_up_at).in_(
        [(one.resident, one.looked_up_at) for one in same]
    )
    # A page is read as a whole, and asked about after that.
    noted = update(accounts).where(as_read).values(looked_up_at=same[0].read_at).returning(accounts.c.resident)
    done = set(tx.execute(noted).scalars())
    return [one for one in same if one.resident not in done]
