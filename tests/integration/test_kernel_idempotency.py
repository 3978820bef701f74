"""A write happens once for a request id, whatever happens in between (R-CASE-17, R-SYS-5)."""

from __future__ import annotations

import hashlib
import threading
import time
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy

from shared.contracts.base import Contract, EventBody
from shared.database import engine as engines
from shared.database.transaction import Database, Transaction
from shared.messaging.errors import Conflict, Internal, Unavailable
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from tests.integration.kernel_support import KernelDatabase, bump, effects, together

RESIDENT = Caller("resident", str(UUID(int=1)))
OTHER = Caller("resident", str(UUID(int=2)))
FINGERPRINT = b"f" * 32

contract = Contract("cases")


class Happened(EventBody):
    key: UUID


HAPPENED = contract.event("happened", Happened, heard_by=("notifications",))


def write_once(
    database: Database,
    request: UUID,
    work,
    caller: Caller = RESIDENT,
    method: str = "cases.start_case",
    fingerprint: bytes = FINGERPRINT,
):
    return database.write_once(
        request, caller, method, fingerprint, work, dump=lambda reply: reply.encode(), load=lambda body: body.decode()
    )


@pytest.fixture
def database(kernel_db: KernelDatabase):
    database = kernel_db.open()
    yield database
    database.dispose()


def test_r_case_17_a_repeated_call_has_one_effect_and_the_same_answer(kernel_db, database):
    request, key = uuid4(), uuid4()
    answers = []

    def work(tx: Transaction) -> str:
        bump(tx, key)
        tx.publish(HAPPENED, Happened(key=key), aggregate=key)
        answers.append(str(uuid4()))
        return answers[-1]

    first = write_once(database, request, work)
    assert [write_once(database, request, work) for _ in range(3)] == [first] * 3
    assert answers == [first]
    assert kernel_db.rows("SELECT times FROM effects") == [(1,)]
    assert kernel_db.rows("SELECT aggregateid, aggregatetype, type FROM outbox") == [(str(key), "cases", "happened")]


def test_r_sys_2_the_stored_reply_is_sealed(kernel_db, database):
    write_once(database, uuid4(), lambda tx: "Anna Andersson")
    stored = kernel_db.one("SELECT reply FROM requests")
    assert b"Anna" not in bytes(stored)


def test_r_case_17_twins_at_the_same_time_have_one_effect_and_the_same_answer(kernel_db, database):
    request, key = uuid4(), uuid4()

    def work(tx: Transaction) -> str:
        bump(tx, key)
        time.sleep(0.05)
        return str(uuid4())

    answers = together(12, lambda _: write_once(database, request, work))
    assert len(set(answers)) == 1, answers
    assert kernel_db.rows("SELECT times FROM effects") == [(1,)]


def test_r_case_17_many_requests_with_twins_each_take_effect_once(kernel_db, database):
    requests = [uuid4() for _ in range(40)]

    def work_for(request: UUID):
        def work(tx: Transaction) -> str:
            bump(tx, request)
            tx.publish(HAPPENED, Happened(key=request), aggregate=request)
            return str(request)

        return work

    def everyone(place: int) -> list[str]:
        order = requests if place % 2 else requests[::-1]
        return [write_once(database, request, work_for(request)) for request in order]

    for answers in together(8, everyone):
        assert sorted(answers) == sorted(str(request) for request in requests)
    assert kernel_db.rows("SELECT count(*), sum(times) FROM effects") == [(40, 40)]
    assert kernel_db.one("SELECT count(*) FROM outbox") == 40


@pytest.mark.parametrize(
    "other",
    [{"caller": OTHER}, {"method": "cases.reply"}, {"fingerprint": b"g" * 32}, {"caller": Caller("staff", "SE1-A")}],
)
def test_r_case_17_an_id_used_for_something_else_is_refused(database, other):
    request = uuid4()
    write_once(database, request, lambda tx: "svar")
    with pytest.raises(Conflict) as refused:
        write_once(database, request, lambda tx: "annat", **other)
    assert refused.value.reason == "request_id_reused"


def test_r_sys_2_the_arguments_can_not_be_found_by_trying_them(kernel_db, database):
    """R-SYS-2, R-ID-24: an identity number is soon guessed from a digest that anyone can make."""
    number = hashlib.sha256(b'{"identity_number":"191212121212"}').digest()
    first, second = uuid4(), uuid4()
    for request in (first, second):
        write_once(database, request, lambda tx: "svar", fingerprint=number)
    stored = [bytes(one) for (one,) in kernel_db.rows("SELECT fingerprint FROM requests")]
    assert not any(number in one for one in stored)
    assert stored[0] != stored[1], "nor can it be seen that two are the same"


