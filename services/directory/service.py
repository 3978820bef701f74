"""The directory: clinics and staff as the care directories have them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from services.directory import (
    applications,
    asking,
    cards,
    clinics,
    inactivating,
    publishing,
    searching,
    sources,
    staff,
    sync,
    warnings,
)
from services.directory.settings import DirectorySettings
from shared.contracts import directory
from shared.messaging.entrypoints import job, rpc
from shared.messaging.kernel import Kernel
from shared.messaging.server import OngoingCall


class DirectoryService:
    """Entrypoints; what they do stands in the capability modules."""

    name = "directory"
    kernel = Kernel(DirectorySettings, contract=directory.directory)

    @rpc(directory.START_SYNC)
    def start_sync(self, call: OngoingCall[directory.StartSync, directory.SyncRequested]) -> directory.SyncRequested:
        return call.write(sync.request_run)

    @rpc(directory.GET_SYNC_RUN)
    def get_sync_run(self, call: OngoingCall[directory.GetSyncRun, directory.SyncRun]) -> directory.SyncRun:
        return call.read(sync.get_run)

    @rpc(directory.LIST_SYNC_RUNS)
    def list_sync_runs(self, call: OngoingCall[directory.ListSyncRuns, directory.SyncRuns]) -> directory.SyncRuns:
        return call.read(sync.list_runs)

    @rpc(directory.ACTIVATE_CLINIC)
    def activate_clinic(
        self, call: OngoingCall[directory.ActivateClinic, directory.ClinicActivated]
    ) -> directory.ClinicActivated:
        call.caller.require_regional_admin()
        unit = call.read(clinics.without_care_provider, call.request.clinic)
        provider = asking.care_provider_of(call.settings, unit, call.remaining) if unit else None
        return call.write(clinics.activate, provider)

    @rpc(directory.APPLY_FOR_CLINIC)
    def apply_for_clinic(
        self, call: OngoingCall[directory.ApplyForClinic, directory.ApplicationMade]
    ) -> directory.ApplicationMade:
        return call.write(applications.apply)

    @rpc(directory.DECIDE_APPLICATION)
    def decide_application(
        self, call: OngoingCall[directory.DecideApplication, directory.ApplicationDecided]
    ) -> directory.ApplicationDecided:
        call.caller.require_regional_admin()
        unit = call.read(applications.unit_without_care_provider) if call.request.approved else None
        provider = asking.care_provider_of(call.settings, unit, call.remaining) if unit else None
        return call.write(applications.decide, provider)

    @rpc(directory.LIST_APPLICATIONS)
    def list_applications(
        self, call: OngoingCall[directory.ListApplications, directory.Applications]
    ) -> directory.Applications:
        return call.read(applications.list_of)

    @rpc(directory.INACTIVATE_CLINIC)
    def inactivate_clinic(
        self, call: OngoingCall[directory.InactivateClinic, directory.ClinicInactivated]
    ) -> directory.ClinicInactivated:
        call.caller.require_regional_admin()
        version = call.read(inactivating.version_of)
        activity = asking.activity(call.ask, call.request.clinic)
        return call.write(inactivating.inactivate, version, activity)

    @rpc(directory.GET_CLINICS)
    def get_clinics(self, call: OngoingCall[directory.GetClinics, directory.Clinics]) -> directory.Clinics:
        return call.read(clinics.get_clinics)

    @rpc(directory.SEARCH_CLINICS)
    def search_clinics(
        self, call: OngoingCall[directory.SearchClinics, directory.FoundClinics]
    ) -> directory.FoundClinics:
        if call.caller.kind != "resident":
            return call.read(searching.search)
        hits = call.read(searching.for_resident)
        return searching.page(hits, call.request.limit, asking.open_clinics(call, hits.clinics))

    @rpc(directory.GET_PUBLIC_CARDS)
    def get_public_cards(
        self, call: OngoingCall[directory.GetPublicCards, directory.PublicCards]
    ) -> directory.PublicCards:
        return call.read(cards.get_public)

    @rpc(directory.GET_CONTACT_CARD)
    def get_contact_card(
        self, call: OngoingCall[directory.GetContactCard, directory.ContactCard]
    ) -> directory.ContactCard:
        return call.read(cards.get_contact_card, asking.case_types_of(call, call.request.clinic))

    @rpc(directory.WRITE_CONTACT_CARD)
    def write_contact_card(
        self, call: OngoingCall[directory.WriteContactCard, directory.ContactCardWritten]
    ) -> directory.ContactCardWritten:
        return call.write(cards.write)

    @rpc(directory.SET_PUBLIC_ORDER)
    def set_public_order(
        self, call: OngoingCall[directory.SetPublicOrder, directory.PublicOrderSet]
    ) -> directory.PublicOrderSet:
        return call.write(cards.set_public_order)

    @rpc(directory.GET_STAFF)
    def get_staff(self, call: OngoingCall[directory.GetStaff, directory.Staff]) -> directory.Staff:
        return call.read(staff.get_staff)

    @rpc(directory.FIND_STAFF)
    def find_staff(self, call: OngoingCall[directory.FindStaff, directory.StaffFacts]) -> directory.StaffFacts:
        answer = asking.about(call.settings, call.request.person, call.remaining)
        if answer is None:
            return call.read(staff.from_copy, copy_is_all=call.settings.hsa_url is None)
        return call.read(staff.take_answer, answer)

    @rpc(directory.REFRESH_MY_FACTS)
    def refresh_my_facts(
        self, call: OngoingCall[directory.RefreshMyFacts, directory.StaffFacts]
    ) -> directory.StaffFacts:
        answer = asking.about(call.settings, call.caller.subject, call.remaining)
        return call.read(staff.refresh, answer)

    # A copy may be 24 hours old when HSA is down (R-DIR-12): so often, three loads in a row may fail. Where nothing has
    # changed the source says so, and nothing is read.
    @job("refresh", every=timedelta(hours=6))
    def refresh(self, run: Any) -> None:
        with run.transaction() as tx:
            sync.request_by_itself(tx)

    # Staff data are a month old at most (R-DIR-1); each night those are asked about whose month is over.
    @job("refresh_staff", daily_at="01:00")
    def refresh_staff(self, run: Any) -> None:
        if run.settings.hsa_url is not None:
            with run.transaction() as tx:
                sync.request_by_itself(tx, sources.HSA)

    @job("tell_of_ended_staff", every=timedelta(minutes=15))
    def tell_of_ended_staff(self, run: Any) -> None:
        with run.transaction() as tx:
            staff.tell_of_ended(tx)

    @job("tell_of_warnings", every=timedelta(minutes=1))
    def tell_of_warnings(self, run: Any) -> None:
        with run.transaction() as tx:
            warnings.tell(tx)

    @job("take_back_inactivations", every=timedelta(minutes=5))
    def take_back_inactivations(self, run: Any) -> None:
        inactivating.take_back(run.transaction, partial(asking.activity, run.ask))

    @job("publish_cards_at_10", daily_at=publishing.AT[0])
    def publish_cards_at_10(self, run: Any) -> None:
        publishing.publish(run.transaction, partial(asking.offered, run.ask))

    @job("publish_cards_at_14", daily_at=publishing.AT[1])
    def publish_cards_at_14(self, run: Any) -> None:
        publishing.publish(run.transaction, partial(asking.offered, run.ask))

    @job("publish_cards_at_21", daily_at=publishing.AT[2])
    def publish_cards_at_21(self, run: Any) -> None:
        publishing.publish(run.transaction, partial(asking.offered, run.ask))

    @job("forget_old_lists", daily_at="04:00")
    def forget_old_lists(self, run: Any) -> None:
        with run.transaction() as tx:
            sync.forget_old_lists(tx)
