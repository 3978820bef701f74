"""The checker's turns: which file next, for how long, and what came of it (R-ATT-7).

`look_at` is at once the time of the next look and the end of the lease: a checker that has a file pushes it ahead again
and again, and if that checker dies another takes over then. `lease` names whose turn it is; whoever lost their turn can
change nothing any more.

`suspects` are the leases under which a file was examined and nothing came of it. A lease is written there just before
and struck out by whatever its checker writes next, even when it has lost its turn: an outage holds nothing against a
file, as the checkers that live through it say so afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, tuple_, update

from services.attachments import rules
from services.attachments.store import Kept
from services.attachments.tables import attachments
from shared.contracts.attachments import State
from shared.database.transaction import Transaction


@dataclass(frozen=True)
class Turn:
    """One file that one checker has for a while."""

    attachment: UUID
    lease: UUID
    size: int
    content_type: str
    sha256: bytes
    state: State
    looks: int
    suspicions: int
    upload_expires_at: datetime


def take(tx: Transaction, lease: UUID, lease_seconds: float) -> Turn | None:
    """The file that has waited longest for a look, for so many seconds; None if there is none due.

    Those of people of whose files none is under check come first: whoever sends a hundred that take a minute each is
    waited for by nobody else for longer than one of them.
    """
    held = attachments.alias()
    under_check = select(held.c.owner_kind, held.c.owner).where(held.c.look_at > tx.now, held.c.lease.is_not(None))
    due = (
        select(attachments)
        .where(attachments.c.look_at <= tx.now)
        .order_by(tuple_(attachments.c.owner_kind, attachments.c.owner).in_(under_check), attachments.c.look_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = tx.execute(due).first()
    if row is None:
        return None
    left = row.lease is not None and row.state == State.CHECKING
    takeovers = row.takeovers + (1 if left else 0)
    ahead = tx.now + timedelta(seconds=lease_seconds)
    this = attachments.c.attachment == row.attachment
    tx.execute(update(attachments).where(this).values(look_at=ahead, lease=lease, takeovers=takeovers))
    return Turn(
        attachment=row.attachment,
        lease=lease,
        size=row.size,
        content_type=row.content_type,
        sha256=bytes(row.sha256),
        state=State(row.state),
        looks=row.looks,
        suspicions=len(row.suspects),
        upload_expires_at=row.upload_expires_at,
    )


def give_back(tx: Transaction, lease: UUID) -> None:
    """Whatever this lease holds is due at once, as if it had not been taken; nothing if it holds nothing."""
    held = attachments.c.lease == lease
    tx.execute(update(attachments).where(held).values(look_at=tx.now, lease=None))


def not_there_yet(tx: Transaction, turn: Turn) -> bool:
    """Nothing is uploaded so far: look again after a growing pause."""
    pause = rules.pause_before_look(turn.looks + 1)
    return _give_back(tx, turn, {"look_at": tx.now + pause, "looks": turn.looks + 1})


def renew(tx: Transaction, turn: Turn, lease_seconds: float) -> bool:
    """The checker lives and is still at it. False if the turn is lost."""
    return _change(tx, turn, {"look_at": tx.now + timedelta(seconds=lease_seconds)})


def begin(tx: Transaction, turn: Turn, lease_seconds: float) -> bool:
    """The bytes are there: shown as being checked. False if the turn is lost."""
    ahead = tx.now + timedelta(seconds=lease_seconds)
    return _change(tx, turn, {"state": State.CHECKING, "look_at": ahead, "looks": 0, "changed_at": tx.now})


def suspect(tx: Transaction, turn: Turn) -> bool:
    """From here on the file may be what ends the checker. False if the turn is lost."""
    return _change(tx, turn, {"suspects": _with(turn)})


def give_up(tx: Transaction, turn: Turn) -> None:
    """The file is due at once, and nothing is held against it."""
    _give_back(tx, turn, {"look_at": tx.now})


def put_off(tx: Transaction, turn: Turn, *, suspicious: bool) -> bool:
    """It could not be checked now: again after a growing pause. Unless it is `suspicious`, however often."""
    pause = rules.pause_before_look(turn.looks + 1)
    changes: dict[str, Any] = {"look_at": tx.now + pause, "looks": turn.looks + 1}
    return _give_back(tx, turn, changes | ({"suspects": _with(turn)} if suspicious else {}))


def accept(tx: Transaction, turn: Turn, kept: Kept) -> bool:
    """Checked and kept: usable from now on. False if the turn is lost; then the sweeper removes what was kept."""
    usable = {
        "state": State.USABLE,
        "clean_key": kept.key,
        "clean_version": kept.version,
        "kept_size": kept.size,
        "kept_sha256": kept.sha256,
        "cleaned": kept.cleaned,
        "preview_key": kept.preview_key,
        "preview_version": kept.preview_version,
    }
    if _finish(tx, turn, usable):
        return True
    this = (attachments.c.attachment == turn.attachment) & attachments.c.clean_key.is_distinct_from(kept.key)
    tx.execute(update(attachments).where(this).values(sweep_at=tx.now))
    return False


def refuse(tx: Transaction, turn: Turn, refusal: str) -> bool:
    """Refused for good; the owner sees why (R-ATT-7)."""
    return _finish(tx, turn, {"state": State.REFUSED, "refusal": refusal})


def _finish(tx: Transaction, turn: Turn, changes: dict[str, Any]) -> bool:
    done: dict[str, Any] = {
        "look_at": None,
        "checked_at": tx.now,
        "changed_at": tx.now,
        "sweep_at": tx.now,
        "suspects": [],
    }
    return _give_back(tx, turn, done | changes)


def _give_back(tx: Transaction, turn: Turn, changes: dict[str, Any]) -> bool:
    if _change(tx, turn, {"lease": None, "suspects": _without(turn)} | changes):
        return True
    this = attachments.c.attachment == turn.attachment
    tx.execute(update(attachments).where(this).values(suspects=_without(turn)))
    return False


def _without(turn: Turn) -> Any:
    return func.array_remove(attachments.c.suspects, turn.lease)


def _with(turn: Turn) -> Any:
    return func.array_append(_without(turn), turn.lease)


def _change(tx: Transaction, turn: Turn, changes: dict[str, Any]) -> bool:
    ours = (attachments.c.attachment == turn.attachment) & (attachments.c.lease == turn.lease)
    return tx.execute(update(attachments).where(ours).values(changes)).rowcount == 1
