"""Which account a resident's identity number leads to: found, held for a change, and linked with the person's others.

The number stands sealed, and is found by a keyed hash; no other service stores it (R-ID-24). A number changes, and the
register links two only later: an answer of its may add a number to an account, or tell that two accounts are one
person's, and never takes an account from one person to another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, insert, select, update

from services.identity import rules, sessions
from services.identity.population_register import RegisteredPerson
from services.identity.tables import identity_numbers, linked_accounts, numbers_of_person, residents
from shared.contracts import identity
from shared.database.transaction import NotTogether
from shared.messaging.errors import Forbidden
from shared.operations.logs import log
from shared.security.sealing import keyed_hash

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_KEY_BYTES = 32
_ONE_AT_A_TIME = b"SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number"
_FIND = b"""SELECT hash, residents.resident, active, protected, locked_at, version, looked_up_at, current,
        person IS NOT NULL
    FROM residents JOIN identity_numbers USING (resident) LEFT JOIN linked_accounts USING (resident)
    WHERE hash = ANY(%s) ORDER BY created_at, residents.resident FOR UPDATE OF residents"""
_ADD_NUMBER = b"INSERT INTO identity_numbers (hash, resident, sealed, added_at, current) VALUES"


@dataclass(frozen=True, repr=False)
class NumberKey:
    """The key of the hashes by which numbers are found."""

    key: bytes

    @classmethod
    def from_file(cls, path: Path) -> NumberKey:
        """Reads 64 hex digits. Raises ValueError."""
        key = bytes.fromhex(path.read_text().strip())
        if len(key) != _KEY_BYTES:
            raise ValueError("the key for identity numbers is not 32 bytes long")
        return cls(key)

    def hash(self, number: str) -> bytes:
        """What stands in the database for this number."""
        return keyed_hash(self.key, f"identity number {number}")


class NumberInDoubt(Forbidden):
    """The number stands in the account of someone with whom the register no longer connects it: it must not lead there.
    People have to look at it."""

    def __init__(self) -> None:
        super().__init__(
            "Ditt personnummer behöver kontrolleras innan du kan logga in. Kontakta supporten.",
            reason="number_to_be_looked_at",
        )


class Account(NamedTuple):
    """An account, as it stood when it was locked for a change."""

    resident: UUID
    active: bool
    protected: bool
    locked_at: datetime | None
    version: int
    looked_up_at: datetime
    named: bool
    """Whether it was found by its current number. If not, what the register said is not about the person as they are
    known here: then only protection and death count (R-ID-14, R-ID-17)."""
    linked: bool
    others: tuple[Account, ...] = ()
    """Accounts that the same person has by numbers that the register linked only later: what is so of the person is so
    of all of them."""

    @property
    def every(self) -> tuple[Account, ...]:
        """The person's accounts, this one first."""
        return (self, *self.others)


def find_for_change(tx: Transaction, people: Sequence[RegisteredPerson], key: NumberKey) -> list[Account | None]:
    """The account with each person's number or an earlier one of theirs, to which the number now belongs (R-ID-24).

    Holds off everyone else who is about to make or change it. Of several accounts it is that of the number in force.
    Raises `NotTogether` where two of the people have a number in common, `NumberInDoubt` where what the register says
    does not connect someone with the account that has their number.
    """
    numbers = [{key.hash(one): one for one in (person.number, *person.former)} for person in people]
    hashes = {hash_: place for place, own in enumerate(numbers) for hash_ in own}
    if len(hashes) < sum(map(len, numbers)):
        raise NotTogether
    found: list[dict[bytes, Account]] = [{} for _ in people]
    for hash_, account in _hold(tx, hashes).items():
        found[hashes[hash_]][hash_] = account
    return [_account(tx, *each, key) for each in zip(people, numbers, found, strict=True)]


def hold(tx: Transaction, people: Sequence[RegisteredPerson], key: NumberKey) -> None:
    """Holds off everyone else who is about to make or change an account of these, in the order that everyone keeps:
    for what looks at several one after another, or at something else first."""
    _hold(tx, {key.hash(one) for person in people for one in (person.number, *person.former)})


