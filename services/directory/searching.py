"""Finding units and clinics (R-DIR-11), for residents those that they may turn to (R-DIR-13, R-ID-15, R-ID-22)."""

from __future__ import annotations

import base64
import json
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Select, func, select, tuple_

from services.directory import parsing, rules
from services.directory.tables import clinics, units
from shared.contracts.directory import FoundClinic, FoundClinics, SearchClinics
from shared.contracts.identity import MANY
from shared.database.transaction import Transaction
from shared.messaging.errors import Invalid

_CANDIDATES_FOR_EACH = 5
"""So many times as many as a resident's page holds are looked at for it: some may not be open to them."""


@dataclass(frozen=True)
class Hits:
    """What holds every word of the text, in order. `more`: there are others."""

    clinics: list[FoundClinic]
    sort_names: list[str]
    more: bool

    def cursor_behind(self, place: int) -> str:
        """The cursor by which a page begins behind this one of them."""
        return base64.urlsafe_b64encode(
            json.dumps([self.sort_names[place], self.clinics[place].clinic], ensure_ascii=False).encode()
        ).decode()


def search(tx: Transaction, request: SearchClinics) -> FoundClinics:
    """A page for staff: of units, or of active clinics. Units that are gone from the directory are found only as
    clinics. Raises `Invalid` for a cursor that is none."""
    active = func.coalesce(clinics.c.active, False)
    which = clinics.c.active if request.active_only else active | (units.c.missing_runs < rules.RUNS_UNTIL_GONE)
    hits = _hits(tx, request, which, request.limit)
    return FoundClinics(clinics=hits.clinics, after=hits.cursor_behind(-1) if hits.more else None)


def for_resident(tx: Transaction, request: SearchClinics) -> Hits:
    """Active clinics, open to the resident or not; `page` makes the answer. Raises `Invalid` likewise."""
    return _hits(tx, request, clinics.c.active, min(MANY, request.limit * _CANDIDATES_FOR_EACH))


def page(hits: Hits, limit: int, open_to_resident: Set[str]) -> FoundClinics:
    """Those of the hits that are open, at most `limit`. The next page goes on where this one stopped looking."""
    places = [place for place, one in enumerate(hits.clinics) if one.clinic in open_to_resident]
    shown = [hits.clinics[place] for place in places[:limit]]
    if len(places) > limit:
        return FoundClinics(clinics=shown, after=hits.cursor_behind(places[limit - 1]))
    return FoundClinics(clinics=shown, after=hits.cursor_behind(-1) if hits.more else None)


def _hits(tx: Transaction, request: SearchClinics, which: Any, at_most: int) -> Hits:
    active = func.coalesce(clinics.c.active, False)
    query = (
        select(units.c.hsa_id, units.c.name, units.c.place, units.c.sort_name, units.c.missing_runs, units.c.end_date)
        .add_columns(units.c.county_code, units.c.municipality_code, active.label("active"))
        .outerjoin(clinics, clinics.c.hsa_id == units.c.hsa_id)
        .where(which)
        .order_by(units.c.sort_name, units.c.hsa_id)
        .limit(at_most + 1)
    )
    for word in parsing.folded(request.text).split():
        query = query.where(units.c.search.like("%" + _literally(word) + "%"))
    rows = tx.execute(_behind(query, request.after)).all()
    found = [
        FoundClinic(
            clinic=row.hsa_id,
            name=row.name,
            place=row.place,
            active=row.active,
            warning=rules.warning(gone=rules.is_gone(row.missing_runs), end_date=row.end_date, now=tx.now),
            county_code=row.county_code,
            municipality_code=row.municipality_code,
        )
        for row in rows[:at_most]
    ]
    return Hits(found, [row.sort_name for row in rows[:at_most]], len(rows) > at_most)


def _literally(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_PLACE: TypeAdapter[tuple[str, str]] = TypeAdapter(tuple[str, str])
"""Sort name and HSA-id, of which a cursor is made."""


def _behind(query: Select[Any], cursor: str | None) -> Select[Any]:
    if cursor is None:
        return query
    try:
        name, hsa_id = _PLACE.validate_json(base64.urlsafe_b64decode(cursor.encode()), strict=True)
        if "\0" in name + hsa_id:
            raise ValueError
    except ValueError:
        raise Invalid(fields=[("after", "är ingen giltig fortsättning")]) from None
    return query.where(tuple_(units.c.sort_name, units.c.hsa_id) > tuple_(name, hsa_id))
