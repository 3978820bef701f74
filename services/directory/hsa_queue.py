"""HSA's rule of manners: one call at a time, whatever the number of replicas, with a pause between (R-DIR-12)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

import shared.database  # noqa: F401 - lets psycopg wait without stopping green threads; before its first use
from services.directory.sources import SourceError

PAUSE_SECONDS = 0.05
_LOCK = 0x6469720001  # any number, the same in every replica and in no other use of advisory locks here
_SHORTEST_WAIT_SECONDS = 0.001


class HsaQueue:
    """The queue of one process before HSA's door. The door itself is a lock in the service's database.

    It holds one connection of its own: a turn lasts as long as HSA takes to answer, which is no transaction's business.
    """

    def __init__(self, database_url: str, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._url = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
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
            connection = self._enter(ends)
            try:
                yield
            finally:
                self._leave(connection)
        finally:
            self._here.release()

    def close(self) -> None:
        """Gives up the connection."""
        if self._connection is not None:
            self._connection.close()

    def _enter(self, ends: float) -> psycopg.Connection[Any]:
        wait = max(ends - time.monotonic(), _SHORTEST_WAIT_SECONDS)
        try:
            connection = self._connected()
            connection.execute(sql.SQL("SET lock_timeout = {}").format(f"{wait * 1000:.0f}ms"))
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            # By the database's clock, which all replicas share.
            since = connection.execute(
                "SELECT extract(epoch FROM least(clock_timestamp() - last_call, interval '1 hour')) FROM hsa_pace"
            ).fetchone()
        except psycopg.errors.LockNotAvailable:
            raise SourceError("hsa_queue_long") from None
        except psycopg.Error:
            self._drop()
            raise SourceError("database_gone") from None
        if since is not None and 0 <= float(since[0]) < self._pause:
            time.sleep(self._pause - float(since[0]))
        return connection

    def _leave(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute("UPDATE hsa_pace SET last_call = clock_timestamp()")
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
        except psycopg.Error:
            self._drop()  # the lock ends with the connection

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=5, application_name="directory.hsa_queue"
            )
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
