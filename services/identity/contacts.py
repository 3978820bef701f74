"""How people want to be told that something has come: their addresses, which they have to verify, and their choices.

A row belongs to a member of staff, to a resident, or to a guardian for a child's inbox (kind `guardian`, person
`<guardian> <child>`). Which addresses are verified is kept for the person, whatever inbox they use them for (R-NOT-9).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from services.identity import resident_accounts, roles, rules
from services.identity.representation import guardians_of
from services.identity.resident_accounts import NumberKey
from services.identity.tables import contacts as table
from services.identity.tables import identity_numbers, verified_addresses
from services.identity.tables import residents as accounts
from shared.contracts import directory, identity
from shared.contracts.base import HsaId
from shared.messaging.errors import Invalid
from shared.operations.clock import SWEDEN
from shared.security.caller import Caller
from shared.security.sealing import keyed_hash

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

Owner = tuple[str, str]
"""Kind and person, as a row of settings has them."""

_MOBILE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
_CHANNELS: Mapping[str, identity.Channel] = {"email": "email", "mobile": "sms"}
FIELDS: Mapping[identity.Channel, str] = {"email": "email", "sms": "mobile"}
"""How the address of a channel is called."""


def owner_of(caller: Caller) -> Owner:
    """Whose settings the caller's are: their own, or theirs for the inbox of the child that they act for."""
    if caller.acting_for is not None:
        return "guardian", f"{caller.subject} {caller.acting_for}"
    return person_of(caller)


def person_of(caller: Caller) -> Owner:
    """Who reads what comes to the caller's addresses."""
    return ("staff" if caller.kind == "staff" else "resident"), caller.subject


def address_hash(key: NumberKey, channel: identity.Channel, address: str) -> bytes:
    """By what an address is found again; the letter case of a mail address does not matter."""
    return keyed_hash(key.key, f"address {channel} {address.casefold()}")


def addresses_in(request: identity.SetContact, kind: str) -> dict[str, str]:
    """The addresses given, in normal form, `email` and `mobile`.

    Raises `Invalid` for what can't be one, and for a way of being told that lacks its address.
    """
    addresses, faults = {}, []
    if request.email is not None:
        try:
            # Mail servers that take other letters before the @ are few, so notifications write to none.
            found = validate_email(request.email.strip(), check_deliverability=False, allow_smtputf8=False)
            addresses["email"] = found.normalized
        except EmailNotValidError:
            faults.append(("email", "är ingen e-postadress"))
    if request.mobile is not None:
        mobile = _mobile(request.mobile)
        if mobile is None:
            faults.append(("mobile", "är inget mobilnummer"))
        else:
            addresses["mobile"] = mobile
    if kind != "staff":  # staff have those of HSA
        lacking = {"email": request.email, "sms": request.mobile}
        faults += [("notify_by", f"{way} kräver en adress") for way in request.notify_by if lacking[way] is None]
        if request.tell_me_about:
            faults.append(("tell_me_about", "gäller bara personal"))
    if faults:
        raise Invalid(fields=faults)
    return addresses


def require_own(overlapping: Collection[str]) -> None:
    """Raises `Invalid` with reason `address_of_a_clinic` if a clinic has entered the address as its own (R-NOT-9)."""
    if overlapping:
        raise Invalid(
            "Adressen är en mottagnings egen och kan inte vara din personliga.",
            reason="address_of_a_clinic",
            fields=[("email", "är en mottagnings egen adress")],
        )


def set_contact(tx: Transaction, request: identity.SetContact, key: NumberKey) -> identity.ContactSet:
    """Keeps the caller's addresses and choices, in place of those before; says which are still to be verified.

    Raises `Invalid`, as `addresses_in`.
    """
    owner = owner_of(tx.caller)
    addresses = addresses_in(request, owner[0])
    values = {
        "addresses": tx.sealer.seal(json.dumps(addresses).encode(), _context(*owner)),
        "notify_by": sorted(set(request.notify_by)),
        "tell_me_about": sorted(set(request.tell_me_about)),
        "changed_at": tx.now,
    }
    version = tx.execute(
        insert(table)
        .values(kind=owner[0], person=owner[1], version=1, **values)
        .on_conflict_do_update(index_elements=["kind", "person"], set_={**values, "version": table.c.version + 1})
        .returning(table.c.version)
    ).scalar_one()
    _tell(tx, version)
    verified = _verified(tx, [person_of(tx.caller)])
    return identity.ContactSet(
        to_verify=[
            _CHANNELS[name]
            for name, address in addresses.items()
            if not _is_verified(verified, key, person_of(tx.caller), name, address)
        ]
    )


