"""How people want to be told that something has come: residents' own addresses, and everybody's choices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert

from services.identity import roles
from services.identity.tables import contacts as table
from services.identity.tables import residents
from shared.contracts import directory, identity
from shared.contracts.base import Done
from shared.messaging.errors import Invalid

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_MOBILE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)


def set_contact(tx: Transaction, request: identity.SetContact) -> Done:
    """Keeps the caller's addresses and choices, in place of those before.

    Raises `Invalid` for an address that can't be one, for a way of being told that lacks its address, and for staff who
    give addresses: theirs come from HSA (R-NOT-9).
    """
    addresses = _for_staff(request) if tx.caller.kind == "staff" else _for_resident(request)
    kind = "staff" if tx.caller.kind == "staff" else "resident"
    values = {
        "addresses": tx.sealer.seal(json.dumps(addresses).encode(), _context(kind, tx.caller.subject)),
        "notify_by": sorted(set(request.notify_by)),
        "tell_me_about": sorted(set(request.tell_me_about)),
        "changed_at": tx.now,
    }
    version = tx.execute(
        insert(table)
        .values(kind=kind, person=tx.caller.subject, version=1, **values)
        .on_conflict_do_update(index_elements=["kind", "person"], set_={**values, "version": table.c.version + 1})
        .returning(table.c.version)
    ).scalar_one()
    tx.publish(
        identity.CONTACT_CHANGED,
        identity.ContactChanged(kind=kind, person=tx.caller.subject, version=version),
        aggregate=f"contact {tx.caller.subject}",
    )
    return Done()


def contacts(
    tx: Transaction, request: identity.Contacts, staff: Sequence[directory.StaffFacts]
) -> identity.ContactsFound:
    """Addresses and choices as they are now; `staff` is what the directory says of those asked for."""
    return identity.ContactsFound(
        residents=_of_residents(tx, request.residents),
        staff=_of_staff(tx, staff),
    )


def _of_residents(tx: Transaction, asked: Sequence[UUID]) -> list[identity.ResidentContact]:
    known = tx.execute(select(residents.c.resident, residents.c.active).where(residents.c.resident.in_(asked))).all()
    rows = _rows(tx, "resident", [str(row.resident) for row in known])
    found = []
    for row in known:
        set_by = rows.get(str(row.resident))
        addresses = _open(tx, set_by)
        found.append(
            identity.ResidentContact(
                resident=row.resident,
                active=row.active,
                email=addresses.get("email"),
                mobile=addresses.get("mobile"),
                notify_by=list(set_by.notify_by) if set_by else [],
                version=set_by.version if set_by else 0,
            )
        )
    return found


def _of_staff(tx: Transaction, staff: Sequence[directory.StaffFacts]) -> list[identity.StaffContact]:
    rows = _rows(tx, "staff", [one.person for one in staff])
    held = roles.held_by(tx, [one.person for one in staff])
    found = []
    for one in staff:
        set_by = rows.get(one.person)
        there = one.status == "fine"
        found.append(
            identity.StaffContact(
                person=one.person,
                email=one.email if there else None,
                mobile=one.mobile if there else None,
                notify_by=list(set_by.notify_by) if set_by else [],
                tell_me_about=list(set_by.tell_me_about) if set_by else [],
                roles=held.get(one.person, []),
                version=set_by.version if set_by else 0,
            )
        )
    return found


def _rows(tx: Transaction, kind: identity.PersonKind, people: Iterable[str]) -> dict[str, Row[Any]]:
    rows = tx.execute(select(table).where(table.c.kind == kind, table.c.person.in_(list(people))))
    return {row.person: row for row in rows}


def _open(tx: Transaction, row: Row[Any] | None) -> dict[str, str]:
    if row is None:
        return {}
    opened: dict[str, str] = json.loads(tx.sealer.open(row.addresses, _context(row.kind, row.person)))
    return opened


def _context(kind: str, person: str) -> bytes:
    return f"contact {kind} {person}".encode()


def _for_staff(request: identity.SetContact) -> dict[str, str]:
    given = [(name, "hämtas från HSA") for name in ("email", "mobile") if getattr(request, name) is not None]
    if given:
        raise Invalid("Dina adresser hämtas från HSA.", fields=given)
    return {}


def _for_resident(request: identity.SetContact) -> dict[str, str]:
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
    lacking = {"email": request.email, "sms": request.mobile}
    faults += [("notify_by", f"{way} kräver en adress") for way in request.notify_by if lacking[way] is None]
    if request.tell_me_about:
        faults.append(("tell_me_about", "gäller bara personal"))
    if faults:
        raise Invalid(fields=faults)
    return addresses


def _mobile(text: str) -> str | None:
    """The number in E.164, or None; without a country code it is taken to be Swedish."""
    try:
        number = phonenumbers.parse(text, "SE")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in _MOBILE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
