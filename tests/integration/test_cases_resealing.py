"""A change of keys while the system is used: nothing is lost, and in the end nothing needs the old key (R-SYS-2)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import LargeBinary, select, text

from services.cases import resealing, seals
from services.cases.tables import metadata
from shared.contracts import case_records as records
from shared.database.transaction import Database
from shared.messaging.errors import Internal
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from tests.integration.cases_support import SETTINGS, World, refused

OLD, NEW = {"test": b"k" * 32}, {"new": b"n" * 32}


@pytest.fixture
def world(fresh_database: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    yield from World.made(fresh_database("cases").url, tmp_path)


def with_ring(world: World, current: str, keys: dict[str, bytes]) -> None:
    """The processes are started anew with this ring."""
    url = world.database.engine.url.render_as_string(hide_password=False)
    world.database.dispose()
    world.database = Database(url, service="cases", sealer=Sealer(current, keys), settings=SETTINGS)
    world._core.database = world.database


def run_of(world: World) -> SimpleNamespace:
    return SimpleNamespace(transaction=world.database.transaction, stopping=threading.Event())


def progress(world: World) -> dict[str, records.ResealedTable]:
    found = world.call(records.RESEALING, records.AskResealing(), Caller("operator", "operator"))
    return {one.table: one for one in found.tables}


def keys_in_use(world: World) -> set[str]:
    with world.database.transaction() as tx:
        values = [
            bytes(value)
            for sealed in resealing.SEALED
            for (value,) in tx.execute(text(f"SELECT {sealed.value.name} FROM {sealed.table.name}"))
            if value is not None
        ]
    return {value[1 : 1 + value[0]].decode() for value in values}


def test_every_sealed_column_is_sealed_anew() -> None:
    """R-SYS-2: whoever adds a column of bytes says here whether it is sealed."""
    not_sealed = {"access_log_seals.digest"}
    found = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert found == not_sealed | {sealed.name for sealed in resealing.SEALED}


def test_r_sys_2_after_both_rounds_nothing_needs_the_old_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-SYS-2: texts, names of files and the proofs of the access log's seals."""
    monkeypatch.setattr(resealing, "AT_ONCE", 3)
    found = [world.start(attachments=[world.file(world.resident, "blåmärke.png")]).case for _ in range(8)]
    for case in found:
        world.get(case, world.receiver)
    world.seal()
    before = [world.get(case, world.receiver).messages for case in found]
    with_ring(world, "new", OLD | NEW)
    assert resealing.reseal_all(run_of(world)) == 9
    assert keys_in_use(world) == {"new"}
    assert {one.rounds_done for one in progress(world).values()} == {1}
    assert not any(one.finished_at for one in progress(world).values())

    with_ring(world, "test", OLD)  # a process that was not started anew yet
    late = world.start().case
    with_ring(world, "new", OLD | NEW)
    assert resealing.reseal_all(run_of(world)) == 0, "the second round waits for such processes to be gone"
    world.move(timedelta(days=1, minutes=1))
    assert resealing.reseal_all(run_of(world)) == 1
    assert resealing.reseal_all(run_of(world)) == 0
    assert keys_in_use(world) == {"new"}
    assert all(one.finished_at and not one.lost for one in progress(world).values())

    with_ring(world, "new", NEW)
    assert [world.get(case, world.receiver).messages for case in found] == before
    assert world.get(late, world.receiver).messages[0].text
    assert seals.check_all(world.database) == []


