"""Accounts of residents: made at the first login, kept up to date from the register, known to others by an opaque id.

The identity number stands sealed, and is found by a keyed hash; no other service stores it (R-ID-24).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import Row, insert, select, update

from services.identity import rules, sessions
from services.identity.identity_numbers import NotANumber, parse
from services.identity.population_register import RegisteredPerson
from services.identity.tables import identity_numbers, linked_accounts, numbers_of_person, residents
from shared.contracts import identity, logging_in
from shared.contracts.base import Done
from shared.database.transaction import NotTogether
from shared.messaging.errors import Forbidden, Invalid
from shared.operations.clock import SWEDEN
from shared.operations.logs import log
from shared.security.caller import Caller
from shared.security.sealing import keyed_hash

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_KEY_BYTES = 32
_ONE_AT_A_TIME = b"SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number"
_FIND = b"""SELECT hash, residents.resident, active, protected, locked_at, version, looked_up_at, current,
        person IS NOT NULL
    FROM residents JOIN identity_numbers USING (resident) LEFT JOIN linked_accounts USING (resident)
    WHERE hash = ANY(%s) ORDER BY created_at, residents.resident FOR UPDATE OF residents"""
_CREATE = b"""INSERT INTO residents
    (resident, particulars, protected, active, version, created_at, looked_up_at) VALUES"""
_ADD_NUMBER = b"INSERT INTO identity_numbers (hash, resident, sealed, added_at, current) VALUES"
_BRING_UP_TO_DATE = b"""UPDATE residents SET particulars = %s, protected = %s, active = %s, version = %s,
    looked_up_at = %s WHERE resident = %s"""


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


@dataclass(frozen=True, repr=False)
class Particulars:
    """What the register said of a resident. Nothing of a place for the protected (R-ID-14)."""

    given_name: str
    surname: str
    street: str | None = None
    postal_code: str | None = None
    city: str | None = None
    county_code: str | None = None
    municipality_code: str | None = None

    @classmethod
    def of(cls, person: RegisteredPerson) -> Particulars:
        place = asdict(person.place) if person.place and not person.protected else {}
        return cls(person.given_name, person.surname, **place)

    @property
    def name(self) -> str:
        return f"{self.given_name} {self.surname}".strip()


def let_in(tx: Transaction, row: Account | None, person: RegisteredPerson, key: NumberKey) -> UUID:
    """Makes the account at the first login, else brings it up to date; answers the resident id. What a newer answer of
    the register has told of it meanwhile stands.

    Raises `Forbidden` with reason `login_locked` if the resident has locked their login (R-ID-4), `account_inactive` if
    the account is inactive and stays so (R-ID-17).
    """
    if row is None:
        return _create(tx, person, key)
    if any(one.locked_at is not None for one in row.every):
        raise Forbidden("Din inloggning är låst.", reason="login_locked")
    if not _bring_all_up_to_date(tx, row, person):
        raise account_inactive()
    return row.resident


def keep(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> tuple[UUID, bool]:
    """Makes or brings up to date the account of someone who does not log in themselves, as a child whom a guardian acts
    for. Answers the resident id, and whether the account is active. Raises `NumberInDoubt`."""
    [row] = find_for_change(tx, [person], key)
    if row is None:
        return _create(tx, person, key), True
    return row.resident, _bring_all_up_to_date(tx, row, person)


def lock(tx: Transaction, _request: logging_in.LockLogin) -> Done:
    """Locks the caller's login and ends their sessions, at once and everywhere, in every account of theirs (R-ID-4).

    Raises `Forbidden` for a guardian who acts for a child: that is done in one's own name.
    """
    if tx.caller.acting_for is not None:
        raise Forbidden("Det kan du bara göra i ditt eget namn.", reason="acting_for_child")
    for one in hold_every_account(tx, UUID(tx.caller.subject)):
        _lock(tx, one, tx.now)
    return Done()


def unlock(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> None:
    """Unlocks the login of someone who has just shown who they are (R-ID-4). Nothing happens where it is not locked.

    Raises `Forbidden` with reason `account_inactive` if the account is inactive and stays so, `NumberInDoubt`.
    """
    [row] = find_for_change(tx, [person], key)
    if row is None:
        return
    if not _bring_all_up_to_date(tx, row, person):
        raise account_inactive()
    for one in hold_every_account(tx, row.resident):
        if one.locked_at is not None:
            _set_locked(tx, one, None)


def account_inactive() -> Forbidden:
    """The answer to a login with an inactive account; never why it is inactive."""
    return Forbidden("Kontot är inte längre aktivt.", reason="account_inactive")


def bring_up_to_date(tx: Transaction, _request: object, person: RegisteredPerson, key: NumberKey) -> None:
    """Takes what the register says into the account, if there is one, without a login: a death makes it inactive and
    ends its sessions (R-ID-17), a changed number stays with it (R-ID-24). Of a number in doubt nothing is taken in."""
    with suppress(NumberInDoubt):
        [row] = find_for_change(tx, [person], key)
        if row is not None:
            _bring_all_up_to_date(tx, row, person)


def resident_cards(tx: Transaction, request: identity.ResidentCards) -> identity.CardsFound:
    """Cards for staff, in the order asked for; of those who don't exist there is none."""
    rows = {
        row.resident: row
        for row in tx.execute(
            select(
                residents.c.resident,
                residents.c.particulars,
                residents.c.protected,
                residents.c.active,
                residents.c.locked_at,
                identity_numbers.c.sealed,
            )
            .join(identity_numbers, identity_numbers.c.resident == residents.c.resident)
            .where(residents.c.resident.in_(request.residents), identity_numbers.c.current)
        )
    }
    return identity.CardsFound(cards=[_card(tx, rows[one]) for one in request.residents if one in rows])


