"""Notifications: its calls, what it hears, what it does by the clock. The work is in the capability modules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.notifications import (
    clinic_settings,
    codes,
    delivering,
    former_staff,
    listing,
    queueing,
    reminding,
    resealing,
    statistics,
    subject_access,
)
from services.notifications.settings import NotificationsSettings
from shared.contracts import cases, identity
from shared.contracts import notifications as contract
from shared.contracts import subject_access as report
from shared.contracts.base import Done
from shared.database.transaction import Transaction
from shared.messaging.entrypoints import job, on, rpc
from shared.messaging.errors import Refused
from shared.messaging.kernel import Kernel
from shared.messaging.server import OngoingCall

_OVERLAP_SECONDS = 2.0


class NotificationsService:
    """Who is told that something has come, and how that went."""

    name = "notifications"
    kernel = Kernel(NotificationsSettings, contract=contract.notifications)

    # --- the clinics' settings ---

    @rpc(contract.SET_CLINIC_SETTINGS)
    def set_clinic_settings(
        self, call: OngoingCall[contract.SetClinicSettings, contract.ClinicSettings]
    ) -> contract.ClinicSettings:
        return call.write(clinic_settings.set_settings)

    @rpc(contract.GET_CLINIC_SETTINGS)
    def get_clinic_settings(
        self, call: OngoingCall[contract.GetClinicSettings, contract.ClinicSettings]
    ) -> contract.ClinicSettings:
        return _with_overlaps(call, call.read(clinic_settings.get_settings))

    @rpc(contract.SEND_TEST_MESSAGE)
    def send_test_message(
        self, call: OngoingCall[contract.SendTestMessage, contract.TestMessageQueued]
    ) -> contract.TestMessageQueued:
        return call.write(clinic_settings.send_test)

    @rpc(contract.OVERLAPPING_ADDRESSES)
    def overlapping_addresses(
        self, call: OngoingCall[contract.OverlappingAddresses, contract.Overlapping]
    ) -> contract.Overlapping:
        return call.read(clinic_settings.overlapping_addresses)

    # --- deliveries ---

    @rpc(contract.LIST_DELIVERIES)
    def list_deliveries(self, call: OngoingCall[contract.ListDeliveries, contract.Deliveries]) -> contract.Deliveries:
        return call.read(listing.list_deliveries)

    @rpc(contract.LIST_CLINIC_DELIVERIES)
    def list_clinic_deliveries(
        self, call: OngoingCall[contract.ListClinicDeliveries, contract.Deliveries]
    ) -> contract.Deliveries:
        return call.read(listing.list_clinic_deliveries)

    @rpc(contract.RESEND_DELIVERY)
    def resend_delivery(self, call: OngoingCall[contract.ResendDelivery, Done]) -> Done:
        return call.write(listing.resend)

    @rpc(contract.RESEND_FAILED)
    def resend_failed(self, call: OngoingCall[contract.ResendFailed, contract.FailedResent]) -> contract.FailedResent:
        return call.write(listing.resend_failed)

    @rpc(contract.DELIVERY_STATISTICS)
    def delivery_statistics(
        self, call: OngoingCall[contract.DeliveryStatistics, contract.DeliveryCounts]
    ) -> contract.DeliveryCounts:
        return call.read(statistics.statistics)

    # --- codes, which are no notifications ---

    @rpc(contract.SEND_CODE)
    def send_code(self, call: OngoingCall[contract.SendCode, Done]) -> Done:
        return call.write(codes.queue)

    # --- for identity ---

    @rpc(report.OF_NOTIFICATIONS)
    def subject_access(self, call: OngoingCall[report.SubjectAccess, report.HeldPage]) -> report.HeldPage:
        return call.read(subject_access.page)

    # --- what has happened elsewhere ---

    @on(cases.CASE_STARTED)
    def case_started(self, tx: Transaction, event: cases.CaseStartedEvent) -> None:
        queueing.queue(tx, cases.CASE_STARTED, event)

    @on(cases.CASE_ASSIGNED)
    def case_assigned(self, tx: Transaction, event: cases.CaseAssignedEvent) -> None:
        queueing.queue(tx, cases.CASE_ASSIGNED, event)

    @on(cases.MESSAGE_SENT)
    def message_sent(self, tx: Transaction, event: cases.MessageSentEvent) -> None:
        queueing.queue(tx, cases.MESSAGE_SENT, event)

    @on(cases.ANSWER_REMINDER)
    def answer_reminder(self, tx: Transaction, event: cases.AnswerReminderEvent) -> None:
        queueing.queue(tx, cases.ANSWER_REMINDER, event)

    @on(identity.RESIDENT_STATUS_CHANGED)
    def resident_status_changed(self, tx: Transaction, event: identity.ResidentStatusChanged) -> None:
        if not event.active:
            queueing.withdraw_residents(tx, event.resident)

    @on(identity.RIGHTS_CHANGED)
    def rights_changed(self, tx: Transaction, event: identity.RightsChanged) -> None:
        former_staff.note_staff(tx, event)

    # --- by the clock ---

    @job("find_unfinished_deliveries", every=timedelta(seconds=15))
    def find_unfinished_deliveries(self, run: Any) -> None:
        with run.transaction() as tx:
            swept = delivering.sweep(tx)
            codes.forget_worthless(tx)
        swept.tell()

    @job("remind_of_unhandled_cases", daily_at="07:00")
    def remind_of_unhandled_cases(self, run: Any) -> None:
        reminding.remind_all(run)

    @job("forget_old_deliveries", daily_at="03:40")
    def forget_old_deliveries(self, run: Any) -> None:
        statistics.forget_old(run)

    @job("forget_former_staff", daily_at="03:50")
    def forget_former_staff(self, run: Any) -> None:
        former_staff.forget(run)

    @job("reseal", every=timedelta(days=1))
    def reseal(self, run: Any) -> None:
        resealing.reseal_all(run)


def _with_overlaps(
    call: OngoingCall[contract.GetClinicSettings, contract.ClinicSettings], settings: contract.ClinicSettings
) -> contract.ClinicSettings:
    """Which addresses are people's own, still here or gone (R-NOT-6, R-ID-10), if identity can be asked."""
    if not settings.new_case_addresses and not settings.reminder_addresses:
        return settings.model_copy(update={"overlapping": [], "of_former_staff": []})
    receivers, former = call.read(clinic_settings.case_receivers), call.read(former_staff.former_staff)
    people, found = [*receivers, *former], []
    try:
        for start in range(0, len(people), identity.MANY):
            question = identity.Contacts(staff=people[start : start + identity.MANY])
            found += call.ask(identity.CONTACTS, question, timeout=_OVERLAP_SECONDS).staff
    except Refused:
        return settings
    here = [one for one in found if one.person in set(receivers)]
    gone = [one for one in found if one.person in set(former)]
    return settings.model_copy(
        update={
            "overlapping": clinic_settings.overlapping_with(settings, here),
            "of_former_staff": former_staff.of_former_staff(settings, gone),
        }
    )
