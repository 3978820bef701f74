"""Publishes as fast as py-amqp alone can: persistent, confirmed, so many in flight: `bare_publisher`."""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import uuid4

import amqp

from bench.parts.events import PADDING, TOLD, Told
from bench.parts.programs import serve
from bench.parts.servers import connected
from shared.messaging import topology

IN_FLIGHT = 256


def publish(channel: amqp.Channel, count: int) -> float:
    """Confirmed messages a second: the same bytes and properties, by the same exchange, as the relay's."""
    body = Told(number=0, sent=0.0, padding=PADDING).model_dump_json().encode()
    confirmed, now = 0, int(time.time())

    def on_ack(tag: int, multiple: bool) -> None:
        nonlocal confirmed
        confirmed = (tag - first + 1) if multiple else confirmed + 1

    first = channel.next_tag
    channel.next_tag += count
    listeners: set[Any] = channel.events["basic_ack"]
    listeners.clear()
    listeners.add(on_ack)
    began = time.monotonic()
    for sent in range(count):
        properties = {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
            "message_id": str(uuid4()),
            "type": f"{TOLD.service}.{TOLD.name}",
            "timestamp": now,
            "app_id": TOLD.service,
            "application_headers": {"x-aggregate": str(uuid4())},
        }
        message = amqp.Message(body, **properties)
        channel._basic_publish(message, exchange=TOLD.exchange, routing_key=TOLD.name, mandatory=True)
        while sent + 1 - confirmed >= IN_FLIGHT:
            channel.connection.drain_events(timeout=10)
    while confirmed < count:
        channel.connection.drain_events(timeout=10)
    return count / (time.monotonic() - began)


def purge(channel: amqp.Channel) -> int:
    """Empties the queue that both publish to; says how many messages were in it."""
    return int(channel.queue_purge(topology.events_queue("notifications")))


if __name__ == "__main__":
    with connected(os.environ["AMQP_URL"]) as connection:
        publishing, other = connection.channel(), connection.channel()
        topology.declare(other)
        publishing.confirm_select()
        publishing.next_tag = 1
        serve({"publish": lambda count: publish(publishing, count), "purge": lambda: purge(other)})
