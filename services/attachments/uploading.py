"""Asking for a place to upload a file to, and what may be uploaded (R-ATT-1, R-ATT-2, R-ATT-3)."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import func, insert, literal, select, update

from services.attachments import rules
from services.attachments.files import own, seal_name
from services.attachments.settings import AttachmentsSettings
from services.attachments.store import Signer
from services.attachments.tables import REMOVED, attachments
from shared.contracts.attachments import AskUpload, Limits, State, UploadAsked, Uploaded
from shared.contracts.base import Done
from shared.database.transaction import Transaction
from shared.messaging.errors import LimitExceeded


def ask_upload(tx: Transaction, asked: AskUpload, signer: Signer) -> UploadAsked:
    """Makes the row and signs the one request that the store will take for it.

    Raises `Invalid` or `LimitExceeded` for what may not be attached: nothing has to be uploaded to learn that.
    """
    settings: AttachmentsSettings = tx.settings
    content_type = rules.clean_type(asked.content_type)
    name = rules.clean_name(asked.name)
    rules.require_agreement(name, content_type)
    rules.require_size(asked.size, settings.max_file_bytes)
    _require_room(tx, settings.max_unsent_files)
    attachment, sha256 = uuid4(), bytes.fromhex(asked.sha256)
    expires_at = tx.now + timedelta(seconds=settings.upload_seconds)
    tx.execute(
        insert(attachments).values(
            attachment=attachment,
            owner_kind=tx.caller.kind,
            owner=tx.caller.subject,
            name=seal_name(tx, attachment, name),
            size=asked.size,
            content_type=content_type,
            sha256=sha256,
            state=State.WAITING,
            created_at=tx.now,
            changed_at=tx.now,
            upload_expires_at=expires_at,
            look_at=tx.now + rules.pause_before_look(0),
            draft=asked.draft,
        )
    )
    upload = signer.upload(attachment, asked.size, content_type, sha256, settings.upload_seconds)
    return UploadAsked(attachment=attachment, upload=upload, expires_at=expires_at)


def _require_room(tx: Transaction, most: int) -> None:
    """Raises `LimitExceeded`.

    Refused and removed files take no room, but work, and bytes may come in at their places for a while: until then as
    many of them are let be as of the others.
    """
    owner = f"{tx.caller.kind} {tx.caller.subject}"
    tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(literal(owner), 0))))
    over = attachments.c.state.in_([REMOVED, State.REFUSED])
    still_open = attachments.c.upload_expires_at > tx.now - rules.UPLOAD_GRACE
    counted = (
        select(func.count().filter(~over).label("waiting"), func.count().filter(over & still_open).label("tried"))
        .select_from(attachments)
        .where(
            attachments.c.owner_kind == tx.caller.kind,
            attachments.c.owner == tx.caller.subject,
            attachments.c.sent_at.is_(None),
        )
    )
    found = tx.execute(counted).one()
    if found.waiting >= most:
        raise LimitExceeded("Du har för många filer som inte är skickade. Ta bort någon.", reason="too_many_unsent")
    if found.tried >= most:
        raise LimitExceeded("Du har laddat upp många filer. Försök igen om en halvtimme.", reason="too_many_tries")


def uploaded(tx: Transaction, told: Uploaded) -> Done:
    """Lets the next free checker look at once. Says nothing about whether the bytes are there: the store knows."""
    row = own(tx, told.attachment, lock=True)
    if row.state == State.WAITING:
        waiting = attachments.c.attachment == row.attachment
        tx.execute(update(attachments).where(waiting).values(look_at=tx.now, looks=0, changed_at=tx.now))
    return Done()


def limits(settings: AttachmentsSettings) -> Limits:
    """What may be attached."""
    return Limits(
        max_file_bytes=settings.max_file_bytes,
        max_files_resident=settings.max_files_resident,
        max_files_staff=settings.max_files_staff,
        content_types=list(rules.ENDINGS),
        endings={content_type: list(endings) for content_type, endings in rules.ENDINGS.items()},
        upload_seconds=settings.upload_seconds,
        link_seconds=settings.link_seconds,
        kept_unsent_hours=settings.keep_unsent_hours,
    )
