"""Attachments: its calls, what it hears, what it does by the clock. The work is in the capability modules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.attachments import binding, cleaning, linking, resealing, subject_access, uploading
from services.attachments.settings import AttachmentsSettings
from services.attachments.store import signer
from shared.contracts import cases
from shared.contracts import subject_access as report
from shared.contracts.attachments import (
    ASK_UPLOAD,
    CLAIM,
    GET_ATTACHMENT,
    LIMITS,
    LINK,
    LIST_UNSENT,
    PREVIEW_ATTACHMENT,
    RELEASE,
    REMOVE_ATTACHMENT,
    UPLOADED,
    Attachment,
    Claimed,
    Limits,
    Link,
    UnsentAttachments,
    UploadAsked,
    attachments,
)
from shared.contracts.base import Done
from shared.database.transaction import Transaction
from shared.messaging.entrypoints import job, on, rpc
from shared.messaging.kernel import Kernel
from shared.operations.logs import log


class AttachmentsService:
    """Files on their way into messages, and links to those that were sent."""

    name = "attachments"
    kernel = Kernel(AttachmentsSettings, contract=attachments)

    # --- for the one who attaches ---

    @rpc(ASK_UPLOAD)
    def ask_upload(self, call: Any) -> UploadAsked:
        asked: UploadAsked = call.write(uploading.ask_upload, signer(call.settings))
        return asked

    @rpc(UPLOADED)
    def uploaded(self, call: Any) -> Done:
        done: Done = call.write(uploading.uploaded)
        return done

    @rpc(GET_ATTACHMENT)
    def get_attachment(self, call: Any) -> Attachment:
        found: Attachment = call.read(linking.get_attachment)
        return found

    @rpc(LIST_UNSENT)
    def list_unsent(self, call: Any) -> UnsentAttachments:
        unsent: UnsentAttachments = call.read(linking.list_unsent)
        return unsent

    @rpc(PREVIEW_ATTACHMENT)
    def preview_attachment(self, call: Any) -> Link:
        link: Link = call.read(linking.preview, signer(call.settings))
        log.info("preview_link_given", attachment=str(call.request.attachment))
        return link

    @rpc(REMOVE_ATTACHMENT)
    def remove_attachment(self, call: Any) -> Done:
        done: Done = call.write(cleaning.remove)
        return done

    @rpc(LIMITS)
    def limits(self, call: Any) -> Limits:
        return uploading.limits(call.settings)

    # --- for cases ---

    @rpc(CLAIM)
    def claim(self, call: Any) -> Claimed:
        claimed: Claimed = call.write(binding.claim)
        return claimed

    @rpc(RELEASE)
    def release(self, call: Any) -> Done:
        done: Done = call.write(binding.release)
        return done

    @rpc(LINK)
    def link(self, call: Any) -> Link:
        link: Link = call.read(linking.link, signer(call.settings))
        return link

    # --- for identity ---

    @rpc(report.OF_ATTACHMENTS)
    def subject_access(self, call: Any) -> report.HeldPage:
        page: report.HeldPage = call.read(subject_access.page)
        return page

    # --- what has happened elsewhere ---

    @on(cases.MESSAGE_SENT)
    def message_sent(self, tx: Transaction, event: cases.MessageSentEvent) -> None:
        binding.sent(tx, event)

    @on(cases.DRAFT_SAVED)
    def draft_saved(self, tx: Transaction, event: cases.DraftSavedEvent) -> None:
        cleaning.draft_saved(tx, event)

    # --- by the clock ---

    @job("settle_claims", every=timedelta(minutes=1))
    def settle_claims(self, run: Any) -> None:
        """Claims of messages that never came to be are given back; none while cases does not answer."""
        with run.transaction() as tx:
            doubtful = binding.doubtful_messages(tx)
        if not doubtful.messages:
            return
        answer = run.ask(cases.MESSAGES_EXIST, cases.MessagesExist(messages=doubtful.messages))
        with run.transaction() as tx:
            released = binding.settle(tx, doubtful, answer.existing)
        log.info("claims_settled", total=len(doubtful.messages), removed=released)

    @job("remove_never_sent", every=timedelta(minutes=10))
    def remove_never_sent(self, run: Any) -> None:
        """R-ATT-8: the rows say so here; the checker rids the store of the files."""
        total = 0
        while True:
            with run.transaction() as tx:
                removed = cleaning.remove_never_sent(tx)
            total += removed
            if removed < cleaning.AT_ONCE:
                break
        if total:
            log.info("never_sent_removed", count=total)

    @job("reseal", every=timedelta(days=1))
    def reseal(self, run: Any) -> None:
        """R-SYS-2: after a change of keys."""
        resealing.reseal_all(run)
