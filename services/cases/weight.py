"""How large a case may grow: all of it is read at once, so all of it has to fit in one reply (R-CASE-3, R-CASE-6).

What is counted is never less than what a reply takes, nor than the case takes as a document in text (R-CASE-16). Staff
have room that a resident can't fill, so that whatever a resident has written can be answered; closing needs none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from services.cases.tables import Row
from shared.contracts.cases import AnswerShown
from shared.messaging.errors import LimitExceeded

ROOM_FOR_RESIDENT = 4_000_000
ROOM_FOR_STAFF = 6_000_000
"""Bytes; a reply may have 8 MiB."""

STEP = 500
"""Bytes of a step in the case's activities."""
_MESSAGE = 1_000
_FILE = 1_300
_ANSWER = 200


def of_message(text: str, files: Collection[Any], answers: Sequence[AnswerShown] = (), signed: str = "") -> int:
    """Bytes that a message with so many files takes in a reply. `signed`: the sender's name and signature."""
    return (
        _MESSAGE
        + _FILE * len(files)
        + _of_text(text)
        + _of_text(signed)
        + sum(
            _ANSWER + _of_text(answer.label) + sum(_of_text(value) + 3 for value in answer.values) for answer in answers
        )
    )


def check_room(
    case: Row, text: str | None, files: Collection[UUID], room: int, answers: Sequence[AnswerShown] = ()
) -> None:
    """Refuses what the case has no room for: `LimitExceeded`, `case_full`."""
    adding = STEP + (0 if text is None else of_message(text, files, answers))
    if case["reply_bytes"] + adding > room:
        raise LimitExceeded("Ärendet rymmer inte mer.", reason="case_full")


def _of_text(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