def set_by(tx: Transaction, owner: Owner) -> tuple[Row[Any] | None, dict[str, str]]:
    """What someone has set, and the addresses in it."""
    row = _rows(tx, owner[0], [owner[1]]).get(owner[1])
    return row, _open(tx, row)


def verify(tx: Transaction, channel: identity.Channel, hashed: bytes) -> None:
    """Notes that the caller has shown that this address of theirs is their own."""
    kind, person = person_of(tx.caller)
    row = {"kind": kind, "person": person, "channel": channel, "address": hashed, "verified_at": tx.now}
    tx.execute(insert(verified_addresses).values(row).on_conflict_do_nothing())
    own = owner_of(tx.caller)
    version = tx.execute(
        update(table)
        .where(table.c.kind == own[0], table.c.person == own[1])
        .values(version=table.c.version + 1)
        .returning(table.c.version)
    ).scalar_one()
    _tell(tx, version)


def is_verified(tx: Transaction, key: NumberKey, channel: identity.Channel, address: str) -> bool:
    """Whether the caller has shown that the address is their own."""
    person = person_of(tx.caller)
    return _is_verified(_verified(tx, [person]), key, person, FIELDS[channel], address)


def _tell(tx: Transaction, version: int) -> None:
    """For a guardian's choices, of the child, since it is the child's inbox that they are about."""
    person = str(tx.caller.acting_for) if tx.caller.acting_for else tx.caller.subject
    kind: identity.PersonKind = "staff" if tx.caller.kind == "staff" else "resident"
    tx.publish(
        identity.CONTACT_CHANGED,
        identity.ContactChanged(kind=kind, person=person, version=version),
        aggregate=f"contact {person}",
    )


# --- asked by notifications -----------------------------------------------------------------------------------------


def contacts(
    tx: Transaction, request: identity.Contacts, staff: Sequence[directory.StaffFacts], key: NumberKey
) -> identity.ContactsFound:
    """Addresses and choices as they are now, verified addresses only; `staff` is what the directory says of them."""
    return identity.ContactsFound(
        residents=_of_residents(tx, request.residents, key),
        staff=_of_staff(tx, staff, key),
    )


def own_mail(
    tx: Transaction, _request: object, staff: Sequence[directory.StaffFacts], key: NumberKey
) -> dict[HsaId, list[str]]:
    """The mail addresses that are each person's own: that of HSA, and the one that they have set and verified
    (R-NOT-9)."""
    rows = _rows(tx, "staff", [one.person for one in staff])
    verified = _verified(tx, [("staff", person) for person in rows])
    found = {}
    for one in staff:
        chosen = _usable(tx, rows.get(one.person), verified, key, ("staff", one.person)).get("email")
        found[one.person] = list(dict.fromkeys(address for address in (one.email, chosen) if address))
    return found


def _of_residents(tx: Transaction, asked: Sequence[UUID], key: NumberKey) -> list[identity.ResidentContact]:
    known = tx.execute(
        select(accounts.c.resident, accounts.c.active, identity_numbers.c.sealed)
        .join(identity_numbers, identity_numbers.c.resident == accounts.c.resident)
        .where(accounts.c.resident.in_(asked), identity_numbers.c.current)
    ).all()
    today = tx.now.astimezone(SWEDEN).date()
    children = [row.resident for row in known if rules.is_child(resident_accounts.opened_number(tx, row), today)]
    guardians = _of_guardians(tx, children, key) if children else {}
    rows = _rows(tx, "resident", [str(row.resident) for row in known])
    verified = _verified(tx, [("resident", person) for person in rows])
    found = []
    for row in known:
        chosen = rows.get(str(row.resident))
        addresses = _usable(tx, chosen, verified, key, ("resident", str(row.resident)))
        found.append(
            identity.ResidentContact(
                resident=row.resident,
                active=row.active,
                email=addresses.get("email"),
                mobile=addresses.get("mobile"),
                notify_by=list(chosen.notify_by) if chosen else [],
                guardians=guardians.get(row.resident),
                version=chosen.version if chosen else 0,
            )
        )
    return found


