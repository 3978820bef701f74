"""HSA's rule of manners: one call at a time, whatever the number of replicas, with a pause between (R-DIR-12)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from services.directory import locks
from services.directory.sources import SourceError
from shared.database.engine import sqlstate

if TYPE_CHECKING:
    import psycopg

PAUSE_SECONDS = 0.05
_LOCK_TIMEOUT = "55P03"
_SHORTEST_WAIT_SECONDS = 0.001


class HsaQueue:
    """The queue of one process before HSA's door. The door itself is a lock in the service's database.

    It holds one connection of its own: a turn lasts as long as HSA takes to answer, which is no transaction's business.
    """

    def __init__(self, database_url: str, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._url = database_url
        self._pause = pause_seconds
        self._here = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """One call's turn. Raises `SourceError` (hsa_queue_long) if it does not come within these seconds."""
        ends = time.monotonic() + seconds
        if not self._here.acquire(timeout=max(seconds, _SHORTEST_WAIT_SECONDS)):
            raise SourceError("hsa_queue_long")
        try:
            self._enter(ends)
            try:
                yield
            finally:
                self._leave()
        finally:
            self._here.release()

    def close(self) -> None:
        """Gives up the connection."""
        self._drop()

    def _enter(self, ends: float) -> None:
        wait_ms = max(ends - time.monotonic(), _SHORTEST_WAIT_SECONDS) * 1000
        try:
            if self._connection is None or self._connection.closed:
                self._connection = locks.connect(self._url, "directory.hsa_queue")
            self._connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{wait_ms:.0f}ms",))
            self._connection.execute("SELECT pg_advisory_lock(%s)", (locks.HSA,))
            # By the database's clock, which all replicas share.
            since = self._connection.execute(
                "SELECT extract(epoch FROM clock_timestamp()"
                " - greatest(last_call, clock_timestamp() - interval '1 hour')) FROM hsa_pace"
            ).fetchone()
        except Exception as error:
            waited_in_vain = sqlstate(error) == _LOCK_TIMEOUT
            if not waited_in_vain:
                self._drop()
            raise SourceError("hsa_queue_long" if waited_in_vain else "database_gone") from error
        rest = self._pause - float(since[0]) if since else 0.0
        if 0 < rest <= self._pause:
            time.sleep(rest)

    def _leave(self) -> None:
        try:
            assert self._connection is not None
            self._connection.execute("UPDATE hsa_pace SET last_call = clock_timestamp()")
            self._connection.execute("SELECT pg_advisory_unlock(%s)", (locks.HSA,))
        except Exception:
            self._drop()  # the lock ends with the connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
