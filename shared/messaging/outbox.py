"""Events on their way out: written in the transaction of their cause, sent by the relay.

The columns are Debezium's, so that a reader of the database's log could take over from the relay.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from shared.contracts.base import ContractError, Event, EventBody
from shared.messaging.link import OutgoingMessage

_INSERT = b"INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, at) VALUES "
_VALUES = b"(%s, %s, %s, %s, %s, %s, %s)"

PERSISTENT = 2
AGGREGATE_HEADER = "x-aggregate"
ORIGIN_HEADER = "x-origin-call-id"


@dataclass(frozen=True)
class OutboxRow:
    """An event as it stands in the outbox."""

    id: UUID
    aggregatetype: str
    aggregateid: str
    type: str
    payload: str
    headers: dict[str, Any]
    at: datetime

    @property
    def values(self) -> tuple[Any, ...]:
        headers = json.dumps(self.headers)
        return self.id, self.aggregatetype, self.aggregateid, self.type, self.payload, headers, self.at


def row(
    event: Event[Any], body: EventBody, aggregate: UUID | str, *, service: str, at: datetime, origin: str | None
) -> OutboxRow:
    """The event as a row. Raises ContractError if it is another service's to tell, or the body another event's."""
    if event.service != service:
        raise ContractError(f"{service} may not tell {event.service}.{event.name}")
    if not isinstance(body, event.body):
        raise ContractError(f"{event.service}.{event.name} carries {event.body.__name__}")
    headers = {"origin_call_id": origin} if origin else {}
    return OutboxRow(uuid4(), service, str(aggregate), event.name, body.model_dump_json(), headers, at)


def insert(rows: list[OutboxRow]) -> tuple[bytes, tuple[Any, ...]]:
    """One statement that writes them all, in their order, and its values."""
    return _INSERT + b", ".join([_VALUES] * len(rows)), tuple(value for each in rows for value in each.values)


def message(
    *,
    event_id: UUID,
    source: str,
    aggregate: str,
    kind: str,
    payload: str,
    headers: dict[str, Any],
    at: datetime,
    heard: bool,
) -> OutgoingMessage:
    """The event as a message: its body is the payload, all else is in the properties. Stock nameko can hear it."""
    sent = {AGGREGATE_HEADER: aggregate}
    if "origin_call_id" in headers:
        sent[ORIGIN_HEADER] = str(headers["origin_call_id"])
    return OutgoingMessage(
        body=payload.encode(),
        exchange=f"{source}.events",
        routing_key=kind,
        mandatory=heard,
        properties={
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": PERSISTENT,
            "message_id": str(event_id),
            "type": f"{source}.{kind}",
            "timestamp": int(at.timestamp()),
            "app_id": source,
            "application_headers": sent,
        },
    )
