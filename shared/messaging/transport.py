"""How a connection of py-amqp reads and writes here: whole buffers in, and in one piece what is written together.

What the frames say is py-amqp's to read and write, but for where a delivery came from: a codec of our own would be
quicker, and is not ours to keep (docs/decisions/0001). What is changed is how often the kernel is called, bytes are
copied, and a frame is looked at.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
from amqp import method_framing, serialization, spec
from amqp.exceptions import UnexpectedFrame

HEARTBEAT_SECONDS = 10
LONGEST_WAIT_SECONDS = 1.0
"""So often whoever reads a connection looks whether it is time for a heartbeat, or to stop."""
_CONNECT_SECONDS = 5.0
_READ_AHEAD_BYTES = 65_536
_SEND_BYTES = 262_144
_FRAMES_AT_ONCE = 1000
_FRAME_HEADER = struct.Struct(">BHI")
"""Type, channel and length of the payload that follows; then one byte ends the frame."""
_FRAME_END = 0xCE
_END = bytes([_FRAME_END])
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_CONTENT = struct.Struct(">HHQ")
"""Class, weight and length of the body that follows; then its properties."""
_CONTENT_FRAME = struct.Struct(">BHIHHQ")
"""The frame's header, and its payload's beginning."""
_BASIC = spec.Basic.Publish[0]
_DELIVER = struct.pack(">HH", *spec.Basic.Deliver)
_TAG = struct.Struct(">Q")


class _Message(amqp.Message):  # type: ignore[misc]
    """A message as it comes in. Its headers are whatever its sender wrote: some can't be read, and must harm nobody."""

    unreadable = False

    def _load_properties(self, *arguments: Any) -> Any:
        try:
            return super()._load_properties(*arguments)
        except Exception:
            # A date in the year 50000, or tables a thousand deep. Raised from here it would end the connection, and the
            # message would come again by the next.
            self.properties: dict[str, Any] = {}
            self.unreadable = True
            return None


method_framing.Message = _Message  # py-amqp has no other way to say what messages are made of


def publishing(channel: int, frame_max: int, message: amqp.Message, exchange: str, key: str, mandatory: bool) -> bytes:
    """The frames that publish a message, as py-amqp would write them: it says what is in each, and they are cut here.

    Its own way makes a promise, a timeout and a lock for each of them, and a format for each length.
    """
    body = message.body
    method = _publish_method(exchange, key, mandatory)
    header = _CONTENT.pack(_BASIC, 0, len(body)) + message._serialize_properties()
    frames = [_FRAME_HEADER.pack(_METHOD, channel, len(method)), method, _END]
    frames += _FRAME_HEADER.pack(_HEADER, channel, len(header)), header, _END
    for begins in range(0, len(body), frame_max - 8):
        piece = body[begins : begins + frame_max - 8]
        frames += _FRAME_HEADER.pack(_BODY, channel, len(piece)), piece, _END
    return b"".join(frames)


@lru_cache(maxsize=1024)
def _publish_method(exchange: str, key: str, mandatory: bool) -> bytes:
    arguments: bytes = serialization.dumps("Bssbb", (0, exchange, key, mandatory, False))
    return struct.pack(">HH", *spec.Basic.Publish) + arguments


def _deliver(message: _Message, method: bytes) -> None:
    """Gives the message to its consumer, as py-amqp does when it has read all of it; `method`: Basic.Deliver."""
    tag = 5 + method[4]
    (number,) = _TAG.unpack_from(method, tag)
    message.channel._on_basic_deliver(method[5:tag].decode(), number, *_came_by(method[tag + _TAG.size :]), message)


@lru_cache(maxsize=1024)
def _came_by(arguments: bytes) -> tuple[bool, str, str]:
    """The end of what a delivery begins with: whether it was delivered before, and its exchange and routing key.

    The broker takes a key of any bytes. One that is no text would end the connection, and come again by the next.
    """
    key = 2 + arguments[1]
    ends = key + 1 + arguments[key]
    exchange, key_text = (text.decode(errors="replace") for text in (arguments[2:key], arguments[key + 1 : ends]))
    return bool(arguments[0] & 1), exchange, key_text


