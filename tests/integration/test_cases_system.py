"""Cases in the running system: over the broker, with the real neighbours."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local.people import cast
from shared.contracts import attachments, cases, directory, identity, inbox
from shared.contracts import case_records as records
from shared.contracts import case_types as offer
from shared.contracts import contacting as contacts
from shared.contracts.base import Role
from shared.messaging.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    Refused,
    Unavailable,
)
from shared.operations.clock import SWEDEN

FORM = [cases.Component(id="what", kind="text", label="Vad gäller det?", required=True)]
STAFF = {
    cast.RECEIVER: (Role.CASE_RECEIVER,),
    cast.HANDLER: (Role.CASE_HANDLER,),
    cast.SECOND_HANDLER: (Role.CASE_HANDLER,),
    cast.LOG_REVIEWER: (Role.LOG_REVIEWER,),
}


class Office:
    """A fresh clinic of the running system with a case type."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.clinic = system.clinic(STAFF).hsa_id
        activate = cases.ActivateCaseType(request_id=uuid4(), clinic=self.clinic, name="Kontakta mig", components=FORM)
        self.case_type = self.staff(cast.LOCAL_ADMIN, cases.ACTIVATE_CASE_TYPE, activate).case_type

    def staff(self, who: str, call: Any, request: Any) -> Any:
        return self.system.call(call, request, self.system.staff_token(who))

    def resident(self, call: Any, request: Any, who: str = cast.RESIDENT) -> Any:
        return self.system.call(call, request, self.system.resident_token(who))

    def start(self, **changed: Any) -> Any:
        values = {
            "request_id": uuid4(),
            "clinic": self.clinic,
            "case_type": self.case_type,
            "answers": [cases.Answer(component="what", values=["Jag har fått utslag."])],
        }
        return self.resident(cases.START_CASE, cases.StartCase(**(values | changed)))  # type: ignore[arg-type]

    def get(self, case: UUID, who: str) -> Any:
        return self.staff(who, cases.GET_CASE, cases.GetCase(case=case))

    def assign(self, case: UUID, version: int = 1, handler: str = cast.HANDLER) -> Any:
        request = cases.AssignCase(request_id=uuid4(), case=case, version=version, handler=handler)
        return self.staff(cast.RECEIVER, cases.ASSIGN_CASE, request)

    def reply(self, case: UUID, kind: Any, version: int, who: str = cast.HANDLER) -> Any:
        request = cases.WriteReply(request_id=uuid4(), case=case, version=version, kind=kind, text="Hur länge?")
        return self.staff(who, cases.REPLY, request)


@pytest.fixture
def office(system: Any) -> Office:
    return Office(system)


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_r_case_2_to_6_a_case_there_and_back(office: Office) -> None:
    """R-CASE-2, R-CASE-4, R-CASE-5, R-CASE-6, R-CASE-11, R-ID-14, R-ID-25"""
    started = office.start()
    office.assign(started.case)
    asked = office.reply(started.case, "counter_question", 2)
    assert asked.state == "awaiting_resident"
    [item] = [one for one in office.resident(cases.LIST_INBOX, cases.ListInbox()).cases if one.case == started.case]
    assert (item.inbox_state, item.unopened) == ("waiting_for_me", 1)
    shown = office.resident(cases.GET_CASE, cases.GetCase(case=started.case))
    [facts] = office.system.call(
        directory.GET_CLINICS, directory.GetClinics(clinics=[office.clinic]), office.system.operator_token
    ).clinics
    assert shown.care_provider == facts.care_provider
    signature = shown.messages[-1].signature
    assert shown.messages[-1].sender_name in signature
    wrote = office.resident(
        cases.SEND_MESSAGE, cases.SendMessage(request_id=uuid4(), case=started.case, text="I en vecka.")
    )
    assert wrote.state == "assigned"
    assert office.reply(started.case, "answer", wrote.version).state == "closed"
    by_staff = office.get(started.case, cast.RECEIVER)
    assert by_staff.resident.name == by_staff.messages[0].sender_name
    assert by_staff.resident.identity_number
    assert by_staff.messages[1].opened_at is not None
    assert [one.kind for one in by_staff.activities] == [
        "started",
        "assigned",
        "counter_question",
        "resident_message",
        "answer",
    ]


