"""What identity itself holds about a resident, for the subject access report (R-ID-19).

Clinics are told with what they have decided, and not who of their staff did it: that is about the staff.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, or_, select

from services.identity import contacts, resident_accounts, residents
from services.identity.tables import (
    accepted_terms,
    address_codes,
    approvals,
    blocked_guardians,
    guardianships,
    identity_numbers,
    linked_accounts,
    listings,
    my_clinics,
    report_parts,
    reports,
    sessions,
    taken_apart,
    unreachable_addresses,
    verified_addresses,
)
from services.identity.tables import contacts as contact_rows
from services.identity.tables import residents as accounts
from shared.contracts.subject_access import Held, HeldValue

if TYPE_CHECKING:
    from shared.database.transaction import Transaction


_PLACE = frozenset({"Gatuadress", "Postnummer", "Ort", "Länskod", "Kommunkod"})


def without_place(held: Held) -> Held:
    """The same without where someone lives: for a person who has become protected since it was gathered (R-ID-14)."""
    return held.model_copy(update={"values": [one for one in held.values if one.name not in _PLACE]})


def of(tx: Transaction, resident: UUID) -> list[Held]:
    """All of it. Of a protected person's place there is nothing to tell, since nothing is kept (R-ID-14)."""
    return [
        *_account(tx, resident),
        *_numbers(tx, resident),
        *_choices(tx, resident),
        *_sessions(tx, resident),
        *_clinics(tx, resident),
        *_family(tx, resident),
    ]


def _account(tx: Transaction, resident: UUID) -> Iterator[Held]:
    row = tx.execute(select(accounts).where(accounts.c.resident == resident)).one()
    told = residents.particulars(tx, row)
    yield _held(
        "Konto",
        row.created_at,
        Id=str(resident),
        Förnamn=told.given_name,
        Efternamn=told.surname,
        Gatuadress=told.street,
        Postnummer=told.postal_code,
        Ort=told.city,
        Länskod=told.county_code,
        Kommunkod=told.municipality_code,
        Skyddade_personuppgifter="ja" if row.protected else "nej",
        Aktivt="ja" if row.active else "nej",
        Låst=row.locked_at,
        Hämtat_från_folkbokföringen=row.looked_up_at,
    )
    terms = select(accepted_terms).where(accepted_terms.c.kind == "resident", accepted_terms.c.person == str(resident))
    for one in tx.execute(terms):
        yield _held("Godkända villkor", one.accepted_at, Version=one.version)
    parts = (
        select(reports.c.report, reports.c.requested_at, report_parts)
        .join(report_parts, report_parts.c.report == reports.c.report)
        .where(reports.c.resident == resident)
        .order_by(reports.c.requested_at, report_parts.c.care_provider)
    )
    for one in tx.execute(parts):
        yield _held(
            "Registerutdrag",
            one.requested_at,
            Id=str(one.report),
            Vårdgivare=one.care_provider or None,
            Utlämnat=one.released_at,
        )


def _numbers(tx: Transaction, resident: UUID) -> Iterator[Held]:
    rows = tx.execute(select(identity_numbers).where(identity_numbers.c.resident == resident))
    for row in rows:
        yield _held(
            "Identitetsnummer",
            row.added_at,
            Nummer=resident_accounts.opened_number(tx, row),
            Gäller="ja" if row.current else "nej",
        )
    for row in tx.execute(select(linked_accounts).where(linked_accounts.c.resident == resident)):
        yield _held("Konton som är samma persons", row.linked_at, Id=str(resident))
    own = select(identity_numbers.c.hash).where(identity_numbers.c.resident == resident)
    concerned = or_(taken_apart.c.resident == resident, taken_apart.c.other == resident, taken_apart.c.number.in_(own))
    for row in tx.execute(select(taken_apart).where(concerned).order_by(taken_apart.c.seq)):
        yield _held("Skilt från en annan persons konto", row.at, Vad="nummer" if row.other is None else "konto")


