"""The connection to a broker by TLS, as it is in deployment (R-SYS-2): in plain programs and under eventlet."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.secrets.certificates import authority, server
from tests.integration.test_kernel_eventlet import run_green

_PROGRAM = """
import json, sys, time
import shared.database
from shared.messaging.link import Link, OutgoingMessage

connections, got = [], []

def listen(channel):
    connections.append(time.monotonic())
    channel.queue_declare("tls", exclusive=True)
    channel.basic_consume("tls", no_ack=True, callback=link.collect)

def sent(body):
    began, before = time.monotonic(), len(got)
    link.publish(OutgoingMessage(body, "", "tls"))
    while len(got) == before and time.monotonic() - began < 5:
        time.sleep(0.001)
    assert got[-1].body == body
    return time.monotonic() - began

link = Link(sys.argv[1], "test", listen, ca_file=CA_FILE, on_delivery=got.append)
link.start()
assert link.wait_connected(10)
time.sleep(2.5)  # longer than the reading thread waits for bytes
alone = [sent(b"x") for _ in range(50)]
large = sent(b"y" * 1_000_000)
for _ in range(2000):
    link.publish(OutgoingMessage(b"z" * 1000, "", "tls"))
ends = time.monotonic() + 10
while len(got) < 2051 and time.monotonic() < ends:
    time.sleep(0.01)
link.stop()
print("ANSWER", json.dumps({"connections": len(connections), "alone": max(alone), "large": large, "got": len(got)}))
"""


class TlsEndpoint:
    """Speaks TLS to whoever comes, and hands on to the broker what they say."""

    def __init__(self, host: str, port: int, folder: Path) -> None:
        certificate, key = authority()
        chain, private = server(certificate, key, ["127.0.0.1"])
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(certificate)
        (folder / "server.pem").write_text(chain + private)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem")
        self._broker = host, port
        self._loop = asyncio.new_event_loop()
        listening = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context))
        self.port: int = listening.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(*self._broker)
        await asyncio.gather(self._hand_on(near, to_far), self._hand_on(far, to_near))

    @staticmethod
    async def _hand_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@pytest.fixture
def tls(broker_vhost: Any, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The broker's address by TLS, and the file of the authority."""
    there = urlsplit(broker_vhost.url)
    endpoint = TlsEndpoint(there.hostname or "", there.port or 0, tmp_path)
    yield f"amqps://{there.username}:{there.password}@127.0.0.1:{endpoint.port}{there.path}", endpoint.ca_file
    endpoint.close()


@pytest.mark.parametrize("green", [False, True], ids=["plain", "eventlet"])
def test_one_connection_by_tls_stands_idle_and_carries_all_R_SYS_2(tls: tuple[str, Path], green: bool) -> None:
    url, ca_file = tls
    program = _PROGRAM.replace("CA_FILE", repr(str(ca_file)))
    if green:
        done = run_green(program, url)
    else:
        done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    answer = json.loads(done.stdout.rpartition("ANSWER")[2])
    assert answer["connections"] == 1, "it was lost"
    assert answer["got"] == 2051
    assert answer["alone"] < 0.5