def test_r_case_17_what_an_older_version_has_stored_is_known_again(kernel_db, database):
    """R-CASE-17: with the bare digest; such rows are gone after a week."""
    request = uuid4()
    write_once(database, request, lambda tx: "svar")
    kernel_db.rows("UPDATE requests SET fingerprint = %s", FINGERPRINT)
    assert write_once(database, request, lambda tx: "annat") == "svar"
    with pytest.raises(Conflict):
        write_once(database, request, lambda tx: "annat", fingerprint=b"g" * 32)


def test_r_case_17_a_request_is_known_again_after_a_change_of_keys(kernel_db, database):
    """R-CASE-17: and without its key, it is not taken for another one."""
    request = uuid4()
    write_once(database, request, lambda tx: "svar")
    after = Database(kernel_db.url, service="cases", sealer=Sealer("new", {"test": b"k" * 32, "new": b"n" * 32}))
    assert write_once(after, request, lambda tx: "annat") == "svar"
    lost = Database(kernel_db.url, service="cases", sealer=Sealer("new", {"new": b"n" * 32}))
    with pytest.raises(Internal) as told:
        write_once(lost, request, lambda tx: "annat")
    assert told.value.reason == "reply_sealed_with_lost_key"
    after.dispose()
    lost.dispose()


def test_a_guardian_and_the_same_person_for_themselves_are_two_callers(database):
    request = uuid4()
    write_once(database, request, lambda tx: "svar", caller=Caller("resident", "a", acting_for=uuid4()))
    with pytest.raises(Conflict):
        write_once(database, request, lambda tx: "svar", caller=Caller("resident", "a"))


def test_a_refused_write_leaves_nothing_and_may_be_repeated(kernel_db, database):
    request, key = uuid4(), uuid4()

    def refused(tx: Transaction) -> str:
        bump(tx, key)
        tx.publish(HAPPENED, Happened(key=key), aggregate=key)
        raise Conflict(reason="already_answered")

    with pytest.raises(Conflict):
        write_once(database, request, refused)
    for table in ("effects", "outbox", "requests"):
        assert kernel_db.one(f"SELECT count(*) FROM {table}") == 0
    assert write_once(database, request, lambda tx: "nu") == "nu"


def test_the_twin_of_a_refused_write_does_it(kernel_db, database):
    request, key = uuid4(), uuid4()
    tries = []

    def work(tx: Transaction) -> str:
        tries.append(1)
        bump(tx, key)
        time.sleep(0.1)
        if len(tries) == 1:
            raise Conflict
        return "gjort"

    answers = together(2, lambda _: write_once(database, request, work))
    assert sorted(map(type, answers), key=str) == sorted([Conflict, str], key=str)
    assert kernel_db.one("SELECT times FROM effects") == 1


def test_an_error_that_was_passed_over_is_no_success(database):
    """COMMIT after a failed statement is a rollback without an error: it must never be taken for success."""

    def careless(tx: Transaction) -> str:
        try:
            tx.execute(sqlalchemy.text("SELECT 1/0"))
        except sqlalchemy.exc.DBAPIError:
            pass
        return "allt gick bra"

    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        write_once(database, uuid4(), careless)
    with pytest.raises(RuntimeError):
        database.write(careless)
    assert database.write(lambda tx: tx.execute(sqlalchemy.select(1)).scalar()) == 1


def test_connections_that_died_in_the_pool_are_not_noticed_by_callers(kernel_db, database):
    """After a restart of the database every kind of transaction heals by itself."""
    together(8, lambda _: database.write(lambda tx: tx.execute(sqlalchemy.text("SELECT pg_sleep(0.1)"))))
    for run in (
        lambda: write_once(database, uuid4(), lambda tx: bump(tx, uuid4()) or "svar"),
        lambda: database.read(lambda tx: tx.execute(sqlalchemy.select(effects)).all()),
        lambda: database.check(),
    ):
        kernel_db.cut_connections()
        time.sleep(0.1)
        run()


def test_a_connection_lost_in_the_middle_is_made_up_for(kernel_db, database):
    request, key = uuid4(), uuid4()
    runs = []

    def work(tx: Transaction) -> str:
        bump(tx, key)
        runs.append(1)
        if len(runs) == 1:
            kernel_db.cut_connections()
        tx.execute(sqlalchemy.select(effects))
        return "svar"

    assert write_once(database, request, work) == "svar"
    assert len(runs) == 2
    assert kernel_db.one("SELECT times FROM effects") == 1


def test_r_sys_5_a_connection_lost_at_commit_is_made_up_for_by_the_request_id(kernel_db, database, monkeypatch):
    """The answer to COMMIT is lost: the second run finds the first one's reply."""
    request, key = uuid4(), uuid4()
    commit, lost = Transaction.commit, []

    def losing(tx: Transaction) -> None:
        commit(tx)
        if not lost:
            lost.append(1)
            tx._driver.close()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(Transaction, "commit", losing)

    def work(tx: Transaction) -> str:
        bump(tx, key)
        return str(uuid4())

    answer = write_once(database, request, work)
    assert lost == [1]
    assert answer == write_once(database, request, work)
    assert kernel_db.one("SELECT times FROM effects") == 1

    lost.clear()
    with pytest.raises(Unavailable):  # without an id nobody can tell whether it stands: never run twice
        database.write(lambda tx: bump(tx, key))
    assert kernel_db.one("SELECT times FROM effects") == 2


