"""The engine of a process, and what becomes of the database's errors.

Connections are in autocommit mode as far as SQLAlchemy and the driver know: `shared.database.transaction` says BEGIN
and COMMIT itself, together with other statements, which saves round trips. Nothing else should use the engine.
"""

from __future__ import annotations

import select
from functools import cache
from typing import Any

import psycopg
import sqlalchemy
from psycopg import waiting
from sqlalchemy import event, exc
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from shared.database import eventlet_is_in_charge
from shared.messaging.errors import Unavailable

CONNECT_SECONDS = 5
"""How long to wait for a new connection."""
POOL_SECONDS = 5.0
"""How long to wait for a connection of the pool to be free."""
STATEMENT_SECONDS = 10.0
LOCK_SECONDS = 5.0
IDLE_IN_TRANSACTION_SECONDS = 30.0
_UNANSWERED_SECONDS = 15
"""After this long without a sign of life from the other end of the network, a connection counts as lost."""
_OLDEST_SECONDS = 60 * 60
_UNIT_MS = 1000

SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"
_AGAIN = frozenset({SERIALIZATION_FAILURE, DEADLOCK})
_BUSY = frozenset({"55P03", "57014"})  # lock or statement timeout
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "25006"})
# shut down, crashed, starting, idle too long; 25006: a standby that has not become the primary yet
_OUT_OF_RESOURCES = "53"
_CONNECTION = "08"


def create(
    url: str,
    *,
    application_name: str,
    pool_size: int = 10,
    statement_timeout: float = STATEMENT_SECONDS,
    lock_timeout: float = LOCK_SECONDS,
) -> sqlalchemy.Engine:
    """The engine for a process: at most `pool_size` connections and a few for the kernel's own threads.

    `url` begins with postgresql://. Times in seconds. Nothing is connected yet. Raises RuntimeError where a query would
    stop all green threads (psycopg was imported before eventlet took over, or before `shared.database`).
    """
    _assert_cooperative()
    options = {
        "statement_timeout": int(statement_timeout * _UNIT_MS),
        "lock_timeout": int(lock_timeout * _UNIT_MS),
        "idle_in_transaction_session_timeout": int(IDLE_IN_TRANSACTION_SECONDS * _UNIT_MS),
        # the server too must notice a client that has vanished: its locks hold up others
        "tcp_keepalives_idle": _UNANSWERED_SECONDS // 3,
        "tcp_keepalives_interval": _UNANSWERED_SECONDS // 3,
        "tcp_keepalives_count": 2,
        "timezone": "UTC",
    }
    engine = sqlalchemy.create_engine(
        driver_url(url),
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=POOL_SECONDS,
        pool_use_lifo=True,
        pool_recycle=_OLDEST_SECONDS,
        hide_parameters=True,
        use_native_hstore=False,
        connect_args={
            "application_name": application_name,
            "connect_timeout": CONNECT_SECONDS,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "keepalives_idle": _UNANSWERED_SECONDS // 3,
            "keepalives_interval": _UNANSWERED_SECONDS // 3,
            "keepalives_count": 2,
            "tcp_user_timeout": _UNANSWERED_SECONDS * _UNIT_MS,
        },
    )
    event.listen(engine, "checkout", _refuse_stale)
    return engine


def driver_url(url: str) -> sqlalchemy.URL:
    """The address with the driver that we use."""
    return sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")


def _assert_cooperative() -> None:
    if eventlet_is_in_charge() and waiting.wait is not waiting.wait_selector:
        raise RuntimeError("psycopg would stop all green threads: shared.database must be imported before psycopg")


@cache
def _real_select() -> Any:
    """The `select` module as it was: eventlet takes `poll` away, which never waits as we use it."""
    if eventlet_is_in_charge():
        from eventlet.patcher import original

        return original("select")
    return select


def _refuse_stale(
    connection: psycopg.Connection[Any], _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Finds connections that died in the pool, without the round trip that a ping of each would cost.

    An idle connection has nothing to read. If there is something (the end of the stream, a notice, a new TLS ticket),
    one real ping tells; a dead one makes the pool drop all that were opened before now.
    """
    pgconn = connection.pgconn
    if pgconn.status == psycopg.pq.ConnStatus.OK:
        poll = _real_select().poll()
        poll.register(pgconn.socket, _real_select().POLLIN)
        if not poll.poll(0):
            return
        try:
            connection.execute("")
            return
        except psycopg.Error:
            pass
    raise exc.InvalidatePoolError


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, where there is one."""
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    return original.sqlstate if isinstance(original, psycopg.Error) else None


def is_again(error: BaseException) -> bool:
    """Whether the transaction was rolled back by the server only because of others, and may simply be run again."""
    return sqlstate(error) in _AGAIN


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or could not be made."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    if not isinstance(original, psycopg.Error):
        return isinstance(error, exc.InvalidRequestError) and "connection is closed" in str(error)
    state = original.sqlstate
    if state is None:
        return isinstance(original, psycopg.OperationalError | psycopg.InterfaceError)
    return state in _GONE or state.startswith(_CONNECTION)


def translated(error: BaseException) -> Unavailable | None:
    """`Unavailable`, with a reason, for errors that are the database's and not the program's; else None."""
    if is_lost(error):
        return Unavailable(reason="database_gone")
    if isinstance(error, exc.TimeoutError):
        return Unavailable(reason="database_busy")
    state = sqlstate(error)
    if state is not None and (state in _AGAIN or state in _BUSY):
        return Unavailable(reason="database_busy")
    if state is not None and state.startswith(_OUT_OF_RESOURCES):
        return Unavailable(reason="database_full")
    return None
