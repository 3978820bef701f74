"""How an attempt to send went. Which of the three it was decides whether it may be tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.notifications.rendering import Words


@dataclass(frozen=True)
class Accepted:
    """The provider has it."""

    reference: str | None = None


@dataclass(frozen=True)
class NotAccepted:
    """The provider certainly does not have it: either it said so, or it never got all of it.

    `permanent`: trying again is of no use. `provider_down`: it was not about this message, others would fare the same.
    `pause`: how long the provider asks us to wait.
    """

    reason: str
    permanent: bool = False
    provider_down: bool = False
    pause: timedelta | None = None


@dataclass(frozen=True)
class Unknown:
    """The provider may have got it, and gave no answer that can be understood. Never tried again by itself."""

    reason: str


Outcome = Accepted | NotAccepted | Unknown


class ChannelToProvider(Protocol):
    """One conversation with a provider; not shared between threads."""

    def prepare(self, address: str) -> NotAccepted | None:
        """All that can be done before the provider could accept the message. None: go on and send."""

    def send(self, delivery: str, address: str, words: Words) -> Outcome:
        """Sends to the address that was prepared. To be called only when the attempt has been recorded (R-NOT-7)."""

    def abandon(self) -> None:
        """Nothing will be sent to the address that was prepared."""

    def close(self) -> None:
        """Ends the conversation."""
