"""Notifications in the running system: from a call to what lies in the mailbox and the telephone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local.contact import choose_contact
from deploy.local.people import cast
from shared.contracts import cases, identity, notifications
from shared.contracts.base import Role, RunJob
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated, NotFound
from tests.stack.system import Clinic, System

RESIDENT_TEXT = "Du har ett meddelande i e-tjänsterna på 1177. Meddelandet finns i inkorgen när du loggat in på 1177."
SOON = 30.0
_numbers = itertools.count(606)
_boxes = itertools.count(1)


@dataclass
class Ward:
    """A clinic with an active case type, a mailbox of its own, and a resident with a telephone of their own."""

    system: System
    clinic: Clinic
    case_type: UUID
    mailbox: str
    mobile: str

    def call(self, call: Any, request: Any, who: str | None) -> Any:
        token = None
        if who is not None:
            token = self.system.resident_token(who) if who == cast.RESIDENT else self.system.staff_token(who)
        return self.system.call(call, request, token)

    def start_case(self) -> cases.CaseStarted:
        request = cases.StartCase(
            request_id=uuid4(),
            clinic=self.clinic.hsa_id,
            case_type=self.case_type,
            answers=[cases.Answer(component="fraga", values=["Hemlig fråga om foten"])],
        )
        started: cases.CaseStarted = self.call(cases.START_CASE, request, cast.RESIDENT)
        return started

    def assign(self, case: UUID, by: str = cast.RECEIVER, to: str = cast.HANDLER) -> int:
        request = cases.AssignCase(request_id=uuid4(), case=case, version=self.version(case, by), handler=to)
        return int(self.call(cases.ASSIGN_CASE, request, by).version)

    def version(self, case: UUID, who: str) -> int:
        return int(self.call(cases.GET_CASE, cases.GetCase(case=case), who).version)

    def ask_back(self, case: UUID) -> None:
        request = cases.WriteReply(
            request_id=uuid4(),
            case=case,
            version=self.version(case, cast.HANDLER),
            kind="counter_question",
            text="Hemlig motfråga",
        )
        self.call(cases.REPLY, request, cast.HANDLER)

    def listed(self, state: str | None = None) -> list[notifications.Delivery]:
        """This clinic's deliveries, as the operator sees them."""
        page = self.system.call(
            notifications.LIST_DELIVERIES,
            notifications.ListDeliveries(state=notifications.DeliveryState(state) if state else None, limit=200),
            self.system.operator_token,
        )
        return [one for one in page.deliveries if one.clinic == self.clinic.hsa_id]

    def sms(self) -> list[dict[str, Any]]:
        """What has come to the resident's mobile, but for the code by which it was verified (R-NOT-9)."""
        return [one for one in self.system.sms(to=self.mobile) if not one["message"].startswith("Din kod ")]

    def mails(self, to: str, after: int = 0) -> list[dict[str, Any]]:
        """Mails to the address that name this clinic."""
        return [one for one in self.system.mail(to=to, after=after) if self.clinic.name in one["subject"]]


