"""The signature under a reply: the personal one, else made of what the directory says of the sender (R-CASE-11)."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from services.cases.tables import signatures
from shared.contracts.base import Command, Done, HsaId, Query
from shared.contracts.case_desk import SetSignature
from shared.database.transaction import Transaction

_SIGNATURE = b"SELECT text FROM signatures WHERE person = %s"


def name_and_signature(given_name: str | None, surname: str | None, title: str | None) -> tuple[str, str]:
    """`("Karin Ek", "Karin Ek, läkare")`; parts that the directory lacks are left out."""
    name = " ".join(part.strip() for part in (given_name, surname) if part and part.strip())
    signature = ", ".join(part for part in (name, (title or "").strip()) if part)
    return name, signature


def set_signature(tx: Transaction, request: SetSignature) -> Done:
    """Keeps the caller's personal signature, or removes it. What has been sent keeps its own."""
    person = tx.caller.subject
    if request.text is None:
        tx.execute(delete(signatures).where(signatures.c.person == person))
    else:
        row = {"person": person, "text": request.text, "changed_at": tx.now}
        tx.execute(insert(signatures).values(row).on_conflict_do_update(index_elements=["person"], set_=row))
    return Done()


def personal_signature(tx: Transaction, _request: Query | Command | None = None) -> str | None:
    """What the caller has written, if they have."""
    return signature_of(tx, tx.caller.subject)


def signature_of(tx: Transaction, person: HsaId) -> str | None:
    """The personal signature that someone has written, if they have."""
    found = tx.look(_SIGNATURE, (person,))
    return str(found[0][0]) if found else None
