"""What a clinic offers residents to start: its case types, with their forms and order (R-CASE-1)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import and_, func, insert, select, true, update

from services.cases import forms, neighbours
from services.cases.tables import Row, case_type_forms, case_types
from shared.contracts.base import Role
from shared.contracts.cases import (
    ActivateCaseType,
    CaseTypeActivated,
    CaseTypeDeactivated,
    CaseTypes,
    CaseTypeShown,
    ComponentShown,
    DeactivateCaseType,
    ListCaseTypes,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, NotFound
from shared.messaging.server import OngoingCall
from shared.security.caller import Caller


def check_activation(caller: Caller, request: ActivateCaseType) -> None:
    """Whether the caller administers the clinic and the form can be filled in. Raises `Forbidden`, `Invalid`."""
    caller.require(request.clinic, Role.LOCAL_ADMIN)
    forms.check_components(request.components)


def prepare(call: OngoingCall[ActivateCaseType, CaseTypeActivated]) -> neighbours.Prepared:
    """Whether the caller may, and the clinic is in use; its care provider."""
    check_activation(call.caller, call.request)
    return neighbours.Prepared(neighbours.care_provider(call, call.request.clinic, active=True))


def activate(tx: Transaction, request: ActivateCaseType, prepared: neighbours.Prepared) -> CaseTypeActivated:
    """Adds the case type last in the clinic's order, in use at once."""
    case_type = uuid4()
    last = select(func.coalesce(func.max(case_types.c.position), 0)).where(case_types.c.clinic == request.clinic)
    tx.execute(
        insert(case_types).values(
            id=case_type,
            clinic=request.clinic,
            care_provider=prepared.care_provider,
            name=request.name,
            position=last.scalar_subquery() + 1,
            active=True,
            form_version=1,
            created_at=tx.now,
            created_by=tx.caller.subject,
        )
    )
    components = [component.model_dump(mode="json") for component in request.components]
    tx.execute(insert(case_type_forms).values(case_type=case_type, version=1, components=components))
    return CaseTypeActivated(case_type=case_type)


def deactivate(tx: Transaction, request: DeactivateCaseType) -> CaseTypeDeactivated:
    """Takes the case type out of use; deactivating twice is as once. Not the caller's to administer: `NotFound`."""
    mine = tx.caller.rights.clinics_with(Role.LOCAL_ADMIN)
    changed = tx.execute(
        update(case_types)
        .where(case_types.c.id == request.case_type, case_types.c.clinic.in_(mine))
        .values(active=False)
    )
    if changed.rowcount == 0:
        raise NotFound("Ärendetypen finns inte.", reason="case_type_not_found")
    return CaseTypeDeactivated(case_type=request.case_type)


_WITH_FORM = case_types.join(
    case_type_forms,
    and_(case_type_forms.c.case_type == case_types.c.id, case_type_forms.c.version == case_types.c.form_version),
)


def list_of_clinic(tx: Transaction, request: ListCaseTypes) -> CaseTypes:
    """The active ones in the clinic's order; its local administrators see the others too."""
    all_of_them = Role.LOCAL_ADMIN in tx.caller.rights.roles_at(request.clinic)
    rows = tx.execute(
        select(case_types, case_type_forms.c.components)
        .select_from(_WITH_FORM)
        .where(case_types.c.clinic == request.clinic, true() if all_of_them else case_types.c.active)
        .order_by(case_types.c.position, case_types.c.id)
    ).mappings()
    return CaseTypes(case_types=[_shown(row) for row in rows])


def _shown(row: Row) -> CaseTypeShown:
    return CaseTypeShown(
        case_type=row["id"],
        name=row["name"],
        active=row["active"],
        components=[ComponentShown.model_validate(component) for component in row["components"]],
    )


@dataclass(frozen=True)
class Offered:
    """An active case type as a case is started from it."""

    id: UUID
    name: str
    form_version: int
    form: forms.Form


def offered(tx: Transaction, clinic: str, case_type: UUID, *, keep: bool = False) -> Offered:
    """The clinic's active case type. With `keep` it stays active until the transaction ends: a case that is being
    started when the last case type is deactivated is then seen by whoever counts open cases (R-DIR-3).

    Raises `NotFound`, and `Conflict` (case_type_not_active) for one that is out of use.
    """
    question = (
        select(case_types, case_type_forms.c.components)
        .select_from(_WITH_FORM)
        .where(case_types.c.id == case_type, case_types.c.clinic == clinic)
    )
    if keep:
        question = question.with_for_update(read=True, of=case_types)
    row = tx.execute(question).mappings().one_or_none()
    if row is None:
        raise NotFound("Ärendetypen finns inte.", reason="case_type_not_found")
    if not row["active"]:
        raise Conflict("Ärendetypen är inte aktiv.", reason="case_type_not_active")
    return Offered(row["id"], row["name"], row["form_version"], forms.from_stored(row["components"]))
