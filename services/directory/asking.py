"""What the directory asks outside every transaction: HSA, in its turn, the cases service, and identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

from services.directory.hsa_queue import HsaQueue
from services.directory.records import Person
from services.directory.settings import DirectorySettings
from services.directory.sources import SourceError
from services.directory.sources.hsa import Hsa
from services.directory.staff import HSA_DOWN
from shared.contracts.access import ACCESS_TO_CLINICS, AccessToClinics, ClinicPlace
from shared.contracts.cases import (
    CLINIC_ACTIVITY,
    OFFERED_CASE_TYPES,
    AskClinicActivity,
    AskOfferedCaseTypes,
    ClinicActivity,
)
from shared.contracts.directory import CaseTypeOnCard, FoundClinic
from shared.messaging.errors import DeadlineExceeded, Forbidden, Unavailable
from shared.messaging.server import OngoingCall
from shared.operations.logs import log

Answer = TypeVar("Answer")

# Left of the caller's time for what comes after HSA's answer, or instead of it.
_KEPT_BACK_SECONDS = 0.5
_CASES_SECONDS = 3.0


def about(settings: DirectorySettings, person: str, remaining: float) -> list[Person] | None:
    """HSA's person objects with this HSA-id; none in the list: missing or hidden there.

    None instead of a list: HSA is not configured, is down, or its turn did not come in the seconds that remain.
    """
    return _ask(settings, remaining, lambda hsa: hsa.persons(person))


def care_provider_of(settings: DirectorySettings, unit: str, remaining: float) -> str | None:
    """HSA-id of the unit's care provider by HSA's word (R-ID-25); None: HSA names none, or is not configured.

    Raises `Unavailable` if HSA does not answer: who is controller of what residents write must not be guessed.
    """
    if settings.hsa() is None:
        return None
    answer = _ask(settings, remaining, lambda hsa: (hsa.care_provider(unit),))
    if answer is None:
        raise Unavailable(HSA_DOWN, reason="hsa_down")
    return answer[0]


def _ask(settings: DirectorySettings, remaining: float, question: Callable[[Hsa], Answer]) -> Answer | None:
    hsa = settings.hsa()
    if hsa is None:
        return None
    try:
        with _queue(settings.database_url).turn(remaining - _KEPT_BACK_SECONDS - hsa.timeout_seconds):
            return question(hsa)
    except SourceError as error:
        log.warning("hsa_did_not_answer", reason=error.reason)
        return None


def case_types_of(call: OngoingCall[Any, Any], clinic: str) -> list[CaseTypeOnCard] | None:
    """The case types that the clinic offers now, in its order; None: the cases service does not answer."""
    try:
        return offered(partial(call.ask, timeout=_CASES_SECONDS), [clinic]).get(clinic, [])
    except (Unavailable, DeadlineExceeded):
        return None


def offered(ask: Callable[..., Any], clinics: Sequence[str]) -> dict[str, list[CaseTypeOnCard]]:
    """The same for many, by HSA-id; clinics that offer none are left out. Raises `Unavailable`, `DeadlineExceeded`."""
    answer = ask(OFFERED_CASE_TYPES, AskOfferedCaseTypes(clinics=list(clinics)))
    return {
        one.clinic: [CaseTypeOnCard(case_type=each.case_type, name=each.name) for each in one.case_types]
        for one in answer.clinics
    }


def activity(ask: Callable[..., Any], clinic: str) -> ClinicActivity:
    """What stands in the way of inactivating the clinic now (R-DIR-3). Raises `Unavailable`, `DeadlineExceeded`."""
    answer: ClinicActivity = ask(CLINIC_ACTIVITY, AskClinicActivity(clinic=clinic))
    return answer


def open_clinics(call: OngoingCall[Any, Any], found: Sequence[FoundClinic]) -> frozenset[str]:
    """Which of these the resident who calls may turn to, or the child whom the caller acts for: identity's word, one
    question for all (R-ID-13, R-ID-15, R-ID-22).

    Raises `Forbidden` for whoever acts for a child no longer, and `Unavailable` where identity does not answer: nothing
    is shown that might not be open.
    """
    if not found:
        return frozenset()
    caller = call.caller
    asked = AccessToClinics(
        resident=caller.acting_for or UUID(caller.subject),
        clinics=[one.clinic for one in found],
        guardian=UUID(caller.subject) if caller.acting_for else None,
        places=[ClinicPlace(clinic=one.clinic, county_code=one.county_code) for one in found],
    )
    answers = call.ask(ACCESS_TO_CLINICS, asked).access
    if any(one.reason == "not_representative" for one in answers):
        raise Forbidden("Du är inte ombud för barnet.", reason="not_representative")
    return frozenset(one.clinic for one in answers if one.allowed)


@cache
def _queue(database_url: str) -> HsaQueue:
    """One for the process."""
    return HsaQueue(database_url)
