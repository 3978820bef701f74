"""Removing files: by their owner before they are sent, by time when they never are, and what is left in the store.

The row says first that the file is gone; only then is the store rid of it, as often as it takes. So a process that dies
in between leaves nothing that would not be found again (R-ATT-5, R-ATT-8).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, delete, exists, or_, select, update

from services.attachments import rules
from services.attachments.files import own
from services.attachments.store import Store
from services.attachments.tables import REMOVED, attachments
from shared.contracts.attachments import RemoveAttachment, State
from shared.contracts.base import Done
from shared.contracts.cases import DraftSavedEvent
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict

AT_ONCE = 500
SWEEP_LEASE = timedelta(minutes=1)

_GONE = {"state": REMOVED, "look_at": None, "lease": None}


def remove(tx: Transaction, asked: RemoveAttachment) -> Done:
    """Removes the caller's own file; one that is sent, or about to be, stays (R-ATT-5)."""
    row = own(tx, asked.attachment, lock=True)
    if row.message is not None:
        raise Conflict("Filen hör till ett meddelande och kan inte tas bort.", reason="attachment_already_used")
    tx.execute(
        update(attachments)
        .where(attachments.c.attachment == row.attachment)
        .values(_GONE | {"changed_at": tx.now, "sweep_at": tx.now})
    )
    if row.draft is not None:  # the draft has changed, and the others are of it
        others = (
            (attachments.c.draft == row.draft)
            & (attachments.c.owner_kind == row.owner_kind)
            & (attachments.c.owner == row.owner)
            & attachments.c.sent_at.is_(None)
            & (attachments.c.state != REMOVED)
        )
        tx.execute(update(attachments).where(others).values(changed_at=tx.now))
    return Done()


def draft_saved(tx: Transaction, told: DraftSavedEvent) -> None:
    """The draft has changed: the writer's own files that it names are kept for another day (R-ATT-8)."""
    named = (
        attachments.c.attachment.in_(told.attachments)
        & (attachments.c.owner_kind == told.owner_kind)
        & (attachments.c.owner == told.owner)
        & attachments.c.sent_at.is_(None)
        & (attachments.c.state != REMOVED)
    )
    tx.execute(update(attachments).where(named).values(changed_at=tx.now))


def remove_never_sent(tx: Transaction) -> int:
    """Marks up to 500 files as removed whose draft has not changed for 24 hours, and that belong to no message.

    A file of no draft is one by itself (R-ATT-8). Answers how many.
    """
    before = tx.now - timedelta(hours=tx.settings.keep_unsent_hours)
    other = attachments.alias()
    same_draft = and_(
        other.c.draft == attachments.c.draft,
        other.c.owner_kind == attachments.c.owner_kind,
        other.c.owner == attachments.c.owner,
        other.c.state != REMOVED,
        other.c.changed_at > before,
    )
    old = (
        select(attachments.c.attachment)
        .where(
            attachments.c.message.is_(None),
            attachments.c.sent_at.is_(None),
            attachments.c.state != REMOVED,
            attachments.c.changed_at <= before,
            or_(attachments.c.draft.is_(None), ~exists().where(same_draft)),
        )
        .order_by(attachments.c.changed_at)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = list(tx.execute(old).scalars())
    if ids:
        tx.execute(
            update(attachments)
            .where(attachments.c.attachment.in_(ids))
            .values(_GONE | {"changed_at": tx.now, "sweep_at": tx.now})
        )
    return len(ids)


# --- the store ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """One file whose places in the store want tidying."""

    attachment: UUID
    kept: frozenset[tuple[str, str]]
    """Key and version of the checked file and of its preview, which stay; empty: nothing stays."""


def next_sweep(tx: Transaction) -> Sweep | None:
    """The next file to tidy up after, taken for a minute; None if there is none due."""
    due = (
        select(attachments)
        # never under the hands of who checks it now: its check arms the sweep anew when it ends
        .where(attachments.c.sweep_at <= tx.now, attachments.c.state.not_in([State.WAITING, State.CHECKING]))
        .order_by(attachments.c.sweep_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = tx.execute(due).first()
    if row is None:
        return None
    this = attachments.c.attachment == row.attachment
    tx.execute(update(attachments).where(this).values(sweep_at=tx.now + SWEEP_LEASE))
    return Sweep(row.attachment, kept_objects(row))


def kept_objects(row: Row[Any]) -> frozenset[tuple[str, str]]:
    """Key and version of all that the store is to have of a file: nothing, unless it is usable."""
    if row.state != State.USABLE:
        return frozenset()
    both = ((row.clean_key, row.clean_version), (row.preview_key, row.preview_version))
    return frozenset((key, version) for key, version in both if key is not None)


def sweep(store: Store, task: Sweep) -> int:
    """Rids the store of all that is not the checked file. Answers how many objects. Raises `StoreDown`."""
    return store.remove_upload(task.attachment) + store.remove_clean(task.attachment, except_for=task.kept)


def swept(tx: Transaction, task: Sweep) -> None:
    """Notes that it is done. While something may still come in, by the upload request or from a checker that had the
    file when it was removed, it is swept once more after that."""
    this = attachments.c.attachment == task.attachment
    # a file that was removed meanwhile is swept anew, as what was kept a moment ago is to go
    unchanged = attachments.c.state == State.USABLE if task.kept else attachments.c.state != State.USABLE
    row = tx.execute(select(attachments).where(this, unchanged).with_for_update()).first()
    if row is None:
        tx.execute(update(attachments).where(this).values(sweep_at=tx.now))
        return
    last = rules.upload_window_ends(row.upload_expires_at)
    if row.state == REMOVED:
        last = rules.nothing_comes_after(row.upload_expires_at, row.changed_at)
    if tx.now < last:
        tx.execute(update(attachments).where(this).values(sweep_at=last))
    elif row.state == REMOVED:
        tx.execute(delete(attachments).where(this))
    else:
        tx.execute(update(attachments).where(this).values(sweep_at=None))


def give_up_sweep(tx: Transaction, task: Sweep, pause: timedelta) -> None:
    """The store did not answer: again after a pause."""
    this = attachments.c.attachment == task.attachment
    tx.execute(update(attachments).where(this).values(sweep_at=tx.now + pause))
