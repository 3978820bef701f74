"""Identity's announcements of its latest revocation number, and hearing them (see `shared.security.rights`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from uuid import uuid4

import amqp

from shared.messaging import topology
from shared.messaging.link import Delivery, Link, LinkDown, OutgoingMessage
from shared.operations.logs import log
from shared.security.rights import ANNOUNCE_EVERY_SECONDS, Freshness

EXCHANGE = "identity.rights-clock"
_STALE_MS = 500
_LATE_SECONDS = 0.1


def _declare(channel: amqp.Channel) -> None:
    topology.declare_exchange(channel, EXCHANGE, "fanout")


class Announcer:
    """Runs in every identity process: reads the latest number and tells it, four times a second."""

    def __init__(self, url: str, latest: Callable[[], int], ca_file: str | None = None) -> None:
        self._link = Link(url, "identity rights clock", _declare, ca_file=ca_file)
        self._latest = latest
        self._sender = uuid4().hex
        self._stopping = threading.Event()

    def start(self) -> None:
        self._link.start()
        threading.Thread(target=self._run, name="rights clock", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._link.stop()

    def _run(self) -> None:
        while not self._stopping.wait(ANNOUNCE_EVERY_SECONDS):
            sent = time.monotonic()  # before the number is read, so that the number is at least as new as it says
            try:
                body = json.dumps({"number": self._latest(), "sender": self._sender, "sent": sent}).encode()
                if time.monotonic() - sent > _LATE_SECONDS:
                    continue  # how long it is under way is known from the quickest; what always waits here would not be
                self._link.publish(OutgoingMessage(body, EXCHANGE, "", properties={"delivery_mode": 1}))
            except LinkDown:
                continue
            except Exception as error:  # no number, no announcement: the copies then ask, and are told
                log.warning("rights_not_announced", exc_info=error)


class Listener:
    """Runs in every other process that decides by rights; tells `freshness` what it hears."""

    def __init__(self, url: str, service: str, freshness: Freshness, ca_file: str | None = None) -> None:
        self._service = service
        self._freshness = freshness
        self._link = Link(
            url,
            f"{service} rights clock",
            self._listen,
            ca_file=ca_file,
            on_down=freshness.forget,
            on_delivery=self._heard,
        )

    @property
    def connected(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        self._link.start()

    def stop(self) -> None:
        self._link.stop()

    def _listen(self, channel: amqp.Channel) -> None:
        _declare(channel)
        queue = f"rights-clock.{self._service}.{uuid4()}"
        channel.queue_declare(
            queue, durable=False, exclusive=True, auto_delete=True, arguments={"x-message-ttl": _STALE_MS}
        )
        channel.queue_bind(queue, EXCHANGE)
        channel.basic_consume(queue, no_ack=True, callback=self._link.collect)

    def _heard(self, delivery: Delivery) -> None:
        try:
            told = json.loads(delivery.body)
            self._freshness.hear(int(told["number"]), str(told["sender"]), float(told["sent"]), delivery.received)
        except Exception as error:  # numbers that are none, brackets a thousand deep
            log.warning("announcement_malformed", error_type=type(error).__name__)
