"""Clinics: units of the directory that are active in the e-services, and their facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.dialects.postgresql import insert

from services.directory import rules
from services.directory.tables import clinics, units
from shared.contracts.base import HsaId
from shared.contracts.directory import (
    CLINIC_ACTIVATED,
    ActivateClinic,
    ClinicActivated,
    ClinicChanged,
    ClinicFacts,
    Clinics,
    GetClinics,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Invalid, NotFound

# --- activation (R-DIR-3) -------------------------------------------------------------------------------------------


def usable_unit(tx: Transaction, clinic: HsaId) -> Row[Any]:
    """The unit, held until the transaction ends. Raises `NotFound` for an id that is not in the directory now, or
    `Conflict` where the end date has passed."""
    unit = tx.execute(select(units).where(units.c.hsa_id == clinic).with_for_update()).one_or_none()
    if unit is None or rules.is_gone(unit.missing_runs):
        raise NotFound("Enheten finns inte i katalogen.", reason="unit_not_found")
    if rules.has_ended(unit.end_date, tx.now):
        raise Conflict("Enhetens slutdatum i katalogen har passerat.", reason="unit_ended")
    return unit


def held(tx: Transaction, *ids: HsaId | None) -> dict[HsaId, Row[Any]]:
    """Those of these that are or have been clinics, held until the transaction ends. Units are to be held before
    clinics, and clinics in the order of their ids, as runs do: or two wait for each other."""
    query = select(clinics).where(clinics.c.hsa_id.in_([one for one in ids if one is not None]))
    return {row.hsa_id: row for row in tx.execute(query.order_by(clinics.c.hsa_id).with_for_update())}


_BEFORE = text(
    """WITH RECURSIVE former AS (
           SELECT replaces FROM clinics WHERE hsa_id = :clinic
           UNION SELECT clinics.replaces FROM clinics JOIN former ON clinics.hsa_id = former.replaces)
       SELECT replaces FROM former WHERE replaces IS NOT NULL"""
)
"""All that a clinic has replaced, one after the other."""


def require_replaceable(tx: Transaction, known: Mapping[HsaId, Row[Any]], clinic: HsaId, old: HsaId) -> None:
    """Raises `Invalid` for a clinic that would replace itself, `NotFound` where the old one never was a clinic, or
    `Conflict` where one has replaced, or is replaced by, another already. `known`: both, as `held`."""
    if clinic == old:
        raise Invalid(fields=[("replaces", "är samma enhet")])
    if old not in known:
        raise NotFound("Den gamla mottagningen finns inte.", reason="replaced_clinic_not_found")
    if clinic in set(tx.execute(_BEFORE, {"clinic": old}).scalars()):
        raise Conflict("Mottagningarna kan inte ersätta varandra.", reason="replace_each_other")
    other = select(clinics.c.hsa_id).where(clinics.c.replaces == old, clinics.c.hsa_id != clinic)
    if tx.execute(other).first() is not None:
        raise Conflict("Den gamla mottagningen har redan ersatts.", reason="already_replaced")
    if clinic in known and known[clinic].active and known[clinic].replaces not in (None, old):
        raise Conflict("Mottagningen ersätter redan en annan.", reason="replaces_another")


def without_care_provider(tx: Transaction, _request: Any, clinic: HsaId | None) -> HsaId | None:
    """The id of a unit for which the directory names no care provider; None for others."""
    query = select(units.c.hsa_id).where(units.c.hsa_id == clinic, units.c.care_provider.is_(None))
    return tx.execute(query).scalar_one_or_none()


def activate(tx: Transaction, request: ActivateClinic, care_provider: str | None = None) -> ClinicActivated:
    """Makes a unit a clinic. `care_provider` is HSA's word, for a unit of which the directory names none.

    Raises `Forbidden`, and what `usable_unit` and `require_replaceable` raise. A clinic that is active already stays as
    it is, but for the link to the one that it replaces.
    """
    tx.caller.require_regional_admin()
    unit = usable_unit(tx, request.clinic)
    both = held(tx, request.clinic, request.replaces)
    if request.replaces is not None:
        require_replaceable(tx, both, request.clinic, request.replaces)
    known = both.get(request.clinic)
    provider = unit.care_provider or care_provider or tx.settings.default_care_provider
    if known is not None and known.active:
        if request.replaces is not None:
            tx.execute(clinics.update().where(clinics.c.hsa_id == request.clinic).values(replaces=request.replaces))
        return _activated(unit, provider, known.version)
    values: dict[str, Any] = {
        "active": True,
        "care_provider": provider,
        "version": known.version + 1 if known else 1,
        "activated_at": tx.now,
        "activated_by": tx.caller.subject,
        "inactivated_at": None,
        "inactivated_by": None,
        "told_warning": None,
    }
    if request.replaces is not None:
        values["replaces"] = request.replaces
    made = insert(clinics).values(hsa_id=request.clinic, **values)
    tx.execute(made.on_conflict_do_update(index_elements=["hsa_id"], set_=values))
    changed = ClinicChanged(clinic=request.clinic, version=values["version"])
    tx.publish(CLINIC_ACTIVATED, changed, aggregate=request.clinic)
    return _activated(unit, provider, values["version"])


def _activated(unit: Row[Any], care_provider: str, version: int) -> ClinicActivated:
    return ClinicActivated(clinic=unit.hsa_id, name=unit.name, care_provider=care_provider, version=version)


# --- reading --------------------------------------------------------------------------------------------------------

_provider = units.alias("provider")
_later = clinics.alias("later")


def get_clinics(tx: Transaction, request: GetClinics) -> Clinics:
    """Facts about these, in the order asked for: warnings too, and what keeps them from being shown (R-DIR-4, R-DIR-5).

    The care provider is the directory's word, else the one that the clinic was activated under, else the default.
    """
    default = tx.settings.default_care_provider
    care_provider = func.coalesce(units.c.care_provider, clinics.c.care_provider, default)
    query = (
        select(
            units,
            func.coalesce(clinics.c.active, False).label("active"),
            func.coalesce(clinics.c.version, 0).label("clinic_version"),
            care_provider.label("provider"),
            _provider.c.name.label("provider_name"),
            clinics.c.replaces,
            select(_later.c.hsa_id)
            .where(_later.c.replaces == units.c.hsa_id)
            .limit(1)
            .scalar_subquery()
            .label("replaced_by"),
        )
        .outerjoin(clinics, clinics.c.hsa_id == units.c.hsa_id)
        .outerjoin(_provider, _provider.c.hsa_id == care_provider)
        .where(units.c.hsa_id.in_(request.clinics))
    )
    names = {default: tx.settings.default_care_provider_name}
    found = {row.hsa_id: _facts(row, names, tx.now) for row in tx.execute(query)}
    return Clinics(clinics=[found[clinic] for clinic in dict.fromkeys(request.clinics) if clinic in found])


def _facts(row: Row[Any], names: dict[HsaId, str], now: datetime) -> ClinicFacts:
    gone = rules.is_gone(row.missing_runs)
    return ClinicFacts(
        clinic=row.hsa_id,
        name=row.name,
        place=row.place,
        care_provider=row.provider,
        care_provider_name=row.provider_name or names.get(row.provider, row.provider),
        active=row.active,
        in_directory=not gone,
        end_date=row.end_date,
        warning=rules.warning(gone=gone, end_date=row.end_date, now=now),
        missing_attributes=missing_attributes(row),
        county_code=row.county_code,
        municipality_code=row.municipality_code,
        version=row.clinic_version,
        replaces=row.replaces,
        replaced_by=row.replaced_by,
    )


def missing_attributes(unit: Row[Any]) -> list[str]:
    """The technically mandatory attributes that a row of `units` lacks (R-DIR-5)."""
    return rules.missing_attributes(
        county_code=unit.county_code,
        has_coordinates=unit.rt90_x is not None,
        destinations=unit.destinations,
        care_types=unit.care_types,
        business_types=unit.business_types,
    )