class _Connection(amqp.Connection):  # type: ignore[misc]
    """Reads what a delivery begins with as above, where py-amqp pieced the message together."""

    def on_inbound_method(self, channel_id: int, method_sig: tuple[int, int], payload: bytes, content: Any) -> None:
        channel = (self.channels or {}).get(channel_id)
        if method_sig == spec.Basic.Deliver and channel is not None and not channel.is_closing:
            content.channel = channel
            _deliver(content, payload)
        else:
            super().on_inbound_method(channel_id, method_sig, payload, content)


def connection_arguments(url: str, name: str, ca_file: str | None) -> dict[str, Any]:
    """What py-amqp is told of the broker at `url`. Raises ValueError for what is no broker's address."""
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError("the broker's address must look like amqp://user:password@host:port/vhost")
    secure: Any = False
    if parts.scheme == "amqps":
        secure = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": ca_file, "server_hostname": parts.hostname}
    return {
        "host": f"{parts.hostname}:{parts.port or (5671 if secure else 5672)}",
        "userid": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "virtual_host": unquote(parts.path[1:]) or "/",
        "ssl": secure,
        "heartbeat": HEARTBEAT_SECONDS,
        "connect_timeout": _CONNECT_SECONDS,
        "write_timeout": HEARTBEAT_SECONDS * 2,
        "client_properties": {"connection_name": name},
    }


def connect(arguments: dict[str, Any]) -> amqp.Connection:
    """A connection that stands. Raises what py-amqp raises."""
    connection = _Connection(**arguments)
    # Without this, py-amqp reads the connection before every publish and so runs callbacks inside callbacks.
    connection.negotiate_capabilities = {**connection.negotiate_capabilities, "connection.blocked": False}
    connection.connect()
    return connection


def _none(_data: bytearray) -> int:
    return 0