def _choices(tx: Transaction, resident: UUID) -> Iterator[Held]:
    for row in tx.execute(select(contact_rows).where(_of(contact_rows, resident))):
        addresses = contacts.set_by(tx, (row.kind, row.person))[1]
        yield _held(
            "Kontaktuppgifter" if row.kind == "resident" else "Kontaktuppgifter för barns inkorg",
            row.changed_at,
            Barn=_child_of(row.person),
            E_post=addresses.get("email"),
            Mobil=addresses.get("mobile"),
            Aviseras_via=", ".join(row.notify_by) or None,
        )
    for row in tx.execute(select(verified_addresses).where(_of(verified_addresses, resident))):
        yield _held("Bekräftade adresser", row.verified_at, Slag=row.channel)
    for row in tx.execute(select(address_codes).where(_of(address_codes, resident))):
        yield _held(
            "Koder för att bekräfta en adress",
            row.sent_at,
            Slag=row.channel,
            Barn=_child_of(row.person),
            Försök=row.attempts,
            Skickade=row.sent,
            Räknat_från=row.counted_from,
        )
    for row in tx.execute(select(unreachable_addresses).where(_of(unreachable_addresses, resident))):
        yield _held("Adresser som inte kunde nås", row.noted_at, Slag=row.channel, Barn=_child_of(row.person))


def _of(table: Table, resident: UUID) -> ColumnElement[bool]:
    """The rows that are someone's own, and those that they have as a guardian, for the inbox of a child."""
    own = (table.c.kind == "resident") & (table.c.person == str(resident))
    return or_(own, (table.c.kind == "guardian") & table.c.person.startswith(f"{resident} "))


def _child_of(person: str) -> str | None:
    return person.partition(" ")[2] or None


def _sessions(tx: Transaction, resident: UUID) -> Iterator[Held]:
    mine = (sessions.c.kind == "resident") & (sessions.c.subject == str(resident))
    for row in tx.execute(select(sessions).where(or_(mine, sessions.c.acting_for == resident))):
        yield _held(
            "Inloggningar" if row.subject == str(resident) else "Inloggningar av ombud för dig",
            row.started_at,
            Id=str(row.session),
            Barn=str(row.acting_for) if row.acting_for not in (None, resident) else None,
            Senast_förnyad=row.renewed_at,
            Längst_till=row.ends_at,
            Avslutad=row.ended_at,
            Orsak=row.end_reason,
        )


def _clinics(tx: Transaction, resident: UUID) -> Iterator[Held]:
    for row in tx.execute(select(my_clinics).where(my_clinics.c.resident == resident)):
        yield _held("Mina mottagningar", row.added_at, Mottagning=row.clinic)
    own = select(identity_numbers.c.hash).where(identity_numbers.c.resident == resident)
    for row in tx.execute(select(listings).where(listings.c.number.in_(own)).order_by(listings.c.as_of)):
        yield _held("Vårdval", row.as_of, Mottagning=row.clinic or "ingen", Mottaget=row.imported_at)
    for row in tx.execute(select(approvals).where(approvals.c.number.in_(own))):
        yield _held(
            "Godkännanden för kommunikation",
            row.approved_at,
            Mottagning=row.clinic,
            Till_och_med=row.last_day.isoformat() if row.last_day else None,
            Ärendetyper=json.dumps([str(one) for one in row.case_types]) if row.case_types else None,
            Borttaget=row.withdrawn_at,
        )


def _family(tx: Transaction, resident: UUID) -> Iterator[Held]:
    for row in tx.execute(
        select(guardianships).where(or_(guardianships.c.guardian == resident, guardianships.c.child == resident))
    ):
        yield _held(
            "Vårdnad",
            row.confirmed_at,
            Du_är="vårdnadshavare" if row.guardian == resident else "barn",
            Den_andres_id=str(row.child if row.guardian == resident else row.guardian),
            Till_och_med_dagen_före=row.ends_on.isoformat(),
            Upphört=row.ended_at,
        )
    own = set(tx.execute(select(identity_numbers.c.hash).where(identity_numbers.c.resident == resident)).scalars())
    for row in tx.execute(
        select(blocked_guardians).where(or_(blocked_guardians.c.guardian.in_(own), blocked_guardians.c.child.in_(own)))
    ):
        blocked = row.guardian in own
        yield _held(
            "Spärrade ombud",
            row.blocked_at,
            Du_är="ombud" if blocked else "barn",
            # Not told to the guardian: it is where the child is to be found (R-ID-13).
            Mottagning=None if blocked else row.clinic,
            Hävt=row.lifted_at,
        )


def _held(kind: str, at: datetime | None, **values: Any) -> Held:
    return Held(
        kind=kind,
        at=at,
        values=[
            HeldValue(
                name=name.replace("E_post", "E-post").replace("_", " "),
                value=value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value),
            )
            for name, value in values.items()
            if value is not None
        ],
    )
