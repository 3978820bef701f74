"""What is written to the broker arrives whole and in order, however little the socket takes at once."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from shared.messaging.transport import Wire

SMALL = 4096  # bytes that the operating system keeps of what the other end has not read


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    yield near, far
    near.close()
    far.close()


def wire_of(near: socket.socket) -> Wire:
    transport = SimpleNamespace(_quick_recv=near.recv, _write=near.sendall, _read_buffer=b"")
    connection: Any = SimpleNamespace(on_inbound_frame=None, transport=transport, sock=near)
    return Wire(connection)


def test_what_the_socket_does_not_take_at_once_follows_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    wire, whole, taken = wire_of(near), os.urandom(300_000), bytearray()
    left: list[int] = []
    at_once = wire._send_at_once
    wire._send_at_once = lambda data: left.append(len(data) - (sent := at_once(data))) or sent

    def read() -> None:
        time.sleep(0.2)  # the first piece fills what there is
        while len(taken) < len(whole):
            taken.extend(far.recv(10_000))

    reader = threading.Thread(target=read)
    reader.start()
    with wire.gathering():
        wire._write(whole[:100_000])
        wire._write(whole[100_000:200_000])
    wire.flush()
    wire._write(whole[200_000:])
    reader.join(10)
    assert bytes(taken) == whole
    assert left[0] > 0, "all of it was taken at once, and nothing proved"
    wire.close()


def test_where_there_is_no_room_at_all_it_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    wire, filled = wire_of(near), 0
    near.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            filled += near.send(b"x" * 1000)
    near.settimeout(10)
    taken = bytearray()

    def read() -> None:
        time.sleep(0.2)
        while len(taken) < filled + 5:
            taken.extend(far.recv(10_000))

    reader = threading.Thread(target=read)
    reader.start()
    wire._write(b"after")
    reader.join(10)
    assert bytes(taken) == b"x" * filled + b"after"
    wire.close()


def test_a_connection_that_broke_is_told_and_nothing_more_is_written(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    wire = wire_of(near)
    far.close()
    with pytest.raises(OSError, match="pipe"):
        wire._write(b"gone")
    with pytest.raises(OSError, match="pipe"):
        wire._write(b"gone too")
    wire.close()


def test_a_broker_that_has_closed_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    wire = wire_of(near)
    assert not wire.drain()
    far.close()
    with pytest.raises(ConnectionResetError):
        wire.drain()
    wire.close()


def test_after_half_a_frame_nothing_more_may_follow(ends: tuple[socket.socket, socket.socket]) -> None:
    """Whoever was killed while it waited for room, for one, has written a part."""
    near, far = ends
    wire = wire_of(near)

    def killed(_data: bytes) -> None:
        raise KeyboardInterrupt

    wire._send_at_once = lambda data: near.send(data[:3])
    wire._send = killed
    with pytest.raises(KeyboardInterrupt):
        wire._write(b"a frame")
    assert far.recv(100) == b"a f"
    far.settimeout(5)
    assert far.recv(100) == b""
    wire.close()
