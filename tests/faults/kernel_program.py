"""A process of the kernel that can be told where to die: `kernel_program ROLE DATABASE BROKER POINT`.

teller: takes request ids from standard input, writes each once with an event, answers "done ID" for each.
hearer: takes the events in; one in three fails at its first two attempts, whichever process makes them.
Both end with their standard input, so that none outlives the test that started it.
POINT names a place in the code; the process kills itself the fifth time it comes by. "never": it lives.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import shared.database  # noqa: F401 - before psycopg
from shared.database.transaction import Transaction
from shared.messaging import topology
from shared.messaging.errors import Unavailable
from shared.messaging.link import Link
from shared.messaging.relay import Relay
from shared.operations import logs
from shared.security.caller import Caller
from tests.integration.kernel_broker import HAPPENED, Happened, consumer_of, relay_of
from tests.integration.kernel_support import KernelDatabase, bump

CALLER = Caller("resident", "someone")
_FIFTH = 5
_TRY = """INSERT INTO tries VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET times = tries.times + 1 RETURNING times"""


def dies(where: Any, name: str, *, after: bool) -> None:
    """Replaces a method by one that kills the process before, or after, it has done its work, the fifth time."""
    original: Callable[..., Any] = getattr(where, name)
    lock = threading.Lock()
    passed = 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal passed
        with lock:
            passed += 1
            last = passed >= _FIFTH
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(*arguments, **named)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(where, name, deadly)


POINTS: dict[str, Callable[[], None]] = {
    "never": lambda: None,
    "before_commit": lambda: dies(Transaction, "commit", after=False),
    "after_commit": lambda: dies(Transaction, "commit", after=True),
    "before_publish": lambda: dies(Link, "publish_all", after=False),
    "after_publish": lambda: dies(Link, "publish_all", after=True),
    "after_relay": lambda: dies(Relay, "publish_batch", after=True),
    "before_ack": lambda: dies(Link, "ack", after=False),
    "after_ack": lambda: dies(Link, "ack", after=True),
}


def tell(database: Any, request: UUID) -> None:
    """As a caller does: the same id until there is an answer."""

    def work(tx: Transaction) -> str:
        bump(tx, request)
        tx.publish(HAPPENED, Happened(key=request), aggregate=request)
        return str(request)

    while True:
        try:
            answer = database.write_once(
                request, CALLER, "start", b"f" * 32, work, dump=lambda text: text.encode(), load=lambda b: b.decode()
            )
        except Unavailable:
            continue
        assert answer == str(request)
        os.write(1, f"done {request}\n".encode())  # one system call: threads do not mix their lines
        return


def main() -> None:
    role, database_url, broker_url, point = sys.argv[1:5]
    topology.DELAYS_SECONDS = (1,) * len(topology.DELAYS_SECONDS)
    logs.configure(role, "test")
    sys.stdout = sys.stderr if role == "hearer" else sys.stdout
    POINTS[point]()
    if role == "teller":
        database = KernelDatabase(database_url).open(service="cases")
        relay_of(database, broker_url).start()
        with ThreadPoolExecutor(4) as pool:
            for line in sys.stdin:
                pool.submit(tell, database, UUID(line.strip()))
            os._exit(0)  # without waiting for what can't be done any more
    hearing = KernelDatabase(database_url)
    database = hearing.open(service="notifications")

    def hear(tx: Transaction, event: Happened) -> None:
        bump(tx, event.key)
        if event.key.int % 3 == 0 and hearing.one(_TRY, event.key) <= 2:  # not rolled back with the transaction
            raise ValueError

    consumer_of(database, broker_url, {HAPPENED: hear}).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
