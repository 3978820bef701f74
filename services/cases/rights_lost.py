"""A handler who loses the right at a clinic no longer has its cases: they are up for distribution again."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import or_, select

from services.cases.changing import change_by_system
from services.cases.handlers import change_rights_of, rights_in_copy
from services.cases.rules import Act, State
from services.cases.tables import cases
from shared.contracts.base import HsaId, Role
from shared.contracts.identity import RightsChanged
from shared.database.transaction import Transaction


def rights_changed(tx: Transaction, event: RightsChanged) -> None:
    """Hears every change of rights; the copy already has it, and may have a newer one, which then is what counts."""
    if not _is_resident(event.subject):
        take_cases_from(tx, event.subject, event.number)


def take_cases_from(tx: Transaction, person: HsaId, number: int) -> int:
    """Takes the person's open cases at clinics where they are no handler any more; says how many.

    `number` is the change's. A case that was given by what identity told is only taken by a change newer than that: to
    an older one that comes late, the right that the case was given by is still unknown.
    A case that was assigned becomes new. One that waits for the resident goes on waiting, without a handler, so that an
    unanswered counter-question still closes it (R-CASE-7); it becomes new when the resident answers.
    """
    change_rights_of(tx, person)
    rights, _ = rights_in_copy(tx, person)
    lost = tx.execute(
        select(cases)
        .where(
            cases.c.handler == person,
            cases.c.state.in_([State.ASSIGNED.value, State.AWAITING_RESIDENT.value]),
            cases.c.clinic.not_in(rights.clinics_with(Role.CASE_HANDLER)),
            or_(cases.c.handler_rights_number.is_(None), cases.c.handler_rights_number < number),
        )
        .order_by(cases.c.id)
        .with_for_update()
    ).mappings()
    found = lost.all()
    change_by_system(tx, found, Act.LOSE_HANDLER, "handler_lost_right")
    return len(found)


def _is_resident(subject: str) -> bool:
    try:
        UUID(subject)
    except ValueError:
        return False
    return True
