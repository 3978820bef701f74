"""What someone is writing in a case: kept until it is sent, and told to others who might answer too (R-CASE-17)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select

from services.cases.changing import find
from services.cases.opening import open_sealed
from services.cases.rules import State, check_version, resident_may_write
from services.cases.tables import Row, drafts
from services.cases.visibility import facts
from shared.contracts.attachments import OwnerKind
from shared.contracts.base import Done
from shared.contracts.case_desk import DiscardDraft, DraftFound, DraftSaved, DraftShown, GetDraft, SaveDraft
from shared.contracts.cases import DRAFT_SAVED, DraftSavedEvent, OtherWriting
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict
from shared.operations.logs import log

WRITING = timedelta(minutes=15)
"""How long after a draft was last saved its writer counts as writing still."""
KEPT = timedelta(days=7)
AT_ONCE = 1000
_STAFF = "staff:"
STAFF_WRITER = func.substring(drafts.c.writer, f"^{_STAFF}(.*)$")
"""The HSA-id of the writer where that is one of the staff; else none."""


_SAVE = b"""
INSERT INTO drafts (id, case_id, writer, case_version, content, saved_at)
SELECT %s, %s, %s, %s, %s, %s
WHERE NOT EXISTS (
    SELECT 1 FROM activities JOIN messages ON messages.id = activities.message
    WHERE activities.case_id = %s AND activities.case_version > %s AND messages.writer = %s
)
ON CONFLICT (case_id, writer) DO UPDATE
    SET case_version = excluded.case_version, content = excluded.content, saved_at = excluded.saved_at
    WHERE drafts.case_version <= excluded.case_version
RETURNING id
"""
_FORGET = b"DELETE FROM drafts WHERE case_id = %s AND writer = %s"


def _writer(tx: Transaction) -> str:
    return tx.caller.identity


def context(case: UUID, writer: str) -> bytes:
    """What a draft is sealed to."""
    return f"draft in case {case} by {writer}".encode()


def save(tx: Transaction, request: SaveDraft) -> DraftSaved:
    """Keeps the draft in place of the one before. `NotFound` for a case that is not the caller's to read, `Conflict`
    for one in which nothing can be written, and for a draft that comes late: the caller has written in the case since,
    or saved a draft of a later version of it (R-CASE-17).

    The case is locked, as by who sends: a draft on its way while its reply is sent is either removed with it, or late.
    Attachments is told of its files, by an event: saving does not wait for them (R-ATT-8).
    """
    case = find(tx, request.case, lock=True)
    if case["state"] == State.CLOSED.value:
        raise Conflict("Ärendet är avslutat.", reason="case_closed")
    if tx.caller.kind == "resident" and not resident_may_write(facts(case)):
        raise Conflict("Du kan skriva i ärendet först när vården har ställt en fråga.", reason="no_counter_question")
    if request.version > case["version"]:
        check_version(facts(case), request.version)
    writer, version = _writer(tx), request.version
    content = request.model_dump(mode="json", include={"text", "kind", "attachments"})
    sealed = tx.sealer.seal(json.dumps(content).encode(), context(case["id"], writer))
    draft = (uuid4(), case["id"], writer, version, sealed, tx.now)
    if not tx.ask(_SAVE, (*draft, case["id"], version, tx.caller.subject)):
        raise Conflict("Utkastet är äldre än det du redan har skickat eller sparat.", reason="draft_late")
    if request.attachments:
        tx.publish(
            DRAFT_SAVED,
            DraftSavedEvent(
                case=case["id"],
                owner_kind=OwnerKind(tx.caller.kind),
                owner=tx.caller.subject,
                attachments=request.attachments,
            ),
            aggregate=case["id"],
        )
    return DraftSaved(saved_at=tx.now, version=case["version"], others_writing=others_writing(tx, case))


def get(tx: Transaction, request: GetDraft) -> DraftFound:
    """The caller's draft, and who else is writing."""
    case, writer = find(tx, request.case), _writer(tx)
    mine = select(drafts).where(drafts.c.case_id == case["id"], drafts.c.writer == writer)
    row = tx.execute(mine).mappings().one_or_none()
    return DraftFound(draft=shown(tx, row) if row else None, others_writing=others_writing(tx, case))


def shown(tx: Transaction, row: Row) -> DraftShown:
    """A draft, opened."""
    content = json.loads(open_sealed(tx.sealer, bytes(row["content"]), context(row["case_id"], row["writer"])))
    return DraftShown(**content, version=row["case_version"], saved_at=row["saved_at"])


def discard(tx: Transaction, request: DiscardDraft) -> Done:
    """Removes the caller's draft."""
    forget(tx, find(tx, request.case)["id"])
    return Done()


def forget(tx: Transaction, case: UUID) -> None:
    """The caller has sent what they wrote, or will not."""
    tx.later(_FORGET, (case, _writer(tx)))


def others_writing(tx: Transaction, case: Row) -> list[OtherWriting]:
    """Which other staff have saved a draft in the case just now, while it is open; residents are not told of staff."""
    if tx.caller.kind != "staff" or case["state"] == State.CLOSED.value:
        return []
    theirs = (drafts.c.case_id == case["id"], drafts.c.writer != _writer(tx), drafts.c.writer.startswith(_STAFF))
    question = select(drafts.c.writer, drafts.c.saved_at).where(*theirs, drafts.c.saved_at > tx.now - WRITING)
    found = tx.execute(question.order_by(drafts.c.saved_at.desc()))
    return [OtherWriting(person=row.writer.removeprefix(_STAFF), saved_at=row.saved_at) for row in found]


def forget_old(run: Any) -> int:
    """Removes drafts that nobody has touched for a week; says how many."""
    removed, lot = 0, AT_ONCE
    while lot == AT_ONCE:
        with run.transaction() as tx:
            some = select(drafts.c.id).where(drafts.c.saved_at < tx.now - KEPT).limit(AT_ONCE)
            # Run once: a plan may run a subquery anew for each row, and take them all.
            old = some.with_for_update(skip_locked=True).cte("old")
            lot = tx.execute(delete(drafts).where(drafts.c.id.in_(select(old.c.id)))).rowcount
        removed += lot
    if removed:
        log.info("old_drafts_removed", count=removed)
    return removed
