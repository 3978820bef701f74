"""Notifications: its calls, what it hears, what it does by the clock. The work is in the capability modules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.notifications import clinic_settings, delivering, listing, queueing
from services.notifications.settings import NotificationsSettings
from shared.contracts import cases, identity
from shared.contracts.base import Done
from shared.contracts.notifications import (
    GET_CLINIC_SETTINGS,
    LIST_CLINIC_DELIVERIES,
    LIST_DELIVERIES,
    OVERLAPPING_ADDRESSES,
    RESEND_DELIVERY,
    SET_CLINIC_SETTINGS,
    ClinicSettings,
    Deliveries,
    Overlapping,
    notifications,
)
from shared.database.transaction import Transaction
from shared.messaging.entrypoints import job, on, rpc
from shared.messaging.errors import Refused
from shared.operations.kernel import Kernel
from shared.operations.logs import log


class NotificationsService:
    """Who is told that something has come, and how that went."""

    name = "notifications"
    kernel = Kernel(NotificationsSettings, contract=notifications)

    # --- the clinics' settings ---

    @rpc(SET_CLINIC_SETTINGS)
    def set_clinic_settings(self, call: Any) -> ClinicSettings:
        settings: ClinicSettings = call.write(clinic_settings.set_settings)
        return settings

    @rpc(GET_CLINIC_SETTINGS)
    def get_clinic_settings(self, call: Any) -> ClinicSettings:
        return _with_overlaps(call, call.read(clinic_settings.get_settings))

    @rpc(OVERLAPPING_ADDRESSES)
    def overlapping_addresses(self, call: Any) -> Overlapping:
        found: Overlapping = call.read(clinic_settings.overlapping_addresses)
        return found

    # --- deliveries ---

    @rpc(LIST_DELIVERIES)
    def list_deliveries(self, call: Any) -> Deliveries:
        page: Deliveries = call.read(listing.list_deliveries)
        return page

    @rpc(LIST_CLINIC_DELIVERIES)
    def list_clinic_deliveries(self, call: Any) -> Deliveries:
        page: Deliveries = call.read(listing.list_clinic_deliveries)
        return page

    @rpc(RESEND_DELIVERY)
    def resend_delivery(self, call: Any) -> Done:
        done: Done = call.write(listing.resend)
        return done

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

    @on(identity.RESIDENT_STATUS_CHANGED)
    def resident_status_changed(self, tx: Transaction, event: identity.ResidentStatusChanged) -> None:
        if not event.active:
            queueing.withdraw_residents(tx, event.resident)

    # --- by the clock ---

    @job("find_unfinished_deliveries", every=timedelta(seconds=15))
    def find_unfinished_deliveries(self, run: Any) -> None:
        with run.transaction() as tx:
            swept = delivering.sweep(tx)
        if swept.freed or swept.uncertain:
            log.warning("unfinished_deliveries_found", count=swept.uncertain, total=swept.uncertain + swept.freed)


def _with_overlaps(call: Any, settings: ClinicSettings) -> ClinicSettings:
    """R-NOT-6: administrators see which addresses overlap, if identity can be asked."""
    if not settings.new_case_addresses:
        return settings.model_copy(update={"overlapping": []})
    receivers = call.read(lambda tx, _request: clinic_settings.case_receivers(tx, settings.clinic))
    if not receivers:
        return settings.model_copy(update={"overlapping": []})
    try:
        contacts = call.ask(identity.CONTACTS, identity.Contacts(staff=receivers[: identity.MANY]))
    except Refused:
        return settings
    return settings.model_copy(update={"overlapping": clinic_settings.overlapping_with(settings, contacts.staff)})
