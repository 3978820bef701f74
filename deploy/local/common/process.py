"""How a counterpart is started and stopped: `python -m deploy.local.<name> --port N --data DIR`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from deploy.local.common.control import stopping


class Startable(Protocol):
    """A server that serves from a thread of its own."""

    def start(self) -> None:
        """Begins to serve."""

    def stop(self) -> None:
        """Ends serving."""


def arguments(name: str, about: str, *, control: bool = True, pki: bool = True) -> argparse.ArgumentParser:
    """The arguments that the counterparts have in common."""
    parser = argparse.ArgumentParser(prog=f"python -m deploy.local.{name}", description=about)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--data", type=Path, required=True, help="folder for what it keeps")
    if control:
        parser.add_argument("--control-port", type=int, required=True, help="port for looking in and for misbehaving")
    if pki:
        parser.add_argument("--pki", type=Path, required=True, help="the folder of deploy.local.siths_ca")
    return parser


def run(name: str, make: Callable[[], Sequence[Startable]]) -> int:
    """Starts what `make` returns, says `ready`, and serves until SIGTERM or SIGINT. Returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        servers = make()
        for server in servers:
            server.start()
    except OSError as error:
        print(f"{name}: can't start: {error.strerror or error}", file=sys.stderr)
        return 1
    print("ready", flush=True)
    stopping.wait()
    for server in servers:
        server.stop()
    return 0
