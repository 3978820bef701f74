"""Writes of one moment in one transaction: to each what it has alone, or nothing (R-CASE-17, R-SYS-5)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.contracts.base import Contract, EventBody
from shared.database.transaction import Database, NotTogether, Transaction, Wish
from shared.messaging.errors import Conflict
from shared.security.caller import ANYONE
from tests.integration.kernel_support import KernelDatabase, bump

contract = Contract("cases")
METHOD, FINGERPRINT = "cases.start_case", b"f" * 32


class Happened(EventBody):
    key: UUID


HAPPENED = contract.event("happened", Happened, heard_by=("notifications",))


@pytest.fixture
def database(kernel_db: KernelDatabase) -> Any:
    database = kernel_db.open()
    yield database
    database.dispose()


def write(database: Database, requests: Sequence[UUID], work: Any) -> Sequence[str]:
    wishes = [Wish(one, ANYONE, METHOD, FINGERPRINT) for one in requests]
    return database.write_once_together(wishes, work, dump=lambda reply: reply.encode())


def alone(database: Database, request: UUID, reply: str, fingerprint: bytes = FINGERPRINT) -> str:
    return database.write_once(
        request, ANYONE, METHOD, fingerprint, lambda tx: reply, dump=lambda one: one.encode(), load=bytes.decode
    )


def times(kernel_db: KernelDatabase) -> list[Any]:
    return kernel_db.rows("SELECT times FROM effects")


def test_r_case_17_each_has_its_answer_when_it_comes_again_alone(kernel_db: KernelDatabase, database: Database) -> None:
    """R-CASE-17"""
    requests = [uuid4() for _ in range(5)]
    replies = [f"reply % {place}" for place in range(5)]
    key = uuid4()

    def work(tx: Transaction) -> list[str]:
        bump(tx, key)
        return replies

    assert write(database, requests, work) == replies
    assert [alone(database, one, "another") for one in requests] == replies
    with pytest.raises(Conflict):
        alone(database, requests[0], "another", b"g" * 32)
    assert times(kernel_db) == [(1,)]


def test_r_case_17_with_one_that_came_before_nothing_is_done_together(
    kernel_db: KernelDatabase, database: Database
) -> None:
    """R-CASE-17: the others' turn stands for nothing, and each can be made alone."""
    before, fresh = uuid4(), uuid4()
    alone(database, before, "first")
    for requests in ([before, fresh], [fresh, fresh]):
        with pytest.raises(NotTogether):
            write(database, requests, lambda tx: [bump(tx, uuid4()) or "x", "y"])
    assert times(kernel_db) == []
    assert (alone(database, before, "second"), alone(database, fresh, "own")) == ("first", "own")


@pytest.mark.parametrize("how", ["refuses", "tells", "breaks"])
def test_r_sys_5_one_that_can_not_be_written_with_others_leaves_nothing(
    kernel_db: KernelDatabase, database: Database, how: str
) -> None:
    """R-SYS-5: what is refused, what tells an event (which carries its own call's id), what breaks."""
    requests = [uuid4(), uuid4()]

    def work(tx: Transaction) -> list[str]:
        bump(tx, uuid4())
        if how == "refuses":
            raise Conflict
        if how == "tells":
            tx.publish(HAPPENED, Happened(key=uuid4()), aggregate=uuid4())
        if how == "breaks":
            tx.later(b"SELECT 1 / 0")
        return ["a", "b"]

    with pytest.raises(Exception):  # noqa: B017 - whatever it is
        write(database, requests, work)
    assert times(kernel_db) == []
    assert kernel_db.rows("SELECT 1 FROM outbox") == []
    assert [alone(database, one, "own") for one in requests] == ["own", "own"]


def test_who_writes_with_others_waits_for_no_lock(kernel_db: KernelDatabase, database: Database) -> None:
    """A lock that somebody holds on one of them holds the others up for a quarter of a second."""
    key, locked, over = uuid4(), threading.Event(), threading.Event()
    with database.transaction() as tx:
        bump(tx, key)

    def hold() -> None:
        with database.transaction() as tx:
            bump(tx, key)
            locked.set()
            over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    began = time.monotonic()
    try:
        with pytest.raises(Exception, match="lock timeout"):
            write(database, [uuid4(), uuid4()], lambda tx: [bump(tx, key) or "a", "b"])
        assert time.monotonic() - began < 2
    finally:
        over.set()
        holder.join()
    assert times(kernel_db) == [(2,)]


def test_statements_run_in_their_order_whoever_waits_for_them(database: Database) -> None:
    """What is run later has run when the next statement looks; what is asked ahead is there after it."""
    with database.transaction() as tx:
        tx.later(b"CREATE TEMPORARY TABLE seen (place int, told text) ON COMMIT DROP")
        tx.add(b"INSERT INTO seen VALUES", (1, "50 % of ; it's"))
        tx.add(b"INSERT INTO seen VALUES", (2, None))
        two = tx.ahead(b"SELECT count(*) FROM seen")
        tx.later(b"DELETE FROM seen WHERE place = %s", (2,))
        assert two == []
        assert tx.ask(b"SELECT place, told FROM seen") == [(1, "50 % of ; it's")]
        assert two == [(2,)]
        tx.add(b"INSERT INTO seen VALUES", (3, "c"))
        assert tx.look(b"SELECT place FROM seen ORDER BY place") == [(1,), (3,)]
        last = tx.ahead(b"SELECT 7")
        tx.send()
        assert last == [(7,)]


def test_an_error_of_what_was_run_later_is_told_at_commit(kernel_db: KernelDatabase, database: Database) -> None:
    with pytest.raises(Exception, match="division"), database.transaction() as tx:
        bump(tx, uuid4())
        tx.later(b"SELECT 1 / 0")
    assert times(kernel_db) == []


def test_what_is_run_later_in_a_reading_is_written_before_the_answer(
    kernel_db: KernelDatabase, database: Database
) -> None:
    """R-SYS-5: as who read what."""
    key = uuid4()

    def work(tx: Transaction) -> list[Any]:
        tx.later(b"INSERT INTO effects (id, times) VALUES (%s, 1)", (key,))
        return tx.look(b"SELECT times FROM effects WHERE id = %s", (key,))

    assert database.read(work) == [(1,)]
    assert times(kernel_db) == [(1,)]
