"""The contract of cases, and the words that its parts share."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Line, Text

cases = Contract("cases")

ComponentKind = Literal["text", "single_choice", "multiple_choice", "date", "phone", "info", "attachments"]
CaseState = Literal["new", "assigned", "awaiting_resident", "closed"]
ClosedReason = Literal["answered", "counter_question_expired", "closed_by_clinic", "information"]
MessageKind = Literal["start", "resident_message", "partial_reply", "counter_question", "answer"]
ReplyKind = Literal["partial_reply", "counter_question", "answer"]
Writer = Literal["resident", "guardian", "staff", "system"]

MESSAGE_LENGTH = 10_000
Message = Annotated[str, Text(MESSAGE_LENGTH)]
Cursor = Annotated[str, Field(max_length=200)]
PageSize = Annotated[int, Field(ge=1, le=100)]
ComponentId = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
DateLimit = Annotated[str, Field(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2}|today)$")]
Name = Annotated[str, Line(100)]
FormVersion = Annotated[int, Field(ge=1, le=2**31 - 1)]
# A bound for the wire; the rule's own limit is a setting of the service (R-ATT-3).
Attachments = Annotated[list[UUID], Field(max_length=100)]
