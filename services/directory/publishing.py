"""Publishing the public contact cards, at 10, 14 and 21 Swedish time (R-DIR-8): what KiV says, and our case types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.postgresql import insert

from services.directory import cards
from services.directory.tables import clinics, public_cards, units
from shared.contracts.directory import CaseTypeOnCard
from shared.database.transaction import Transaction
from shared.operations.clock import SWEDEN

AT = ("10:00", "14:00", "21:00")
"""Swedish time, summer and winter."""
_AT_A_TIME = 200

Transactions = Callable[[], AbstractContextManager[Transaction]]
Offered = Mapping[str, list[CaseTypeOnCard]]
AskOffered = Callable[[Sequence[str]], Offered]
"""The case types that each of these clinics offers now. Raises `Unavailable`: then it is published later."""

_PHONES = {
    "public": "public_phone",
    "text": "text_phone",
    "sms": "sms",
    "switchboard": "switchboard",
    "fax": "fax",
}
_HOURS = {"surgery": "surgery_hours", "phone": "phone_hours", "drop_in": "drop_in_hours", "visiting": "visiting_hours"}
_ADDRESSES = {"street": "street_address", "postal": "postal_address"}


@dataclass
class Published:
    """How many cards were new or changed, and how many were taken away."""

    changed: int = 0
    removed: int = 0


def publish(transactions: Transactions, offered: AskOffered) -> Published:
    """Publishes what has changed since last time. Case types are asked for outside the transactions; a failure leaves
    what was published before as whole cards, and the rest for the next attempt."""
    done = Published()
    for some in _in_portions(transactions):
        case_types = offered(some)
        with transactions() as tx:
            _publish(tx, some, case_types, done)
    return done


def _in_portions(transactions: Transactions) -> Iterator[list[str]]:
    """Active clinics, and those that have a card."""
    last = ""
    while True:
        with transactions() as tx:
            query = (
                select(clinics.c.hsa_id)
                .outerjoin(public_cards, public_cards.c.clinic == clinics.c.hsa_id)
                .where(clinics.c.hsa_id > last, clinics.c.active | public_cards.c.clinic.is_not(None))
                .order_by(clinics.c.hsa_id)
                .limit(_AT_A_TIME)
            )
            some = list(tx.execute(query).scalars())
        if not some:
            return
        yield some
        last = some[-1]


def _publish(tx: Transaction, some: Sequence[str], offered: Offered, done: Published) -> None:
    changed, removed = [], []
    for row in tx.execute(cards.with_cards().where(units.c.hsa_id.in_(some))):
        reason, _ = cards.reasons(tx, row)
        if reason is not None:
            if row.card is not None:
                removed.append(row.hsa_id)
            continue
        card = public_card(row, cards.in_public_order(offered.get(row.hsa_id, ()), row.regional_order), tx)
        if card != row.card:
            changed.append({"clinic": row.hsa_id, "card": card, "published_at": tx.now})
    if changed:
        publishing = insert(public_cards).values(changed)
        new = {"card": publishing.excluded.card, "published_at": publishing.excluded.published_at}
        tx.execute(publishing.on_conflict_do_update(index_elements=["clinic"], set_=new))
    if removed:
        tx.execute(delete(public_cards).where(public_cards.c.clinic.in_(removed)))
    done.changed += len(changed)
    done.removed += len(removed)


def public_card(unit: Row[Any], case_types: Sequence[CaseTypeOnCard], tx: Transaction) -> dict[str, Any]:
    """The card as it is kept: all but the moment of publication. Temporary information that is over is left out."""
    details = unit.details
    today = tx.now.astimezone(SWEDEN).date().isoformat()
    return {
        "clinic": unit.hsa_id,
        "name": unit.name,
        "place": unit.place,
        "county_code": unit.county_code,
        "municipality_code": unit.municipality_code,
        "position": _position(unit),
        "phones": {kind: details[name] for kind, name in _PHONES.items() if details.get(name)},
        "hours": {kind: details[name] for kind, name in _HOURS.items() if details.get(name)},
        "addresses": {kind: details[name] for kind, name in _ADDRESSES.items() if details.get(name)},
        "email": details.get("email", []),
        "links": details.get("links", []),
        "description": details.get("description"),
        "route": details.get("route"),
        "visiting_rules": details.get("visiting_rules"),
        "referral": details.get("referral"),
        "care_types": unit.care_types,
        "business_types": unit.business_types,
        "notices": [one for one in details.get("notices", []) if today <= one["last_day"]],
        "case_types": [one.model_dump(mode="json") for one in case_types],
    }


def _position(unit: Row[Any]) -> dict[str, float] | None:
    if unit.rt90_x is None or unit.rt90_y is None or "position" not in unit.details:
        return None
    return {"rt90_x": unit.rt90_x, "rt90_y": unit.rt90_y, **unit.details["position"]}
