"""What comes in is what py-amqp would make of it, however it is cut into frames and pieces (R-SYS-5)."""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp import spec
from amqp.method_framing import frame_handler
from amqp.serialization import dumps
from hypothesis import given, reject
from hypothesis import strategies as st

from shared.messaging.transport import Wire
from tests.unit.kernel.test_publishing import FRAME_MAX, names, properties

CONSUMER = "None1"


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


def method(sig: tuple[int, int], form: str, *values: Any) -> bytes:
    return frame(1, struct.pack(">HH", *sig) + dumps(form, values))


def content(body: bytes, has: dict[str, Any], piece: int) -> bytes:
    header = struct.pack(">HHQ", 60, 0, len(body)) + amqp.Message(**has)._serialize_properties()
    return frame(2, header) + b"".join(frame(3, body[at : at + piece]) for at in range(0, len(body), piece))


contents = st.builds(content, st.binary(max_size=300), properties, st.sampled_from([7, 150, FRAME_MAX]))
deliveries = st.builds(
    lambda tag, again, exchange, key, rest, consumer: (
        method(spec.Basic.Deliver, "sLbss", consumer, tag, again, exchange, key) + rest
    ),
    st.integers(1, 2**63),
    st.booleans(),
    names,
    names,
    contents,
    st.sampled_from([CONSUMER] * 5 + ["gone"]),
)
returned = st.builds(
    lambda key, rest: method(spec.Basic.Return, "Bsss", 312, "NO_ROUTE", "there", key) + rest, names, contents
)
confirmed = st.builds(lambda tag, many: method(spec.Basic.Ack, "Lb", tag, many), st.integers(1, 2**63), st.booleans())
heartbeats = st.just(struct.pack(">BHI", 8, 0, 0) + b"\xce")
frames = st.one_of(deliveries, deliveries, returned, confirmed, heartbeats)
streams = st.lists(frames, min_size=1, max_size=8).map(b"".join)