def test_deadlocks_are_run_again(kernel_db, database):
    one, two = uuid4(), uuid4()
    database.write(lambda tx: (bump(tx, one), bump(tx, two)))
    barrier = threading.Barrier(2)
    runs = []

    def crossing(place: int) -> str:
        first, second = (one, two) if place else (two, one)

        def work(tx: Transaction) -> str:
            bump(tx, first)
            runs.append(place)
            if len(runs) <= 2:
                barrier.wait()
            bump(tx, second)
            return "klar"

        return write_once(database, uuid4(), work)

    assert together(2, crossing) == ["klar", "klar"]
    assert len(runs) == 3
    assert kernel_db.rows("SELECT DISTINCT times FROM effects") == [(3,)]


def test_waiting_for_a_lock_ends_in_unavailable(kernel_db):
    database = kernel_db.open(lock_timeout=0.2)
    key = uuid4()
    database.write(lambda tx: bump(tx, key))
    with database.transaction() as tx:
        bump(tx, key)
        with pytest.raises(Unavailable) as refused:
            database.write(lambda other: bump(other, key))
        assert refused.value.reason == "database_busy"
    database.dispose()


def test_a_statement_that_takes_too_long_ends_in_unavailable(kernel_db):
    database = kernel_db.open(statement_timeout=0.2)
    with pytest.raises(Unavailable) as refused:
        database.read(lambda tx: tx.execute(sqlalchemy.text("SELECT pg_sleep(5)")))
    assert refused.value.reason == "database_busy"
    assert database.read(lambda tx: tx.execute(sqlalchemy.select(1)).scalar()) == 1
    database.dispose()


def test_a_database_that_is_not_there_is_told_at_once():
    from tests.integration.kernel_support import SEALER

    database = Database("postgresql://nobody@127.0.0.1:9/none", service="cases", sealer=SEALER)
    begun = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        database.write(lambda tx: None)
    assert refused.value.reason == "database_gone"
    with pytest.raises(Unavailable), database.transaction() as tx:
        tx.execute(sqlalchemy.select(1))
    assert time.monotonic() - begun < 2


def test_more_work_than_connections_waits_its_turn(database):
    def slow(tx: Transaction) -> int:
        return tx.execute(sqlalchemy.text("SELECT 1 FROM pg_sleep(0.02)")).scalar()

    assert together(60, lambda _: database.write(slow)) == [1] * 60


def test_reading_takes_one_round_trip_a_statement_and_writes_what_it_must(kernel_db, database):
    key = uuid4()

    def read(tx: Transaction) -> bool:
        tx.execute(sqlalchemy.select(effects)).all()
        assert not tx._begun
        bump(tx, key)
        assert tx._begun
        return True

    assert database.read(read)
    assert kernel_db.one("SELECT times FROM effects") == 1

    def failing(tx: Transaction) -> None:
        bump(tx, key)
        raise Conflict

    with pytest.raises(Conflict):
        database.read(failing)
    with pytest.raises(Conflict):
        database.read(lambda tx: (tx.execute(sqlalchemy.select(effects).with_for_update()).all(), failing(tx)))
    assert kernel_db.one("SELECT times FROM effects") == 1


def test_no_connection_is_left_in_a_transaction(kernel_db, database):
    for _ in range(3):
        with pytest.raises(sqlalchemy.exc.DataError), database.transaction() as tx:
            tx.execute(sqlalchemy.text("SELECT 1/0"))
        database.read(lambda tx: tx.execute(sqlalchemy.text("SELECT 1")))
    states = kernel_db.rows(
        "SELECT DISTINCT state FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert states == [("idle",)]


def test_publishing_another_services_event_is_a_programming_error(kernel_db):
    from shared.contracts.base import ContractError

    database = kernel_db.open(service="identity")
    with pytest.raises(ContractError), database.transaction() as tx:
        tx.publish(HAPPENED, Happened(key=uuid4()), aggregate=uuid4())
    database.dispose()


def test_engine_errors_are_told_apart():
    assert engines.translated(ValueError()) is None
    assert engines.translated(psycopg.errors.UniqueViolation()) is None
    assert engines.translated(psycopg.errors.DiskFull()).reason == "database_full"
    assert engines.translated(psycopg.errors.TooManyConnections()).reason == "database_full"
    assert engines.translated(psycopg.errors.AdminShutdown()).reason == "database_gone"
    assert engines.translated(psycopg.errors.ReadOnlySqlTransaction()).reason == "database_gone"
    assert engines.translated(sqlalchemy.exc.TimeoutError()).reason == "database_busy"
