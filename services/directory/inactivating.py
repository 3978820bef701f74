"""Inactivation, refused while case types are active or cases open (R-DIR-3).

Cases is asked before the transaction that writes, and asks itself whether the clinic is active before it writes: each
can have an answer that does not hold any more. So cases is asked again for a while afterwards, and an inactivation that
something has slipped past is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, select

from services.directory import rules
from services.directory.tables import clinics
from shared.contracts.base import HsaId
from shared.contracts.cases import ClinicActivity
from shared.contracts.directory import (
    CLINIC_ACTIVATED,
    CLINIC_INACTIVATED,
    ClinicChanged,
    ClinicInactivated,
    InactivateClinic,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, NotFound, Refused
from shared.operations.logs import log

ASKED_AGAIN_FOR = timedelta(days=1)
"""Far longer than any call to cases may take, so that a directory which was down for hours still asks."""


def version_of(tx: Transaction, request: InactivateClinic) -> int | None:
    """The clinic's version, read before cases is asked; None: it never was a clinic."""
    return tx.execute(select(clinics.c.version).where(clinics.c.hsa_id == request.clinic)).scalar_one_or_none()


def inactivate(
    tx: Transaction, request: InactivateClinic, version: int | None, activity: ClinicActivity
) -> ClinicInactivated:
    """Takes a clinic out of the e-services. `activity` is what cases has told since the clinic had this `version`.

    Raises `Forbidden`, `NotFound` where no such clinic is active, or `Conflict` while case types are active or cases
    open, or where the clinic is another than the one that was asked about.
    """
    tx.caller.require_regional_admin()
    known = _held(tx, request.clinic)
    if known is None or not known.active:
        raise NotFound("Mottagningen är inte aktiv.", reason="clinic_not_active")
    if known.version != version:
        raise Conflict("Mottagningen har ändrats under tiden. Försök igen.", reason="clinic_changed")
    reason = _in_the_way(activity)
    if reason == "case_types_active":
        raise Conflict("Mottagningen har aktiva ärendetyper. Inaktivera dem först.", reason=reason)
    if reason is not None:
        raise Conflict("Mottagningen har öppna ärenden. Avsluta dem först.", reason=reason)
    now = known.version + 1
    ended = {"active": False, "version": now, "inactivated_at": tx.now, "inactivated_by": tx.caller.subject}
    tx.execute(clinics.update().where(clinics.c.hsa_id == request.clinic).values(ended))
    tx.publish(CLINIC_INACTIVATED, ClinicChanged(clinic=request.clinic, version=now), aggregate=request.clinic)
    return ClinicInactivated(clinic=request.clinic, version=now)


def take_back(
    transactions: Callable[[], AbstractContextManager[Transaction]], activity_of: Callable[[HsaId], ClinicActivity]
) -> int:
    """Makes those clinics active again that were inactivated lately and in which case types are active or cases open
    all the same. Cases is asked outside the transactions. Answers how many.

    One that cases does not answer about keeps no other from being asked about: its `Refused` is raised at the end.
    """
    with transactions() as tx:
        lately = select(clinics.c.hsa_id, clinics.c.version).where(
            ~clinics.c.active, clinics.c.inactivated_at > tx.now - ASKED_AGAIN_FOR
        )
        asked_about = [(row.hsa_id, row.version) for row in tx.execute(lately.order_by(clinics.c.hsa_id))]
    taken_back, failed = 0, None
    for clinic, version in asked_about:
        try:
            reason = _in_the_way(activity_of(clinic))
        except Refused as refusal:
            failed = refusal
            continue
        if reason is None:
            continue
        with transactions() as tx:
            known = _held(tx, clinic)
            if known is None or known.version != version:
                continue
            again = {"active": True, "version": version + 1, "inactivated_at": None, "inactivated_by": None}
            # Warnings of inactive clinics are not told: what stands now is told anew.
            tx.execute(clinics.update().where(clinics.c.hsa_id == clinic).values(told_warning=None, **again))
            tx.publish(CLINIC_ACTIVATED, ClinicChanged(clinic=clinic, version=version + 1), aggregate=clinic)
        log.warning("inactivation_taken_back", clinic=clinic, reason=reason)
        taken_back += 1
    if failed is not None:
        raise failed
    return taken_back


def _held(tx: Transaction, clinic: HsaId) -> Row[Any] | None:
    return tx.execute(select(clinics).where(clinics.c.hsa_id == clinic).with_for_update()).one_or_none()


def _in_the_way(activity: ClinicActivity) -> str | None:
    return rules.reason_not_to_inactivate(active_case_types=activity.active_case_types, open_cases=activity.open_cases)