def test_r_case_13_writing_to_someone_who_has_emigrated_is_as_usual(office: Office) -> None:
    """R-CASE-13, R-ID-18: they start a case, are asked, read it and answer."""
    start = cases.StartCase(
        request_id=uuid4(),
        clinic=office.clinic,
        case_type=office.case_type,
        answers=[cases.Answer(component="what", values=["Jag bor utomlands nu."])],
    )
    case = office.resident(cases.START_CASE, start, cast.EMIGRATED).case
    office.assign(case)
    asked = office.reply(case, "counter_question", 2)
    assert (asked.state, asked.resident_active) == ("awaiting_resident", True)
    shown = office.resident(cases.GET_CASE, cases.GetCase(case=case), cast.EMIGRATED)
    assert shown.messages[-1].text == "Hur länge?"
    answer = cases.SendMessage(request_id=uuid4(), case=case, text="Sedan i våras.")
    assert office.resident(cases.SEND_MESSAGE, answer, cast.EMIGRATED).state == "assigned"


def test_r_sys_1_nobody_else_and_nobody_unknown(office: Office) -> None:
    """R-SYS-1, R-CASE-3"""
    case = office.start().case
    request = cases.GetCase(case=case)
    for who in (cast.HANDLER, cast.LOCAL_ADMIN, cast.OUTSIDER, cast.REGIONAL_ADMIN, cast.LOG_REVIEWER):
        with pytest.raises(NotFound):
            office.get(case, who)
    with pytest.raises(NotFound):
        office.resident(cases.GET_CASE, request, cast.SECOND_RESIDENT)
    good = office.system.staff_token(cast.RECEIVER)
    for token in (None, "", "x.y.z", good[:-4] + "AAAA"):
        with pytest.raises(NotAuthenticated):
            office.system.call(cases.GET_CASE, request, token)
    with pytest.raises(Forbidden):
        office.system.call(cases.GET_CASE, request, office.system.operator_token)
    with pytest.raises(Forbidden):
        office.staff(cast.RECEIVER, cases.MESSAGES_EXIST, cases.MessagesExist(messages=[]))
    log = office.staff(cast.LOG_REVIEWER, cases.ACCESS_LOG, cases.ReadAccessLog(clinic=office.clinic))
    assert log.entries == []


def test_r_case_18_readings_are_logged_sealed_and_shown(office: Office) -> None:
    """R-CASE-18"""
    started = office.start()
    office.get(started.case, cast.RECEIVER)
    ask = cases.ReadAccessLog(clinic=office.clinic, case=started.case)
    [entry] = office.staff(cast.LOG_REVIEWER, cases.ACCESS_LOG, ask).entries
    assert (entry.person, entry.what, entry.number) == (cast.RECEIVER, "case", started.number)
    office.system.call(
        cases.cases.run_job,
        cases.cases.run_job.request(request_id=uuid4(), job="seal_access_log"),
        office.system.operator_token,
    )
    until(lambda: office.staff(cast.LOG_REVIEWER, cases.ACCESS_LOG, ask).entries[0].sealed)
    mine = office.resident(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog()).entries
    [one] = [one for one in mine if one.number == started.number]
    assert one.staff_name
    assert one.clinic == office.clinic


def test_r_case_16_18_20_records_reviews_and_figures_over_the_broker(office: Office) -> None:
    """R-CASE-16, R-CASE-18, R-CASE-20, R-SYS-2: the PDF is made beside the running service, which goes on answering."""
    case = office.start().case
    made = office.staff(cast.RECEIVER, records.TAKE_OUT_CASE, records.TakeOutCase(case=case, format="pdf"))
    assert base64.b64decode(made.content).startswith(b"%PDF")
    mark = records.MarkRecorded(request_id=uuid4(), case=case, version=made.version)
    assert office.staff(cast.RECEIVER, records.MARK_RECORDED, mark).case == case
    today = office.system.now().astimezone(SWEDEN).date()
    figures = records.AskStatistics(clinic=office.clinic, first_day=today, last_day=today)
    assert office.staff(cast.LOCAL_ADMIN, records.STATISTICS, figures).total.arrived == 1
    ask = cases.ReadAccessLog(clinic=office.clinic)
    [entry] = office.staff(cast.LOG_REVIEWER, cases.ACCESS_LOG, ask).entries
    assert entry.as_document
    assert entry.staff_name
    number = entry.resident_card.identity_number
    period = {"since": entry.at - timedelta(hours=1), "until": entry.at + timedelta(hours=1)}
    extract = records.ExtractAccessLog(clinic=office.clinic, identity_number=number, format="text", **period)
    assert office.staff(cast.LOG_REVIEWER, records.EXTRACT_ACCESS_LOG, extract).readings == 1
    sample = records.SampleAccessLog(clinic=office.clinic, **period)
    assert office.staff(cast.LOG_REVIEWER, records.SAMPLE_ACCESS_LOG, sample).population == 1
    told = office.system.call(records.RESEALING, records.AskResealing(), office.system.operator_token)
    assert "messages.content" in {one.table for one in told.tables}


