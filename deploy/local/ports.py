"""Ports of one stack: a block below 32768, where the system hands out none by itself."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from pathlib import Path

from deploy.local.folder import checkout_hash, write_private
from deploy.local.problems import Problem

BLOCK = 64
FIRST, LAST = 20_000, 32_700
_LET_GO_SECONDS = 2.0

# A name's place gives its port: new names go last, so that a stack keeps the ports it has.
NAMES = (
    "postgres", "amqp", "management", "epmd", "erlang", "s3", "master", "master_grpc", "volume",
    "volume_grpc", "filer", "filer_grpc", "s3_grpc", "weed_admin", "weed_admin_grpc", "idp", "idp_2",
    "siths_ca", "siths_ca_2", "mail", "mail_2", "sms", "sms_2", "hsa", "hsa_2", "pu", "pu_2", "kiv", "kiv_2",
    "cases", "identity", "directory", "attachments", "notifications", "attachments_worker",
    "notifications_worker", "directory_worker", "notifications_web", "s3_metrics", "reports",
    "clamd", "s3_public",
)  # fmt: skip

Ports = dict[str, int]


def free(port: int) -> bool:
    """Whether nothing listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _block(start: int) -> Ports:
    return {name: start + place for place, name in enumerate(NAMES)}


def choose(anywhere: bool = False) -> Ports:
    """A block where every port is free: the checkout's own if it can be, else a later one.

    anywhere: begin at a random block, for stacks that come and go. VARDARENDE_PORTS=N takes the block at N.
    """
    wanted = os.environ.get("VARDARENDE_PORTS")
    if wanted and not anywhere:
        if not wanted.isdigit() or not 1024 <= int(wanted) <= LAST - BLOCK:
            raise Problem(f"VARDARENDE_PORTS must be a number from 1024 to {LAST - BLOCK}: the first of {BLOCK} ports")
        ports = _block(int(wanted))
        taken = [port for port in ports.values() if not free(port)]
        if taken:
            raise Problem(f"port {taken[0]} is taken: choose another block than VARDARENDE_PORTS={wanted}")
        return ports
    count = (LAST - FIRST) // BLOCK
    first = random.randrange(count) if anywhere else int(checkout_hash(), 16) % count
    for step in range(count):
        ports = _block(FIRST + (first + step) % count * BLOCK)
        if all(free(port) for port in ports.values()):
            return ports
    raise Problem(f"no {BLOCK} free ports in a row between {FIRST} and {LAST}")


def kept(file: Path, anywhere: bool = False) -> Ports:
    """The ports in the file, chosen and written there the first time."""
    wanted = os.environ.get("VARDARENDE_PORTS")
    known: Ports = json.loads(file.read_text()) if file.exists() else {}
    if known and (anywhere or wanted in (None, "", str(min(known.values())))):
        start = min(known.values())
        ports = known | {name: start + place for place, name in enumerate(NAMES) if name not in known}
    else:
        ports = choose(anywhere)
    write_private(file, json.dumps(ports, indent=1))
    return ports


def require_free(ports: Ports, names: list[str], what: str) -> None:
    """Raises `Problem` that names the taken port and what to do.

    A server that was just killed may hold its port for a moment.
    """
    end = time.monotonic() + _LET_GO_SECONDS
    for name in names:
        while not free(ports[name]) and time.monotonic() < end:
            time.sleep(0.05)
        if not free(ports[name]):
            raise Problem(
                f"port {ports[name]}, which {what} needs, is taken by another program"
                f"{_holder(ports[name])}: stop it, or take other ports: ./dev down, VARDARENDE_PORTS=21000 ./dev up"
            )


def _holder(port: int) -> str:
    """` (pid 123, name)` of the listener, where it can be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").glob("[0-9]*") if inodes else ():
        try:
            if any(os.readlink(fd) in inodes for fd in (folder / "fd").iterdir()):
                return f" (pid {folder.name}, {(folder / 'comm').read_text().strip()})"
        except OSError:
            continue
    return ""
