"""The event that is told: as large as the real ones, on a real one's way."""

from __future__ import annotations

from shared.contracts.base import Contract, EventBody


class Told(EventBody):
    """Its body is 400 bytes."""

    number: int
    sent: float
    padding: str


PADDING = "e" * 360
contract = Contract("cases")
TOLD = contract.event("case_started", Told, heard_by=("notifications",))
"""Its name is a real event's, so that the queue is there."""
hearing = Contract("notifications")
