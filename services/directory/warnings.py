"""Warnings of clinics, told when they begin, change and end: by a run, or by an end date that passes (R-DIR-4)."""

from __future__ import annotations

from sqlalchemy import select

from services.directory import rules
from services.directory.tables import clinics, units
from shared.contracts.base import Event
from shared.contracts.directory import CLINIC_BACK, CLINIC_ENDED, CLINIC_MISSING, ClinicChanged
from shared.database.transaction import Transaction

_EVENTS: dict[rules.Warning_ | None, Event[ClinicChanged]] = {
    "ended": CLINIC_ENDED,
    "not_in_directory": CLINIC_MISSING,
    None: CLINIC_BACK,
}


def tell(tx: Transaction) -> int:
    """Tells of each active clinic whose warning is another than the one last told. Answers how many."""
    gone = units.c.missing_runs >= rules.RUNS_UNTIL_GONE
    ended = units.c.end_date <= tx.now
    query = (
        select(clinics.c.hsa_id, clinics.c.version, clinics.c.told_warning, units.c.missing_runs, units.c.end_date)
        .join(units, units.c.hsa_id == clinics.c.hsa_id)
        .where(clinics.c.active, gone | ended | clinics.c.told_warning.is_not(None))
        .order_by(clinics.c.hsa_id)
        .with_for_update(of=clinics)
    )
    told = 0
    for row in tx.execute(query).all():
        warning = rules.warning(gone=rules.is_gone(row.missing_runs), end_date=row.end_date, now=tx.now)
        if warning == row.told_warning:
            continue
        version = row.version + 1
        changed = {"told_warning": warning, "version": version}
        tx.execute(clinics.update().where(clinics.c.hsa_id == row.hsa_id).values(changed))
        tx.publish(_EVENTS[warning], ClinicChanged(clinic=row.hsa_id, version=version), aggregate=row.hsa_id)
        told += 1
    return told
