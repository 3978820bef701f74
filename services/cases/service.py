"""The cases service: what it answers, hears and does by the clock. The work is in the modules named here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.cases import (
    access_log,
    admission,
    answering,
    case_types,
    central_types,
    contacting,
    distributing,
    drafts,
    expiry,
    for_services,
    listing,
    log_review,
    mailings,
    neighbours,
    notes,
    offering,
    reading,
    recording,
    reminding,
    resealing,
    rights_lost,
    seals,
    sending,
    signature,
    standard_answers,
    starting,
    statistics,
    subject_access,
    system_messages,
    templates,
)
from services.cases.settings import CasesSettings
from shared.contracts import attachments, identity, inbox
from shared.contracts import case_desk as desk
from shared.contracts import case_records as records
from shared.contracts import case_types as offer
from shared.contracts import cases as contract
from shared.contracts import contacting as contacts
from shared.contracts import subject_access as report
from shared.contracts.base import Done
from shared.database.transaction import Transaction
from shared.messaging.entrypoints import job, on, rpc
from shared.messaging.kernel import Kernel
from shared.messaging.server import OngoingCall


class CasesService:
    """Cases between residents and clinics."""

    name = "cases"
    kernel = Kernel(CasesSettings, contract=contract.cases)

    # --- case types

    @rpc(contract.ACTIVATE_CASE_TYPE)
    def activate_case_type(
        self, call: OngoingCall[contract.ActivateCaseType, contract.CaseTypeActivated]
    ) -> contract.CaseTypeActivated:
        return neighbours.write_prepared(call, lambda: case_types.prepare(call), case_types.activate)

    @rpc(contract.DEACTIVATE_CASE_TYPE)
    def deactivate_case_type(
        self, call: OngoingCall[contract.DeactivateCaseType, contract.CaseTypeDeactivated]
    ) -> contract.CaseTypeDeactivated:
        return call.write(case_types.deactivate)

    @rpc(contract.LIST_CASE_TYPES)
    def list_case_types(self, call: OngoingCall[contract.ListCaseTypes, contract.CaseTypes]) -> contract.CaseTypes:
        return offering.of_clinic(call)

    @rpc(offer.LIST_USABLE_CASE_TYPES)
    def list_usable_case_types(
        self, call: OngoingCall[offer.ListUsableCaseTypes, offer.UsableCaseTypes]
    ) -> offer.UsableCaseTypes:
        return offering.usable(call)

    @rpc(offer.UPDATE_CASE_TYPE)
    def update_case_type(self, call: OngoingCall[offer.UpdateCaseType, offer.CaseTypeUpdated]) -> offer.CaseTypeUpdated:
        return call.write(case_types.update_case_type)

    @rpc(offer.REACTIVATE_CASE_TYPE)
    def reactivate_case_type(
        self, call: OngoingCall[offer.ReactivateCaseType, contract.CaseTypeActivated]
    ) -> contract.CaseTypeActivated:
        return neighbours.write_prepared(call, lambda: case_types.prepare_reactivation(call), case_types.reactivate)

    @rpc(offer.ORDER_CASE_TYPES)
    def order_case_types(self, call: OngoingCall[offer.OrderCaseTypes, Done]) -> Done:
        return call.write(case_types.order)

    # --- templates, national and regional case types, standard answers

    @rpc(offer.CREATE_TEMPLATE)
    def create_template(
        self, call: OngoingCall[offer.CreateTemplate, contract.CaseTypeActivated]
    ) -> contract.CaseTypeActivated:
        return neighbours.write_prepared(call, lambda: templates.prepare(call), templates.create)

    @rpc(offer.LIST_TEMPLATES)
    def list_templates(self, call: OngoingCall[offer.ListTemplates, offer.Templates]) -> offer.Templates:
        return call.read(templates.list_of_clinic)

    @rpc(offer.WRITE_CENTRAL_CASE_TYPE)
    def write_central_case_type(
        self, call: OngoingCall[offer.WriteCentralCaseType, offer.CentralCaseTypeWritten]
    ) -> offer.CentralCaseTypeWritten:
        return call.write(central_types.write)

    @rpc(offer.WITHDRAW_CENTRAL_CASE_TYPE)
    def withdraw_central_case_type(
        self, call: OngoingCall[offer.WithdrawCentralCaseType, contract.CaseTypeDeactivated]
    ) -> contract.CaseTypeDeactivated:
        return call.write(central_types.withdraw)

    @rpc(offer.LIST_CENTRAL_CASE_TYPES)
    def list_central_case_types(
        self, call: OngoingCall[offer.ListCentralCaseTypes, offer.CentralCaseTypes]
    ) -> offer.CentralCaseTypes:
        return call.read(central_types.list_all)

    @rpc(offer.TAKE_UP_CENTRAL_CASE_TYPE)
    def take_up_central_case_type(
        self, call: OngoingCall[offer.TakeUpCentralCaseType, contract.CaseTypeActivated]
    ) -> contract.CaseTypeActivated:
        return neighbours.write_prepared(call, lambda: central_types.prepare_taking_up(call), central_types.take_up)

    @rpc(offer.SAVE_STANDARD_ANSWER)
    def save_standard_answer(
        self, call: OngoingCall[offer.SaveStandardAnswer, offer.StandardAnswerSaved]
    ) -> offer.StandardAnswerSaved:
        return call.write(standard_answers.save)

    @rpc(offer.REMOVE_STANDARD_ANSWER)
    def remove_standard_answer(self, call: OngoingCall[offer.RemoveStandardAnswer, Done]) -> Done:
        return call.write(standard_answers.remove)

    @rpc(offer.LIST_STANDARD_ANSWERS)
    def list_standard_answers(
        self, call: OngoingCall[offer.ListStandardAnswers, offer.StandardAnswers]
    ) -> offer.StandardAnswers:
        return call.read(standard_answers.list_of_clinic)

    # --- changing a case

    @rpc(contract.START_CASE)
    def start_case(self, call: OngoingCall[contract.StartCase, contract.CaseStarted]) -> contract.CaseStarted:
        return neighbours.write_prepared(call, lambda: starting.prepare(call), starting.start_case)

    @rpc(contacts.CONTACT_RESIDENT)
    def contact_resident(
        self, call: OngoingCall[contacts.ContactResident, contacts.ResidentContacted]
    ) -> contacts.ResidentContacted:
        return neighbours.write_prepared(call, lambda: contacting.prepare(call), contacting.contact)

    @rpc(contract.ASSIGN_CASE)
    def assign_case(self, call: OngoingCall[contract.AssignCase, contract.CaseAssigned]) -> contract.CaseAssigned:
        return neighbours.write_prepared(call, lambda: distributing.prepare(call), distributing.assign_case)

    @rpc(contract.REPLY)
    def reply(self, call: OngoingCall[contract.WriteReply, contract.ReplySent]) -> contract.ReplySent:
        return neighbours.write_prepared(call, lambda: answering.prepare_reply(call), answering.reply)

    @rpc(contract.SEND_MESSAGE)
    def send_message(
        self, call: OngoingCall[contract.SendMessage, contract.MessageSentReply]
    ) -> contract.MessageSentReply:
        admission.look_up_guardian(call)
        return neighbours.write_prepared(call, lambda: answering.prepare_message(call), answering.send_message)

    @rpc(contract.CLOSE_CASE)
    def close_case(self, call: OngoingCall[contract.CloseCase, contract.CaseClosedReply]) -> contract.CaseClosedReply:
        return call.write(answering.close)

    # --- the same case with many residents

    @rpc(contacts.CREATE_MAILING)
    def create_mailing(
        self, call: OngoingCall[contacts.CreateMailing, contacts.MailingCreated]
    ) -> contacts.MailingCreated:
        return call.write(mailings.create)

    @rpc(contacts.ADD_RECIPIENTS)
    def add_recipients(
        self, call: OngoingCall[contacts.AddRecipients, contacts.RecipientsAdded]
    ) -> contacts.RecipientsAdded:
        return mailings.add_recipients(call)

    @rpc(contacts.SEND_MAILING)
    def send_mailing(self, call: OngoingCall[contacts.SendMailing, Done]) -> Done:
        return call.write(mailings.send)

    @rpc(contacts.CANCEL_MAILING)
    def cancel_mailing(self, call: OngoingCall[contacts.CancelMailing, Done]) -> Done:
        return call.write(mailings.cancel)

    @rpc(contacts.LIST_MAILINGS)
    def list_mailings(self, call: OngoingCall[contacts.ListMailings, contacts.Mailings]) -> contacts.Mailings:
        return call.read(mailings.list_of_clinic)

    @rpc(contacts.GET_MAILING)
    def get_mailing(self, call: OngoingCall[contacts.GetMailing, contacts.MailingShown]) -> contacts.MailingShown:
        return call.read(mailings.get)

    @rpc(contacts.LIST_RECIPIENTS)
    def list_recipients(self, call: OngoingCall[contacts.ListRecipients, contacts.Recipients]) -> contacts.Recipients:
        return mailings.list_recipients(call)

    # --- messages of other systems

    @rpc(inbox.PUT_INBOX_MESSAGE)
    def put_inbox_message(
        self, call: OngoingCall[inbox.PutInboxMessage, inbox.InboxMessagePut]
    ) -> inbox.InboxMessagePut:
        return system_messages.put(call)

    # --- at hand for those who answer

    @rpc(desk.ADD_NOTE)
    def add_note(self, call: OngoingCall[desk.AddNote, desk.NoteAdded]) -> desk.NoteAdded:
        return call.write(notes.add)

    @rpc(desk.SAVE_DRAFT)
    def save_draft(self, call: OngoingCall[desk.SaveDraft, desk.DraftSaved]) -> desk.DraftSaved:
        admission.look_up_guardian(call)
        return call.write(drafts.save)

    @rpc(desk.GET_DRAFT)
    def get_draft(self, call: OngoingCall[desk.GetDraft, desk.DraftFound]) -> desk.DraftFound:
        admission.look_up_guardian(call)
        return call.read(drafts.get)

    @rpc(desk.DISCARD_DRAFT)
    def discard_draft(self, call: OngoingCall[desk.DiscardDraft, Done]) -> Done:
        admission.look_up_guardian(call)
        return call.write(drafts.discard)

    @rpc(desk.SET_SIGNATURE)
    def set_signature(self, call: OngoingCall[desk.SetSignature, Done]) -> Done:
        return call.write(signature.set_signature)

    @rpc(desk.GET_SIGNATURE)
    def get_signature(self, call: OngoingCall[desk.GetSignature, desk.Signature]) -> desk.Signature:
        return neighbours.own_signature(call)

    # --- lists and reading

    @rpc(contract.LIST_CLINIC_CASES)
    def list_clinic_cases(self, call: OngoingCall[contract.ListClinicCases, contract.CasePage]) -> contract.CasePage:
        return listing.of_whom(call, listing.clinic_cases, listing.NO_CASES)

    @rpc(contract.LIST_MY_CASES)
    def list_my_cases(self, call: OngoingCall[contract.ListMyCases, contract.CasePage]) -> contract.CasePage:
        return listing.of_whom(call, listing.my_cases, listing.NO_CASES)

    @rpc(desk.COUNT_CASES)
    def count_cases(self, call: OngoingCall[desk.CountCases, desk.CaseCounts]) -> desk.CaseCounts:
        return listing.of_whom(call, listing.count, listing.NONE_COUNTED)

    @rpc(contract.LIST_INBOX)
    def list_inbox(self, call: OngoingCall[contract.ListInbox, contract.Inbox]) -> contract.Inbox:
        admission.look_up_guardian(call)
        return call.read(listing.inbox)

    @rpc(contract.GET_CASE)
    def get_case(self, call: OngoingCall[contract.GetCase, contract.CaseShown]) -> contract.CaseShown:
        admission.look_up_guardian(call)
        read = call.read(reading.get_case)
        return reading.with_cards(read, neighbours.cards(call, read.cards))

    @rpc(contract.OPEN_ATTACHMENT)
    def open_attachment(
        self, call: OngoingCall[contract.OpenAttachment, contract.AttachmentOpened]
    ) -> contract.AttachmentOpened:
        admission.look_up_guardian(call)
        call.read(reading.open_attachment)
        link = call.ask(
            attachments.LINK, attachments.AskLink(attachment=call.request.attachment, case=call.request.case)
        )
        return contract.AttachmentOpened.model_validate(link.model_dump())

    # --- the access log

    @rpc(contract.ACCESS_LOG)
    def access_log(self, call: OngoingCall[contract.ReadAccessLog, contract.AccessLog]) -> contract.AccessLog:
        return log_review.search(call)

    @rpc(records.SAMPLE_ACCESS_LOG)
    def sample_access_log(
        self, call: OngoingCall[records.SampleAccessLog, records.AccessLogSample]
    ) -> records.AccessLogSample:
        return log_review.sample(call)

    @rpc(records.EXTRACT_ACCESS_LOG)
    def extract_access_log(
        self, call: OngoingCall[records.ExtractAccessLog, records.AccessLogExtract]
    ) -> records.AccessLogExtract:
        return log_review.extract(call)

    @rpc(contract.MY_ACCESS_LOG)
    def my_access_log(self, call: OngoingCall[contract.ReadMyAccessLog, contract.MyAccessLog]) -> contract.MyAccessLog:
        admission.look_up_guardian(call)
        rows, after = call.read(access_log.of_resident)
        return access_log.shown_to_resident(rows, after, neighbours.staff(call, access_log.readers(rows)))

    # --- the medical record

    @rpc(records.TAKE_OUT_CASE)
    def take_out_case(self, call: OngoingCall[records.TakeOutCase, records.CaseDocument]) -> records.CaseDocument:
        return recording.take_out(call)

    @rpc(records.MARK_RECORDED)
    def mark_recorded(self, call: OngoingCall[records.MarkRecorded, records.CaseRecorded]) -> records.CaseRecorded:
        return call.write(recording.mark)

    # --- statistics

    @rpc(records.STATISTICS)
    def statistics(self, call: OngoingCall[records.AskStatistics, records.Statistics]) -> records.Statistics:
        return call.read(statistics.of_clinic)

    # --- for operators

    @rpc(records.RESEALING)
    def resealing(self, call: OngoingCall[records.AskResealing, records.Resealing]) -> records.Resealing:
        return call.read(resealing.progress)

    # --- for other services

    @rpc(contract.MESSAGES_EXIST)
    def messages_exist(
        self, call: OngoingCall[contract.MessagesExist, contract.MessagesThatExist]
    ) -> contract.MessagesThatExist:
        return call.read(for_services.messages_exist)

    @rpc(contract.CLINIC_ACTIVITY)
    def clinic_activity(
        self, call: OngoingCall[contract.AskClinicActivity, contract.ClinicActivity]
    ) -> contract.ClinicActivity:
        return call.read(for_services.clinic_activity)

    @rpc(contract.UNHANDLED_CASES)
    def unhandled_cases(
        self, call: OngoingCall[contract.AskUnhandledCases, contract.UnhandledCases]
    ) -> contract.UnhandledCases:
        return call.read(for_services.unhandled_cases)

    @rpc(contract.OFFERED_CASE_TYPES)
    def offered_case_types(
        self, call: OngoingCall[contract.AskOfferedCaseTypes, contract.OfferedCaseTypes]
    ) -> contract.OfferedCaseTypes:
        return call.read(for_services.offered_case_types)

    @rpc(report.CARE_PROVIDERS_OF)
    def care_providers_of(
        self, call: OngoingCall[report.CareProvidersOf, report.CareProviders]
    ) -> report.CareProviders:
        return call.read(subject_access.care_providers)

    @rpc(report.OF_CASES)
    def subject_access(self, call: OngoingCall[report.SubjectAccess, report.HeldPage]) -> report.HeldPage:
        found = call.read(subject_access.page)
        return subject_access.shown(found, neighbours.staff(call, found.people))

    # --- events and jobs

    @on(identity.RIGHTS_CHANGED)
    def rights_changed(self, tx: Transaction, event: identity.RightsChanged) -> None:
        rights_lost.rights_changed(tx, event)

    @job("close_expired_counter_questions", every=timedelta(minutes=1))
    def close_expired_counter_questions(self, run: Any) -> None:
        expiry.close_expired(run)

    @job("remind_of_counter_questions", every=timedelta(minutes=1))
    def remind_of_counter_questions(self, run: Any) -> None:
        reminding.remind_all(run)

    @job("send_mailings", every=timedelta(seconds=5))
    def send_mailings(self, run: Any) -> None:
        sending.send_all(run)

    @job("forget_old_drafts", daily_at="03:10")
    def forget_old_drafts(self, run: Any) -> None:
        drafts.forget_old(run)
        mailings.forget_unsent(run)

    @job("seal_access_log", every=timedelta(seconds=30))
    def seal_access_log(self, run: Any) -> None:
        seals.seal_all(run)

    @job("reseal", every=timedelta(minutes=10))
    def reseal(self, run: Any) -> None:
        resealing.reseal_all(run)

    @job("check_access_log", daily_at="03:30")
    def check_access_log(self, run: Any) -> None:
        seals.check_all(run)
