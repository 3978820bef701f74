"""Rows of files: how they are found, and who may find them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select

from services.attachments.tables import REMOVED, attachments
from shared.database.transaction import Transaction
from shared.messaging.errors import NotFound

OTHER_OWNER = "Filen finns inte."


def seal_name(tx: Transaction, attachment: UUID, name: str) -> bytes:
    """The name as it is stored."""
    return tx.sealer.seal(name.encode(), _context(attachment))


def open_name(tx: Transaction, row: Row[Any]) -> str:
    """The name as it was given, cleaned."""
    return tx.sealer.open(bytes(row.name), _context(row.attachment)).decode()


def _context(attachment: UUID) -> bytes:
    return b"attachments.name " + attachment.bytes


def own(tx: Transaction, attachment: UUID, *, lock: bool = False) -> Row[Any]:
    """The caller's own file. Raises `NotFound` for any other, and for one that is removed."""
    wanted: Select[Any] = select(attachments).where(
        attachments.c.attachment == attachment,
        attachments.c.owner_kind == tx.caller.kind,
        attachments.c.owner == tx.caller.subject,
        attachments.c.state != REMOVED,
    )
    row = tx.execute(wanted.with_for_update() if lock else wanted).first()
    if row is None:
        raise NotFound(OTHER_OWNER)
    return row


def kept_size(row: Row[Any]) -> int:
    """How many bytes there are to be read: those that were announced, until the check has left some of them out."""
    return int(row.size if row.kept_size is None else row.kept_size)
