"""Codes by which people show that an address is their own (R-NOT-9): six digits, sent there, given back here."""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from services.identity import contacts, rules
from services.identity.resident_accounts import NumberKey
from services.identity.tables import address_codes, codes_a_day
from shared.contracts import identity, personal
from shared.contracts.base import Done
from shared.messaging.errors import Conflict, Invalid, LimitExceeded
from shared.operations.clock import SWEDEN
from shared.security.sealing import keyed_hash

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, repr=False)
class ToSend:
    """A code, and the address that it is for."""

    address: str
    code: str


def set_contact(tx: Transaction, request: identity.SetContact, key: NumberKey) -> identity.ContactSet:
    """Keeps the caller's addresses and choices, with a code for each address that is still to be verified.

    Too many codes stop no choice; the one that was sent before still holds then.
    """
    contact = contacts.set_contact(tx, request, key)
    for channel in contact.to_verify:
        with suppress(LimitExceeded):
            _new_code(tx, request.request_id, channel, key)
    return contact


def own_email(tx: Transaction, _request: Any) -> str | None:
    """The mail address that the caller has set, verified or not."""
    return contacts.set_by(tx, contacts.owner_of(tx.caller))[1].get("email")


def send_another(tx: Transaction, request: personal.SendVerificationCode, key: NumberKey) -> Done:
    """A new code for the caller's address of this kind; the one before is worth nothing from now on.

    Raises `Conflict` where there is nothing to verify, `LimitExceeded` for more than five in an hour, or ten to the
    address in a day.
    """
    _new_code(tx, request.request_id, request.channel, key)
    return Done()


def _new_code(tx: Transaction, request_id: UUID, channel: identity.Channel, key: NumberKey) -> None:
    kind, person = contacts.owner_of(tx.caller)
    address = contacts.set_by(tx, (kind, person))[1].get(contacts.FIELDS[channel])
    if address is None or contacts.is_verified(tx, key, channel, address):
        raise Conflict("Det finns ingen adress att bekräfta.", reason="nothing_to_verify")
    row = tx.execute(select(address_codes).where(*_of(kind, person, channel)).with_for_update()).one_or_none()
    in_hour = row is not None and tx.now - row.counted_from < _HOUR
    if row is not None and in_hour and row.sent >= rules.CODES_AN_HOUR:
        raise LimitExceeded("För många koder har skickats. Vänta en timme.", reason="too_many_codes")
    _count_for_address(tx, key, channel, address)
    values = {
        "address": contacts.address_hash(key, channel, address),
        "code": _hash(key, kind, person, channel, _code(key, request_id, channel, (kind, person), address)),
        "sent_at": tx.now,
        "attempts": 0,
        "sent": row.sent + 1 if row is not None and in_hour else 1,
        "counted_from": row.counted_from if row is not None and in_hour else tx.now,
    }
    tx.execute(
        insert(address_codes)
        .values(kind=kind, person=person, channel=channel, **values)
        .on_conflict_do_update(index_elements=["kind", "person", "channel"], set_=values)
    )


def _count_for_address(tx: Transaction, key: NumberKey, channel: identity.Channel, address: str) -> None:
    """Counts one more code to the address on this Swedish day. Raises `LimitExceeded`: no more are sent there."""
    counted = contacts.address_hash(key, channel, rules.counted_address(address))
    row = tx.execute(
        insert(codes_a_day)
        .values(day=tx.now.astimezone(SWEDEN).date(), address=counted, sent=1)
        .on_conflict_do_update(
            index_elements=["day", "address"],
            set_={"sent": codes_a_day.c.sent + 1},
            where=codes_a_day.c.sent < rules.CODES_A_DAY,
        )
        .returning(codes_a_day.c.sent)
    ).one_or_none()
    if row is None:
        raise LimitExceeded("För många koder har skickats till adressen. Vänta till i morgon.", reason="too_many_codes")


