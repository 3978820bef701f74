"""Units of the directory, as rows of the copy; and what is told of those that are clinics when a run changes them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, text

from services.directory import parsing, records, tables
from services.directory.loading import Kind
from services.directory.records import Raw, Unit
from services.directory.tables import clinics
from shared.contracts.directory import CLINIC_RENAMED, ClinicChanged
from shared.database.transaction import Transaction

_SORTED_BY = 200
"""Characters of a name that count for its order: an index keeps no longer values than 2.7 KB."""
_COLUMNS = (
    "hsa_id",
    "dn",
    "kind",
    "name",
    "place",
    "county_code",
    "municipality_code",
    "care_provider",
    "rt90_x",
    "rt90_y",
    "business_types",
    "care_types",
    "destinations",
    "start_date",
    "end_date",
    "details",
    "attributes",
    "refused",
    "sort_name",
    "search",
)


def _row(unit: Unit, raw: Raw, _tx: Transaction) -> tuple[Any, ...]:
    search = parsing.folded(" ".join(filter(None, (unit.name, unit.place, unit.details.get("short_name")))))
    return (
        unit.hsa_id,
        unit.dn,
        unit.kind,
        unit.name,
        unit.place,
        unit.county_code,
        unit.municipality_code,
        unit.care_provider,
        unit.coordinates.x if unit.coordinates else None,
        unit.coordinates.y if unit.coordinates else None,
        list(unit.business_types),
        list(unit.care_types),
        list(unit.destinations),
        unit.start_date,
        unit.end_date,
        _json(unit.details),
        _json(parsing.storable(raw.attributes)),
        _json(refused_parts(unit.refused)),
        parsing.folded(unit.name)[:_SORTED_BY],
        f"{search} {unit.hsa_id.casefold()}",
    )


def _json(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value is not None else None


def refused_parts(parts: tuple[records.RefusedPart, ...]) -> list[dict[str, str]] | None:
    """As they are kept with their object; None if there are none."""
    return [{"field": one.field, "reason": one.reason, "value": one.value} for one in parts] or None


def _with_other_names(tx: Transaction) -> list[str]:
    """Units whose names are about to change."""
    new = text(
        "SELECT units.hsa_id FROM units JOIN staged_units AS new ON new.hsa_id = units.hsa_id"
        " WHERE new.name <> units.name"
    )
    return list(tx.execute(new).scalars())


def _renamed(tx: Transaction, ids: list[str]) -> None:
    """A clinic takes over its unit's new name by itself (R-DIR-2)."""
    if not ids:
        return
    query = select(clinics.c.hsa_id, clinics.c.version).where(clinics.c.hsa_id == text("ANY(:ids)"), clinics.c.active)
    for row in tx.execute(query.order_by(clinics.c.hsa_id).with_for_update(), {"ids": ids}).all():
        version = row.version + 1
        tx.execute(clinics.update().where(clinics.c.hsa_id == row.hsa_id).values(version=version))
        tx.publish(CLINIC_RENAMED, ClinicChanged(clinic=row.hsa_id, version=version), aggregate=row.hsa_id)


def _back(tx: Transaction, ids: list[str]) -> None:
    if ids:
        again = text(
            "UPDATE units SET missing_runs = 0, version = version + 1, changed_at = :now WHERE hsa_id = ANY(:ids)"
        )
        tx.execute(again, {"ids": ids, "now": tx.now})


def _gone(tx: Transaction, ids: list[str]) -> int:
    gone = text("UPDATE units SET version = version + 1, changed_at = :now WHERE hsa_id = ANY(:ids)")
    return tx.execute(gone, {"ids": ids, "now": tx.now}).rowcount


UNITS = Kind(
    part="units",
    table=tables.units,
    parse=records.unit,
    columns=_COLUMNS,
    row=_row,
    before_merge=_with_other_names,
    after_merge=_renamed,
    gone=_gone,
    back=_back,
)
