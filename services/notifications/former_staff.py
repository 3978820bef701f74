"""Who has worked at a clinic and holds no role there now: which of its addresses are still theirs (R-ID-10)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.notifications import addresses, rules
from services.notifications.tables import clinic_addresses, clinic_staff
from shared.contracts import identity
from shared.contracts.base import HsaId
from shared.contracts.notifications import ClinicSettings, GetClinicSettings
from shared.database.transaction import Transaction

_FORMER = text(
    """SELECT person FROM clinic_staff WHERE clinic = :clinic AND NOT EXISTS (
           SELECT 1 FROM rights_subjects WHERE subject = person AND roles @> CAST(:here AS jsonb)) ORDER BY person"""
)
_NOTE_WHO_LEFT = text(
    """UPDATE clinic_staff SET left_at = CASE WHEN left_at IS NULL THEN CAST(:now AS timestamptz) END
       WHERE (left_at IS NULL) <> EXISTS (
           SELECT 1 FROM rights_subjects
           WHERE subject = person AND roles @> jsonb_build_array(jsonb_build_object('clinic', clinic_staff.clinic)))"""
)


def former_staff(tx: Transaction, request: GetClinicSettings) -> list[HsaId]:
    """Those who have held a role at the clinic, and hold none there now, by this service's copy of the rights."""
    here = f'[{{"clinic": "{request.clinic}"}}]'  # an HsaId holds no character that JSON would escape
    return list(tx.execute(_FORMER, {"clinic": request.clinic, "here": here}).scalars())


def note_staff(tx: Transaction, change: identity.RightsChanged) -> None:
    """Remembers where someone holds a role, for when they hold it no more."""
    rows = [{"clinic": clinic, "person": change.subject} for clinic in sorted({one.clinic for one in change.roles})]
    if rows:
        back = insert(clinic_staff).on_conflict_do_update(
            index_elements=["clinic", "person"], set_={"left_at": None}, where=clinic_staff.c.left_at.is_not(None)
        )
        tx.execute(back, rows)


def of_former_staff(settings: ClinicSettings, former: Iterable[identity.StaffContact]) -> list[str]:
    """The addresses that are one of these's own: they stay until an administrator removes them (R-NOT-5)."""
    own = {addresses.compared(email) for person in former for email in person.own_emails}
    entered = dict.fromkeys(settings.new_case_addresses + settings.reminder_addresses)
    return [address for address in entered if addresses.compared(address) in own]


def forget(run: Any) -> int:
    """Removes those who left a clinic long ago, but for those of whom it still has an address: its administrators are
    told of that for as long as it gets mail (R-ID-10). Returns how many.

    If identity does not answer the run fails, and is tried again.
    """
    long_ago = run.now - rules.FORMER_STAFF_IS_KEPT
    with run.transaction() as tx:
        tx.execute(_NOTE_WHO_LEFT, {"now": run.now})
    removed, key = 0, tuple_(clinic_staff.c.clinic, clinic_staff.c.person)
    after = ("", "")
    while not run.stopping.is_set():
        with run.transaction() as tx:
            query = select(clinic_staff.c.clinic, clinic_staff.c.person).where(
                clinic_staff.c.left_at < long_ago, key > tuple_(*after)
            )
            lot = [tuple(row) for row in tx.execute(query.order_by(*key).limit(identity.MANY))]
        if not lot:
            break
        people = sorted({person for _, person in lot})
        found = run.ask(identity.CONTACTS, identity.Contacts(staff=people)).staff
        with run.transaction() as tx:
            entered = _with_an_address(tx, lot, {one.person: one.own_emails for one in found})
            gone = [one for one in lot if one not in entered]
            # Not one who has come back meanwhile.
            forgotten = delete(clinic_staff).where(key.in_(gone), clinic_staff.c.left_at < long_ago)
            removed += tx.execute(forgotten).rowcount
        after = lot[-1]
    return removed


def _with_an_address(
    tx: Transaction, some: Iterable[tuple[Any, ...]], emails: dict[HsaId, list[str]]
) -> set[tuple[Any, ...]]:
    """Those, of pairs of clinic and person, of whom the clinic has entered an address."""
    some = list(some)
    query = select(clinic_addresses.c.clinic, clinic_addresses.c.address_hash).where(
        clinic_addresses.c.clinic.in_({clinic for clinic, _ in some})
    )
    entered = {(row.clinic, bytes(row.address_hash)) for row in tx.execute(query)}
    own = {person: addresses.mail_hashes(tx.settings.address_key, theirs) for person, theirs in emails.items()}
    return {
        (clinic, person)
        for clinic, person in some
        if any((clinic, hashed) in entered for hashed in own.get(person, {}).values())
    }
