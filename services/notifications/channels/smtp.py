"""smtplib's client with an end to all its waiting, and several commands in one write where the server takes that."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from typing import Any

from services.notifications.channels.patience import incoming

_LONGEST_IN_STEPS = 3
"""How many times as long as one answer may take all of what is waited for in a row may take."""


class Client(smtplib.SMTP):
    """A conversation that ends. smtplib's own timeout starts anew with each byte that comes; these do not."""

    def __init__(self, host: str, port: int, ours: str, *, timeout: float, **more: Any) -> None:
        self._step_seconds = timeout
        self.patience()
        super().__init__(host, port, ours, timeout=timeout, **more)

    def patience(self, seconds: float | None = None) -> None:
        """Sets how long, from now on, its answers may take together. None: as long as a message may take."""
        self._until = time.monotonic() + (self._step_seconds * _LONGEST_IN_STEPS if seconds is None else seconds)

    def getreply(self) -> tuple[int, bytes]:
        """One answer, within the time for one, and what is left of the time for all. Raises `TimeoutError` as the
        context of smtplib's own error."""
        if self.file is None:
            assert self.sock is not None
            self.file = incoming(self.sock, self._left)
        self._answer_until = min(self._until, time.monotonic() + self._step_seconds)
        return super().getreply()

    def send(self, s: Any) -> None:
        """As smtplib's, within the time that is left."""
        if self.sock is not None:
            self.sock.settimeout(max(min(self._until - time.monotonic(), self._step_seconds), 0.001))
        super().send(s)

    def said(self, *commands: str, before: bool = False) -> Iterator[tuple[int, bytes]]:
        """The answers to these, in order; where the server offers PIPELINING (RFC 2920) they leave in one write.

        Else each is said when the answer to the one before it has been taken. `before`: they have left already.
        """
        at_once = self.pipelines
        if at_once and not before:
            self.send(lines(*commands))
        for command in commands:
            if not at_once:
                self.send(lines(command))
            yield self.getreply()

    def _left(self) -> float:
        return self._answer_until - time.monotonic()

    @property
    def pipelines(self) -> bool:
        """Whether commands leave before those ahead of them are answered."""
        return self.has_extn("pipelining")


def lines(*commands: str) -> bytes:
    """As they go over the wire."""
    return "".join(f"{command}\r\n" for command in commands).encode("ascii")


class TlsClient(Client, smtplib.SMTP_SSL):
    """The same, encrypted from the first byte."""