def number_in(tx: Transaction, field: str, pasted: str) -> str:
    """The identity number in what someone wrote, as twelve characters. Raises `Invalid` that names the field."""
    try:
        return parse(pasted, tx.now.astimezone(SWEDEN).date()).number
    except NotANumber as error:
        raise Invalid(fields=[(field, str(error))]) from None


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


def find_resident(tx: Transaction, request: identity.FindResident, key: NumberKey) -> identity.ResidentFound:
    """Whose number it is, if they have an account; and their others. Raises `Invalid` if it is no number."""
    number = number_in(tx, "identity_number", request.identity_number)
    found = tx.execute(
        select(identity_numbers.c.resident).where(identity_numbers.c.hash == key.hash(number))
    ).scalar_one_or_none()
    linked = [one for one in every_account(tx, found) if one != found] if found is not None else []
    return identity.ResidentFound(resident=found, linked=linked)


def find_residents(tx: Transaction, request: identity.FindResidents, key: NumberKey) -> identity.ResidentsFound:
    """The same for many numbers, in one statement. What is no number spoils nothing for the others."""
    hashes = [_hash_of(tx, number, key) for number in request.identity_numbers]
    wanted = select(identity_numbers.c.hash, identity_numbers.c.resident).where(
        identity_numbers.c.hash.in_([one for one in hashes if one is not None])
    )
    known = {bytes(row.hash): row.resident for row in tx.execute(wanted)}
    return identity.ResidentsFound(
        found=[
            identity.FoundByNumber(resident=known.get(one) if one is not None else None, is_number=one is not None)
            for one in hashes
        ]
    )


def _hash_of(tx: Transaction, number: str, key: NumberKey) -> bytes | None:
    try:
        return key.hash(number_in(tx, "identity_numbers", number))
    except Invalid:
        return None


def whose(caller: Caller) -> UUID:
    """Whom a resident's call is about: the child that they act for, else themselves (R-ID-11)."""
    return caller.acting_for or UUID(caller.subject)


def particulars(tx: Transaction, row: Row[Any]) -> Particulars:
    """What the register said, from a row with `resident` and `particulars`."""
    return Particulars(**json.loads(tx.sealer.open(row.particulars, _particulars_context(row.resident))))


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


def _hold(tx: Transaction, hashes: Collection[bytes]) -> dict[bytes, Account]:
    tx.later(_ONE_AT_A_TIME, (sorted(int.from_bytes(one[:8], "big", signed=True) for one in hashes),))
    return {row[0]: Account(*row[1:]) for row in tx.ask(_FIND, (list(hashes),))}


def hold_account_of(tx: Transaction, hash_: bytes) -> UUID | None:
    """The account that has this number, if there is one, held as above."""
    found = _hold(tx, [hash_]).get(hash_)
    return found and found.resident


def hold_accounts(tx: Transaction, accounts: Collection[UUID], *, to_read: bool = False) -> None:
    """The same for accounts that exist; `to_read`: only from being changed."""
    ordered = select(residents.c.resident).where(residents.c.resident.in_(accounts))
    tx.execute(ordered.order_by(residents.c.created_at, residents.c.resident).with_for_update(read=to_read))


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
                _add_number(tx, found.resident, hash_, number, current=current)
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
            one.resident: one._replace(locked_at=locked_at, version=_lock(tx, one, locked_at))
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


