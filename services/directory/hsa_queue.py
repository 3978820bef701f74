"""HSA's rule of manners: one call at a time, whatever the number of replicas, with a pause between (R-DIR-12).

Direct questions, for which somebody waits, go before those of the bulk refresh: while one of them waits anywhere, the
refresh does not even stand in the queue.
"""

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
_LOOK_AGAIN_SECONDS = 0.05
_TRY = """SELECT CASE WHEN pg_try_advisory_lock(%(direct)s)
THEN CASE WHEN pg_advisory_unlock(%(direct)s) THEN pg_try_advisory_lock(%(hsa)s) ELSE false END ELSE false END"""


class HsaQueue:
    """The queue of one process before HSA's door. The door itself is a lock in the service's database.

    It holds one connection of its own: a turn lasts as long as HSA takes to answer, which is no transaction's business.
    """

    def __init__(self, database_url: str, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._url = database_url
        self._pause = pause_seconds
        self._here = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._says_so = False  # whether the connection holds the lock that tells of direct questions
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """The turn of a direct question. Raises `SourceError` (hsa_queue_long) if it does not come within these
        seconds."""
        ends = time.monotonic() + seconds
        self._count(+1)
        if not self._here.acquire(timeout=max(seconds, _SHORTEST_WAIT_SECONDS)):
            self._count(-1)
            self._speak_for_nobody()
            raise SourceError("hsa_queue_long")
        try:
            self._enter(ends)
            try:
                yield
            finally:
                self._leave()
        finally:
            self._count(-1)
            self._here.release()

    @contextmanager
    def turn_after_others(self, stopping: threading.Event) -> Iterator[None]:
        """The turn of a question of the bulk refresh, when no direct one waits.

        Raises `SourceError`: told to stop meanwhile, or the database does not answer.
        """
        with self._here:
            while not self._enter_if_nobody_waits():
                if stopping.wait(_LOOK_AGAIN_SECONDS):
                    raise SourceError("stopping")
            try:
                yield
            finally:
                self._leave()

    def close(self) -> None:
        """Gives up the connection."""
        self._drop()

    def _count(self, change: int) -> None:
        with self._counting:
            self._waiting += change

    def _enter(self, ends: float) -> None:
        wait_ms = max(ends - time.monotonic(), _SHORTEST_WAIT_SECONDS) * 1000
        try:
            connection = self._connected()
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{wait_ms:.0f}ms",))
            if not self._says_so:
                connection.execute("SELECT pg_advisory_lock_shared(%s)", (locks.HSA_DIRECT,))
                self._says_so = True
            connection.execute("SELECT pg_advisory_lock(%s)", (locks.HSA,))
        except Exception as error:
            # What it may hold by now ends with the connection.
            self._drop()
            raise SourceError("hsa_queue_long" if sqlstate(error) == _LOCK_TIMEOUT else "database_gone") from error
        self._keep_the_pause()

    def _enter_if_nobody_waits(self) -> bool:
        try:
            connection = self._connected()
            found = connection.execute(_TRY, {"direct": locks.HSA_DIRECT, "hsa": locks.HSA}).fetchone()
        except Exception as error:
            self._drop()
            raise SourceError("database_gone") from error
        if not found or not found[0]:
            return False
        self._keep_the_pause()
        return True

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = locks.connect(self._url, "directory.hsa_queue")
        return self._connection

    def _keep_the_pause(self) -> None:
        """By the database's clock, which all replicas share."""
        try:
            assert self._connection is not None
            since = self._connection.execute(
                "SELECT extract(epoch FROM clock_timestamp()"
                " - greatest(last_call, clock_timestamp() - interval '1 hour')) FROM hsa_pace"
            ).fetchone()
        except Exception as error:
            self._drop()
            raise SourceError("database_gone") from error
        rest = self._pause - float(since[0]) if since else 0.0
        if 0 < rest <= self._pause:
            time.sleep(rest)

    def _leave(self) -> None:
        try:
            assert self._connection is not None
            self._connection.execute("UPDATE hsa_pace SET last_call = clock_timestamp()")
            self._connection.execute("SELECT pg_advisory_unlock(%s)", (locks.HSA,))
            if self._waiting <= 1:  # else the next one here waits already, and is spoken for
                self._say_nothing()
        except Exception:
            self._drop()  # the locks end with the connection

    def _speak_for_nobody(self) -> None:
        """After one who gave up waiting: whoever had the turn before may have gone on speaking for it."""
        if self._here.acquire(blocking=False):
            try:
                if self._waiting == 0:
                    self._say_nothing()
            except Exception:
                self._drop()
            finally:
                self._here.release()

    def _say_nothing(self) -> None:
        if self._says_so and self._connection is not None:
            self._connection.execute("SELECT pg_advisory_unlock_shared(%s)", (locks.HSA_DIRECT,))
            self._says_so = False

    def _drop(self) -> None:
        self._says_so = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None