def test_r_sys_2_whoever_dies_in_between_the_next_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-SYS-2: each lot is one transaction with the note of how far it came."""
    monkeypatch.setattr(resealing, "AT_ONCE", 2)
    for _ in range(7):
        world.start()
    with_ring(world, "new", OLD | NEW)
    of_messages = resealing.SEALED[0]
    with world.database.transaction() as tx:
        assert resealing.reseal_some(tx, of_messages) == (2, True)
    with pytest.raises(ZeroDivisionError), world.database.transaction() as tx:
        resealing.reseal_some(tx, of_messages)
        raise ZeroDivisionError
    assert progress(world)["messages.content"].resealed == 2
    stopping = run_of(world)
    stopping.stopping.set()
    assert resealing.reseal_all(stopping) == 0
    assert resealing.reseal_all(run_of(world)) == 5
    assert progress(world)["messages.content"].resealed == 7


def test_r_sys_2_what_is_saved_meanwhile_is_not_overwritten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-SYS-2: a value that was read to be sealed anew, and then saved by somebody else."""
    world.start()
    with_ring(world, "new", OLD | NEW)
    [of_messages] = [one for one in resealing.SEALED if one.name == "messages.content"]
    original = resealing._sealed_anew

    def slow(tx: Any, sealed: Any, found: Any) -> Any:
        anew, lost = original(tx, sealed, found)
        return [one | {"_was": b"what was there before somebody saved it"} for one in anew], lost

    monkeypatch.setattr(resealing, "_sealed_anew", slow)
    with world.database.transaction() as tx:
        before = tx.execute(select(of_messages.value)).all()
        resealing.reseal_some(tx, of_messages)
        assert tx.execute(select(of_messages.value)).all() == before


def test_r_sys_2_while_the_system_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-SYS-2: two who seal anew at once, residents who open messages, new messages all the time."""
    monkeypatch.setattr(resealing, "AT_ONCE", 2)
    waiting = [world.waiting_case() for _ in range(6)]
    with_ring(world, "new", OLD | NEW)
    counts: list[int] = []
    failed: list[Exception] = []

    def watch(work: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads = [watch(lambda: counts.append(resealing.reseal_all(run_of(world)))) for _ in range(2)]
    threads += [watch(lambda: [(world.get(case, world.resident), world.write(case)) for case in waiting])]
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(counts) == 12
    for case in waiting:
        shown = world.get(case, world.receiver)
        assert [one.text for one in shown.messages[1:]] == ["Hur länge har du haft det?", "I en vecka."]
        assert shown.messages[1].opened_at is not None
    assert keys_in_use(world) == {"new"}


def test_r_sys_2_a_key_that_is_gone_is_told_and_counted(world: World) -> None:
    """R-SYS-2: never an empty text; and nothing is written over what could still be opened with the key."""
    case = world.start().case
    with_ring(world, "new", NEW)
    refused("key_missing", Internal, world.get, case, world.receiver)
    assert resealing.reseal_all(run_of(world)) == 0
    assert progress(world)["messages.content"].lost == 1
    with_ring(world, "new", OLD | NEW)
    assert world.get(case, world.receiver).messages[0].text
    with world.database.transaction() as tx:
        tx.connection.exec_driver_sql("ALTER TABLE messages DISABLE TRIGGER sent_for_good")
        tx.connection.exec_driver_sql("UPDATE messages SET content = set_byte(content, length(content) - 1, 7)")
        tx.connection.exec_driver_sql("UPDATE messages SET content = set_byte(content, length(content) - 2, 7)")
    refused("sealed_value_broken", Internal, world.get, case, world.receiver)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE messages SET content = 'x'",
        "SET LOCAL cases.resealing = 'on'; UPDATE messages SET content = 'x', kind = 'answer'",
        "SET LOCAL cases.resealing = 'on'; DELETE FROM messages",
        "UPDATE access_log_seals SET proof = 'x'",
        "SET LOCAL cases.resealing = 'on'; UPDATE access_log_seals SET proof = 'x', digest = 'x'",
        "SET LOCAL cases.resealing = 'on'; DELETE FROM access_log_seals",
        "SET LOCAL cases.resealing = 'on'; UPDATE access_log SET person = 'x'",
    ],
)
def test_r_case_9_18_the_database_lets_nothing_else_be_changed(world: World, statement: str) -> None:
    """R-CASE-9, R-CASE-18"""
    world.get(world.start().case, world.receiver)
    world.seal()
    url = world.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.RaiseException):
        connection.execute(statement.encode())
