"""What identity answers: entrypoints only. Others are asked first, outside any transaction."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from services.identity import (
    approvals,
    cards,
    clinic_access,
    contacts,
    custody,
    disturbances,
    listings,
    logins,
    neighbours,
    personal_settings,
    refreshing,
    report_document,
    representation,
    residents,
    revocations,
    roles,
    sessions,
    signing_keys,
    subject_access,
    taking_apart,
    terms,
    unreachable,
    verification,
)
from services.identity.desk import desk_of
from services.identity.settings import IdentitySettings
from shared.contracts import access, directory, identity, logging_in, notifications, personal
from shared.contracts import disturbances as disturbance
from shared.contracts import subject_access as report
from shared.contracts.base import Done
from shared.database.transaction import Transaction
from shared.messaging.entrypoints import job, on, rpc
from shared.messaging.errors import Forbidden, Refused
from shared.messaging.kernel import Kernel
from shared.messaging.server import OngoingCall

KEEP_ENDED = timedelta(days=7)
KEEP_LOGINS = timedelta(hours=1)
PLACES_SECONDS = 2.0
CUSTODY_FRESH = timedelta(hours=24)


class IdentityService:
    """Who someone is, what they may do, and that it is known everywhere at once."""

    name = "identity"
    kernel = Kernel(
        IdentitySettings,
        contract=identity.identity,
        rights_source=revocations.rights_source,
        latest_number=revocations.latest_number,
        keys_source=signing_keys.endorsements,
    )

    # --- logging in ---------------------------------------------------------------------------------------------

    @rpc(logging_in.BEGIN_LOGIN)
    def begin_login(self, call: OngoingCall[logging_in.BeginLogin, logging_in.LoginBegun]) -> logging_in.LoginBegun:
        issuer, client_id = logins.issuer_and_client(call.settings, call.request.kind)
        return call.write_together(logins.begin, (desk_of(call.settings).providers.provider(issuer), client_id))

    @rpc(logging_in.COMPLETE_LOGIN)
    def complete_login(
        self, call: OngoingCall[logging_in.CompleteLogin, logging_in.SessionOpened]
    ) -> logging_in.SessionOpened:
        with logins.used_up_if_refused(call):
            login = logins.require_begun(call.read_together(logins.begun), call.now)
            desk = desk_of(call.settings)
            claims = logins.verified_claims(desk.providers, call.settings, login, call.request.id_token, call.now)
            if login.kind == "staff":
                hsa_id = logins.hsa_id_of(claims, call.request.employee_hsa_id)
                logins.require_in_directory(call.ask(directory.FIND_STAFF, directory.FindStaff(person=hsa_id)))
                return call.write(logins.complete_for_staff, hsa_id, desk.tokens)
            complete = partial(logins.complete_for_residents, key=desk.number_key, desk=desk.tokens)
            person = neighbours.registered(call, claims)
            try:
                return call.write_together(complete, person)
            except Forbidden:
                # What was learnt stays, although the login is refused (R-ID-14, R-ID-24).
                call.read(residents.bring_up_to_date, person, desk.number_key)
                raise

    @rpc(logging_in.BEGIN_CARD_LOGIN)
    def begin_card_login(
        self, call: OngoingCall[logging_in.BeginCardLogin, logging_in.CardLoginBegun]
    ) -> logging_in.CardLoginBegun:
        logins.require_cards_taken(desk_of(call.settings).card_issuers)
        return call.write(logins.begin_by_card, call.settings.staff_oidc_client_id)

    @rpc(logging_in.COMPLETE_CARD_LOGIN)
    def complete_card_login(
        self, call: OngoingCall[logging_in.CompleteCardLogin, logging_in.SessionOpened]
    ) -> logging_in.SessionOpened:
        with logins.used_up_if_refused(call):
            login = logins.require_begun(call.read_together(logins.begun), call.now, "card")
            desk = desk_of(call.settings)
            issuers = logins.require_cards_taken(desk.card_issuers)
            card = cards.card_of(call.request.proof)
            cards.require_key(call.request.proof, card, nonce=login.nonce, audience=call.settings.staff_oidc_client_id)
            issuer = issuers.issuer_of(card, call.now)
            hsa_id = cards.hsa_id_on(card)
            desk.certificate_status.require_good(card, issuer, call.now)
            logins.require_in_directory(call.ask(directory.FIND_STAFF, directory.FindStaff(person=hsa_id)))
            return call.write(logins.complete_for_staff, hsa_id, desk.tokens)

    @rpc(logging_in.LOCK_LOGIN)
    def lock_login(self, call: OngoingCall[logging_in.LockLogin, Done]) -> Done:
        return call.write(residents.lock)

    @rpc(logging_in.UNLOCK_LOGIN)
    def unlock_login(self, call: OngoingCall[logging_in.UnlockLogin, Done]) -> Done:
        with logins.used_up_if_refused(call):
            login = logins.require_begun(call.read_together(logins.begun), call.now, "unlock")
            desk = desk_of(call.settings)
            claims = logins.verified_claims(desk.providers, call.settings, login, call.request.id_token, call.now)
            logins.require_fresh(claims, login)
            return call.write(logins.complete_unlocking, neighbours.registered(call, claims), desk.number_key)

    # --- sessions and terms -------------------------------------------------------------------------------------

    @rpc(logging_in.RENEW_SESSION)
    def renew_session(
        self, call: OngoingCall[logging_in.RenewSession, logging_in.SessionOpened]
    ) -> logging_in.SessionOpened:
        try:
            return call.write(sessions.renew, desk_of(call.settings).tokens)
        except sessions.RenewalTokenReused as reused:
            call.read(sessions.end_reused, reused.session)
            raise

    @rpc(logging_in.LOG_OUT)
    def log_out(self, call: OngoingCall[logging_in.LogOut, Done]) -> Done:
        return call.write(sessions.log_out)

    @rpc(logging_in.LIST_SESSIONS)
    def list_sessions(
        self, call: OngoingCall[logging_in.ListSessions, logging_in.SessionsFound]
    ) -> logging_in.SessionsFound:
        return call.read(sessions.list_own)

    @rpc(logging_in.END_SESSION)
    def end_session(self, call: OngoingCall[logging_in.EndSession, Done]) -> Done:
        return call.write(sessions.end_own)

    @rpc(logging_in.READ_TERMS)
    def read_terms(self, call: OngoingCall[logging_in.ReadTerms, logging_in.Terms]) -> logging_in.Terms:
        return call.read(terms.read_terms, desk_of(call.settings).terms)

    @rpc(logging_in.ACCEPT_TERMS)
    def accept_terms(
        self, call: OngoingCall[logging_in.AcceptTerms, logging_in.SessionOpened]
    ) -> logging_in.SessionOpened:
        return call.write(sessions.accept_terms, desk_of(call.settings).tokens)

    # --- roles --------------------------------------------------------------------------------------------------

    @rpc(identity.MAKE_FIRST_ADMINISTRATOR)
    def make_first_administrator(
        self, call: OngoingCall[identity.MakeFirstAdministrator, identity.FirstAdministrator]
    ) -> identity.FirstAdministrator:
        person = roles.hsa_id_of(call.request.person)
        roles.require_in_directory(call.ask(directory.FIND_STAFF, directory.FindStaff(person=person)))
        return call.write(roles.make_first_administrator, person)

    @rpc(identity.GIVE_REGIONAL_ADMIN)
    def give_regional_admin(
        self, call: OngoingCall[identity.GiveRegionalAdmin, identity.RegionalAdmins]
    ) -> identity.RegionalAdmins:
        person = roles.hsa_id_of(call.request.person)
        roles.require_in_directory(call.ask(directory.FIND_STAFF, directory.FindStaff(person=person)))
        return call.write(roles.give_regional_admin, person)

    @rpc(identity.TAKE_REGIONAL_ADMIN)
    def take_regional_admin(
        self, call: OngoingCall[identity.TakeRegionalAdmin, identity.RegionalAdmins]
    ) -> identity.RegionalAdmins:
        return call.write(roles.take_regional_admin, roles.hsa_id_of(call.request.person))

    @rpc(identity.GIVE_ROLE)
    def give_role(self, call: OngoingCall[identity.GiveRole, identity.RoleGiven]) -> identity.RoleGiven:
        clinic, person = call.request.clinic, roles.hsa_id_of(call.request.person)
        roles.require_may_give(call.caller, clinic, call.request.role, person)
        roles.require_active(clinic, call.ask(directory.GET_CLINICS, directory.GetClinics(clinics=[clinic])))
        roles.require_in_directory(call.ask(directory.FIND_STAFF, directory.FindStaff(person=person)))
        return call.write(roles.give, person)

    @rpc(identity.TAKE_ROLE)
    def take_role(self, call: OngoingCall[identity.TakeRole, identity.RoleTaken]) -> identity.RoleTaken:
        person = roles.hsa_id_of(call.request.person)
        if person != call.caller.subject:
            # Also when the request comes again. Who took their own right needs none to be told that it was taken.
            roles.require_may_take(call.caller, call.request.clinic, call.request.role)
        taken = call.write(roles.take, person, neighbours.missing_administrators(call))
        # Only now: the right is gone at once, whether or not the others answer (R-ID-10).
        overlapping = neighbours.overlapping_of(call, taken.person)
        if not call.read(roles.may_still_take):
            return taken
        return taken.model_copy(update={"overlapping_addresses": overlapping})

    @rpc(identity.LIST_RIGHTS)
    def list_rights(self, call: OngoingCall[identity.ListRights, identity.ClinicRights]) -> identity.ClinicRights:
        held = call.read(roles.people_at)
        facts = neighbours.staff(call, list(held))
        own = call.read(contacts.own_mail, facts, desk_of(call.settings).number_key)
        return roles.with_directory(held, facts, own, neighbours.overlapping(call, call.request.clinic, own))

    @rpc(identity.LIST_ROLES_OF)
    def list_roles_of(self, call: OngoingCall[identity.ListRolesOf, identity.RolesOf]) -> identity.RolesOf:
        return call.read(roles.roles_of, roles.hsa_id_of(call.request.person))

    @rpc(identity.LIST_ROLE_HISTORY)
    def list_role_history(
        self, call: OngoingCall[identity.ListRoleHistory, identity.RoleHistory]
    ) -> identity.RoleHistory:
        return call.read(roles.history)

    @rpc(identity.CURRENT_RIGHTS)
    def current_rights(self, call: OngoingCall[identity.CurrentRights, identity.RightsNow]) -> identity.RightsNow:
        return call.read(revocations.current_rights)

    @rpc(identity.ALL_RIGHTS)
    def all_rights(self, call: OngoingCall[identity.AllRights, identity.RightsPage]) -> identity.RightsPage:
        return call.read(revocations.all_rights)

    @rpc(identity.TELL_RIGHTS_AGAIN)
    def tell_rights_again(self, call: OngoingCall[identity.TellRightsAgain, Done]) -> Done:
        return call.write(revocations.tell_again)

    # --- access to clinics --------------------------------------------------------------------------------------

    @rpc(access.ACCESS_TO_CLINICS)
    def access_to_clinics(self, call: OngoingCall[access.AccessToClinics, access.AccessFound]) -> access.AccessFound:
        found = call.read(clinic_access.facts)
        if asked := found.to_ask(call.request.clinics):
            try:
                clinics = neighbours.clinics(call, asked, PLACES_SECONDS)
            except Refused:
                clinic_access.require_known(found, call.request.clinics)
            else:
                call.read(clinic_access.keep_places, asked, clinics)
                found = call.read(clinic_access.facts)
        return call.read(clinic_access.decide, found)

    @rpc(access.REPRESENTATION)
    def representation(
        self, call: OngoingCall[access.Representation, access.RepresentationNow]
    ) -> access.RepresentationNow:
        return call.read(representation.asked)

    @rpc(access.MY_CHILDREN)
    def my_children(self, call: OngoingCall[access.MyChildren, access.ChildrenFound]) -> access.ChildrenFound:
        return neighbours.family(call)

    @rpc(access.ACT_FOR_CHILD)
    def act_for_child(
        self, call: OngoingCall[access.ActForChild, logging_in.SessionOpened]
    ) -> logging_in.SessionOpened:
        # What is learnt of custody stays, although it may be the reason to refuse (R-ID-13).
        neighbours.family(call)
        return call.write(representation.act, desk_of(call.settings).tokens)

    @rpc(access.SET_CATCHMENT)
    def set_catchment(self, call: OngoingCall[access.SetCatchment, access.Catchment]) -> access.Catchment:
        return call.write(approvals.set_catchment)

    @rpc(access.GET_CATCHMENT)
    def get_catchment(self, call: OngoingCall[access.GetCatchment, access.Catchment]) -> access.Catchment:
        return call.read(approvals.get_catchment)

    @rpc(access.APPROVE_RESIDENT)
    def approve_resident(
        self, call: OngoingCall[access.ApproveResident, access.ResidentApproved]
    ) -> access.ResidentApproved:
        return call.write(approvals.approve, desk_of(call.settings).number_key)

    @rpc(access.WITHDRAW_APPROVALS)
    def withdraw_approvals(
        self, call: OngoingCall[access.WithdrawApprovals, access.ApprovalsWithdrawn]
    ) -> access.ApprovalsWithdrawn:
        return call.write(approvals.withdraw)

    @rpc(access.LIST_APPROVALS)
    def list_approvals(self, call: OngoingCall[access.ListApprovals, access.Approvals]) -> access.Approvals:
        return call.read(approvals.list_approvals)

    @rpc(access.BLOCK_GUARDIAN)
    def block_guardian(self, call: OngoingCall[access.BlockGuardian, Done]) -> Done:
        return call.write(representation.block, desk_of(call.settings).number_key)

    @rpc(access.LIST_BLOCKED_GUARDIANS)
    def list_blocked_guardians(
        self, call: OngoingCall[access.ListBlockedGuardians, access.BlockedGuardians]
    ) -> access.BlockedGuardians:
        return call.read(representation.list_blocked)

    # --- listings and my clinics --------------------------------------------------------------------------------

    @rpc(access.IMPORT_LISTINGS)
    def import_listings(
        self, call: OngoingCall[access.ImportListings, access.ListingsImported]
    ) -> access.ListingsImported:
        return call.write(listings.take_in, desk_of(call.settings).number_key)

    @rpc(access.MY_CLINICS)
    def my_clinics(self, call: OngoingCall[access.MyClinics, access.MyClinicsFound]) -> access.MyClinicsFound:
        return call.read(listings.mine)

    @rpc(access.ADD_MY_CLINIC)
    def add_my_clinic(self, call: OngoingCall[access.AddMyClinic, access.MyClinicsFound]) -> access.MyClinicsFound:
        clinic = call.request.clinic
        roles.require_active(clinic, call.ask(directory.GET_CLINICS, directory.GetClinics(clinics=[clinic])))
        return call.write(listings.add)

    @rpc(access.REMOVE_MY_CLINIC)
    def remove_my_clinic(
        self, call: OngoingCall[access.RemoveMyClinic, access.MyClinicsFound]
    ) -> access.MyClinicsFound:
        return call.write(listings.remove)

    @rpc(identity.PUBLIC_KEYS)
    def public_keys(self, call: OngoingCall[identity.PublicKeys, identity.PublicKeysNow]) -> identity.PublicKeysNow:
        return call.read(signing_keys.public_keys)

    @rpc(identity.CHANGE_SIGNING_KEY)
    def change_signing_key(self, call: OngoingCall[identity.ChangeSigningKey, Done]) -> Done:
        return call.write(signing_keys.change, desk_of(call.settings).tokens.keys.own)

    # --- residents and contact data -----------------------------------------------------------------------------

    @rpc(identity.RESIDENT_CARDS)
    def resident_cards(self, call: OngoingCall[identity.ResidentCards, identity.CardsFound]) -> identity.CardsFound:
        return call.read(residents.resident_cards)

    @rpc(identity.TAKE_APART)
    def take_apart(self, call: OngoingCall[identity.TakeApart, identity.TakenApart]) -> identity.TakenApart:
        return call.write(taking_apart.take_apart, desk_of(call.settings).number_key)

    @rpc(identity.FIND_RESIDENT)
    def find_resident(self, call: OngoingCall[identity.FindResident, identity.ResidentFound]) -> identity.ResidentFound:
        return call.read(residents.find_resident, desk_of(call.settings).number_key)

    @rpc(identity.FIND_RESIDENTS)
    def find_residents(
        self, call: OngoingCall[identity.FindResidents, identity.ResidentsFound]
    ) -> identity.ResidentsFound:
        return call.read(residents.find_residents, desk_of(call.settings).number_key)

    @rpc(identity.SET_CONTACT)
    def set_contact(self, call: OngoingCall[identity.SetContact, identity.ContactSet]) -> identity.ContactSet:
        neighbours.require_own(
            call, contacts.addresses_in(call.request, contacts.owner_of(call.caller)[0]).get("email")
        )
        contact = call.write(verification.set_contact, desk_of(call.settings).number_key)
        for channel in contact.to_verify:
            neighbours.send_code(call, channel)
        return contact

    @rpc(personal.SEND_VERIFICATION_CODE)
    def send_verification_code(self, call: OngoingCall[personal.SendVerificationCode, Done]) -> Done:
        if call.request.channel == "email":
            neighbours.require_own(call, call.read(verification.own_email))
        done = call.write(verification.send_another, desk_of(call.settings).number_key)
        neighbours.send_code(call, call.request.channel)
        return done

    @rpc(personal.VERIFY_ADDRESS)
    def verify_address(self, call: OngoingCall[personal.VerifyAddress, Done]) -> Done:
        if call.request.channel == "email":
            neighbours.require_own(call, call.read(verification.own_email))
        tried = call.read(verification.count_attempt)
        return call.write(verification.verify, desk_of(call.settings).number_key, tried)

    @rpc(personal.MY_SETTINGS)
    def my_settings(self, call: OngoingCall[personal.MySettings, personal.Settings]) -> personal.Settings:
        return call.read(personal_settings.mine, neighbours.known_of_hsa(call), desk_of(call.settings).number_key)

    @rpc(personal.REFRESH_FROM_HSA)
    def refresh_from_hsa(self, call: OngoingCall[personal.RefreshFromHsa, personal.FromHsa]) -> personal.FromHsa:
        return personal_settings.from_hsa(
            call.ask(directory.FIND_STAFF, directory.FindStaff(person=call.caller.subject))
        )

    @rpc(identity.CONTACTS)
    def contacts(self, call: OngoingCall[identity.Contacts, identity.ContactsFound]) -> identity.ContactsFound:
        found = neighbours.staff(call, call.request.staff)
        return call.read(contacts.contacts, found, desk_of(call.settings).number_key)

    # --- disturbances -------------------------------------------------------------------------------------------

    @rpc(disturbance.DISTURBANCES)
    def disturbances(
        self, call: OngoingCall[disturbance.Disturbances, disturbance.DisturbancesShown]
    ) -> disturbance.DisturbancesShown:
        return call.read(disturbances.shown_now)

    @rpc(disturbance.ALL_DISTURBANCES)
    def all_disturbances(
        self, call: OngoingCall[disturbance.AllDisturbances, disturbance.DisturbancesShown]
    ) -> disturbance.DisturbancesShown:
        return call.read(disturbances.all_of_them)

    @rpc(disturbance.PUBLISH_DISTURBANCE)
    def publish_disturbance(
        self, call: OngoingCall[disturbance.PublishDisturbance, disturbance.Disturbance]
    ) -> disturbance.Disturbance:
        return call.write(disturbances.publish)

    @rpc(disturbance.CHANGE_DISTURBANCE)
    def change_disturbance(
        self, call: OngoingCall[disturbance.ChangeDisturbance, disturbance.Disturbance]
    ) -> disturbance.Disturbance:
        return call.write(disturbances.change)

    # --- what has happened elsewhere ------------------------------------------------------------------------------

    @on(notifications.ADDRESS_BOUNCED)
    def address_bounced(self, tx: Transaction, event: notifications.AddressBounced) -> None:
        unreachable.note(tx, event)

    # --- subject access reports ---------------------------------------------------------------------------------

    @rpc(report.REQUEST_REPORT)
    def request_subject_access_report(
        self, call: OngoingCall[report.RequestReport, report.ReportRequested]
    ) -> report.ReportRequested:
        return call.write(subject_access.request)

    @rpc(report.MY_REPORTS)
    def my_subject_access_reports(self, call: OngoingCall[report.MyReports, report.Reports]) -> report.Reports:
        return call.read(subject_access.mine)

    @rpc(report.READ_REPORT)
    def read_subject_access_report(
        self, call: OngoingCall[report.ReadReport, report.ReportPiece]
    ) -> report.ReportPiece:
        return report_document.piece(call.read(subject_access.whole), call.request)

    @rpc(report.REPORTS_TO_RELEASE)
    def subject_access_to_release(
        self, call: OngoingCall[report.ReportsToRelease, report.PartsToRelease]
    ) -> report.PartsToRelease:
        return call.read(subject_access.to_release, neighbours.care_provider(call, call.request.clinic))

    @rpc(report.RELEASE_REPORT)
    def release_subject_access(self, call: OngoingCall[report.ReleaseReport, Done]) -> Done:
        return call.write(subject_access.release, neighbours.care_provider(call, call.request.clinic))

    # --- by the clock -------------------------------------------------------------------------------------------

    @job("forget_old_sessions", daily_at="03:10")
    def forget_old_sessions(self, run: Any) -> None:
        removed = True
        while removed:
            with run.transaction() as tx:
                removed = sessions.forget_old(tx, run.now - KEEP_ENDED) > 0
        with run.transaction() as tx:
            verification.forget_old(tx, run.now - KEEP_ENDED)

    @job("forget_old_logins", every=timedelta(minutes=10))
    def forget_old_logins(self, run: Any) -> None:
        removed = True
        while removed:
            with run.transaction() as tx:
                removed = logins.forget_old(tx, run.now - KEEP_LOGINS) > 0

    @job("gather_subject_access", every=timedelta(seconds=10))
    def gather_subject_access(self, run: Any) -> None:
        subject_access.gather(run.transaction, run.ask, run.stopping.is_set)

    @job("tell_who_has_not_released", daily_at="03:20")
    def tell_who_has_not_released(self, run: Any) -> None:
        with run.transaction() as tx:
            subject_access.tell_who_has_not_released(tx)

    @job("confirm_custody", every=timedelta(hours=1))
    def confirm_custody(self, run: Any) -> None:
        register = desk_of(run.settings).register
        custody.confirm(run.transaction, register, run.now - CUSTODY_FRESH, run.stopping.is_set)

    @job("make_signing_keys", every=timedelta(hours=1))
    def make_signing_keys(self, run: Any) -> None:
        with run.transaction() as tx:
            signing_keys.rotate(tx, desk_of(run.settings).tokens.keys.own)

    @job("refresh_residents", every=timedelta(hours=1))
    def refresh_residents(self, run: Any) -> None:
        desk = desk_of(run.settings)
        older_than = run.now - timedelta(hours=run.settings.pu_refresh_hours)
        refreshing.refresh(run.transaction, desk.register, desk.number_key, older_than, run.stopping.is_set)
