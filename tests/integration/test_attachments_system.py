"""Attachments over real RPC, all services running: who may call, the owner's view, and a call sent twice."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
import requests

from deploy.local.people import cast
from services.attachments.rules import REFUSALS_SV
from shared.contracts import attachments, cases
from shared.contracts.attachments import OwnerKind, State
from shared.contracts.base import RunJob
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated, NotFound, Refused
from tests.integration.attachments_support import PDF, PNG, send
from tests.stack.system import System
from tests.unit.attachments import crafted


def ask(data: bytes, content_type: str, name: str) -> attachments.AskUpload:
    return attachments.AskUpload(
        request_id=uuid4(),
        name=name,
        size=len(data),
        content_type=content_type,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def verdict(system: System, token: str, attachment: UUID) -> attachments.Attachment:
    end = time.monotonic() + 30
    while True:
        shown = system.call(attachments.GET_ATTACHMENT, attachments.GetAttachment(attachment=attachment), token)
        if shown.state in (State.USABLE, State.REFUSED):
            return shown
        assert time.monotonic() < end, shown.state
        time.sleep(0.05)


@pytest.fixture
def token(system: System) -> str:
    return system.staff_token(cast.HANDLER)


@pytest.mark.parametrize(("content_type", "name"), [(PNG, "Bild på knä.png"), (PDF, "Remiss.PDF")])
def test_an_uploaded_file_is_checked_by_itself_and_can_be_previewed_and_removed_r_att_5_r_att_7(
    system: System, token: str, content_type: str, name: str
) -> None:
    data = crafted.fit(content_type)
    asked = system.call(attachments.ASK_UPLOAD, ask(data, content_type, name), token)
    assert send(asked.upload, data).status_code == 200
    shown = verdict(system, token, asked.attachment)
    assert (shown.state, shown.name, shown.size, shown.content_type) == (State.USABLE, name, len(data), content_type)
    preview = attachments.PreviewAttachment(attachment=asked.attachment)
    link = system.call(attachments.PREVIEW_ATTACHMENT, preview, token)
    assert requests.get(link.url, timeout=10).content == data
    remove = attachments.RemoveAttachment(request_id=uuid4(), attachment=asked.attachment)
    for _ in range(2):
        system.call(attachments.REMOVE_ATTACHMENT, remove, token)
    with pytest.raises(NotFound):
        system.call(attachments.GET_ATTACHMENT, attachments.GetAttachment(attachment=asked.attachment), token)


def test_the_owner_is_told_why_in_swedish_r_att_7(system: System, token: str) -> None:
    data = crafted.pdf_with_javascript()
    asked = system.call(attachments.ASK_UPLOAD, ask(data, PDF, "formulär.pdf"), token)
    assert send(asked.upload, data).status_code == 200
    hurry = attachments.Uploaded(request_id=uuid4(), attachment=asked.attachment)
    system.call(attachments.UPLOADED, hurry, token)
    shown = verdict(system, token, asked.attachment)
    assert (shown.refusal_reason, shown.refusal) == ("active_content", REFUSALS_SV["active_content"])


def test_the_same_call_twice_gives_the_same_place_r_sys_5(system: System, token: str) -> None:
    request = ask(b"x", PNG, "bild.png")
    assert system.call(attachments.ASK_UPLOAD, request, token) == system.call(attachments.ASK_UPLOAD, request, token)


def test_the_limits_can_be_read_r_att_3(system: System, token: str) -> None:
    limits = system.call(attachments.LIMITS, attachments.GetLimits(), token)
    assert (limits.max_file_bytes, limits.max_files_resident, limits.max_files_staff) == (52_428_800, 5, 20)
    assert sorted(limits.content_types) == [PDF, "image/gif", "image/jpeg", PNG]


def test_calls_without_a_token_and_of_others_are_refused_r_sys_1(system: System, token: str) -> None:
    nobody, somebody = ask(b"x", PNG, "bild.png"), ask(b"x", PNG, "bild.png")
    with pytest.raises(NotAuthenticated):
        system.call(attachments.ASK_UPLOAD, nobody, None)
    asked = system.call(attachments.ASK_UPLOAD, somebody, token)
    other = system.staff_token(cast.RECEIVER)
    with pytest.raises(NotFound):
        system.call(attachments.GET_ATTACHMENT, attachments.GetAttachment(attachment=asked.attachment), other)
    claim = attachments.Claim(
        request_id=uuid4(),
        attachments=[asked.attachment],
        owner_kind=OwnerKind.STAFF,
        owner=cast.HANDLER,
        case=uuid4(),
        message=uuid4(),
        at_most=20,
    )
    link = attachments.AskLink(attachment=asked.attachment, case=uuid4())
    for call, request in ((attachments.CLAIM, claim), (attachments.LINK, link)):
        with pytest.raises(Forbidden):
            system.call(call, request, token)


@pytest.mark.parametrize("sha256", ["", "ab", "g" * 64, "a" * 65])
def test_malformed_requests_are_invalid(system: System, token: str, sha256: str) -> None:
    request = ask(b"x", PNG, "bild.png").model_copy(update={"sha256": sha256})
    with pytest.raises(Invalid) as refused:
        system.call(attachments.ASK_UPLOAD, request, token)
    assert [name for name, _ in refused.value.fields] == ["sha256"]


def test_a_checker_that_is_killed_and_one_that_comes_back_r_att_7(system: System, token: str) -> None:
    checker = system.process("attachments_worker")
    checker.kill()
    data = crafted.png()
    asked = system.call(attachments.ASK_UPLOAD, ask(data, PNG, "bild.png"), token)
    assert send(asked.upload, data).status_code == 200
    time.sleep(2)
    get = attachments.GetAttachment(attachment=asked.attachment)
    assert system.call(attachments.GET_ATTACHMENT, get, token).state is State.WAITING
    checker.start()
    assert verdict(system, token, asked.attachment).state is State.USABLE


@pytest.mark.parametrize("job", ["settle_claims", "remove_never_sent"])
def test_the_jobs_can_be_run_by_hand(system: System, job: str) -> None:
    run = RunJob(request_id=uuid4(), job=job)
    system.call(attachments.attachments.run_job, run, system.operator_token)


def resident_case_type(system: System) -> cases.StartCase:
    """What a resident sends to start a case where files may be attached."""
    clinic = system.clinic()
    components = [
        cases.Component(id="fraga", kind="text", label="Vad gäller det?", required=True),
        cases.Component(id="filer", kind="attachments", label="Bifoga filer"),
    ]
    activate = cases.ActivateCaseType(request_id=uuid4(), clinic=clinic.hsa_id, name="Visa", components=components)
    case_type = system.call(cases.ACTIVATE_CASE_TYPE, activate, system.staff_token(cast.LOCAL_ADMIN)).case_type
    answers = [cases.Answer(component="fraga", values=["Ett födelsemärke"])]
    return cases.StartCase(request_id=uuid4(), clinic=clinic.hsa_id, case_type=case_type, answers=answers)


def uploaded(system: System, token: str, data: bytes, content_type: str, name: str) -> UUID:
    asked = system.call(attachments.ASK_UPLOAD, ask(data, content_type, name), token)
    assert send(asked.upload, data).status_code == 200
    return asked.attachment


def test_a_file_travels_with_its_case_r_att_3_r_att_5_r_att_6(system: System) -> None:
    start, resident, data = resident_case_type(system), system.resident_token(cast.RESIDENT), crafted.png()
    fit = uploaded(system, resident, data, PNG, "Födelsemärke.png")
    unfit = uploaded(system, resident, crafted.cut(data), PNG, "bild.png")
    assert verdict(system, resident, fit).state is State.USABLE
    assert verdict(system, resident, unfit).state is State.REFUSED
    refused_start = start.model_copy(update={"request_id": uuid4(), "attachments": [fit, unfit]})
    with pytest.raises(Conflict) as refused:
        system.call(cases.START_CASE, refused_start, resident)
    assert refused.value.reason == "attachment_refused"

    request = start.model_copy(update={"attachments": [fit]})
    started = system.call(cases.START_CASE, request, resident)
    assert system.call(cases.START_CASE, request, resident) == started, "the same call again"
    remove = attachments.RemoveAttachment(request_id=uuid4(), attachment=fit)
    with pytest.raises(Conflict):
        system.call(attachments.REMOVE_ATTACHMENT, remove, resident)
    told = "SELECT 1 FROM attachments WHERE attachment = %s AND sent_at IS NOT NULL"
    wait_until(lambda: system.rows("attachments", told, fit))
    with pytest.raises(NotFound):
        system.call(attachments.GET_ATTACHMENT, attachments.GetAttachment(attachment=fit), resident)
    for token in (resident, system.staff_token(cast.RECEIVER)):
        opened = system.call(cases.OPEN_ATTACHMENT, cases.OpenAttachment(case=started.case, attachment=fit), token)
        assert requests.get(opened.url, timeout=10).content == data
        assert opened.name == "Födelsemärke.png"
        assert opened.preview_url is not None
        assert requests.get(opened.preview_url, timeout=10).headers["Content-Type"] == PNG
    outsider, opening = system.staff_token(cast.OUTSIDER), cases.OpenAttachment(case=started.case, attachment=fit)
    with pytest.raises(NotFound):
        system.call(cases.OPEN_ATTACHMENT, opening, outsider)


def test_a_claim_is_kept_while_cases_does_not_answer_and_given_back_when_it_does_r_att_8(
    system: System, token: str
) -> None:
    file = uploaded(system, token, crafted.png(), PNG, "bild.png")
    assert verdict(system, token, file).state is State.USABLE
    # as when cases dies between its claim and its commit
    system.rows(
        "attachments",
        """UPDATE attachments SET message = %s, "case" = %s, claimed_at = created_at - interval '1 hour'
           WHERE attachment = %s""",
        uuid4(),
        uuid4(),
        file,
    )
    settle = RunJob(request_id=uuid4(), job="settle_claims")
    claimed = "SELECT 1 FROM attachments WHERE attachment = %s AND message IS NOT NULL"
    system.process("cases").stop()
    with pytest.raises(Refused):
        system.call(attachments.attachments.run_job, settle, system.operator_token, timeout=30)
    assert system.rows("attachments", claimed, file)
    system.process("cases").start()

    def given_back() -> bool:
        with suppress(Refused):  # the clock may run it at the same time
            again = RunJob(request_id=uuid4(), job="settle_claims")
            system.call(attachments.attachments.run_job, again, system.operator_token, timeout=30)
        return not system.rows("attachments", claimed, file)

    wait_until(given_back, seconds=60)


def wait_until(there: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
