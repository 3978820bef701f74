"""The mail servers and SMS providers that notifications are handed to: where each is, and in whose name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from services.notifications import addresses, rules
from services.notifications.channels.outcome import ChannelToProvider, NotAccepted, Outcome, Unknown

_SENDER_NAME = re.compile(r"[A-Za-z0-9]{3,11}")


def _mail_address(value: str) -> str:
    try:
        return addresses.email(value)
    except addresses.NotAnAddress:
        raise ValueError("is no mail address") from None


def _sms_sender(value: str) -> str:
    if not _SENDER_NAME.fullmatch(value):
        try:
            return addresses.mobile(value)
        except addresses.NotAnAddress:
            raise ValueError("is neither a sender's name nor a number") from None
    return value


def _in_one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds line ends or control characters")
    return value


def _web_address(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return _in_one_line(value)


# What is checked when a process starts, of the first provider and of the second.
Host = Annotated[str, Field(min_length=1)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
MailName = Annotated[str, Field(max_length=100), AfterValidator(_in_one_line)]
PerSecond = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=300)]
SmsSender = Annotated[str, AfterValidator(_sms_sender)]
WebAddress = Annotated[str, AfterValidator(_web_address)]


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed over. `per_second`: no more mails than this, from all senders together."""

    host: Host
    sender: MailAddress
    port: Port = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    timeout: Seconds = 20
    sender_name: MailName = "E-tjänsterna på 1177"
    settings_page: WebAddress | None = None
    """Where staff change what they are told of; in the List-Unsubscribe of their mails."""
    per_second: PerSecond | None = None

    @property
    def name(self) -> str:
        return self.host


@dataclass(frozen=True)
class SmsProvider:
    """Where an SMS is posted, by which API. `description_file` is for the generic one; ids and gate are LINK's."""

    url: WebAddress
    user: str
    password_file: Path
    sender: SmsSender
    api: Literal["46elks", "link_mobility", "generic"] = "46elks"
    ca_file: Path | None = None
    timeout: Seconds = 20
    per_second: PerSecond | None = None
    platform_id: str | None = None
    partner_id: str | None = None
    gate: str | None = None
    """By which LINK sends its reports; None: no reports."""
    description_file: Path | None = None

    def __post_init__(self) -> None:
        if self.api == "link_mobility" and not (self.platform_id and self.partner_id):
            raise ValueError("LINK Mobility needs a platform id and a partner id")

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or "sms"


def read_password(file: Path | None) -> str | None:
    """The one line of the file; read anew at each connection, so that a changed password needs no restart."""
    return file.read_text().strip() if file else None


@dataclass
class Circuit:
    """Whether a provider is asked at all. Shared by the conversations of a process.

    It opens after some failures in a row that say more of the provider than of the message. Then one attempt is let
    through after each pause, which grows; the first that goes well closes it.
    """

    now: Callable[[], float] = time.monotonic
    _failures: int = 0
    _closed_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lets_through(self) -> bool:
        """Whether an attempt may be made now. Where it is open, the one that is told yes is the attempt that counts."""
        with self._lock:
            if self._failures < rules.CIRCUIT_OPENS_AFTER:
                return True
            if self.now() < self._closed_until:
                return False
            self._closed_until = self.now() + self._pause()
            return True

    def give_back(self) -> None:
        """The attempt that was let through was not made after all: the next may make it, at once."""
        with self._lock:
            self._closed_until = self.now()

    def opens_in(self) -> float:
        """Seconds until the next attempt may be made."""
        with self._lock:
            if self._failures < rules.CIRCUIT_OPENS_AFTER:
                return 0.0
            return max(0.0, self._closed_until - self.now())

    def tell(self, *, failed: bool) -> None:
        """How an attempt went."""
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            self._closed_until = self.now() + self._pause()

    def _pause(self) -> float:
        return rules.circuit_pause(self._failures).total_seconds()


@dataclass(frozen=True)
class Provider:
    """One that can be asked to take a message. Shared by the conversations of a process, each of which has its own talk
    with it. `report_to`: where it is to report what became of the message with this reference."""

    name: str
    talk: Callable[[], ChannelToProvider]
    circuit: Circuit = field(default_factory=Circuit)
    per_second: float | None = None
    report_to: Callable[[str], str | None] = lambda reference: None

    def learn(self, outcome: Outcome | None) -> None:
        """What came of an attempt that its circuit let through; None: it was not made after all."""
        if outcome is None:
            self.circuit.give_back()
        else:
            down = isinstance(outcome, NotAccepted) and outcome.provider_down
            self.circuit.tell(failed=down or isinstance(outcome, Unknown))
