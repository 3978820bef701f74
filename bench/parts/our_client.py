"""Makes calls by our client: `our_client green` as a service does, `our_client plain` as other programs do."""

from __future__ import annotations

import sys

if sys.argv[1] == "green":
    import eventlet

    eventlet.monkey_patch()

import os
import threading
import time
from pathlib import Path

from bench.parts.echo_contract import ECHO, TEXT, Echo
from bench.parts.programs import serve, wait_until
from shared.messaging.client import RpcClient
from shared.security.tokens import Signer

client = RpcClient(os.environ["AMQP_URL"], "bench")
signer = Signer.from_file(Path(os.environ["SIGNING_KEY_FILE"]), "service:notifications")


def call() -> None:
    """One call, as `OngoingCall.ask` makes it."""
    answer = client.ask(ECHO, Echo(text=TEXT), token=signer.own_token(), timeout=10.0)
    assert answer.text == TEXT


def calls(at_once: int, seconds: float) -> float:
    """Calls a second."""
    done = [0] * at_once
    begun = time.monotonic()
    ends = begun + seconds

    def run(place: int) -> None:
        while time.monotonic() < ends:
            call()
            done[place] += 1

    if at_once == 1:
        run(0)
    else:
        threads = [threading.Thread(target=run, args=(place,)) for place in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(done) / (time.monotonic() - begun)


if __name__ == "__main__":
    client.start()
    wait_until(lambda: client.connected, "the client's connection")
    serve({"calls": calls})
