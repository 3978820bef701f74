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
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
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

_CLAIM_REQUESTS = b"INSERT INTO requests (request_id, caller, method, fingerprint, at) VALUES "
_ONCE = b" ON CONFLICT DO NOTHING RETURNING 1"
_CLAIM_REQUEST = _CLAIM_REQUESTS + b"(%s, %s, %s, %s, %s)" + _ONCE
_STORED_REQUEST = b"SELECT caller, method, fingerprint, reply FROM requests WHERE request_id = %s"
_STORE_REPLY = b"UPDATE requests SET reply = %s WHERE request_id = %s"
_STORE_REPLIES = b"UPDATE requests SET reply = one.reply FROM (VALUES"
_BY_ID = b") AS one (id, reply) WHERE request_id = one.id"
_WAIT_FOR_NOBODY = b"SET LOCAL lock_timeout = '250ms'"
_CLAIM_EVENT = b"INSERT INTO inbox (event_id, at) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1"


class NotTogether(Exception):
    """Several writes can't be made in one transaction; each can by itself."""


class Wish(NamedTuple):
    """One of several writes: see `Database.write_once`."""

    request_id: UUID
    caller: Caller
    method: str
    fingerprint: bytes


@dataclass(frozen=True)
class _Statement:
    """A statement, or one with many rows of values in brackets between `sql` and `tail`. `answer`: the rows that it
    gave, when it was sent."""

    sql: bytes
    values: Values = ()
    rows: list[Values] | None = None
    tail: bytes = b""
    answer: list[tuple[Any, ...]] = field(default_factory=list)

    def text(self, cursor: psycopg.ClientCursor[Any]) -> str:
        """The statement with its values. Row by row: the driver parses short statements once, and long ones each time
        (psycopg's cache is for statements of up to 4 KB)."""
        if self.rows is None:
            return cursor.mogrify(self.sql, self.values)
        row = b"(" + b", ".join([b"%s"] * len(self.rows[0])) + b")"
        rows = ", ".join(cursor.mogrify(row, values) for values in self.rows)
        return f"{self.sql.decode()} {rows}{self.tail.decode()}"


