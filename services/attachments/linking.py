"""Showing a file to the one who attached it, and links to the bytes (R-ATT-5, R-ATT-6, R-ATT-7)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Row, select

from services.attachments import rules
from services.attachments.files import OTHER_OWNER, kept_size, open_name, own
from services.attachments.store import Signer
from services.attachments.tables import REMOVED, attachments
from shared.contracts.attachments import (
    AskLink,
    Attachment,
    GetAttachment,
    Link,
    ListUnsent,
    PreviewAttachment,
    State,
    UnsentAttachments,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, NotFound

MOST_LISTED = 200


def get_attachment(tx: Transaction, asked: GetAttachment) -> Attachment:
    """The caller's own file and how far it has come, until it is sent: from then on its case says who may see it."""
    return _shown(tx, _own_unsent(tx, asked))


def list_unsent(tx: Transaction, asked: ListUnsent) -> UnsentAttachments:
    """The caller's own files that belong to no message (R-ATT-5, R-ATT-7)."""
    mine = (
        select(attachments)
        .where(
            attachments.c.owner_kind == tx.caller.kind,
            attachments.c.owner == tx.caller.subject,
            attachments.c.sent_at.is_(None),
            attachments.c.message.is_(None),
            attachments.c.state != REMOVED,
        )
        .order_by(attachments.c.created_at.desc(), attachments.c.attachment)
        .limit(MOST_LISTED)
    )
    if asked.draft is not None:
        mine = mine.where(attachments.c.draft == asked.draft)
    return UnsentAttachments(attachments=[_shown(tx, row) for row in reversed(list(tx.execute(mine)))])


def _shown(tx: Transaction, row: Row[Any]) -> Attachment:
    return Attachment(
        attachment=row.attachment,
        name=open_name(tx, row),
        size=kept_size(row),
        content_type=row.content_type,
        state=State(row.state),
        cleaned=row.cleaned,
        preview=row.preview_key is not None,
        draft=row.draft,
        refusal=rules.REFUSALS_SV[row.refusal] if row.refusal else None,
        refusal_reason=row.refusal,
    )


def preview(tx: Transaction, asked: PreviewAttachment, signer: Signer) -> Link:
    """A link to the caller's own file before it is sent (R-ATT-5). Raises `Conflict` unless it is usable (R-ATT-7).

    One that is bound to a message may have been sent, though it has not been heard here yet: it is opened through its
    case, which logs that (R-ATT-6).
    """
    row = _own_unsent(tx, asked)
    hindrance = rules.why_not_claimable(State(row.state), taken=row.message is not None, sent=False)
    if hindrance is not None:
        raise Conflict("Filen kan inte visas.", reason=hindrance.reason)
    return _signed(tx, row, signer)


def link(tx: Transaction, asked: AskLink, signer: Signer) -> Link:
    """A link to a file of a message in this case (R-ATT-6). Who may read the case, the cases service has made sure."""
    row = tx.execute(
        select(attachments).where(
            attachments.c.attachment == asked.attachment,
            attachments.c.case == asked.case,
            attachments.c.state == State.USABLE,
        )
    ).first()
    if row is None:
        raise NotFound(OTHER_OWNER)
    return _signed(tx, row, signer)


def _own_unsent(tx: Transaction, asked: GetAttachment | PreviewAttachment) -> Row[Any]:
    row = own(tx, asked.attachment)
    if row.sent_at is not None:
        raise NotFound(OTHER_OWNER)
    return row


def _signed(tx: Transaction, row: Row[Any], signer: Signer) -> Link:
    seconds: int = tx.settings.link_seconds
    name = open_name(tx, row)
    url = signer.link(row.clean_key, row.clean_version, row.content_type, name, seconds)
    preview_url = None
    if row.preview_key is not None:
        drawn = (row.preview_key, row.preview_version, rules.PREVIEW_TYPE, rules.preview_name(name))
        preview_url = signer.link(*drawn, seconds, disposition="inline")
    return Link(
        url=url,
        expires_at=tx.now + timedelta(seconds=seconds),
        name=name,
        content_type=row.content_type,
        preview_url=preview_url,
        cleaned=row.cleaned,
    )
