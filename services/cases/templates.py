"""Templates that a clinic starts cases from, of information or with questions (R-CASE-14, R-CASE-20)."""

from __future__ import annotations

from typing import get_args

from services.cases import case_types, forms, neighbours
from services.cases.tables import Row
from shared.contracts.base import Role
from shared.contracts.case_types import CreateTemplate, ListTemplates, TemplatePurpose, Templates, TemplateShown
from shared.contracts.cases import CaseTypeActivated
from shared.database.transaction import Transaction
from shared.messaging.server import OngoingCall

PURPOSES = get_args(TemplatePurpose)
READERS = (Role.CASE_HANDLER, Role.CASE_RECEIVER, Role.LOCAL_ADMIN)


def prepare(call: OngoingCall[CreateTemplate, CaseTypeActivated]) -> neighbours.Prepared:
    """Whether the caller may, and the clinic is in use; its care provider."""
    call.caller.require(call.request.clinic, Role.LOCAL_ADMIN)
    forms.check_components_for(call.request.purpose, call.request.components)
    return neighbours.Prepared(neighbours.care_provider(call, call.request.clinic, active=True))


def create(tx: Transaction, request: CreateTemplate, prepared: neighbours.Prepared) -> CaseTypeActivated:
    """Adds the template, in use at once."""
    return case_types.add(
        tx, request, prepared, active=True, purpose=request.purpose, information="", text=request.text
    )


def list_of_clinic(tx: Transaction, request: ListTemplates) -> Templates:
    """Those in use; local administrators see the others too."""
    tx.caller.require(request.clinic, *READERS)
    all_of_them = Role.LOCAL_ADMIN in tx.caller.rights.roles_at(request.clinic)
    rows = case_types.of_clinics(tx, [request.clinic], PURPOSES, all_of_them=all_of_them)
    return Templates(templates=[_shown(row) for row in rows])


def _shown(row: Row) -> TemplateShown:
    return TemplateShown(
        template=row["id"],
        purpose=row["purpose"],
        name=row["name"],
        description=row["description"],
        text=row["text"],
        components=case_types.components_shown(row["components"]),
        active=row["active"],
        form_version=row["form_version"],
        central=row["central"],
    )
