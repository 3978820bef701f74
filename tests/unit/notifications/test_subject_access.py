"""R-ID-19: what a report says of notifications and files is Swedish, whatever has become of them."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from services.attachments import subject_access as files
from services.notifications import subject_access
from shared.contracts import attachments
from shared.contracts.notifications import Channel, DeliveryState

RESIDENT = str(uuid4())


def said(**about: Any) -> dict[str, str]:
    """What is said of a delivery to the resident."""
    row = SimpleNamespace(
        recipient=RESIDENT, reason=None, attempts=1, ended_at=None, created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    vars(row).update(about)
    return {one.name: one.value for one in subject_access._held(row, RESIDENT).values}  # type: ignore[arg-type]


@pytest.mark.parametrize("state", DeliveryState)
def test_every_state_of_a_delivery_is_said_in_swedish(state: DeliveryState) -> None:
    assert said(channel="sms", state=state.value)["Tillstånd"] not in {one.value for one in DeliveryState}


@pytest.mark.parametrize("channel", Channel)
def test_every_channel_has_its_word(channel: Channel) -> None:
    assert said(channel=channel.value, state="sent")["Sätt"] == {"email": "e-post", "sms": "sms"}[channel]


def test_where_no_channel_is_known_yet_none_is_named() -> None:
    assert "Sätt" not in said(channel=None, state="waiting")


def test_every_state_of_a_file_that_is_there_has_its_word() -> None:
    assert set(files.STATES) == set(attachments.State)