def eventually(what: Callable[[], Any], seconds: float = SOON) -> Any:
    """The first answer that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def set_contact(system: System, token: str, **chosen: Any) -> None:
    choose_contact(system, token, **chosen)


@pytest.fixture
def ward(system: System) -> Ward:
    clinic = system.clinic()
    component = cases.Component(id="fraga", kind="text", label="Vad gäller det?", required=True)
    admin = system.staff_token(cast.LOCAL_ADMIN)
    activate = cases.ActivateCaseType(
        request_id=uuid4(), clinic=clinic.hsa_id, name="Kontakta mig", components=[component]
    )
    case_type = system.call(cases.ACTIVATE_CASE_TYPE, activate, admin).case_type
    mailbox, mobile = f"brevlada{next(_boxes)}@vgregion.example", f"+46701740{next(_numbers)}"
    settings = notifications.SetClinicSettings(request_id=uuid4(), clinic=clinic.hsa_id, new_case_addresses=[mailbox])
    system.call(notifications.SET_CLINIC_SETTINGS, settings, admin)
    everything = ["case_assigned", "resident_wrote", "new_case"]
    for person in (cast.RECEIVER, cast.HANDLER):
        set_contact(system, system.staff_token(person), notify_by=["email"], tell_me_about=everything)
    set_contact(system, system.resident_token(cast.RESIDENT), mobile=mobile, notify_by=["sms"])
    return Ward(system, clinic, case_type, mailbox, mobile)


def test_the_story_of_a_case_reaches_everyone_once_and_gives_nothing_away(ward: Ward) -> None:
    """R-NOT-1, R-NOT-2, R-NOT-3."""
    receiver, handler = cast.mail_of(cast.RECEIVER), cast.mail_of(cast.HANDLER)
    case = ward.start_case().case
    eventually(lambda: ward.mails(ward.mailbox))
    eventually(lambda: ward.mails(receiver))
    ward.assign(case)
    eventually(lambda: ward.mails(handler))
    ward.ask_back(case)
    [sms] = eventually(lambda: ward.sms())
    assert sms["message"] == RESIDENT_TEXT
    ward.call(cases.SEND_MESSAGE, cases.SendMessage(request_id=uuid4(), case=case, text="Hemligt svar"), cast.RESIDENT)
    eventually(lambda: len(ward.mails(handler)) == 2)
    eventually(lambda: {one.state for one in ward.listed()} == {"sent"})

    assert len(ward.mails(ward.mailbox)) == len(ward.mails(receiver)) == len(ward.sms()) == 1
    resident = ward.call(cases.GET_CASE, cases.GetCase(case=case), cast.HANDLER).resident
    for mail in ward.mails(ward.mailbox) + ward.mails(receiver) + ward.mails(handler):
        assert mail["headers"]["Auto-Submitted"] == "auto-generated"
        assert mail["encrypted"]
        assert ward.clinic.name in mail["text"]
        for secret in ("Hemlig", "hemlig", *resident.name.split(), resident.identity_number):
            assert secret not in str(mail)


def test_whoever_takes_a_case_themselves_is_not_told(ward: Ward) -> None:
    """R-NOT-1."""
    ward.system.give(ward.clinic, cast.RECEIVER, Role.CASE_HANDLER, by=cast.LOCAL_ADMIN)
    case = ward.start_case().case
    eventually(lambda: len([one for one in ward.listed() if one.state == "sent"]) == 2)
    ward.assign(case, to=cast.RECEIVER)
    ward.assign(case, to=cast.HANDLER)
    eventually(lambda: ward.mails(cast.mail_of(cast.HANDLER)))
    assert [one.kind for one in ward.listed() if one.kind == "case_assigned"] == ["case_assigned"]


def test_one_who_lost_the_right_is_not_told_and_the_clinic_learns_whose_address_it_has(ward: Ward) -> None:
    """R-NOT-5, R-NOT-6, R-ID-10."""
    address, admin = cast.mail_of(cast.RECEIVER), cast.LOCAL_ADMIN
    entered = notifications.SetClinicSettings(
        request_id=uuid4(), clinic=ward.clinic.hsa_id, new_case_addresses=[ward.mailbox, address]
    )
    ward.call(notifications.SET_CLINIC_SETTINGS, entered, admin)
    read = notifications.GetClinicSettings(clinic=ward.clinic.hsa_id)
    assert ward.call(notifications.GET_CLINIC_SETTINGS, read, admin).overlapping == [address]
    ward.start_case()
    eventually(lambda: {one.state for one in ward.listed()} == {"sent", "merged"})
    assert len(ward.mails(address)) == 1

    take = identity.TakeRole(
        request_id=uuid4(), clinic=ward.clinic.hsa_id, person=cast.RECEIVER, role=Role.CASE_RECEIVER
    )
    assert ward.call(identity.TAKE_ROLE, take, admin).overlapping_addresses == [address]
    ward.start_case()
    eventually(lambda: len(ward.mails(address)) == 2)
    eventually(lambda: all(one.state in ("sent", "merged") for one in ward.listed()))
    assert len([one for one in ward.listed() if one.recipient_kind == "staff"]) == 1
    run = RunJob(request_id=uuid4(), job="forget_former_staff")
    ward.system.call(notifications.notifications.run_job, run, ward.system.operator_token)
    eventually(lambda: ward.call(notifications.GET_CLINIC_SETTINGS, read, admin).of_former_staff == [address])


def test_a_mail_server_that_is_down_delays_and_loses_nothing(ward: Ward) -> None:
    """R-NOT-7: the first retry comes at once."""
    ward.system.counterpart_behaves("mail", mode="refuse", status=451, only=ward.mailbox, times=1)
    ward.start_case()
    eventually(lambda: ward.mails(ward.mailbox))
    [delivery] = eventually(lambda: [one for one in ward.listed("sent") if one.recipient_kind == "clinic"])
    assert delivery.attempts == 2


def test_a_permanent_refusal_is_seen_by_the_clinic_and_sent_again_by_hand(ward: Ward) -> None:
    """R-NOT-7."""
    ward.system.counterpart_behaves("mail", mode="refuse", only=ward.mailbox, times=1)
    ward.start_case()
    failed = notifications.ListClinicDeliveries(clinic=ward.clinic.hsa_id, state=notifications.DeliveryState.FAILED)
    [delivery] = eventually(
        lambda: ward.call(notifications.LIST_CLINIC_DELIVERIES, failed, cast.LOCAL_ADMIN).deliveries
    )
    assert (delivery.address, delivery.reason) == (ward.mailbox, "smtp_recipient_550")
    assert ward.mails(ward.mailbox) == []
    again = notifications.ResendDelivery(request_id=uuid4(), delivery=delivery.delivery)
    with pytest.raises(NotFound):
        ward.call(notifications.RESEND_DELIVERY, again, cast.OUTSIDER)
    ward.call(notifications.RESEND_DELIVERY, again, cast.LOCAL_ADMIN)
    eventually(lambda: ward.mails(ward.mailbox))
    ward.call(notifications.RESEND_DELIVERY, again, cast.LOCAL_ADMIN)  # the same wish repeated: one effect (R-CASE-17)
    with pytest.raises(Conflict):
        ward.call(notifications.RESEND_DELIVERY, again.model_copy(update={"request_id": uuid4()}), cast.LOCAL_ADMIN)
    assert len(ward.mails(ward.mailbox)) == 1


@pytest.mark.parametrize("mode", ["drop_after_data", "garbage_after_data"])
def test_a_mail_whose_answer_was_lost_is_uncertain_and_there_once(ward: Ward, mode: str) -> None:
    """R-NOT-7."""
    ward.system.counterpart_behaves("mail", mode=mode, only=ward.mailbox, times=1)
    ward.start_case()
    eventually(lambda: [one for one in ward.listed() if one.state == "uncertain"])
    eventually(lambda: {one.state for one in ward.listed()} == {"sent", "uncertain"})
    assert len(ward.mails(ward.mailbox)) == 1


def test_an_sms_whose_answer_was_lost_is_settled_by_its_report(ward: Ward) -> None:
    """R-NOT-7: the provider says to the webhook that it has arrived."""
    ward.system.counterpart_behaves("sms", mode="drop_after", only=ward.mobile, times=1)
    case = ward.start_case().case
    ward.assign(case)
    ward.ask_back(case)
    [told] = eventually(lambda: [one for one in ward.listed("sent") if one.recipient_kind == "resident"])
    assert (told.reason, told.report) == (None, "delivered")
    assert len(ward.sms()) == 1


def test_an_sms_that_did_not_arrive_is_a_visible_failure(ward: Ward) -> None:
    """R-NOT-7."""
    ward.system.counterpart_behaves("sms", mode="report_failed", only=ward.mobile, times=1)
    case = ward.start_case().case
    ward.assign(case)
    ward.ask_back(case)
    [failed] = eventually(lambda: ward.listed("failed"))
    assert (failed.recipient_kind, failed.reason) == ("resident", "undelivered")


@pytest.mark.parametrize("mode", ["drop_after", "garbage_after"])
def test_an_sms_whose_answer_was_lost_is_uncertain_and_there_once(ward: Ward, mode: str) -> None:
    """R-NOT-7; nobody takes the report, the operator sends it again, and sees no address."""
    ward.system.process("notifications_web").kill()
    ward.system.counterpart_behaves("sms", mode=mode, only=ward.mobile, times=1)
    case = ward.start_case().case
    ward.assign(case)
    ward.ask_back(case)
    [uncertain] = eventually(lambda: [one for one in ward.listed() if one.state == "uncertain"])
    assert (uncertain.recipient_kind, uncertain.person, uncertain.address) == ("resident", None, None)
    assert len(ward.sms()) == 1
    again = notifications.ResendDelivery(request_id=uuid4(), delivery=uncertain.delivery)
    with pytest.raises(NotFound):  # residents' deliveries are none of the clinic's business
        ward.call(notifications.RESEND_DELIVERY, again, cast.LOCAL_ADMIN)
    ward.system.call(notifications.RESEND_DELIVERY, again, ward.system.operator_token)
    eventually(lambda: len(ward.sms()) == 2)


def test_nothing_is_lost_while_the_sender_or_identity_is_down(ward: Ward) -> None:
    """R-NOT-7."""
    ward.system.process("notifications_worker").kill()
    ward.start_case()
    eventually(lambda: len(ward.listed()) == 2)
    ward.system.process("notifications_worker").start()
    eventually(lambda: ward.mails(ward.mailbox) and ward.mails(cast.mail_of(cast.RECEIVER)))
    assert len(ward.mails(ward.mailbox)) == 1


def test_settings_are_refused_with_every_fault_named(ward: Ward) -> None:
    """R-NOT-2, R-SYS-3."""
    request = notifications.SetClinicSettings(
        request_id=uuid4(),
        clinic=ward.clinic.hsa_id,
        new_case_addresses=["bra@vgregion.example", "a@x.se\nBcc: b@x.se"],
        reminder_addresses=["ingen"],
    )
    with pytest.raises(Invalid) as refused:
        ward.call(notifications.SET_CLINIC_SETTINGS, request, cast.LOCAL_ADMIN)
    assert [name for name, _ in refused.value.fields] == ["new_case_addresses.1", "reminder_addresses.0"]


def test_nobody_else_gets_at_settings_and_deliveries(ward: Ward) -> None:
    """R-SYS-1, R-NOT-2."""
    read = notifications.GetClinicSettings(clinic=ward.clinic.hsa_id)
    of_clinic = notifications.ListClinicDeliveries(clinic=ward.clinic.hsa_id)
    overlapping = notifications.OverlappingAddresses(clinic=None, addresses=[ward.mailbox])
    for call, request in (
        (notifications.GET_CLINIC_SETTINGS, read),
        (notifications.LIST_CLINIC_DELIVERIES, of_clinic),
        (notifications.LIST_DELIVERIES, notifications.ListDeliveries()),
        (notifications.OVERLAPPING_ADDRESSES, overlapping),
    ):
        with pytest.raises(NotAuthenticated):
            ward.call(call, request, None)
        for who in (cast.RECEIVER, cast.OUTSIDER, cast.RESIDENT):
            with pytest.raises(Forbidden):
                ward.call(call, request, who)
