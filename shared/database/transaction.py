"""Transactions: what a capability works in, and what makes a write happen once.

The kernel's own statements travel with BEGIN and with COMMIT in one message each (the simple protocol, values quoted by
libpq), so that a write costs two round trips beside its own. Events that are published wait here until COMMIT; nothing
of them is seen before, and their order in the outbox is that of the commits that hold the same row.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from sqlalchemy.sql import Executable

from shared.contracts.base import Event, EventBody
from shared.database import engine as engines
from shared.messaging import outbox
from shared.messaging.errors import Conflict, Internal, Unavailable
from shared.operations import clock
from shared.operations.logs import log
from shared.security.caller import ANYONE, Caller
from shared.security.sealing import SealBroken, Sealer

T = TypeVar("T")
Body = TypeVar("Body", bound=EventBody)
Values = Sequence[Any]

ATTEMPTS = 6
"""How many times a transaction is run that the server rolls back because of others."""
_FIRST_PAUSE_SECONDS = 0.01

_CLAIM_REQUEST = b"""INSERT INTO requests (request_id, caller, method, fingerprint, at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING RETURNING 1"""
_STORED_REQUEST = b"SELECT caller, method, fingerprint, reply FROM requests WHERE request_id = %s"
_STORE_REPLY = b"UPDATE requests SET reply = %s WHERE request_id = %s"
_CLAIM_EVENT = b"INSERT INTO inbox (event_id, at) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1"


class Transaction:
    """One transaction, READ COMMITTED. Capabilities get it as their first argument."""

    def __init__(
        self,
        connection: sqlalchemy.Connection,
        *,
        service: str,
        caller: Caller,
        now: datetime,
        sealer: Sealer,
        settings: Any,
        origin: str | None,
        lazy: bool,
    ) -> None:
        self.caller = caller
        self.now = now
        """The moment that this transaction acts at, from the settable clock, in UTC."""
        self.sealer = sealer
        self.settings = settings
        self._service = service
        self._origin = origin
        self._connection = connection
        self._lazy = lazy
        self._open = True
        self._events: list[outbox.OutboxRow] = []
        self._closing: list[tuple[bytes, Values]] = []
        self.commit_sent = False

    @property
    def connection(self) -> sqlalchemy.Connection:
        """The connection, inside the transaction: for savepoints, COPY and the like."""
        self._begin()
        return self._connection

    def execute(
        self, statement: Executable, params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> sqlalchemy.CursorResult[Any]:
        """Runs a statement of SQLAlchemy Core."""
        if not (self._lazy and _only_reads(statement)):
            self._begin()
        assert self._open, "the transaction is over"
        return self._connection.execute(statement, params)

    def publish(self, event: Event[Body], body: Body, aggregate: UUID | str) -> None:
        """Tells an event if, and only if, this transaction commits. Events of one aggregate keep their order."""
        assert self._open, "the transaction is over"
        row = outbox.row(event, body, aggregate, service=self._service, at=self.now, origin=self._origin)
        self._events.append(row)

    def last(self, statement: bytes, values: Values = ()) -> None:
        """A statement of the kernel's that travels with COMMIT; its result is not looked at."""
        self._closing.append((statement, values))

    @property
    def published(self) -> bool:
        """Whether it has events to tell."""
        return bool(self._events)

    # --- for the kernel --------------------------------------------------------------------------------------------

    @property
    def _driver(self) -> psycopg.Connection[Any]:
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return driver

    @property
    def _begun(self) -> bool:
        return self._driver.pgconn.transaction_status != TransactionStatus.IDLE

    def _begin(self) -> None:
        assert self._open, "the transaction is over"
        if not self._begun:
            self._driver.execute(b"BEGIN")

    def ask(self, statement: bytes, values: Values = ()) -> list[tuple[Any, ...]]:
        """Runs one of the kernel's statements, together with BEGIN if it is the first. Answers its rows."""
        assert self._open, "the transaction is over"
        if not self._begun:
            statement = b"BEGIN;" + statement
        cursor = psycopg.ClientCursor(self._driver)
        cursor.execute(statement, values)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def commit(self) -> None:
        """Ends it. All that was written and told stands after this, or nothing if it raises."""
        closing = [*([outbox.insert(self._events)] if self._events else []), *self._closing]
        self._open = False
        if not closing and not self._begun:
            return
        parts = [statement for statement, _ in closing] + [b"COMMIT"]
        if not self._begun:
            parts.insert(0, b"BEGIN")
        cursor = psycopg.ClientCursor(self._driver)
        self.commit_sent = True
        cursor.execute(b";".join(parts), [value for _, values in closing for value in values])
        while cursor.nextset():
            pass
        if cursor.statusmessage != "COMMIT":
            # COMMIT of a transaction in which a statement failed is answered by ROLLBACK, and no error
            raise RuntimeError("the transaction was rolled back: an error of one of its statements was passed over")

    def abandon(self) -> None:
        """Rolls back; a connection that can't even do that is thrown away."""
        self._open = False
        try:
            self._driver.rollback()
        except Exception:
            self._connection.invalidate()  # the server rolls back when the connection ends

    def throw_away(self, error: BaseException) -> None:
        """Closes the connection: it is gone, or in the middle of something."""
        self._open = False
        self._connection.invalidate(error)


def _only_reads(statement: Executable) -> bool:
    """Whether it is a plain SELECT, which under READ COMMITTED sees the same with and without a transaction around."""
    return type(statement) is sqlalchemy.Select and statement._for_update_arg is None


class Database:
    """The database of a service, for one process."""

    def __init__(
        self,
        url: str,
        *,
        service: str,
        sealer: Sealer,
        settings: Any = None,
        process: str = "service",
        pool_size: int = 10,
        statement_timeout: float = engines.STATEMENT_SECONDS,
        lock_timeout: float = engines.LOCK_SECONDS,
    ) -> None:
        self.service = service
        self.engine = engines.create(
            url,
            application_name=f"{service}.{process}",
            pool_size=pool_size,
            statement_timeout=statement_timeout,
            lock_timeout=lock_timeout,
        )
        self._sealer = sealer
        self._settings = settings
        self.on_published: list[Callable[[], None]] = []
        """Called after each commit that told events: wakes the relay."""

    def dispose(self) -> None:
        """Closes all connections that are not in use."""
        self.engine.dispose()

    def check(self) -> None:
        """Raises `Unavailable` if the database does not answer. For readiness."""
        with self.transaction() as tx:
            tx.ask(b"SELECT 1")

    # --- transactions ----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(
        self,
        caller: Caller = ANYONE,
        *,
        origin: str | None = None,
        fence: Callable[[Transaction], None] | None = None,
    ) -> Iterator[Transaction]:
        """One transaction, committed at the end of the block, rolled back if it raises.

        Raises `Unavailable` where the database is gone, full or too busy; after a lost connection at the very end the
        work may or may not have been done. `origin` is the id of the call behind it, handed on with events.
        """
        try:
            with self._transaction(caller, origin, lazy=False) as tx:
                if fence is not None:
                    fence(tx)
                yield tx
        except Exception as error:
            raise _as_told(error) from error

    def read(self, work: Callable[[Transaction], T], *, caller: Caller = ANYONE, origin: str | None = None) -> T:
        """Runs `work(tx)` for an answer. What it writes (who read what) is committed before the answer is returned.

        BEGIN is said at the first statement that is not a plain SELECT of SQLAlchemy Core, so that mere reading costs
        one round trip a statement. Locks taken by functions in a SELECT are not held: use `write` for those.
        """
        return self._run(work, caller, origin, lazy=True, repeatable=False)

    def write(self, work: Callable[[Transaction], T], *, caller: Caller = ANYONE, origin: str | None = None) -> T:
        """Runs `work(tx)` and commits. It may be run again, after a rollback, so it must do nothing but use `tx`."""
        return self._run(work, caller, origin, lazy=False, repeatable=False)

    def write_once(
        self,
        request_id: UUID,
        caller: Caller,
        method: str,
        fingerprint: bytes,
        work: Callable[[Transaction], T],
        *,
        dump: Callable[[T], bytes],
        load: Callable[[bytes], T],
        origin: str | None = None,
    ) -> T:
        """Runs `work(tx)` once for a request id, ever (R-CASE-17, R-SYS-5), and answers each repetition with its reply.

        A repetition that comes while the first is at work waits for it. `fingerprint` is a digest of the arguments. The
        reply is kept sealed, in the same transaction as the effect. Raises `Conflict` (request_id_reused) if the id was
        used by another caller, for another method or with other arguments. A `work` that raises leaves nothing behind;
        it may be run again after a rollback, so it must do nothing but use `tx`.
        """
        who = f"{caller.identity} for {caller.acting_for}" if caller.acting_for else caller.identity
        context = b"reply " + request_id.bytes

        def once(tx: Transaction) -> T:
            if tx.ask(_CLAIM_REQUEST, (request_id, who, method, fingerprint, tx.now)):
                reply = work(tx)
                tx.last(_STORE_REPLY, (tx.sealer.seal(dump(reply), context), request_id))
                return reply
            [(*earlier, sealed)] = tx.ask(_STORED_REQUEST, (request_id,))
            if earlier != [who, method, fingerprint]:
                raise Conflict("Anropets id har redan använts för något annat.", reason="request_id_reused")
            try:
                return load(tx.sealer.open(bytes(sealed), context))
            except SealBroken:
                raise Internal(reason="reply_sealed_with_lost_key") from None

        return self._run(once, caller, origin, lazy=False, repeatable=True)

    def hear(self, event_id: UUID, work: Callable[[Transaction], object], *, origin: str | None = None) -> bool:
        """Runs `work(tx)` once for an event, ever (R-SYS-5). Answers False if it had taken effect before."""

        def once(tx: Transaction) -> bool:
            if not tx.ask(_CLAIM_EVENT, (event_id, tx.now)):
                return False
            work(tx)
            return True

        return self._run(once, ANYONE, origin, lazy=False, repeatable=True)

    @contextmanager
    def _transaction(self, caller: Caller, origin: str | None, *, lazy: bool) -> Iterator[Transaction]:
        with self.engine.connect() as connection:
            tx = Transaction(
                connection,
                service=self.service,
                caller=caller,
                now=clock.now(),
                sealer=self._sealer,
                settings=self._settings,
                origin=origin,
                lazy=lazy,
            )
            try:
                yield tx
                tx.commit()
            except Exception as error:
                if engines.is_lost(error):
                    tx.throw_away(error)
                else:
                    tx.abandon()
                raise
            except BaseException as error:  # a green thread that was killed may be in the middle of a query
                tx.throw_away(error)
                raise
        if tx.published:
            for wake in self.on_published:
                wake()

    def _run(
        self, work: Callable[[Transaction], T], caller: Caller, origin: str | None, *, lazy: bool, repeatable: bool
    ) -> T:
        """`repeatable`: running it again is safe even if it may have been committed."""
        lost = False
        for attempt in range(1, ATTEMPTS + 1):
            tx: Transaction | None = None
            try:
                with self._transaction(caller, origin, lazy=lazy) as tx:
                    return work(tx)
            except Exception as error:
                may_stand = tx is not None and tx.commit_sent
                if engines.is_again(error) and attempt < ATTEMPTS:
                    log.info("transaction_repeated", reason=engines.sqlstate(error), attempt=attempt)
                    pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
                    time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                elif engines.is_lost(error) and not lost and (repeatable or not may_stand):
                    lost = True  # most likely it died while it lay in the pool; if the database is gone, so is the next
                else:
                    raise _as_told(error) from error
        raise Unavailable(reason="database_busy")


def _as_told(error: Exception) -> Exception:
    return engines.translated(error) or error