def to_send(
    tx: Transaction,
    request: identity.SetContact | personal.SendVerificationCode,
    channel: identity.Channel,
    key: NumberKey,
) -> ToSend | None:
    """What this request, and no later one, has to send; a repeated request sends the same once more, if anything."""
    owner = contacts.owner_of(tx.caller)
    row = tx.execute(select(address_codes).where(*_of(*owner, channel))).one_or_none()
    address = contacts.set_by(tx, owner)[1].get(contacts.FIELDS[channel])
    if row is None or address is None:
        return None
    code = _code(key, request.request_id, channel, owner, address)
    if bytes(row.code) != _hash(key, *owner, channel, code):
        return None
    return ToSend(address, code)


def _code(key: NumberKey, request_id: UUID, channel: str, owner: tuple[str, str], address: str) -> str:
    """Six digits that nobody can foresee without the key, and that a repeated request finds again.

    The caller chooses the request's id, and may use it again when the request is forgotten, or have it from another: it
    brings another code for another person or address.
    """
    drawn = int.from_bytes(keyed_hash(key.key, f"code of request {request_id} {channel} {owner} {address}")[:8], "big")
    return f"{drawn % 10**rules.CODE_DIGITS:0{rules.CODE_DIGITS}}"


def count_attempt(tx: Transaction, request: personal.VerifyAddress) -> datetime | None:
    """Counts before it is looked whether the code is right, in a transaction of its own: a wrong one stays counted.

    Answers when the code was sent at which this is an attempt; None: there is none, or it has been tried too often.
    """
    mine = _of(*contacts.owner_of(tx.caller), request.channel)
    not_used_up = address_codes.c.attempts <= rules.CODE_ATTEMPTS  # beyond that, more change nothing
    counted = update(address_codes).where(*mine, not_used_up).values(attempts=address_codes.c.attempts + 1)
    sent_at: datetime | None = tx.execute(counted.returning(address_codes.c.sent_at)).scalar_one_or_none()
    return sent_at


def verify(tx: Transaction, request: personal.VerifyAddress, key: NumberKey, tried: datetime | None) -> Done:
    """Takes the code back. `tried`: as `count_attempt` answered, for an attempt at one code is none at the next.

    Raises `Invalid` with reason `wrong_code`, whatever is wrong with it.
    """
    owner = contacts.owner_of(tx.caller)
    mine = _of(*owner, request.channel)
    row = tx.execute(select(address_codes).where(*mine).with_for_update()).one_or_none()
    address = contacts.set_by(tx, owner)[1].get(contacts.FIELDS[request.channel])
    given = _hash(key, *owner, request.channel, "".join(request.code.split()))
    if (
        row is None
        or address is None
        or row.sent_at != tried
        or not hmac.compare_digest(bytes(row.code), given)
        or not rules.code_holds(tx.now, row.sent_at, row.attempts)
        # The address may be another one by now than the code was sent to.
        or bytes(row.address) != contacts.address_hash(key, request.channel, address)
    ):
        raise Invalid("Koden stämmer inte eller gäller inte längre.", reason="wrong_code", fields=[("code", "är fel")])
    tx.execute(delete(address_codes).where(*mine))
    contacts.verify(tx, request.channel, bytes(row.address))
    return Done()


def forget_old(tx: Transaction, before: datetime) -> int:
    """Removes codes that are worth nothing, and what counts for nothing any more."""
    tx.execute(delete(codes_a_day).where(codes_a_day.c.day < before.astimezone(SWEDEN).date()))
    return tx.execute(delete(address_codes).where(address_codes.c.sent_at < before)).rowcount


def _of(kind: str, person: str, channel: identity.Channel) -> tuple[Any, ...]:
    return (address_codes.c.kind == kind, address_codes.c.person == person, address_codes.c.channel == channel)


def _hash(key: NumberKey, kind: str, person: str, channel: str, code: str) -> bytes:
    return keyed_hash(key.key, f"code {kind} {person} {channel} {code}")
