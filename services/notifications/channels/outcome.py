"""How an attempt to send went. Which of the three it was decides whether it may be tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.notifications.rendering import Words
from services.notifications.rules import Failure


@dataclass(frozen=True)
class Letter:
    """What is sent, and to where.

    `delivery` is the same at every attempt; `reference` and `sending` are others when someone has it sent again by
    hand, so that a late report is not taken for one of the new attempt. `report_to`: where the provider is to report
    how it went. `followed_by`: the address that will most likely be prepared next.
    """

    delivery: str
    reference: str
    address: str
    words: Words
    to_staff: bool = False
    report_to: str | None = None
    sending: int = 0
    followed_by: str | None = None


@dataclass(frozen=True)
class Accepted:
    """The provider has it."""

    reference: str | None = None


@dataclass(frozen=True)
class NotAccepted:
    """The provider certainly does not have it: either it said so, or it never got all of it.

    `permanent`: trying again is of no use. `provider_down`: it was not about this message, others would fare the same.
    `by_policy`: so they would as long as they say the same, or come from us. `pause`: how long the provider asks us to
    wait. `about_the_address`: there is nobody at it.
    """

    reason: str
    permanent: bool = False
    provider_down: bool = False
    pause: timedelta | None = None
    about_the_address: bool = False
    by_policy: bool = False

    @property
    def failure(self) -> Failure:
        """By which it is decided whether, and how often, it is tried again."""
        if self.permanent:
            return Failure.PERMANENT
        if self.by_policy:
            return Failure.REFUSED_BY_POLICY
        return Failure.PROVIDER_DOWN if self.provider_down else Failure.REFUSED_FOR_NOW


@dataclass(frozen=True)
class Unknown:
    """The provider may have got it, and gave no answer that can be understood. Never tried again by itself."""

    reason: str


Outcome = Accepted | NotAccepted | Unknown


class ChannelToProvider(Protocol):
    """One conversation with a provider; not shared between threads."""

    def prepare(self, letter: Letter) -> NotAccepted | None:
        """All that can be done before the provider could accept the message. None: go on and send."""

    def send(self) -> Outcome:
        """Sends what was prepared. To be called only when the attempt has been recorded (R-NOT-7)."""

    def abandon(self) -> None:
        """What was prepared will not be sent; what has been said of it is no message."""

    def close(self) -> None:
        """Ends the conversation."""
