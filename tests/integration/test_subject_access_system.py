"""A subject access report through all services, as they run (R-ID-19)."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

from deploy.local.people import cast
from shared.contracts import cases, directory, identity
from shared.contracts import subject_access as report
from shared.contracts.base import Role, RunJob
from shared.messaging.errors import Conflict, NotFound

RESIDENT = cast.EMIGRATED


def test_r_id_19_a_report_over_all_services(system: Any) -> None:
    """R-ID-19: what the resident wrote, what the clinic answered, who read it; as JSON and to be read."""
    clinic = system.clinic()
    system.give(clinic, cast.OPERATIONS_MANAGER, Role.OPERATIONS_MANAGER, by=cast.REGIONAL_ADMIN)
    resident, manager = system.resident_token(RESIDENT), system.staff_token(cast.OPERATIONS_MANAGER)
    started = start_case(system, clinic.hsa_id, resident)
    read_case(system, started)
    asked = system.call(report.REQUEST_REPORT, report.RequestReport(request_id=uuid4()), resident).report
    provider = provider_of(system, clinic.hsa_id)

    def gathered() -> dict[str | None, report.ReportPart]:
        gather = RunJob(request_id=uuid4(), job="gather_subject_access")
        with suppress(Conflict):  # it runs by itself just now
            system.call(identity.identity.run_job, gather, system.operator_token)
        [mine] = system.call(report.MY_REPORTS, report.MyReports(), resident).reports
        assert mine.report == asked
        return {part.care_provider: part for part in mine.parts}

    eventually(lambda: gathered().get(provider))
    waiting = report.ReportsToRelease(clinic=clinic.hsa_id)
    parts = system.call(report.REPORTS_TO_RELEASE, waiting, manager).parts
    [part] = [one for one in parts if one.identity_number == RESIDENT]
    release = report.ReleaseReport(request_id=uuid4(), clinic=clinic.hsa_id, part=part.part)
    system.call(report.RELEASE_REPORT, release, manager)
    eventually(lambda: gathered()[provider].state == "ready" and gathered()[None].state == "ready")
    text = system.call(report.READ_REPORT, report.ReadReport(report=asked, format="json"), resident).text
    [held] = [one["held"] for one in json.loads(text)["parts"] if one["care_provider"] == provider]
    values = {value["value"] for one in held for value in one["values"]}
    assert {"Jag har ont i knät", started.number, clinic.hsa_id} <= values
    assert "Vem som har läst" in {one["kind"] for one in held}
    assert any("Nyberg" in value for value in values), "who read it, by name"
    page = system.call(report.READ_REPORT, report.ReadReport(report=asked), resident).text
    assert "Jag har ont i knät" in page
    assert "Utdraget är fullständigt." in page or len(gathered()) > 2


def eventually(what: Any, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.2)


def start_case(system: Any, clinic: str, token: str) -> cases.CaseStarted:
    activate = cases.ActivateCaseType(
        request_id=uuid4(),
        clinic=clinic,
        name="Kontakta mig",
        components=[cases.Component(id="t", kind="text", label="Vad gäller det?", required=True)],
    )
    case_type = system.call(cases.ACTIVATE_CASE_TYPE, activate, system.staff_token(cast.LOCAL_ADMIN)).case_type
    start = cases.StartCase(
        request_id=uuid4(),
        clinic=clinic,
        case_type=case_type,
        answers=[cases.Answer(component="t", values=["Jag har ont i knät"])],
    )
    started: cases.CaseStarted = system.call(cases.START_CASE, start, token)
    return started


def read_case(system: Any, started: cases.CaseStarted) -> None:
    """By the receiver, as soon as cases has heard of the role."""

    def read() -> bool:
        try:
            system.call(cases.GET_CASE, cases.GetCase(case=started.case), system.staff_token(cast.RECEIVER))
        except NotFound:
            return False
        return True

    eventually(read)


def provider_of(system: Any, clinic: str) -> str:
    question = directory.GetClinics(clinics=[clinic])
    [facts] = system.call(directory.GET_CLINICS, question, system.operator_token).clinics
    return str(facts.care_provider)