def hold_account_of(tx: Transaction, hash_: bytes) -> UUID | None:
    """The account that has this number, if there is one, held as above."""
    found = _hold(tx, [hash_]).get(hash_)
    return found and found.resident


def hold_accounts(tx: Transaction, accounts: Collection[UUID], *, to_read: bool = False) -> None:
    """The same for accounts that exist; `to_read`: only from being changed."""
    ordered = select(residents.c.resident).where(residents.c.resident.in_(accounts))
    tx.execute(ordered.order_by(residents.c.created_at, residents.c.resident).with_for_update(read=to_read))


def hold_every_number(tx: Transaction, *hashes: bytes) -> list[set[bytes]]:
    """All numbers, as hashes, of each person who has one of these; of one without an account only that one (R-ID-24).

    For what is kept by number: holds off everyone else who is about to change what hangs on any number of theirs.
    """
    accounts = {hash_: account.resident for hash_, account in _hold(tx, hashes).items()}
    whose = numbers_of_person.c.resident.in_(set(accounts.values()))
    known = tx.execute(select(numbers_of_person).where(whose)).all()
    return [{one, *(row.hash for row in known if row.resident == accounts.get(one))} for one in hashes]


def every_account(tx: Transaction, resident: UUID) -> list[UUID]:
    """The accounts of the person whose account this is: it, and those that the register's word has linked with it."""
    own, other = linked_accounts.alias(), linked_accounts.alias()
    linked = select(other.c.resident).join(own, own.c.person == other.c.person).where(own.c.resident == resident)
    return sorted({resident, *tx.execute(linked).scalars()})


def hold_every_account(tx: Transaction, resident: UUID, named: Collection[UUID] = ()) -> list[Account]:
    """All accounts of the person whose account this is, held; in the order that everyone keeps. One that is linked
    while we wait is among them."""
    held: list[UUID] = []
    while held != (every := every_account(tx, resident)):
        hold_accounts(tx, every)
        held = every
    return [
        Account(
            row.resident,
            row.active,
            row.protected,
            row.locked_at,
            row.version,
            row.looked_up_at,
            named=row.resident in named,
            linked=len(held) > 1,
        )
        for row in tx.execute(select(residents).where(residents.c.resident.in_(held)))
    ]


def _hold(tx: Transaction, hashes: Collection[bytes]) -> dict[bytes, Account]:
    tx.later(_ONE_AT_A_TIME, (sorted(int.from_bytes(one[:8], "big", signed=True) for one in hashes),))
    return {row[0]: Account(*row[1:]) for row in tx.ask(_FIND, (list(hashes),))}


def _account(
    tx: Transaction,
    person: RegisteredPerson,
    numbers: Mapping[bytes, str],
    known: Mapping[bytes, Account],
    key: NumberKey,
) -> Account | None:
    """Which of the accounts it is, after adding the numbers that it did not have, if nothing newer is known of it.

    An account is that of the person only if its current number is among theirs, or the record of one of its older ones
    refers to it: a link that the register has undone leaves numbers behind in the account of another.
    """
    if not known:
        return None
    in_force = key.hash(person.number)
    accounts = {one.resident: one for one in sorted(known.values(), key=lambda one: one.named)}
    of_current = max(known.values(), key=lambda one: one.named)
    found = accounts.pop(known.get(in_force, of_current).resident)
    if not found.named and not _is_referred_to(tx, found, person, key):
        _log_doubt(found)
        raise NumberInDoubt
    for one in accounts.values():
        if not one.named:
            _log_doubt(one)
    found = found._replace(others=tuple(one for one in accounts.values() if one.named))
    if found.others:
        # Cases hang on both; people have to look at it.
        log.warning("resident_has_several_accounts", residents=[str(one.resident) for one in found.every])
    if found.named and rules.answer_counts(person.asked_at, found.looked_up_at, tx.now):
        if person.replaced_by is None:
            _put_in_force(tx, found.resident, in_force, known)
        for hash_, number in numbers.items():
            if hash_ not in known:
                current = number == person.number and not person.replaced_by
                add_number(tx, found.resident, hash_, number, current=current)
                log.info("number_added_to_account", resident=str(found.resident))
        if found.others:
            _link(tx, [one.resident for one in found.every])
            found = found._replace(linked=True)
    return _with_linked(tx, found) if found.linked else found


