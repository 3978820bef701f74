"""Standard answers of a clinic, written by its local administrators for those who answer (R-CASE-20)."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, insert, select, update

from services.cases.tables import standard_answers
from services.cases.templates import READERS
from shared.contracts.base import Done, Role
from shared.contracts.case_types import (
    MOST_STANDARD_ANSWERS,
    ListStandardAnswers,
    RemoveStandardAnswer,
    SaveStandardAnswer,
    StandardAnswers,
    StandardAnswerSaved,
    StandardAnswerShown,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, LimitExceeded, NotFound


def save(tx: Transaction, request: SaveStandardAnswer) -> StandardAnswerSaved:
    """Adds one, or changes one as it was read. Raises `NotFound`, `Conflict` (standard_answer_changed)."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    content = {"title": request.title, "text": request.text, "changed_at": tx.now, "changed_by": tx.caller.subject}
    if request.standard_answer is None:
        return _add(tx, request.clinic, content)
    one = _one(request.clinic, request.standard_answer)
    version = tx.execute(select(standard_answers.c.version).where(*one).with_for_update()).scalar_one_or_none()
    if version is None:
        raise _not_found()
    if version != request.version:
        raise Conflict("Standardsvaret har ändrats sedan du läste det.", reason="standard_answer_changed")
    tx.execute(update(standard_answers).where(*one).values(content | {"version": version + 1}))
    return StandardAnswerSaved(standard_answer=request.standard_answer, version=version + 1)


def _add(tx: Transaction, clinic: str, content: dict[str, object]) -> StandardAnswerSaved:
    many = tx.execute(select(func.count()).where(standard_answers.c.clinic == clinic)).scalar_one()
    if many >= MOST_STANDARD_ANSWERS:
        raise LimitExceeded("Mottagningen har för många standardsvar.", reason="too_many_standard_answers")
    made = uuid4()
    tx.execute(insert(standard_answers).values(content | {"id": made, "clinic": clinic, "version": 1}))
    return StandardAnswerSaved(standard_answer=made, version=1)


def remove(tx: Transaction, request: RemoveStandardAnswer) -> Done:
    """Removes one. Raises `NotFound`."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    if tx.execute(delete(standard_answers).where(*_one(request.clinic, request.standard_answer))).rowcount == 0:
        raise _not_found()
    return Done()


def _one(clinic: str, standard_answer: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (standard_answers.c.id == standard_answer, standard_answers.c.clinic == clinic)


def _not_found() -> NotFound:
    return NotFound("Standardsvaret finns inte.", reason="standard_answer_not_found")


def list_of_clinic(tx: Transaction, request: ListStandardAnswers) -> StandardAnswers:
    """All of the clinic's, by title."""
    tx.caller.require(request.clinic, *READERS)
    question = select(standard_answers).where(standard_answers.c.clinic == request.clinic)
    rows = tx.execute(question.order_by(standard_answers.c.title, standard_answers.c.id)).mappings()
    return StandardAnswers(
        standard_answers=[
            StandardAnswerShown(
                standard_answer=row["id"],
                version=row["version"],
                title=row["title"],
                text=row["text"],
                changed_at=row["changed_at"],
            )
            for row in rows
        ]
    )
