"""Residents: their accounts are made at the first login, kept up to date from the register, and known to others by an
opaque id. Which account is whose: `resident_accounts`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import Row, select

from services.identity import resident_accounts, rules, sessions
from services.identity.identity_numbers import NotANumber, parse
from services.identity.population_register import RegisteredPerson
from services.identity.resident_accounts import Account, NumberInDoubt, NumberKey
from services.identity.tables import identity_numbers, residents
from shared.contracts import identity, logging_in
from shared.contracts.base import Done
from shared.messaging.errors import Forbidden, Invalid
from shared.operations.clock import SWEDEN
from shared.operations.logs import log
from shared.security.caller import Caller

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_CREATE = b"""INSERT INTO residents
    (resident, particulars, protected, active, version, created_at, looked_up_at) VALUES"""
_BRING_UP_TO_DATE = b"""UPDATE residents SET particulars = %s, protected = %s, active = %s, version = %s,
    looked_up_at = %s WHERE resident = %s"""


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
    [row] = resident_accounts.find_for_change(tx, [person], key)
    if row is None:
        return _create(tx, person, key), True
    return row.resident, _bring_all_up_to_date(tx, row, person)


def lock(tx: Transaction, _request: logging_in.LockLogin) -> Done:
    """Locks the caller's login and ends their sessions, at once and everywhere, in every account of theirs (R-ID-4).

    Raises `Forbidden` for a guardian who acts for a child: that is done in one's own name.
    """
    if tx.caller.acting_for is not None:
        raise Forbidden("Det kan du bara göra i ditt eget namn.", reason="acting_for_child")
    for one in resident_accounts.hold_every_account(tx, UUID(tx.caller.subject)):
        resident_accounts.lock(tx, one, tx.now)
    return Done()


def unlock(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> None:
    """Unlocks the login of someone who has just shown who they are (R-ID-4). Nothing happens where it is not locked.

    Raises `Forbidden` with reason `account_inactive` if the account is inactive and stays so, `NumberInDoubt`.
    """
    [row] = resident_accounts.find_for_change(tx, [person], key)
    if row is None:
        return
    if not _bring_all_up_to_date(tx, row, person):
        raise account_inactive()
    for one in resident_accounts.hold_every_account(tx, row.resident):
        if one.locked_at is not None:
            resident_accounts.set_locked(tx, one, None)


def account_inactive() -> Forbidden:
    """The answer to a login with an inactive account; never why it is inactive."""
    return Forbidden("Kontot är inte längre aktivt.", reason="account_inactive")


def bring_up_to_date(tx: Transaction, _request: object, person: RegisteredPerson, key: NumberKey) -> None:
    """Takes what the register says into the account, if there is one, without a login: a death makes it inactive and
    ends its sessions (R-ID-17), a changed number stays with it (R-ID-24). Of a number in doubt nothing is taken in."""
    with suppress(NumberInDoubt):
        [row] = resident_accounts.find_for_change(tx, [person], key)
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


def find_resident(tx: Transaction, request: identity.FindResident, key: NumberKey) -> identity.ResidentFound:
    """Whose number it is, if they have an account; and their others. Raises `Invalid` if it is no number."""
    number = number_in(tx, "identity_number", request.identity_number)
    found = tx.execute(
        select(identity_numbers.c.resident).where(identity_numbers.c.hash == key.hash(number))
    ).scalar_one_or_none()
    linked = [one for one in resident_accounts.every_account(tx, found) if one != found] if found is not None else []
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


def _create(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> UUID:
    look_at_code(person.code)
    resident = uuid4()
    particulars = _sealed(tx, resident, Particulars.of(person))
    tx.add(_CREATE, (resident, particulars, person.protected, True, 1, tx.now, person.asked_at))
    for number in (person.number, *person.former):
        resident_accounts.add_number(tx, resident, key.hash(number), number, current=number == person.number)
    return resident


def look_at_code(code: str | None) -> None:
    """Unknown codes change nothing and are logged, without whose they are (R-ID-18)."""
    if rules.register_code(code) is rules.RegisterCode.UNKNOWN:
        log.warning("unknown_deregistration_code", code=(code or "")[:8])


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
    resident_accounts.tell_status(tx, row.resident, active=active, locked=row.locked_at is not None, version=version)
    return active


def _particulars_of(tx: Transaction, resident: UUID, *, with_place: bool) -> Particulars:
    kept = particulars(tx, tx.execute(select(residents).where(residents.c.resident == resident)).one())
    return kept if with_place else Particulars(kept.given_name, kept.surname)


def _card(tx: Transaction, row: Row[Any]) -> identity.ResidentCard:
    return identity.ResidentCard(
        resident=row.resident,
        name=particulars(tx, row).name,
        identity_number=resident_accounts.opened_number(tx, row),
        active=row.active,
        locked=row.locked_at is not None,
        protected=row.protected,
    )


def _sealed(tx: Transaction, resident: UUID, told: Particulars) -> bytes:
    sealed: bytes = tx.sealer.seal(json.dumps(asdict(told)).encode(), _particulars_context(resident))
    return sealed


def _particulars_context(resident: UUID) -> bytes:
    return b"resident particulars " + resident.bytes