class Wire:
    """The bytes of one connection. For one thread at a time: the link's lock guards it."""

    def __init__(self, connection: amqp.Connection) -> None:
        self._connection = connection
        self._on_frame = connection.on_inbound_frame
        self._between_messages = True
        """Whether py-amqp has no message half read."""
        self._transport = transport = connection.transport
        self._sock = sock = connection.sock
        # No read or write waits longer: a broker that hangs is as good as gone.
        sock.settimeout(HEARTBEAT_SECONDS * 2)
        self._secure = isinstance(sock, ssl.SSLSocket)
        self._receive = transport._quick_recv
        self._own: socket.socket | None = None
        # A TLS socket has no inside that may be used.
        raw = None if self._secure else self._never_waiting()
        self._at_once = self._secure_at_once if raw is None else raw.recv
        self._send_at_once = _none if raw is None else raw.send
        self._send = transport._write
        self._out = bytearray()
        self.gathers = False
        """While it is set, what is written is kept until `flush`."""
        transport._quick_recv = self._read
        transport._write = self._write

    def _never_waiting(self) -> Any:
        """The same socket, to receive what is there and send what there is room for, without the calls by which it is
        told each time that it may not wait, or asked whether it has to."""
        if hasattr(self._sock, "fd"):
            return self._sock.fd  # a green socket has one inside that never waits
        self._own = self._sock.dup()
        self._own.settimeout(0)
        return self._own

    def _secure_at_once(self, size: int) -> Any:
        # Not by a timeout of 0: with that, a green TLS socket asks the hub all the same, where its listener is already.
        timeout = self._sock.gettimeout()
        self._sock.setblocking(False)
        try:
            return self._receive(size)
        finally:
            self._sock.setblocking(True)
            self._sock.settimeout(timeout)

    def close(self) -> None:
        """Lets go of what is ours."""
        if self._own is not None:
            self._own.close()

    # --- in ---------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether bytes wait that the operating system does not know of any more: TLS has taken them in."""
        return self._secure and bool(self._sock.pending())

    def drain(self) -> bool:
        """Has the frames handled that have come in whole, without waiting for more. Whether some may be left.

        Not all of them if they are many: who holds the connection must let go of it, however much is sent. Frames are
        cut here, from whole buffers: py-amqp takes seven bytes, then a payload, then one byte, and copies what is left
        over each time. What is begun and not whole is kept where py-amqp keeps it. A delivery that is all there goes to
        its consumer straight; it is what most of them are.
        """
        transport = self._transport
        buffer = transport._read_buffer + self._there_now()
        begins, handled = 0, 0
        try:
            while handled < _FRAMES_AT_ONCE and len(buffer) - begins >= _FRAME_HEADER.size:
                kind, channel, size = _FRAME_HEADER.unpack_from(buffer, begins)
                payload = begins + _FRAME_HEADER.size
                ends = payload + size
                if ends >= len(buffer):
                    break
                if buffer[ends] != _FRAME_END:
                    raise UnexpectedFrame(f"frame of {size} bytes without its end")
                begins, handled = ends + 1, handled + 1
                if kind == _METHOD and self._between_messages and buffer.startswith(_DELIVER, payload):
                    rest = self._rest(buffer, channel, begins)
                    if rest is not None:
                        message, begins = rest
                        handled += 2
                        self._connection.bytes_recv += 3
                        _deliver(message, buffer[payload:ends])
                        continue
                whole = self._on_frame((kind, channel, buffer[payload:ends]))
                if kind != _HEARTBEAT:
                    self._between_messages = whole
        finally:
            transport._read_buffer = buffer[begins:]
        return handled >= _FRAMES_AT_ONCE or self.pending

    def _rest(self, buffer: bytes, number: int, header: int) -> tuple[_Message, int] | None:
        """The message whose header begins there, and where its body ends. None if that has not come, or is in more
        frames than one: then py-amqp has to piece it together."""
        channel = (self._connection.channels or {}).get(number)
        if channel is None or channel.is_closing or len(buffer) < header + _CONTENT_FRAME.size:
            return None
        kind, its, length, class_id, _, size = _CONTENT_FRAME.unpack_from(buffer, header)
        ends = header + _FRAME_HEADER.size + length
        body = ends + 1 + _FRAME_HEADER.size
        if (kind, its) != (_HEADER, number) or length < _CONTENT.size or len(buffer) <= body + size:
            return None
        if _FRAME_HEADER.unpack_from(buffer, ends + 1) != (_BODY, number, size):
            return None
        if not buffer[ends] == buffer[body + size] == _FRAME_END:
            return None
        message = _Message(buffer[body : body + size], channel=channel)
        message._load_properties(class_id, buffer[header + _CONTENT_FRAME.size : ends], 0)
        return message, body + size + 1

    def _there_now(self) -> bytes:
        """The bytes that have come in, at most a buffer of them. Raises OSError where the other end has closed."""
        try:
            taken = self._at_once(_READ_AHEAD_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        if not taken:
            raise ConnectionResetError("the broker closed the connection")
        return bytes(taken)

    def _read(self, size: int) -> bytes:
        """For py-amqp, while it waits for an answer of the broker's: whole buffers, of which it keeps the rest."""
        return bytes(self._receive(max(size, _READ_AHEAD_BYTES)))

    # --- out --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def gathering(self) -> Any:
        """What is written in the block is kept until `flush`, or until someone writes outside of such a block."""
        self.gathers = True
        try:
            yield
        finally:
            self.gathers = False

    def _write(self, data: Any) -> None:
        self._out += data  # a view into a buffer that is used again
        if not self.gathers or len(self._out) > _SEND_BYTES:
            self.flush()

    def flush(self) -> None:
        """Sends what was gathered, in its order."""
        if self._out:
            out, self._out = self._out, bytearray()
            try:
                try:
                    del out[: self._send_at_once(out)]
                except BlockingIOError:
                    pass
                if out:
                    self._send(out)
            except BaseException:  # a green thread that was killed leaves half a frame as well
                self.sever()
                raise

    def sever(self) -> None:
        """Half a frame may have gone out: nothing more may follow it. Whoever reads finds the connection ended."""
        # By a descriptor of its own: shutdown of a TLS socket would take it from under the reading thread.
        with contextlib.suppress(OSError):
            own = os.dup(self._sock.fileno())
            with socket.socket(fileno=own) as raw:
                raw.shutdown(socket.SHUT_RDWR)
