"""A catalogue that answers, but drop by drop (R-DIR-12)."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from services.directory.sources import SourceError
from services.directory.sources.soap import Endpoint


@pytest.fixture
def dripping():
    """The address of a server that sends a byte of a long answer each tenth of a second, for five seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n")
                try:
                    for _ in range(50):
                        connection.sendall(b"<")
                        time.sleep(0.1)
                except OSError:
                    pass  # the client has hung up, as it should

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join(10)


def test_an_answer_that_drips_in_holds_nobody_up_beyond_the_timeout_r_dir_12(dripping):
    began = time.monotonic()
    with pytest.raises(SourceError) as refused:
        Endpoint(dripping, "SE165565594230-1000", timeout_seconds=0.5).ask("GetUnit", "urn:unit", {"unitHsaId": "x"})
    assert refused.value.reason == "timeout"
    assert time.monotonic() - began < 3