def _of_guardians(
    tx: Transaction, children: Sequence[UUID], key: NumberKey
) -> dict[UUID, list[identity.GuardianContact]]:
    """For each child those who may act for it now, with their choices for its inbox (R-NOT-8)."""
    acting = guardians_of(tx, children)
    rows = _rows(tx, "guardian", [f"{one.guardian} {one.child}" for one in acting])
    verified = _verified(tx, [("resident", str(one.guardian)) for one in acting])
    found: dict[UUID, list[identity.GuardianContact]] = {child: [] for child in children}
    for one in acting:
        chosen = rows.get(f"{one.guardian} {one.child}")
        addresses = _usable(tx, chosen, verified, key, ("resident", str(one.guardian)))
        found[one.child].append(
            identity.GuardianContact(
                guardian=one.guardian,
                email=addresses.get("email"),
                mobile=addresses.get("mobile"),
                notify_by=list(chosen.notify_by) if chosen else [],
                blocked_at=one.blocked_at,
                version=chosen.version if chosen else 0,
            )
        )
    return found


def _of_staff(tx: Transaction, staff: Sequence[directory.StaffFacts], key: NumberKey) -> list[identity.StaffContact]:
    rows = _rows(tx, "staff", [one.person for one in staff])
    verified = _verified(tx, [("staff", person) for person in rows])
    held = roles.held_by(tx, [one.person for one in staff])
    found = []
    for one in staff:
        chosen = rows.get(one.person)
        there = one.status == "fine"
        addresses = _usable(tx, chosen, verified, key, ("staff", one.person))
        found.append(
            identity.StaffContact(
                person=one.person,
                email=addresses.get("email", one.email) if there else None,
                mobile=addresses.get("mobile", one.mobile) if there else None,
                notify_by=list(chosen.notify_by) if chosen else [],
                tell_me_about=list(chosen.tell_me_about) if chosen else [],
                roles=held.get(one.person, []),
                version=chosen.version if chosen else 0,
                own_emails=list(dict.fromkeys(email for email in (addresses.get("email"), one.email) if email)),
            )
        )
    return found


def _rows(tx: Transaction, kind: str, people: Iterable[str]) -> dict[str, Row[Any]]:
    rows = tx.execute(select(table).where(table.c.kind == kind, table.c.person.in_(list(people))))
    return {row.person: row for row in rows}


def _verified(tx: Transaction, people: Sequence[Owner]) -> set[tuple[str, str, str, bytes]]:
    """Kind, person, channel and address hash of all that these have verified."""
    which = verified_addresses.c
    query = select(which.kind, which.person, which.channel, which.address)
    rows = tx.execute(query.where(which.person.in_({person for _, person in people})))
    return {(row.kind, row.person, row.channel, bytes(row.address)) for row in rows}


def _is_verified(
    verified: Collection[tuple[str, str, str, bytes]], key: NumberKey, person: Owner, name: str, address: str
) -> bool:
    channel = _CHANNELS[name]
    return (*person, channel, address_hash(key, channel, address)) in verified


def _usable(
    tx: Transaction,
    row: Row[Any] | None,
    verified: Collection[tuple[str, str, str, bytes]],
    key: NumberKey,
    person: Owner,
) -> dict[str, str]:
    addresses = _open(tx, row)
    return {name: one for name, one in addresses.items() if _is_verified(verified, key, person, name, one)}


def _open(tx: Transaction, row: Row[Any] | None) -> dict[str, str]:
    if row is None:
        return {}
    opened: dict[str, str] = json.loads(tx.sealer.open(row.addresses, _context(row.kind, row.person)))
    return opened


def _context(kind: str, person: str) -> bytes:
    return f"contact {kind} {person}".encode()


def _mobile(text: str) -> str | None:
    """The number in E.164, or None; without a country code it is taken to be Swedish."""
    try:
        number = phonenumbers.parse(text, "SE")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in _MOBILE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
