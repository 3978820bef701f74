"""Reading from a provider that comes to an end: a socket's own timeout starts anew with each byte that comes."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any


def incoming(sock: socket.socket, left: Callable[[], float]) -> io.BufferedReader:
    """What comes in, like `makefile`. `left`: seconds that it may still take. Reading raises `TimeoutError`."""
    return io.BufferedReader(_Incoming(sock, left))


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left = sock, left
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._left()
        if left <= 0:
            raise TimeoutError("the provider takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
