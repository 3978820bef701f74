"""Binding files to the message that they are sent with: claimed first, sent when cases has told so (R-ATT-3 to 7).

A claim comes before its message is committed. If the message then never comes to be, cases gives the files back
(`release`), or, if it died in between, a job finds the claim and asks cases. Nothing is given back on a guess.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, literal, select, update

from services.attachments import rules
from services.attachments.files import OTHER_OWNER, kept_size, open_name
from services.attachments.settings import AttachmentsSettings
from services.attachments.tables import REMOVED, attachments
from shared.contracts.attachments import Claim, Claimed, ClaimedFile, OwnerKind, Release, State
from shared.contracts.base import Done
from shared.contracts.cases import MessageSentEvent
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Invalid, LimitExceeded, NotFound
from shared.operations.logs import log

AT_ONCE = 500


def claim(tx: Transaction, asked: Claim) -> Claimed:
    """Binds all of the files to the message, or raises and binds none; the same again gives the same answer."""
    _require_count(asked, tx.settings)
    # one at a time for each message: two that name different files would both find that it has none (R-ATT-3)
    tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(literal(str(asked.message)), 0))))
    rows = _locked(tx, asked)
    mine = {row.attachment for row in rows.values() if row.message == asked.message}
    before = _of_message(tx, asked.message)
    if before and (before != set(rows) or mine != before):
        raise Conflict("Meddelandet har redan andra filer.", reason="message_has_other_attachments")
    for row in rows.values():
        if row.message == asked.message:
            continue
        hindrance = rules.why_not_claimable(
            State(row.state), taken=row.message is not None, sent=row.sent_at is not None
        )
        if hindrance is not None:
            raise hindrance
    if rows:
        # Also where they are bound to it already: from now on the message may be on its way again.
        unsent = attachments.c.attachment.in_(list(rows)) & attachments.c.sent_at.is_(None)
        bound = {"case": asked.case, "message": asked.message, "claimed_at": tx.now, "changed_at": tx.now}
        tx.execute(update(attachments).where(unsent).values(bound))
    return Claimed(
        attachments=[
            ClaimedFile(
                attachment=one,
                name=open_name(tx, row),
                size=kept_size(row),
                content_type=row.content_type,
                cleaned=row.cleaned,
            )
            for one, row in ((one, rows[one]) for one in asked.attachments)
        ]
    )


def _require_count(asked: Claim, settings: AttachmentsSettings) -> None:
    if len(set(asked.attachments)) != len(asked.attachments):
        raise Invalid("Samma fil är angiven två gånger.", fields=[("attachments", "får inte upprepas")])
    own_limit = settings.max_files_staff if asked.owner_kind is OwnerKind.STAFF else settings.max_files_resident
    most = min(asked.at_most, own_limit)
    if len(asked.attachments) > most:
        raise LimitExceeded(f"För många filer. Du kan bifoga högst {most}.", reason="too_many_attachments")


def _locked(tx: Transaction, asked: Claim) -> dict[UUID, Row[Any]]:
    """The files, locked in one order for all; any that is not the owner's makes them all not found."""
    wanted = (
        select(attachments)
        .where(
            attachments.c.attachment.in_(asked.attachments),
            attachments.c.owner_kind == asked.owner_kind,
            attachments.c.owner == asked.owner,
            attachments.c.state != REMOVED,
        )
        .order_by(attachments.c.attachment)
        .with_for_update()
    )
    rows = {row.attachment: row for row in tx.execute(wanted)}
    if len(rows) != len(asked.attachments):
        raise NotFound(OTHER_OWNER)
    return rows


def _of_message(tx: Transaction, message: UUID) -> set[UUID]:
    return set(tx.execute(select(attachments.c.attachment).where(attachments.c.message == message)).scalars())


def sent(tx: Transaction, told: MessageSentEvent) -> None:
    """The message exists: from now on nobody can remove its files (R-ATT-5)."""
    if not told.attachments:
        return
    marked = tx.execute(
        update(attachments)
        .where(
            attachments.c.attachment.in_(told.attachments),
            attachments.c.state == State.USABLE,
            attachments.c.sent_at.is_(None),
        )
        .values(
            {
                "case": told.case,
                "message": told.message,
                "claimed_at": func.coalesce(attachments.c.claimed_at, tx.now),
                "sent_at": tx.now,
                "changed_at": tx.now,
            }
        )
    )
    if marked.rowcount != len(told.attachments):
        there = select(attachments.c.attachment).where(
            attachments.c.attachment.in_(told.attachments), attachments.c.message == told.message
        )
        missing = len(told.attachments) - len(tx.execute(there).all())
        if missing:
            log.error("sent_attachments_missing", message_id=str(told.message), count=missing)


def release(tx: Transaction, asked: Release) -> Done:
    """Gives the files of a message that never came to be back to their owner; sent ones stay."""
    _give_back(tx, [asked.message])
    return Done()


@dataclass(frozen=True)
class Doubtful:
    """Messages whose claims were made before a moment so long ago that they should have been sent by now."""

    messages: list[UUID]
    claimed_before: datetime


def doubtful_messages(tx: Transaction) -> Doubtful:
    """Those that cases is to be asked about."""
    claimed_before = tx.now - rules.CLAIM_GRACE
    old = (
        select(attachments.c.message)
        .where(
            attachments.c.message.is_not(None),
            attachments.c.sent_at.is_(None),
            attachments.c.claimed_at < claimed_before,
        )
        .group_by(attachments.c.message)
        .order_by(attachments.c.message)
        .limit(AT_ONCE)
    )
    return Doubtful(list(tx.execute(old).scalars()), claimed_before)


def settle(tx: Transaction, doubtful: Doubtful, existing: Collection[UUID]) -> int:
    """After cases has answered which of the messages exist: those files are sent, the others are given back.

    Not those claimed anew since cases was asked: their message may have come to be after the answer (R-SYS-5).
    Answers how many files were given back.
    """
    exist = set(existing) & set(doubtful.messages)
    if exist:
        of_them = attachments.c.message.in_(exist) & attachments.c.sent_at.is_(None)
        tx.execute(update(attachments).where(of_them).values(sent_at=tx.now, changed_at=tx.now))
    never = [message for message in doubtful.messages if message not in exist]
    return _give_back(tx, never, attachments.c.claimed_at < doubtful.claimed_before)


def _give_back(tx: Transaction, messages: Collection[UUID], still: ColumnElement[bool] | None = None) -> int:
    if not messages:
        return 0
    unsent = attachments.c.message.in_(messages) & attachments.c.sent_at.is_(None)
    if still is not None:
        unsent &= still
    nobody = {"case": None, "message": None, "claimed_at": None, "changed_at": tx.now}
    return int(tx.execute(update(attachments).where(unsent).values(nobody)).rowcount)
