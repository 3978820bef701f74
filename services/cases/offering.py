"""Which case types are shown to whom: to residents those that they can use (R-CASE-1, R-ID-15, R-ID-22)."""

from __future__ import annotations

from services.cases import admission, case_types
from shared.contracts.access import ClinicAccess
from shared.contracts.base import Role
from shared.contracts.case_types import ListUsableCaseTypes, UsableAtClinic, UsableCaseTypes
from shared.contracts.cases import CaseTypes, CaseTypeShown, ListCaseTypes
from shared.database.transaction import Transaction
from shared.messaging.server import OngoingCall

_FOR_RESIDENTS = ("resident",)


def of_clinic(call: OngoingCall[ListCaseTypes, CaseTypes]) -> CaseTypes:
    """The clinic's case types in its order: to its local administrators all, to other staff those in use, to a resident
    those that they can use."""
    clinic = call.request.clinic
    if call.caller.kind != "resident":
        return CaseTypes(case_types=call.read(_for_staff))
    decided = admission.access(call, [clinic])
    return CaseTypes(case_types=call.read(_open, decided).get(clinic, []))


def usable(call: OngoingCall[ListUsableCaseTypes, UsableCaseTypes]) -> UsableCaseTypes:
    """The same for a resident and several clinics; those where they can use nothing are left out."""
    found = call.read(_open, admission.access(call, call.request.clinics))
    asked = dict.fromkeys(call.request.clinics)
    return UsableCaseTypes(
        clinics=[UsableAtClinic(clinic=clinic, case_types=found[clinic]) for clinic in asked if clinic in found]
    )


def _for_staff(tx: Transaction, request: ListCaseTypes) -> list[CaseTypeShown]:
    all_of_them = Role.LOCAL_ADMIN in tx.caller.rights.roles_at(request.clinic)
    rows = case_types.of_clinics(tx, [request.clinic], _FOR_RESIDENTS, all_of_them=all_of_them)
    return [case_types.shown(row) for row in rows]


def _open(
    tx: Transaction, _request: ListCaseTypes | ListUsableCaseTypes, decided: dict[str, ClinicAccess]
) -> dict[str, list[CaseTypeShown]]:
    """By clinic, what the resident can use of what it offers."""
    allowed = [clinic for clinic, access in decided.items() if access.allowed]
    found: dict[str, list[CaseTypeShown]] = {}
    for row in case_types.of_clinics(tx, allowed, _FOR_RESIDENTS) if allowed else []:
        if admission.covers(decided[row["clinic"]], row["id"]):
            found.setdefault(row["clinic"], []).append(case_types.shown(row))
    return found
