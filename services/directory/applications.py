"""Applications for units to become clinics, decided by regional administrators (R-DIR-3)."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import TypeAdapter
from sqlalchemy import Row, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.directory import clinics
from services.directory.tables import applications, units
from shared.contracts.base import HsaId, Role
from shared.contracts.directory import (
    ActivateClinic,
    ApplicationDecided,
    ApplicationMade,
    Applications,
    ApplicationShown,
    ApplyForClinic,
    DecideApplication,
    ListApplications,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Invalid, NotFound


def apply(tx: Transaction, request: ApplyForClinic) -> ApplicationMade:
    """Makes an application. Raises `Forbidden` for who does not administer the clinic that is to be replaced,
    `NotFound`, or `Conflict` where the unit is a clinic, has ended, or an application for it waits already."""
    clinics.usable_unit(tx, request.clinic)
    both = clinics.held(tx, request.clinic, request.replaces)
    if request.clinic in both and both[request.clinic].active:
        raise Conflict("Mottagningen är redan aktiv.", reason="clinic_active")
    if request.replaces is not None:
        if not tx.caller.rights.is_regional_admin:
            tx.caller.require(request.replaces, Role.LOCAL_ADMIN, Role.OPERATIONS_MANAGER, Role.OPERATIONS_ASSISTANT)
        clinics.require_replaceable(tx, both, request.clinic, request.replaces)
    values = {
        "id": uuid4(),
        "clinic": request.clinic,
        "replaces": request.replaces,
        "note": request.note,
        "state": "waiting",
        "applied_by": tx.caller.subject,
        "applied_at": tx.now,
    }
    made = tx.execute(insert(applications).values(values).on_conflict_do_nothing().returning(applications.c.id))
    application = made.scalar_one_or_none()
    if application is None:
        raise Conflict("En ansökan för enheten väntar redan på beslut.", reason="application_waiting")
    return ApplicationMade(application=application)


def decide(tx: Transaction, request: DecideApplication, care_provider: str | None = None) -> ApplicationDecided:
    """Approves, which activates the clinic, or refuses. `care_provider`: HSA's word.

    Raises `Forbidden`, `NotFound`, `Invalid` for a refusal without a reason, `Conflict` where it was decided before, or
    what `clinics.activate` raises.
    """
    tx.caller.require_regional_admin()
    if not request.approved and not request.reason.strip():
        raise Invalid(fields=[("reason", "ett avslag måste motiveras")])
    chosen = applications.c.id == request.application
    if request.approved:
        # Before the application, as whoever applies holds them, and then waits for what is decided on the one before.
        about = select(applications.c.clinic).where(chosen).scalar_subquery()
        tx.execute(select(units.c.hsa_id).where(units.c.hsa_id == about).with_for_update())
    row = tx.execute(select(applications).where(chosen).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("Ansökan finns inte.", reason="application_not_found")
    if row.state != "waiting":
        raise Conflict("Ansökan är redan avgjord.", reason="application_decided")
    state = "approved" if request.approved else "refused"
    decided = {"state": state, "reason": request.reason, "decided_by": tx.caller.subject, "decided_at": tx.now}
    tx.execute(applications.update().where(chosen).values(decided))
    version = None
    if request.approved:
        asked = ActivateClinic(request_id=request.request_id, clinic=row.clinic, replaces=row.replaces)
        version = clinics.activate(tx, asked, care_provider).version
    return ApplicationDecided.model_validate({"application": row.id, "state": state, "version": version})


def unit_without_care_provider(tx: Transaction, request: DecideApplication) -> HsaId | None:
    """The unit that an application is about, if the directory names no care provider for it."""
    query = select(applications.c.clinic).where(applications.c.id == request.application)
    return clinics.without_care_provider(tx, request, tx.execute(query).scalar_one_or_none())


def list_of(tx: Transaction, request: ListApplications) -> Applications:
    """One page, oldest first. Raises `Invalid` for a cursor that is none."""
    query = (
        select(applications, units.c.name)
        .join(units, units.c.hsa_id == applications.c.clinic)
        .order_by(applications.c.applied_at, applications.c.id)
        .limit(request.limit + 1)
    )
    if not tx.caller.rights.is_regional_admin:
        query = query.where(applications.c.applied_by == tx.caller.subject)
    if request.state is not None:
        query = query.where(applications.c.state == request.state)
    if request.after is not None:
        query = query.where(tuple_(applications.c.applied_at, applications.c.id) > tuple_(*_place(request.after)))
    rows = tx.execute(query).all()
    page = rows[: request.limit]
    return Applications(
        applications=[_shown(row) for row in page], after=_cursor(page[-1]) if len(rows) > len(page) else None
    )


def _shown(row: Row[Any]) -> ApplicationShown:
    names = ("clinic", "name", "replaces", "note", "state", "reason", "applied_by", "applied_at", "decided_at")
    return ApplicationShown(application=row.id, **{name: getattr(row, name) for name in names})


_PLACE: TypeAdapter[tuple[datetime, UUID]] = TypeAdapter(tuple[datetime, UUID])
"""When an application was made, and its id, of which a cursor is made."""


def _cursor(row: Row[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.applied_at.isoformat(), str(row.id)]).encode()).decode()


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, application = _PLACE.validate_json(base64.urlsafe_b64decode(cursor.encode()))
        if at.tzinfo is None:
            raise ValueError
    except ValueError:
        raise Invalid(fields=[("after", "är ingen giltig fortsättning")]) from None
    return at, application
