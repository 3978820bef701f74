"""Which clinics and case types a resident may turn to, and who acts for whom: identity decides, asked each time
(R-ID-11, R-ID-13, R-ID-15, R-ID-22)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from services.cases.visibility import resident as resident_of
from shared.contracts.access import (
    ACCESS_TO_CLINICS,
    REPRESENTATION,
    AccessToClinics,
    ClinicAccess,
    Representation,
)
from shared.contracts.base import HsaId
from shared.messaging.errors import Forbidden
from shared.messaging.server import OngoingCall


def look_up_guardian(call: OngoingCall[Any, Any]) -> None:
    """For someone who acts for a child: whether they still do, and which clinics have blocked it (R-ID-11, R-ID-13).

    From here on the call sees and does nothing at those clinics. Raises `Forbidden`, `not_representative`.
    """
    child = call.caller.acting_for
    if child is None:
        return
    now = call.ask(REPRESENTATION, Representation(guardian=UUID(call.caller.subject), child=child))
    if not now.acting:
        raise _REFUSALS["not_representative"]()
    call.caller = replace(call.caller, blocked_at=frozenset(now.blocked_at))


def access(call: OngoingCall[Any, Any], clinics: Sequence[HsaId]) -> dict[HsaId, ClinicAccess]:
    """What identity decides about the resident who calls, or whom the caller acts for; one question for all clinics."""
    guardian = UUID(call.caller.subject) if call.caller.acting_for is not None else None
    asked = AccessToClinics(resident=resident_of(call.caller), clinics=list(clinics), guardian=guardian)
    return {one.clinic: one for one in call.ask(ACCESS_TO_CLINICS, asked).access}


def require_access(call: OngoingCall[Any, Any], clinic: HsaId, case_type: UUID) -> None:
    """Whether the resident who calls may start a case of this type at the clinic: else `Forbidden`.

    Outside the catchment and protected outside the county are one and the same answer, `clinic_not_open`.
    """
    decided = access(call, [clinic])[clinic]
    if not decided.allowed:
        raise _REFUSALS.get(decided.reason or "", _not_open)()
    if not covers(decided, case_type):
        raise _not_open()


def covers(decided: ClinicAccess, case_type: UUID) -> bool:
    """Whether the case type is among those that are open to the resident."""
    return decided.allowed and (decided.case_types is None or case_type in decided.case_types)


def _not_open() -> Forbidden:
    return Forbidden("Mottagningen tar inte emot ärenden från dig.", reason="clinic_not_open")


_REFUSALS = {
    "guardian_blocked": lambda: Forbidden("Du kan inte vara ombud på mottagningen.", reason="guardian_blocked"),
    "not_representative": lambda: Forbidden("Du är inte ombud för barnet.", reason="not_representative"),
}