def test_r_case_17_twenty_times_two_at_once(office: Office) -> None:
    """R-CASE-17, over the broker"""
    for _ in range(20):
        case = office.start().case
        office.assign(case)
        found: list[Any] = []

        def answer(case: UUID = case, found: list[Any] = found) -> None:
            try:
                found.append(office.reply(case, "answer", 2))
            except Refused as refused:
                found.append(refused)

        threads = [threading.Thread(target=answer) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [told] = [one for one in found if isinstance(one, Refused)]
        assert isinstance(told, Conflict), told
        assert told.reason == "case_changed"
        assert len(office.get(case, cast.RECEIVER).messages) == 2


def test_r_case_17_the_same_request_again(office: Office) -> None:
    """R-CASE-17"""
    request_id = uuid4()
    assert len({office.start(request_id=request_id).case for _ in range(3)}) == 1


def test_r_id_10_who_loses_the_right_reads_nothing_and_has_no_cases(office: Office) -> None:
    """R-ID-10"""
    case = office.start().case
    office.assign(case, handler=cast.SECOND_HANDLER)
    assert office.get(case, cast.SECOND_HANDLER).handler == cast.SECOND_HANDLER
    take = identity.TakeRole(
        request_id=uuid4(), clinic=office.clinic, person=cast.SECOND_HANDLER, role=Role.CASE_HANDLER
    )
    office.staff(cast.LOCAL_ADMIN, identity.TAKE_ROLE, take)

    def refused() -> bool:
        try:
            office.get(case, cast.SECOND_HANDLER)
        except NotFound:
            return True
        return False

    until(refused, seconds=1.0)
    until(lambda: office.get(case, cast.RECEIVER).state == "new")
    with pytest.raises(Invalid) as told:
        office.assign(case, version=3, handler=cast.SECOND_HANDLER)
    assert told.value.reason == "not_a_handler"


def test_r_case_4_a_role_just_given_is_known(office: Office) -> None:
    """R-CASE-4"""
    case = office.start().case
    give = identity.GiveRole(request_id=uuid4(), clinic=office.clinic, person=cast.OUTSIDER, role=Role.CASE_HANDLER)
    office.staff(cast.LOCAL_ADMIN, identity.GIVE_ROLE, give)
    assert office.assign(case, handler=cast.OUTSIDER).state == "assigned"


def test_r_att_7_a_file_that_is_not_there_is_not_sent(office: Office) -> None:
    """R-ATT-7: and no message with it."""
    case = office.start().case
    office.assign(case)
    request = cases.WriteReply(
        request_id=uuid4(), case=case, version=2, kind="answer", text="Se filen.", attachments=[uuid4()]
    )
    with pytest.raises(NotFound):
        office.staff(cast.HANDLER, cases.REPLY, request)
    ask = attachments.AskUpload(
        request_id=uuid4(), name="x.pdf", size=9, content_type="application/pdf", sha256="0" * 64
    )
    waiting = office.staff(cast.HANDLER, attachments.ASK_UPLOAD, ask).attachment
    with pytest.raises(Conflict) as told:
        office.staff(
            cast.HANDLER,
            cases.REPLY,
            request.model_copy(update={"request_id": uuid4(), "attachments": [waiting]}),
        )
    assert told.value.reason == "attachment_not_checked"
    assert len(office.get(case, cast.RECEIVER).messages) == 1


def test_r_dir_3_a_clinic_in_use_is_not_inactivated(office: Office) -> None:
    """R-DIR-3"""
    request = directory.InactivateClinic(request_id=uuid4(), clinic=office.clinic)
    with pytest.raises(Conflict):
        office.staff(cast.REGIONAL_ADMIN, directory.INACTIVATE_CLINIC, request)
    off = cases.DeactivateCaseType(request_id=uuid4(), case_type=office.case_type)
    office.staff(cast.LOCAL_ADMIN, cases.DEACTIVATE_CASE_TYPE, off)
    office.staff(cast.REGIONAL_ADMIN, directory.INACTIVATE_CLINIC, request.model_copy(update={"request_id": uuid4()}))
    with pytest.raises(Conflict):
        office.start()


@pytest.mark.parametrize(
    "bad",
    [
        {"answers": []},
        {"answers": [cases.Answer(component="other", values=["x"])]},
        {"attachments": [UUID(int=1)]},
    ],
)
def test_r_case_2_what_does_not_fit_is_refused_with_fields(office: Office, bad: dict[str, Any]) -> None:
    """R-CASE-2"""
    with pytest.raises(Invalid) as told:
        office.start(**bad)
    assert told.value.fields


def test_without_the_directory_a_reply_is_unavailable_and_can_be_repeated(office: Office) -> None:
    """R-SYS-5"""
    case = office.start().case
    office.assign(case)
    request = cases.WriteReply(request_id=uuid4(), case=case, version=2, kind="answer", text="Hej.")
    token = office.system.staff_token(cast.HANDLER)
    office.system.process("directory").kill()
    with pytest.raises(Refused) as told:
        office.system.call(cases.REPLY, request, token, timeout=3.0)
    assert told.value.code in (Unavailable.code, "deadline_exceeded")
    office.system.process("directory").start()
    first = office.system.call(cases.REPLY, request, token)
    assert office.system.call(cases.REPLY, request, token) == first


def test_r_case_7_a_month_passes(office: Office) -> None:
    """R-CASE-7: the job runs by itself; the clock goes forward for all tests that follow."""
    case = office.start().case
    office.assign(case)
    office.reply(case, "counter_question", 2)
    office.system.move_clock(timedelta(days=32))
    shown = until(
        lambda: (one := office.resident(cases.GET_CASE, cases.GetCase(case=case))).state == "closed" and one,
        seconds=20,
    )
    assert shown.closed_reason == "counter_question_expired"


# --- what the clinic and other systems begin


def test_r_case_14_a_clinic_writes_to_one_and_to_many(office: Office) -> None:
    """R-CASE-14, R-CASE-19, R-ID-24: by numbers that only identity has; the job sends, each has a result."""
    for who in (cast.RESIDENT, cast.SECOND_RESIDENT):
        office.resident(cases.LIST_INBOX, cases.ListInbox(), who)  # has an account
    make = offer.CreateTemplate(
        request_id=uuid4(), clinic=office.clinic, purpose="information", name="Provsvar", text="Proverna ser bra ut."
    )
    template = office.staff(cast.LOCAL_ADMIN, offer.CREATE_TEMPLATE, make).case_type
    one = contacts.ContactResident(
        request_id=uuid4(), clinic=office.clinic, template=template, identity_number=cast.RESIDENT
    )
    sent = office.staff(cast.HANDLER, contacts.CONTACT_RESIDENT, one)
    assert office.resident(cases.GET_CASE, cases.GetCase(case=sent.case)).messages[0].text == "Proverna ser bra ut."
    begin = contacts.CreateMailing(request_id=uuid4(), clinic=office.clinic, template=template)
    mailing = office.staff(cast.HANDLER, contacts.CREATE_MAILING, begin).mailing
    numbers = [cast.RESIDENT, cast.SECOND_RESIDENT, "inget nummer"]
    add = contacts.AddRecipients(request_id=uuid4(), mailing=mailing, identity_numbers=numbers)
    added = office.staff(cast.HANDLER, contacts.ADD_RECIPIENTS, add)
    assert (added.added, [one.reason for one in added.refused]) == (2, ["not_an_identity_number"])
    go = contacts.SendMailing(request_id=uuid4(), mailing=mailing)
    office.staff(cast.HANDLER, contacts.SEND_MAILING, go)
    ask = contacts.GetMailing(mailing=mailing)
    until(lambda: office.staff(cast.HANDLER, contacts.GET_MAILING, ask).state == "done")
    listed = office.staff(cast.HANDLER, contacts.LIST_RECIPIENTS, contacts.ListRecipients(mailing=mailing)).recipients
    assert [one.result for one in listed] == ["sent", "sent"]
    assert office.resident(cases.GET_CASE, cases.GetCase(case=listed[1].case), cast.SECOND_RESIDENT).messages
    of_one = cases.ListClinicCases(clinic=office.clinic, identity_number=cast.RESIDENT)
    found = office.staff(cast.RECEIVER, cases.LIST_CLINIC_CASES, of_one).cases
    assert {one.case for one in found} == {sent.case, listed[0].case}


def test_r_case_21_a_booking_system_writes_and_nobody_else_may(office: Office) -> None:
    """R-CASE-21"""
    office.resident(cases.LIST_INBOX, cases.ListInbox())
    request = inbox.PutInboxMessage(
        request_id=uuid4(), clinic=office.clinic, identity_number=cast.RESIDENT, title="Din tid", text="Välkommen."
    )
    stored = office.system.call(inbox.PUT_INBOX_MESSAGE, request, office.system.system_token("booking"))
    assert stored.result == "stored"
    shown = office.resident(cases.GET_CASE, cases.GetCase(case=stored.case))
    assert (shown.messages[0].title, shown.messages[0].written_by) == ("Din tid", "system")
    for token in (office.system.staff_token(cast.HANDLER), office.system.system_token("listings")):
        with pytest.raises(Forbidden):
            office.system.call(inbox.PUT_INBOX_MESSAGE, request.model_copy(update={"request_id": uuid4()}), token)