def _is_referred_to(tx: Transaction, account: Account, person: RegisteredPerson, key: NumberKey) -> bool:
    """Whether the person's record refers to the account's current number."""
    if person.replaced_by is None:
        return False
    this = (identity_numbers.c.resident == account.resident) & identity_numbers.c.current
    current: bytes = tx.execute(select(identity_numbers.c.hash).where(this)).scalar_one()
    return current == key.hash(person.replaced_by)


def _log_doubt(account: Account) -> None:
    log.error("number_to_be_looked_at", resident=str(account.resident))


def _link(tx: Transaction, accounts: Sequence[UUID]) -> None:
    """Notes that these accounts are one person's, as each of them is with those that it was linked with before."""
    known = linked_accounts.c
    before = tx.execute(select(known.resident, known.person).where(known.resident.in_(accounts))).all()
    people = {row.person for row in before}
    person = min(people, default=accounts[0])
    if len(people) > 1:
        tx.execute(update(linked_accounts).where(known.person.in_(people)).values(person=person))
    if new := set(accounts) - {row.resident for row in before}:
        rows = [{"resident": one, "person": person, "linked_at": tx.now} for one in sorted(new)]
        tx.execute(insert(linked_accounts).values(rows))


def _with_linked(tx: Transaction, account: Account) -> Account:
    """The account with all others of the person, whether or not the answer named them. A login that is locked in one of
    them is from now on in all."""
    named = [one.resident for one in account.every if one.named]
    every = {one.resident: one for one in hold_every_account(tx, account.resident, named)}
    locked_at = min((one.locked_at for one in every.values() if one.locked_at is not None), default=None)
    if locked_at is not None:
        every |= {
            one.resident: one._replace(locked_at=locked_at, version=lock(tx, one, locked_at))
            for one in every.values()
            if one.locked_at is None
        }
    return every.pop(account.resident)._replace(others=tuple(every.values()))


def _put_in_force(tx: Transaction, resident: UUID, hash_: bytes, known: Mapping[bytes, Account]) -> None:
    """Notes that this number, whether known before or about to be added, is the resident's current one."""
    if hash_ in known and known[hash_].named:
        return
    own = identity_numbers.c.resident == resident
    tx.execute(update(identity_numbers).where(own, identity_numbers.c.current).values(current=False))
    if hash_ in known:
        tx.execute(update(identity_numbers).where(own, identity_numbers.c.hash == hash_).values(current=True))


def add_number(tx: Transaction, resident: UUID, hash_: bytes, number: str, *, current: bool) -> None:
    """Adds a number to the account, sealed and with its hash."""
    sealed = tx.sealer.seal(number.encode(), _number_context(resident))
    tx.add(_ADD_NUMBER, (hash_, resident, sealed, tx.now, current))


def opened_number(tx: Transaction, row: Row[Any]) -> str:
    """The identity number in this row of `identity_numbers`."""
    return tx.sealer.open(row.sealed, _number_context(row.resident)).decode()


def _number_context(resident: UUID) -> bytes:
    return b"resident number " + resident.bytes


def lock(tx: Transaction, row: Account, locked_at: datetime) -> int:
    """Locks an account, if it is not locked, and ends its sessions. Answers its version."""
    version = row.version if row.locked_at is not None else set_locked(tx, row, locked_at)
    sessions.end_all(tx, str(row.resident), "login_locked")
    return version


def set_locked(tx: Transaction, row: Account, locked_at: datetime | None) -> int:
    """Locks the account from this moment, or unlocks it (None), and tells others. Answers its version."""
    version = row.version + 1
    tx.execute(
        update(residents).where(residents.c.resident == row.resident).values(locked_at=locked_at, version=version)
    )
    tell_status(tx, row.resident, active=row.active, locked=locked_at is not None, version=version)
    return version


def tell_status(tx: Transaction, resident: UUID, *, active: bool, locked: bool, version: int) -> None:
    """Tells other services whether the resident is active, and their login locked (R-ID-4, R-ID-17)."""
    status = identity.ResidentStatusChanged(resident=resident, active=active, locked=locked, version=version)
    tx.publish(identity.RESIDENT_STATUS_CHANGED, status, aggregate=resident)
