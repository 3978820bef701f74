"""The frames of a message are what py-amqp would write, byte for byte."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import amqp
from amqp import spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.transport import publishing

FRAME_MAX = 4096  # the least that AMQP allows

names = st.text(max_size=60)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": names,
        "content_encoding": names,
        "application_headers": st.dictionaries(
            names,
            st.one_of(names, st.integers(0, 2**40), st.booleans(), st.floats(0, 1e9), st.lists(names, max_size=3)),
        ),
        "delivery_mode": st.sampled_from([1, 2]),
        "correlation_id": names,
        "reply_to": names,
        "expiration": names,
        "message_id": names,
        "type": names,
    },
)


def by_py_amqp(channel: int, message: amqp.Message, exchange: str, key: str, mandatory: bool) -> bytes:
    written = bytearray()
    connection: Any = SimpleNamespace(frame_max=FRAME_MAX, bytes_sent=0)
    write = frame_writer(connection, SimpleNamespace(write=written.extend))
    write(1, channel, spec.Basic.Publish, dumps("Bssbb", (0, exchange, key, mandatory, False)), message)
    return bytes(written)


@given(
    st.integers(1, 2000),
    st.one_of(st.binary(max_size=200), st.binary(min_size=4000, max_size=13_000)),
    properties,
    names,
    names,
    st.booleans(),
)
def test_they_are_what_py_amqp_would_write(
    channel: int, body: bytes, has: dict[str, Any], exchange: str, key: str, mandatory: bool
) -> None:
    message = amqp.Message(body, **has)
    ours = publishing(channel, FRAME_MAX, message, exchange, key, mandatory)
    assert ours == by_py_amqp(channel, message, exchange, key, mandatory)
