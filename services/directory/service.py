"""The directory: clinics and staff as the care directories have them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.directory import asking, clinics, staff, sync
from services.directory.settings import DirectorySettings
from shared.contracts import cases, directory
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

    @rpc(directory.ACTIVATE_CLINIC)
    def activate_clinic(
        self, call: OngoingCall[directory.ActivateClinic, directory.ClinicActivated]
    ) -> directory.ClinicActivated:
        return call.write(clinics.activate)

    @rpc(directory.INACTIVATE_CLINIC)
    def inactivate_clinic(
        self, call: OngoingCall[directory.InactivateClinic, directory.ClinicInactivated]
    ) -> directory.ClinicInactivated:
        call.caller.require_regional_admin()
        activity = call.ask(cases.CLINIC_ACTIVITY, cases.AskClinicActivity(clinic=call.request.clinic))
        return call.write(clinics.inactivate, activity)

    @rpc(directory.GET_CLINICS)
    def get_clinics(self, call: OngoingCall[directory.GetClinics, directory.Clinics]) -> directory.Clinics:
        return call.read(clinics.get_clinics)

    @rpc(directory.SEARCH_CLINICS)
    def search_clinics(
        self, call: OngoingCall[directory.SearchClinics, directory.FoundClinics]
    ) -> directory.FoundClinics:
        return call.read(clinics.search)

    @rpc(directory.GET_STAFF)
    def get_staff(self, call: OngoingCall[directory.GetStaff, directory.Staff]) -> directory.Staff:
        return call.read(staff.get_staff)

    @rpc(directory.FIND_STAFF)
    def find_staff(self, call: OngoingCall[directory.FindStaff, directory.StaffFacts]) -> directory.StaffFacts:
        answer = asking.about(call.settings, call.request.person, call.remaining)
        if answer is None:
            return call.read(staff.from_copy, copy_is_all=call.settings.hsa_url is None)
        return call.read(staff.take_answer, answer)

    # A copy may be 24 hours old when HSA is down (R-DIR-12): so often, three loads in a row may fail. Where nothing has
    # changed the source says so, and nothing is read.
    @job("refresh", every=timedelta(hours=6))
    def refresh(self, run: Any) -> None:
        with run.transaction() as tx:
            sync.request_by_itself(tx)

    @job("tell_of_ended_staff", every=timedelta(minutes=15))
    def tell_of_ended_staff(self, run: Any) -> None:
        with run.transaction() as tx:
            staff.tell_of_ended(tx)

    @job("forget_old_lists", daily_at="04:00")
    def forget_old_lists(self, run: Any) -> None:
        with run.transaction() as tx:
            sync.forget_old_lists(tx)