def _add_number(tx: Transaction, resident: UUID, hash_: bytes, number: str, *, current: bool) -> None:
    sealed = tx.sealer.seal(number.encode(), _number_context(resident))
    tx.add(_ADD_NUMBER, (hash_, resident, sealed, tx.now, current))


def _create(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> UUID:
    look_at_code(person.code)
    resident = uuid4()
    particulars = _sealed(tx, resident, Particulars.of(person))
    tx.add(_CREATE, (resident, particulars, person.protected, True, 1, tx.now, person.asked_at))
    for number in (person.number, *person.former):
        _add_number(tx, resident, key.hash(number), number, current=number == person.number)
    return resident


def look_at_code(code: str | None) -> None:
    """Unknown codes change nothing and are logged, without whose they are (R-ID-18)."""
    if rules.register_code(code) is rules.RegisterCode.UNKNOWN:
        log.warning("unknown_deregistration_code", code=(code or "")[:8])


def _lock(tx: Transaction, row: Account, locked_at: datetime) -> int:
    """Locks an account, if it is not locked, and ends its sessions. Answers its version."""
    version = row.version if row.locked_at is not None else _set_locked(tx, row, locked_at)
    sessions.end_all(tx, str(row.resident), "login_locked")
    return version


def _set_locked(tx: Transaction, row: Account, locked_at: datetime | None) -> int:
    version = row.version + 1
    tx.execute(
        update(residents).where(residents.c.resident == row.resident).values(locked_at=locked_at, version=version)
    )
    _tell_status(tx, row.resident, active=row.active, locked=locked_at is not None, version=version)
    return version


def _tell_status(tx: Transaction, resident: UUID, *, active: bool, locked: bool, version: int) -> None:
    status = identity.ResidentStatusChanged(resident=resident, active=active, locked=locked, version=version)
    tx.publish(identity.RESIDENT_STATUS_CHANGED, status, aggregate=resident)


def _bring_all_up_to_date(tx: Transaction, row: Account, person: RegisteredPerson) -> bool:
    """Keeps what the register said, and tells others of a changed status; in every account of the person of which it
    has not said something newer. Answers whether the first is active."""
    look_at_code(person.code)
    whole = all(one.named for one in row.every)
    active, *_ = [_bring_up_to_date(tx, one, person, certain=one.named and whole) for one in row.every]
    return active


def _bring_up_to_date(tx: Transaction, row: Account, person: RegisteredPerson, *, certain: bool) -> bool:
    """`certain`: whether the answer may take protection away and make an inactive account active."""
    if not rules.answer_counts(person.asked_at, row.looked_up_at, tx.now):
        return row.active
    protected = person.protected or (row.protected and not certain)
    active = rules.active_after(person.code, row.active) and (row.active or certain)
    if row.named:
        told = Particulars.of(replace(person, protected=protected))
    elif (protected, active) == (row.protected, row.active):
        return active
    else:
        told = _particulars_of(tx, row.resident, with_place=not protected)
    version = row.version + (1 if active != row.active else 0)
    particulars = _sealed(tx, row.resident, told)
    tx.later(_BRING_UP_TO_DATE, (particulars, protected, active, version, person.asked_at, row.resident))
    if protected or not active:
        sessions.end_acting(tx, row.resident, "representation_ended")  # R-ID-13
    if active == row.active:
        return active
    if not active:
        sessions.end_all(tx, str(row.resident), "account_inactive")
    _tell_status(tx, row.resident, active=active, locked=row.locked_at is not None, version=version)
    return active


def _particulars_of(tx: Transaction, resident: UUID, *, with_place: bool) -> Particulars:
    kept = particulars(tx, tx.execute(select(residents).where(residents.c.resident == resident)).one())
    return kept if with_place else Particulars(kept.given_name, kept.surname)


def _card(tx: Transaction, row: Row[Any]) -> identity.ResidentCard:
    return identity.ResidentCard(
        resident=row.resident,
        name=particulars(tx, row).name,
        identity_number=opened_number(tx, row),
        active=row.active,
        locked=row.locked_at is not None,
        protected=row.protected,
    )


def opened_number(tx: Transaction, row: Row[Any]) -> str:
    """The identity number in this row of `identity_numbers`."""
    return tx.sealer.open(row.sealed, _number_context(row.resident)).decode()


def _sealed(tx: Transaction, resident: UUID, told: Particulars) -> bytes:
    sealed: bytes = tx.sealer.seal(json.dumps(asdict(told)).encode(), _particulars_context(resident))
    return sealed


def _particulars_context(resident: UUID) -> bytes:
    return b"resident particulars " + resident.bytes


def _number_context(resident: UUID) -> bytes:
    return b"resident number " + resident.bytes