class Transaction:
    """One transaction, READ COMMITTED. Capabilities get it as their first argument."""

    def __init__(
        self,
        connection: sqlalchemy.Connection,
        *,
        service: str,
        caller: Caller,
        now: datetime,
        sealer: Sealer | None,
        settings: Any,
        origin: str | None,
        lazy: bool,
    ) -> None:
        self.caller = caller
        self.now = now
        """The moment that this transaction acts at, from the settable clock, in UTC."""
        self._sealer = sealer
        self.settings = settings
        self._service = service
        self._origin = origin
        self._connection = connection
        self._lazy = lazy
        self._open = True
        self._events: list[outbox.OutboxRow] = []
        self._later: list[_Statement] = []
        self._rows: dict[bytes, list[Values]] = {}
        self._closing: list[_Statement] = []
        self.commit_sent = False
        self._ended_by: str | None = None

    @property
    def sealer(self) -> Sealer:
        """Seals and opens what is kept sealed."""
        assert self._sealer is not None, "this process was given no keys"
        return self._sealer

    @property
    def connection(self) -> sqlalchemy.Connection:
        """The connection, inside the transaction: for savepoints, COPY and the like."""
        self._begin()
        return self._connection

    def execute(
        self, statement: Executable, params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> sqlalchemy.CursorResult[Any]:
        """Runs a statement of SQLAlchemy Core."""
        if self._later or not (self._lazy and _only_reads(statement)):
            self._begin()
        assert self._open, "the transaction is over"
        return self._connection.execute(statement, params)

    def publish(self, event: Event[Body], body: Body, aggregate: UUID | str) -> None:
        """Tells an event if, and only if, this transaction commits. Events of one aggregate keep their order."""
        assert self._open, "the transaction is over"
        row = outbox.row(event, body, aggregate, service=self._service, at=self.now, origin=self._origin)
        self._events.append(row)

    def ask(self, statement: bytes, values: Values = ()) -> list[tuple[Any, ...]]:
        """Runs a statement of SQL, or several by semicolons, in one round trip. Answers the rows of the last.

        For the kernel, and where every round trip counts: it takes a third of the time that `execute` does. BEGIN, and
        what was to be run later, travel along.
        """
        return self._sent([*self._due(), _Statement(statement, values)])

    def look(self, statement: bytes, values: Values = ()) -> list[tuple[Any, ...]]:
        """The same for one statement that only reads: for an answer of `Database.read`, it needs no BEGIN either."""
        due = [] if self._lazy and not self._later else self._due()
        return self._sent([*due, _Statement(statement, values)])

    def ahead(self, statement: bytes, values: Values = ()) -> list[tuple[Any, ...]]:
        """Asks one statement without waiting for its rows, which stand in the list after the next `ask` or `look`."""
        self.queue(_Statement(statement, values))
        return self._later[-1].answer

    def later(self, statement: bytes, values: Values = ()) -> None:
        """Runs one statement of SQL whose result nobody looks at: before all that follows, in the same round trip as
        the next statement or COMMIT, which then tells of an error in it."""
        self.ahead(statement, values)

    def add(self, insert: bytes, row: Values) -> None:
        """As `later`, for a row of `INSERT INTO … VALUES`: rows of the same statement go in with the first of them."""
        assert self._open, "the transaction is over"
        if insert not in self._rows:
            self._rows[insert] = []
            self._later.append(_Statement(insert, rows=self._rows[insert]))
        self._rows[insert].append(row)

    def send(self) -> None:
        """Has run what was to be run later."""
        if self._later:
            self._begin()

    def last(self, statement: bytes, values: Values = ()) -> None:
        """A statement of the kernel's that travels with COMMIT; its result is not looked at."""
        self._closing.append(_Statement(statement, values))

    @property
    def published(self) -> bool:
        """Whether it has events to tell."""
        return bool(self._events)

    # --- for the kernel --------------------------------------------------------------------------------------------

    def queue(self, statement: _Statement) -> None:
        """It travels with the next that is sent."""
        assert self._open, "the transaction is over"
        self._later.append(statement)

    @property
    def _driver(self) -> psycopg.Connection[Any]:
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return driver

    @property
    def _begun(self) -> bool:
        return self._driver.pgconn.transaction_status != TransactionStatus.IDLE

    def _begin(self) -> None:
        if due := self._due():
            self._sent(due)

    def _due(self) -> list[_Statement]:
        """What has to be sent before the next statement."""
        assert self._open, "the transaction is over"
        due, self._later, self._rows = self._later, [], {}
        return due if self._begun else [_Statement(b"BEGIN"), *due]

    def _sent(self, statements: Sequence[_Statement]) -> list[tuple[Any, ...]]:
        """Sends them in one message, and answers the rows of the last, which may be several."""
        cursor = psycopg.ClientCursor(self._driver)
        cursor.execute(";".join([one.text(cursor) for one in statements]).encode())
        for one in statements[:-1]:
            if _has_rows(cursor):
                one.answer.extend(cursor.fetchall())
            cursor.nextset()
        while cursor.nextset():
            pass
        self._ended_by = cursor.statusmessage
        if _has_rows(cursor):
            statements[-1].answer.extend(cursor.fetchall())
        return statements[-1].answer

    def commit(self) -> None:
        """Ends it. All that was written and told stands after this, or nothing if it raises."""
        told = [_Statement(*outbox.insert(self._events))] if self._events else []
        if not (self._begun or self._later or told or self._closing):
            self._open = False
            return
        closing = [*self._due(), *told, *self._closing, _Statement(b"COMMIT")]
        self._open = False
        self.commit_sent = True
        self._sent(closing)
        if self._ended_by != "COMMIT":
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


def _has_rows(cursor: psycopg.ClientCursor[Any]) -> bool:
    """As `cursor.description`, which makes an object for each column."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


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
        sealer: Sealer | None,
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

        A repetition that comes while the first is at work waits for it. `fingerprint` is a digest of the arguments. It
        is kept as a mark made with the service's keys, for a bare one would tell an identity number to who tries them
        all. The reply is kept sealed, in the same transaction as the effect. Raises `Conflict` (request_id_reused) if
        the id was used by another caller, for another method or with other arguments. A `work` that raises leaves
        nothing behind; it may be run again after a rollback, so it must do nothing but use `tx`.
        """
        wish = Wish(request_id, caller, method, fingerprint)

        def once(tx: Transaction) -> T:
            if tx.ask(_CLAIM_REQUEST, _claim(wish, tx)):
                reply = work(tx)
                tx.last(_STORE_REPLY, (tx.sealer.seal(dump(reply), _reply_context(request_id)), request_id))
                return reply
            [(*earlier, mark, sealed)] = tx.ask(_STORED_REQUEST, (request_id,))
            try:
                if earlier != [_who(caller), method] or not _is_of(wish, bytes(mark), tx.sealer):
                    raise Conflict("Anropets id har redan använts för något annat.", reason="request_id_reused")
                return load(tx.sealer.open(bytes(sealed), _reply_context(request_id)))
            except SealBroken:
                raise Internal(reason="reply_sealed_with_lost_key") from None

        return self._run(once, caller, origin, lazy=False, repeatable=True)

    def write_once_together(
        self, wishes: Sequence[Wish], work: Callable[[Transaction], Sequence[T]], *, dump: Callable[[T], bytes]
    ) -> Sequence[T]:
        """Runs `work(tx)`, which answers for each of these, in one transaction that keeps what `write_once` promises to
        each.

        Nothing stands, and each can be made by itself, where it raises: an id that was used before, a lock of somebody
        else's, a write that is refused or tells an event, which has to carry its own call's id.
        """
        with self._transaction(ANYONE, None, lazy=False) as tx:
            tx.later(_WAIT_FOR_NOBODY)
            claims = _Statement(_CLAIM_REQUESTS, rows=[_claim(wish, tx) for wish in wishes], tail=_ONCE)
            tx.queue(claims)
            replies = work(tx)
            tx.send()
            if len(claims.answer) < len(wishes) or tx.published:
                raise NotTogether
            stored: list[Values] = [
                (wish.request_id, tx.sealer.seal(dump(reply), _reply_context(wish.request_id)))
                for wish, reply in zip(wishes, replies, strict=True)
            ]
            tx.queue(_Statement(_STORE_REPLIES, rows=stored, tail=_BY_ID))
        return replies

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


def _who(caller: Caller) -> str:
    return f"{caller.identity} for {caller.acting_for}" if caller.acting_for else caller.identity


def _claim(wish: Wish, tx: Transaction) -> Values:
    mark = tx.sealer.mark(wish.fingerprint, _arguments_context(wish.request_id))
    return wish.request_id, _who(wish.caller), wish.method, mark, tx.now


def _is_of(wish: Wish, mark: bytes, sealer: Sealer) -> bool:
    """Whether a request that was stored had the same arguments."""
    if len(mark) == len(wish.fingerprint):  # stored before these were keyed; gone a week after the change of version
        return mark == wish.fingerprint
    return sealer.marks(mark, wish.fingerprint, _arguments_context(wish.request_id))


def _arguments_context(request_id: UUID) -> bytes:
    return b"arguments " + request_id.bytes


def _reply_context(request_id: UUID) -> bytes:
    return b"reply " + request_id.bytes


def _as_told(error: Exception) -> Exception:
    return engines.translated(error) or error
