"""Looking for viruses: the bytes go to a clamd, by its INSTREAM command (R-ATT-7).

A scanner that is away, too busy, or set to take smaller files than we do, delays the check; it never skips it.
"""

from __future__ import annotations

import io
import socket
from contextlib import closing
from typing import BinaryIO

from services.attachments.checking import CannotCheck, NoVerdict
from shared.operations.logs import log

_CHUNK_BYTES = 256 * 1024
_LONGEST_ANSWER = 4096
_HELLO_SECONDS = 3.0


class Scanner:
    """A clamd at `host:port`, or at a socket's path."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with closing(self._connected(_HELLO_SECONDS)) as line:
                line.sendall(b"zPING\0")
                return _answer(line) == "PONG"
        except OSError:
            return False

    def found(self, file: BinaryIO) -> str | None:
        """The name of what was found in the file, None if nothing was. Raises `NoVerdict`."""
        try:
            with closing(self._connected(self._seconds)) as line:
                said = self._scanned(line, file)
        except OSError as error:
            raise NoVerdict("scanner_down") from error
        if said == "stream: OK":
            return None
        if said.startswith("stream: ") and said.endswith(" FOUND"):
            return said.removeprefix("stream: ").removesuffix(" FOUND")
        log.error("scanner_refuses", reason=said[:200])
        raise NoVerdict("scanner_refuses")

    def works(self) -> bool:
        """Whether it finds nothing in next to nothing."""
        try:
            return self.found(io.BytesIO(b"\n")) is None
        except CannotCheck:
            return False

    def _connected(self, seconds: float) -> socket.socket:
        if self._address.startswith("/"):
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(seconds)
            try:
                line.connect(self._address)
            except OSError:
                line.close()
                raise
            return line
        host, _, port = self._address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=seconds)

    @staticmethod
    def _scanned(line: socket.socket, file: BinaryIO) -> str:
        file.seek(0)
        try:
            line.sendall(b"zINSTREAM\0")
            while piece := file.read(_CHUNK_BYTES):
                line.sendall(len(piece).to_bytes(4, "big") + piece)
            line.sendall(bytes(4))
        except (BrokenPipeError, ConnectionResetError):  # it has heard enough, and says why
            pass
        return _answer(line)


def _answer(line: socket.socket) -> str:
    said = b""
    while not said.endswith(b"\0") and len(said) < _LONGEST_ANSWER:
        piece = line.recv(_LONGEST_ANSWER)
        if not piece:
            break
        said += piece
    return said.rstrip(b"\0").decode(errors="replace").strip()
