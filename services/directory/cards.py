"""Contact cards: the public one, as last published, and the logged-in one, which the clinic's administrator writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy.dialects.postgresql import insert

from services.directory import clinics, rules
from services.directory.tables import cards, public_cards, units
from services.directory.tables import clinics as clinic_rows
from shared.contracts.base import HsaId, Role
from shared.contracts.directory import (
    CardAdministration,
    CaseTypeOnCard,
    ContactCard,
    ContactCardWritten,
    GetContactCard,
    GetPublicCards,
    NotShownCard,
    PublicCard,
    PublicCards,
    PublicOrderSet,
    SetPublicOrder,
    WriteContactCard,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, NotFound
from shared.operations.clock import SWEDEN

ORDER_NOTICE = (
    "Ärendetyperna visas i en annan ordning på 1177.se: en regional sortering gäller före mottagningens egen. "
    "Kontakta den regionala administratören för att ändra den."
)

CaseTypes = Sequence[CaseTypeOnCard]


# --- the public card ------------------------------------------------------------------------------------------------


def get_public(tx: Transaction, request: GetPublicCards) -> PublicCards:
    """The cards as last published; of those that have none, why (R-DIR-5, R-DIR-8)."""
    found = {row.hsa_id: row for row in tx.execute(with_cards().where(units.c.hsa_id.in_(request.clinics)))}
    shown, not_shown = [], []
    for clinic in dict.fromkeys(request.clinics):
        row = found.get(clinic)
        if row is not None and row.card is not None:
            shown.append(_published(row, tx))
        else:
            not_shown.append(why_not_shown(tx, clinic, row))
    return PublicCards(cards=shown, not_shown=not_shown)


def with_cards() -> Any:
    """Units, with what is known of them as clinics, what people have written, and the public card."""
    return (
        select(
            units,
            func.coalesce(clinic_rows.c.active, False).label("active"),
            clinic_rows.c.hsa_id.label("clinic"),
            cards.c.text,
            func.coalesce(cards.c.version, 0).label("card_version"),
            cards.c.updated_at,
            cards.c.regional_order,
            public_cards.c.card,
            public_cards.c.published_at,
        )
        .outerjoin(clinic_rows, clinic_rows.c.hsa_id == units.c.hsa_id)
        .outerjoin(cards, cards.c.clinic == units.c.hsa_id)
        .outerjoin(public_cards, public_cards.c.clinic == units.c.hsa_id)
    )


def _published(row: Row[Any], tx: Transaction) -> PublicCard:
    today = tx.now.astimezone(SWEDEN).date().isoformat()
    notices = [one for one in row.card["notices"] if one["first_day"] <= today <= one["last_day"]]
    return PublicCard.model_validate(row.card | {"notices": notices, "published_at": row.published_at})


def why_not_shown(tx: Transaction, clinic: HsaId, row: Row[Any] | None) -> NotShownCard:
    """What keeps a unit without a public card from having one."""
    reason, missing = reasons(tx, row) if row is not None else ("not_in_directory", [])
    return NotShownCard.model_validate(
        {"clinic": clinic, "reason": reason or "not_yet_published", "missing_attributes": missing}
    )


def reasons(tx: Transaction, row: Row[Any]) -> tuple[rules.NotShown | None, list[str]]:
    """Why the unit may have no public card, and which mandatory attributes it lacks."""
    missing = clinics.missing_attributes(row)
    warning = rules.warning(gone=rules.is_gone(row.missing_runs), end_date=row.end_date, now=tx.now)
    return rules.not_shown(active=row.active, warning=warning, missing=missing), missing


# --- the logged-in card ---------------------------------------------------------------------------------------------


def get_contact_card(tx: Transaction, request: GetContactCard, offered: CaseTypes | None) -> ContactCard:
    """The card as it is now (R-DIR-7, R-DIR-10); to the clinic's administrators also how it stands with the public one.

    `offered`: the case types, in the clinic's order; None: the cases service does not answer. Raises `NotFound` for
    what is no clinic; residents see active ones only.
    """
    row = tx.execute(with_cards().where(units.c.hsa_id == request.clinic)).one_or_none()
    if row is None or row.clinic is None or (tx.caller.kind == "resident" and not row.active):
        raise NotFound("Mottagningen finns inte.", reason="clinic_not_found")
    return ContactCard(
        clinic=row.hsa_id,
        name=row.name,
        place=row.place,
        active=row.active,
        text=row.text or "",
        version=row.card_version,
        updated_at=row.updated_at,
        case_types=list(offered or ()),
        case_types_known=offered is not None,
        administration=_administration(tx, row, offered or ()) if _administers(tx, request.clinic) else None,
    )


def _administers(tx: Transaction, clinic: HsaId) -> bool:
    rights = tx.caller.rights
    return tx.caller.kind == "staff" and (rights.is_regional_admin or Role.LOCAL_ADMIN in rights.roles_at(clinic))


def _administration(tx: Transaction, row: Row[Any], offered: CaseTypes) -> CardAdministration:
    reason, _ = reasons(tx, row)
    order = in_public_order(offered, row.regional_order)
    differs = order != list(offered)
    return CardAdministration(
        shown_publicly=row.card is not None,
        not_shown=why_not_shown(tx, row.hsa_id, row) if reason or row.card is None else None,
        published_at=row.published_at,
        order_differs=differs,
        order_notice=ORDER_NOTICE if differs else None,
        public_order=order,
    )


def in_public_order(offered: CaseTypes, regional: Sequence[UUID] | None) -> list[CaseTypeOnCard]:
    """The case types as the public card has them (R-DIR-9)."""
    by_id = {one.case_type: one for one in offered}
    return [by_id[one] for one in rules.public_order(list(by_id), regional)]


def write(tx: Transaction, request: WriteContactCard) -> ContactCardWritten:
    """Takes the text over. Raises `Forbidden`, `NotFound`, or `Conflict` if another has written since."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    version = _hold(tx, request.clinic)
    if version != request.version:
        raise Conflict("Kontaktkortet har ändrats av någon annan. Läs in det igen.", reason="card_changed")
    written = {"text": request.text, "version": version + 1, "updated_at": tx.now, "updated_by": tx.caller.subject}
    tx.execute(cards.update().where(cards.c.clinic == request.clinic).values(written))
    return ContactCardWritten(clinic=request.clinic, version=version + 1)


def set_public_order(tx: Transaction, request: SetPublicOrder) -> PublicOrderSet:
    """Sets or takes away the region's order; the public card has it from the next publication. Raises `Forbidden` or
    `NotFound`."""
    tx.caller.require_regional_admin()
    _hold(tx, request.clinic)
    order = list(dict.fromkeys(request.case_types)) or None
    ordered = {"regional_order": order, "ordered_at": tx.now, "ordered_by": tx.caller.subject}
    tx.execute(cards.update().where(cards.c.clinic == request.clinic).values(ordered))
    return PublicOrderSet(clinic=request.clinic)


def _hold(tx: Transaction, clinic: HsaId) -> int:
    """The clinic's row of what people have written, made if need be and held; the version of its text."""
    if tx.execute(select(clinic_rows.c.hsa_id).where(clinic_rows.c.hsa_id == clinic)).first() is None:
        raise NotFound("Mottagningen finns inte.", reason="clinic_not_found")
    tx.execute(insert(cards).values(clinic=clinic).on_conflict_do_nothing())
    return int(tx.execute(select(cards.c.version).where(cards.c.clinic == clinic).with_for_update()).scalar_one())