class Heard:
    """What a connection makes of what comes in; `failed`: that it may not go on."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.failed = False
        self.connection = amqp.Connection()
        self.connection.on_inbound_frame = frame_handler(self.connection, self.connection.on_inbound_method)
        self.connection.frame_writer = lambda *written: self.told.append(("written", *written))
        channel = amqp.Channel(self.connection, 1)
        channel.auto_decode = False
        channel.callbacks[CONSUMER] = self._message
        channel.events["basic_ack"].add(lambda *ack: self.told.append(("ack", *ack)))
        channel.events["basic_return"].add(self._returned)

    def _returned(self, _error: object, exchange: str, key: str, message: Any) -> None:
        self.told.append((exchange, key))
        self._message(message)

    def _message(self, message: Any) -> None:
        self.told.append((message.delivery_info, message.properties, bytes(message.body or b""), message.unreadable))

    def wire(self, pieces: list[bytes]) -> Wire:
        transport = SimpleNamespace(_quick_recv=None, _write=None, _read_buffer=b"")
        sock = SimpleNamespace(settimeout=lambda _: None, fd=SimpleNamespace(recv=None, send=None))
        read: Any = SimpleNamespace(
            on_inbound_frame=self.connection._on_inbound_frame,
            channels=self.connection.channels,
            bytes_recv=0,
            transport=transport,
            sock=sock,
        )
        wire = Wire(read)
        wire._at_once = lambda _: pieces.pop(0)
        return wire

    def read_by_us(self, pieces: list[bytes]) -> None:
        wire = self.wire(pieces)
        try:
            while pieces:
                wire.drain()
        except Exception:
            self.failed = True

    def read_by_py_amqp(self, stream: bytes) -> None:
        try:
            while len(stream) > 7:
                kind, channel, size = struct.unpack_from(">BHI", stream)
                if len(stream) < size + 8:
                    break
                if stream[size + 7] != 0xCE:
                    raise ValueError
                self.connection.on_inbound_frame((kind, channel, stream[7 : size + 7]))
                stream = stream[size + 8 :]
        except UnicodeDecodeError:
            reject()  # ours reads what is no text all the same: test_kernel_link
        except Exception:
            self.failed = True


def assert_the_same(stream: bytes, lengths: list[int]) -> None:
    cuts = [0, *(cut for cut in accumulate(lengths) if cut < len(stream)), len(stream)]
    ours, theirs = Heard(), Heard()
    ours.read_by_us([stream[begins:ends] for begins, ends in pairwise(cuts)])
    theirs.read_by_py_amqp(stream)
    assert (ours.told, ours.failed) == (theirs.told, theirs.failed)


BEGINS = method(spec.Basic.Deliver, "sLbss", CONSUMER, 7, False, "events", "case")
lengths = st.lists(st.integers(1, 400), max_size=12)


@given(streams, lengths)
def test_it_is_what_py_amqp_would_read(stream: bytes, cuts: list[int]) -> None:
    assert_the_same(stream, cuts)


def test_it_may_be_cut_anywhere() -> None:
    """Just before the end of a frame, too."""
    stream = b"".join(
        [
            BEGINS + content(b"whole", {"message_id": "1"}, FRAME_MAX),
            BEGINS + content(b"in pieces", {}, 4),
            BEGINS + content(b"", {}, FRAME_MAX),
            method(spec.Basic.Ack, "Lb", 3, False),
            BEGINS + content(b"last", {}, FRAME_MAX),
        ]
    )
    for cut in range(1, len(stream)):
        assert_the_same(stream, [cut])
    assert_the_same(stream, [1] * len(stream))


@given(streams, lengths, st.data())
def test_what_is_damaged_is_read_or_refused_as_by_py_amqp(stream: bytes, cuts: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stream) - 1))
    value = data.draw(st.integers(0, 255))
    assert_the_same(stream[:place] + bytes([value]) + stream[place + 1 :], cuts)


def test_a_message_that_is_all_there_needs_nothing_pieced_together() -> None:
    heard = Heard()
    heard.connection.on_inbound_frame = None  # would fail
    stream = BEGINS + content(b"body", {}, FRAME_MAX)
    heard.read_by_us([stream + stream])
    assert [body for _, _, body, _ in heard.told] == [b"body", b"body"]
    assert not heard.failed


OF_13 = frame(2, struct.pack(">HHQ", 60, 0, 13) + amqp.Message()._serialize_properties())


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(OF_13 + frame(3, b"four") + frame(3, b"0\xce2345678"), id="a body in two frames"),
        pytest.param(OF_13 + struct.pack(">BHI", 3, 2, 13) + b"x" * 13 + b"\xce", id="another channel's body"),
        pytest.param(OF_13 + frame(8, b"x" * 13), id="no body"),
        pytest.param(frame(2, struct.pack(">HHQ", 60, 0, 0)[:-1]) + frame(3, b"x" * 0xCE), id="a header cut short"),
        pytest.param(BEGINS + OF_13 + frame(3, b"x" * 13), id="another begins before its content"),
    ],
)
def test_what_only_looks_like_a_whole_message_is_left_to_py_amqp(rest: bytes) -> None:
    assert_the_same(BEGINS + rest, [])


def test_who_holds_the_connection_lets_go_of_it_however_much_has_come() -> None:
    heard = Heard()
    stream = method(spec.Basic.Ack, "Lb", 1, False) * 1500

    def nothing_more(_: int) -> bytes:
        raise BlockingIOError

    wire = heard.wire([stream])
    assert wire.drain()
    assert len(heard.told) == 1000
    wire._at_once = nothing_more
    assert not wire.drain()
    assert len(heard.told) == 1500


def test_a_channel_that_is_being_closed_delivers_nothing_more() -> None:
    heard = Heard()
    heard.connection.channels[1].is_closing = True
    stream = BEGINS + content(b"body", {}, FRAME_MAX)
    heard.read_by_us([stream])
    assert heard.told == []
    assert not heard.failed


def test_each_frame_counts_as_a_sign_of_life() -> None:
    heard = Heard()
    stream = BEGINS + content(b"body", {}, FRAME_MAX)
    wire = heard.wire([stream])
    wire.drain()
    assert wire._connection.bytes_recv == 3
