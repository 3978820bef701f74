"""Reminders to a clinic's addresses of cases that nobody has handled within the days that it has set (R-NOT-2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from services.notifications.clinic_settings import REMINDER
from services.notifications.queueing import occasion
from services.notifications.tables import clinic_addresses, clinic_settings, deliveries
from services.notifications.working_days import is_working_day, silent_since
from shared.contracts import cases
from shared.contracts.base import HsaId
from shared.contracts.notifications import Channel, DeliveryKind, DeliveryState, RecipientKind
from shared.database.transaction import Transaction
from shared.operations import clock
from shared.operations.logs import log

AT_ONCE = 500
"""Clinics asked about in one call."""


def remind_all(run: Any) -> int:
    """On a working day, reminds every clinic that wants it; returns how many were reminded.

    A case is reminded of once for each wait of the resident's, which a word from the clinic ends. No wait begins in the
    past, so those that began before the latest reminder's moment were told of by it or by one before. If cases does not
    answer the run fails, and is tried again from where it came to.
    """
    if not is_working_day(clock.today()):
        return 0
    reminded, after = 0, ""
    while True:
        with run.transaction() as tx:
            clinics = _clinics(tx, after)
        if not clinics:
            return reminded
        since = {row.clinic: silent_since(run.now, row.reminder_days) for row in clinics}
        asked = [
            cases.UnhandledAt(clinic=row.clinic, silent_since=since[row.clinic], written_after=row.reminded_until)
            for row in clinics
        ]
        found = run.ask(cases.UNHANDLED_CASES, cases.AskUnhandledCases(clinics=asked))
        with run.transaction() as tx:
            for one in found.clinics:
                remind(tx, one.clinic, since[one.clinic])
        reminded += len(found.clinics)
        after = clinics[-1].clinic
        if found.clinics:
            log.info("clinics_reminded", count=len(found.clinics))


def remind(tx: Transaction, clinic: HsaId, since: datetime) -> None:
    """Queues a reminder to each of the clinic's reminder addresses; for the same cases only once."""
    moved = tx.execute(
        update(clinic_settings)
        .where(
            clinic_settings.c.clinic == clinic,
            or_(clinic_settings.c.reminded_until.is_(None), clinic_settings.c.reminded_until < since),
        )
        .values(reminded_until=since)
    )
    if moved.rowcount == 0:
        return
    addresses = tx.execute(
        select(clinic_addresses.c.address_id, clinic_addresses.c.address_hash).where(
            clinic_addresses.c.clinic == clinic, clinic_addresses.c.purpose == REMINDER
        )
    ).all()
    rows = [
        {
            "delivery": uuid4(),
            "event_id": occasion(f"unhandled_cases/{clinic}/{since.isoformat()}"),
            "kind": DeliveryKind.CLINIC_REMINDER,
            "clinic": clinic,
            "recipient_kind": RecipientKind.CLINIC,
            "recipient": str(row.address_id),
            "channel": Channel.EMAIL,
            "address_hash": row.address_hash,
            "state": DeliveryState.WAITING,
            "due_at": tx.now,
            "created_at": tx.now,
        }
        for row in addresses
    ]
    if rows:
        tx.execute(insert(deliveries).on_conflict_do_nothing(), rows)


def _clinics(tx: Transaction, after: HsaId) -> Sequence[Row[Any]]:
    """The next clinics that want to be reminded and have somewhere to be reminded at."""
    somewhere = exists().where(
        clinic_addresses.c.clinic == clinic_settings.c.clinic, clinic_addresses.c.purpose == REMINDER
    )
    return tx.execute(
        select(clinic_settings)
        .where(clinic_settings.c.reminder_days.is_not(None), clinic_settings.c.clinic > after, somewhere)
        .order_by(clinic_settings.c.clinic)
        .limit(AT_ONCE)
    ).all()
