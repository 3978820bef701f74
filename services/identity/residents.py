"""Accounts of residents: made at the first login, kept up to date from the register, known to others by an opaque id.

The identity number stands sealed, and is found by a keyed hash; no other service stores it (R-ID-24).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, insert, select, update

from services.identity import rules, sessions
from services.identity.identity_numbers import NotANumber, parse
from services.identity.population_register import RegisteredPerson
from services.identity.tables import identity_numbers, residents
from shared.contracts import identity
from shared.messaging.errors import Forbidden, Invalid
from shared.operations.clock import SWEDEN
from shared.operations.logs import log
from shared.security.caller import Caller
from shared.security.sealing import keyed_hash

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_KEY_BYTES = 32


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


def take_in(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> UUID:
    """Makes the account at the first login, else brings it up to date; answers the resident id.

    Raises `Forbidden` with reason `login_locked` if the resident has locked their login (R-ID-4), `account_inactive` if
    the account is inactive and stays so (R-ID-17).
    """
    row = _find_for_change(tx, key.hash(person.number))
    if row is None:
        return _create(tx, person, key)
    if row.locked_at is not None:
        raise Forbidden("Din inloggning är låst.", reason="login_locked")
    if not _bring_up_to_date(tx, row, person):
        raise account_inactive()
    resident: UUID = row.resident
    return resident


def account_inactive() -> Forbidden:
    """The answer to a login with an inactive account; never why it is inactive."""
    return Forbidden("Kontot är inte längre aktivt.", reason="account_inactive")


def learn_of_death(tx: Transaction, _request: object, person: RegisteredPerson, key: NumberKey) -> None:
    """Makes the account of someone who has died inactive, if there is one, and ends their sessions (R-ID-17)."""
    row = _find_for_change(tx, key.hash(person.number))
    if row is not None:
        _bring_up_to_date(tx, row, person)


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
    """Whose number it is, of those who have an account. Raises `Invalid` if it is no identity number."""
    number = number_in(tx, "identity_number", request.identity_number)
    found = tx.execute(
        select(identity_numbers.c.resident).where(identity_numbers.c.hash == key.hash(number))
    ).scalar_one_or_none()
    return identity.ResidentFound(resident=found)


def whose(caller: Caller) -> UUID:
    """Whom a resident's call is about: the child that they act for, else themselves (R-ID-11)."""
    return caller.acting_for or UUID(caller.subject)


def particulars(tx: Transaction, row: Row[Any]) -> Particulars:
    """What the register said, from a row with `resident` and `particulars`."""
    return Particulars(**json.loads(tx.sealer.open(row.particulars, _particulars_context(row.resident))))


def _find_for_change(tx: Transaction, number_hash: bytes) -> Row[Any] | None:
    """The account with this number. Holds off everyone else who is about to make or change it."""
    lock = int.from_bytes(number_hash[:8], "big", signed=True)
    tx.connection.execute(select(func.pg_advisory_xact_lock(lock)))
    return tx.execute(
        select(residents)
        .join(identity_numbers, identity_numbers.c.resident == residents.c.resident)
        .where(identity_numbers.c.hash == number_hash)
        .with_for_update(of=residents)
    ).one_or_none()


def _create(tx: Transaction, person: RegisteredPerson, key: NumberKey) -> UUID:
    resident = uuid4()
    tx.execute(
        insert(residents).values(
            resident=resident,
            particulars=_sealed(tx, resident, Particulars.of(person)),
            protected=person.protected,
            active=True,
            version=1,
            created_at=tx.now,
            looked_up_at=tx.now,
        )
    )
    tx.execute(
        insert(identity_numbers).values(
            hash=key.hash(person.number),
            resident=resident,
            sealed=tx.sealer.seal(person.number.encode(), _number_context(resident)),
            added_at=tx.now,
            current=True,
        )
    )
    return resident


def _bring_up_to_date(tx: Transaction, row: Row[Any], person: RegisteredPerson) -> bool:
    """Keeps what the register said, and tells others of a changed status. Answers whether the account is active."""
    if rules.register_code(person.code) is rules.RegisterCode.UNKNOWN:
        log.warning("unknown_deregistration_code", code=(person.code or "")[:8])
    active = rules.active_after(person.code, row.active)
    version = row.version + (1 if active != row.active else 0)
    tx.execute(
        update(residents)
        .where(residents.c.resident == row.resident)
        .values(
            particulars=_sealed(tx, row.resident, Particulars.of(person)),
            protected=person.protected,
            active=active,
            version=version,
            looked_up_at=tx.now,
        )
    )
    if active == row.active:
        return active
    if not active:
        sessions.end_all(tx, str(row.resident), "account_inactive")
    status = identity.ResidentStatusChanged(
        resident=row.resident, active=active, locked=row.locked_at is not None, version=version
    )
    tx.publish(identity.RESIDENT_STATUS_CHANGED, status, aggregate=row.resident)
    return active


def _card(tx: Transaction, row: Row[Any]) -> identity.ResidentCard:
    return identity.ResidentCard(
        resident=row.resident,
        name=particulars(tx, row).name,
        identity_number=tx.sealer.open(row.sealed, _number_context(row.resident)).decode(),
        active=row.active,
        locked=row.locked_at is not None,
        protected=row.protected,
    )


def _sealed(tx: Transaction, resident: UUID, told: Particulars) -> bytes:
    sealed: bytes = tx.sealer.seal(json.dumps(asdict(told)).encode(), _particulars_context(resident))
    return sealed


def _particulars_context(resident: UUID) -> bytes:
    return b"resident particulars " + resident.bytes


def _number_context(resident: UUID) -> bytes:
    return b"resident number " + resident.bytes
