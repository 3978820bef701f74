"""Who sees what of a case, that it is logged, and that the log can not be changed unseen."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.cases import messages, seals
from shared.contracts import cases
from shared.contracts.base import Role
from shared.messaging.errors import Forbidden, Internal, Invalid, NotFound
from shared.security.caller import Caller
from tests.integration.cases_support import CARE_PROVIDER, World, refused, shared_database
from tests.stack.rooms import Rooms


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


@pytest.fixture
def own_world(fresh_database: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    yield from World.made(fresh_database("cases").url, tmp_path)


def log_of(world: World, **more: Any) -> cases.AccessLog:
    log: cases.AccessLog = world.call(
        cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic, **more), world.reviewer
    )
    return log


# --- who sees what


def test_r_sys_1_nobody_else_sees_anything_of_a_case(world: World) -> None:
    """R-SYS-1, R-CASE-3: what is not there and what is not yours can't be told apart."""
    case = world.start().case
    world.assign(case)
    missing = refused("case_not_found", NotFound, world.get, uuid4(), world.receiver)
    strangers = [
        world.new_resident(),
        world.admin,
        world.reviewer,
        world.person(Role.CASE_HANDLER),
        world.person(Role.CASE_RECEIVER, clinic=world.new_clinic()),
        Caller("staff", "SE2321000131-P000000000000"),
        Caller("service", "directory"),
        Caller("anyone"),
    ]
    for stranger in strangers:
        told = refused("case_not_found", NotFound, world.get, case, stranger)
        assert told.on_the_wire() == missing.on_the_wire()
    assert not {one.subject for one in strangers} & {one.person for one in log_of(world).entries}


def test_r_id_14_staff_see_the_card_and_nothing_else(world: World) -> None:
    """R-ID-14, R-CASE-15"""
    protected = world.new_resident(protected=True)
    case = world.start(protected).case
    shown = world.get(case, world.receiver)
    assert shown.resident is not None
    assert shown.resident.model_dump() == {
        "name": "Tolvan Tolvansson",
        "identity_number": "191212121212",
        "active": True,
        "protected": True,
    }
    assert shown.messages[0].sender_name == "Tolvan Tolvansson"
    assert protected.subject not in shown.model_dump_json()


def test_residents_see_no_handler_no_activities_and_no_hsa_id(world: World) -> None:
    case = world.waiting_case()
    shown = world.get(case, world.resident)
    assert (shown.handler, shown.resident, shown.activities) == (None, None, [])
    assert shown.may_write
    text = shown.model_dump_json()
    assert world.handler.subject not in text
    assert world.receiver.subject not in text


def test_r_case_15_what_comes_while_the_resident_reads_is_not_opened(world: World) -> None:
    """R-CASE-15: opened is what was shown, and no message that was sent just after."""
    case = world.waiting_case()
    with world.database.transaction(world.resident) as tx:
        found = messages.of_case(tx, case)
        world.reply(case, text="En sak till.")
        shown = messages.open_for_resident(tx, case, found)
    assert [one.shown.opened_at is not None for one in shown] == [False, True]
    assert [one.opened_at is not None for one in world.get(case, world.handler).messages] == [False, True, False]
    [item] = world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident).cases
    assert item.unopened == 1


def test_r_case_15_whether_the_resident_has_opened_a_message(world: World) -> None:
    """R-CASE-15"""
    case = world.waiting_case()
    assert [one.opened_at for one in world.get(case, world.handler).messages] == [None, None]
    [item] = world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident).cases
    assert (item.unopened, item.inbox_state) == (1, "waiting_for_me")
    first = world.get(case, world.resident).messages[-1].opened_at
    assert first is not None
    world.move(timedelta(hours=1))
    assert world.get(case, world.resident).messages[-1].opened_at == first
    assert [one.opened_at for one in world.get(case, world.handler).messages] == [None, first]
    [item] = world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident).cases
    assert item.unopened == 0


def test_r_id_11_a_guardian_writes_for_the_child_and_it_shows(world: World) -> None:
    """R-ID-11, R-ID-12, R-CASE-15"""
    child, guardian = world.new_resident(), world.new_resident()
    acting = Caller("resident", guardian.subject, session=uuid4(), acting_for=UUID(child.subject))
    case = world.start(acting).case
    assert world.get(case, child).messages[0].written_by == "guardian"
    assert world.get(case, acting).case == case
    refused("case_not_found", NotFound, world.get, case, guardian)
    assert world.get(case, world.receiver).messages[0].written_by == "guardian"


def test_r_case_10_two_years_from_the_latest_message(world: World) -> None:
    """R-CASE-10"""
    case = world.waiting_case()
    world.move(timedelta(days=365))
    world.expire()
    world.move(timedelta(days=364))
    assert world.get(case, world.resident).state == "closed"
    world.move(timedelta(days=3))
    refused("case_not_found", NotFound, world.get, case, world.resident)
    assert world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident).cases == []
    listing = cases.ListClinicCases(clinic=world.clinic, state="closed")
    assert [one.case for one in world.call(cases.LIST_CLINIC_CASES, listing, world.receiver).cases] == [case]
    assert world.get(case, world.receiver).state == "closed"


def test_lists_are_for_those_with_the_role(world: World) -> None:
    """R-CASE-3"""
    for caller in (world.handler, world.admin, world.reviewer):
        with pytest.raises(Forbidden):
            world.call(cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic), caller)
    with pytest.raises(Forbidden):
        world.call(cases.LIST_MY_CASES, cases.ListMyCases(clinic=world.clinic), world.receiver)
    with pytest.raises(Forbidden):
        world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.receiver)


def every_page(world: World, call: Any, request: Any, caller: Caller, limit: int) -> list[UUID]:
    found: list[UUID] = []
    after = None
    while True:
        page = world.call(call, request.model_copy(update={"after": after, "limit": limit}), caller)
        assert len(page.cases) <= limit
        found += [one.case for one in page.cases]
        after = page.after
        if after is None:
            return found


@pytest.mark.parametrize("seed", range(3))
def test_r_case_19_lists_show_exactly_what_can_be_read(world: World, seed: int) -> None:
    """R-CASE-19: for every role, page by page, whatever happened to the cases."""
    chance = random.Random(seed)
    second = world.new_clinic()
    types = {world.clinic: world.case_type, second: world.new_case_type(clinic=second)}
    receivers = {clinic: world.person(Role.CASE_RECEIVER, clinic=clinic) for clinic in types}
    both = world.person(Role.CASE_HANDLER, Role.CASE_RECEIVER)
    handlers = [world.handler, both, world.person(Role.CASE_HANDLER, clinic=second)]
    residents = [world.new_resident() for _ in range(3)]
    found = []
    for _ in range(12):
        clinic = chance.choice(list(types))
        case = world.start(chance.choice(residents), clinic=clinic, case_type=types[clinic]).case
        able = [one for one in handlers if Role.CASE_HANDLER in one.rights.roles_at(clinic)]
        if chance.random() < 0.8:
            handler = chance.choice(able)
            world.assign(case, handler, by=receivers[clinic])
            if chance.random() < 0.7:
                world.reply(case, chance.choice(["answer", "counter_question", "partial_reply"]), by=handler)
        found.append(case)
        world.move(timedelta(seconds=chance.choice([0, 1])))

    def readable(caller: Caller) -> set[UUID]:
        seen = set()
        for case in found:
            try:
                world.get(case, caller)
            except NotFound:
                continue
            seen.add(case)
        return seen

    for resident in residents:
        inbox = every_page(world, cases.LIST_INBOX, cases.ListInbox(), resident, limit=2)
        assert len(inbox) == len(set(inbox))
        assert set(inbox) == readable(resident)
    for clinic, receiver in receivers.items():
        listed = every_page(world, cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=clinic), receiver, limit=3)
        assert len(listed) == len(set(listed))
        assert set(listed) == readable(receiver)
    for handler in handlers:
        mine = every_page(world, cases.LIST_MY_CASES, cases.ListMyCases(), handler, limit=1)
        assert len(mine) == len(set(mine))
        if handler is not both:
            assert set(mine) == readable(handler)
        assert set(mine) <= readable(handler)


def test_r_case_19_filters_and_bad_cursors(world: World) -> None:
    """R-CASE-19"""
    new, assigned = world.start().case, world.start().case
    world.assign(assigned)

    def listed(**more: Any) -> list[UUID]:
        page = world.call(cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic, **more), world.receiver)
        return [one.case for one in page.cases]

    assert listed() == [assigned, new]
    assert listed(state="new") == [new]
    assert listed(state="closed") == []
    for cursor in ("x", "é", "MjAyNg=="):
        refused("cursor_invalid", Invalid, listed, after=cursor)


# --- the log


def test_r_case_18_every_reading_by_staff_is_logged(world: World) -> None:
    """R-CASE-18, R-ID-25"""
    started = world.start()
    case = started.case
    world.assign(case)
    world.get(case, world.receiver)
    world.get(case, world.resident)
    world.get(case, world.handler)
    entries = log_of(world).entries
    assert [(one.person, one.what) for one in entries] == [
        (world.handler.subject, "case"),
        (world.receiver.subject, "case"),
    ]
    one = entries[0]
    assert (one.clinic, one.case, one.number) == (world.clinic, case, started.number)
    assert (str(one.resident), one.care_provider) == (world.resident.subject, CARE_PROVIDER)
    assert len(log_of(world, case=case).entries) == 2
    assert log_of(world, case=uuid4()).entries == []
    first = log_of(world, limit=1)
    assert [one.person for one in first.entries] == [world.handler.subject]
    assert [one.person for one in log_of(world, limit=1, after=first.after).entries] == [world.receiver.subject]


def test_r_case_18_a_reading_that_can_not_be_logged_does_not_happen(own_world: World) -> None:
    """R-CASE-18: the row and the reading are one transaction."""
    case = own_world.start().case
    with own_world.database.transaction() as tx:
        tx.connection.exec_driver_sql("ALTER TABLE access_log ADD CONSTRAINT nothing CHECK (false) NOT VALID")
    with pytest.raises(Exception, match=r"nothing|internal"):
        own_world.get(case, own_world.receiver)


def test_r_case_18_residents_see_who_has_read(world: World) -> None:
    """R-CASE-18: name and title, never an HSA-id of a person."""
    case = world.start().case
    world.get(case, world.receiver)
    log = world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), world.resident)
    [entry] = log.entries
    assert entry.staff_name == f"Åsa {world.neighbours.staff[world.receiver.subject].surname}"
    assert (entry.staff_title, entry.clinic, entry.what) == ("Läkare", world.clinic, "case")
    assert world.receiver.subject not in log.model_dump_json()
    assert world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), world.new_resident()).entries == []


def test_r_case_18_the_log_is_sealed_and_fits(own_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-CASE-18"""
    monkeypatch.setattr(seals, "AT_ONCE", 3)
    monkeypatch.setattr(seals, "SEALS_AT_ONCE", 2)
    case = own_world.start().case
    for _ in range(8):
        own_world.get(case, own_world.receiver)
    assert not log_of(own_world).entries[0].sealed
    assert own_world.seal() == 8
    assert own_world.seal() == 0
    own_world.get(case, own_world.receiver)
    assert [one.sealed for one in log_of(own_world).entries] == [False] + [True] * 8
    assert own_world.seal() == 1
    assert seals.check_all(own_world.database) == []


def test_r_case_18_the_check_finds_the_seals_of_some_rows_by_an_index(own_world: World) -> None:
    """R-CASE-18: at both ends of the numbers, else the nightly check of a long log reads all later seals each time."""
    from sqlalchemy import text

    with own_world.database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO access_log_seals SELECT s, now(), ARRAY[s * 1000], s * 1000 - 999, s * 1000, 'd', 'p'"
                " FROM generate_series(1, 3000) s"
            )
        )
    with own_world.database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE access_log_seals")
        for low in (1, 1_500_001, 2_999_001):
            question = seals.overlapping(low, low + 999).compile(
                connection.engine, compile_kwargs={"literal_binds": True}
            )
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {question}").scalar_one()
            read = json.dumps(plan)
            assert "access_log_seals_by_entry" in read
            assert [int(one) for one in re.findall(r'"Rows Removed by [^"]*": (\d+)', read) if int(one) > 2] == []
            assert [list(one) for one in connection.execute(seals.overlapping(low, low + 999)).scalars()] == [
                [low + 999]
            ]


TAMPERINGS = {
    "row_gone": "DELETE FROM access_log WHERE entry = 2",
    "rows_changed": "UPDATE access_log SET person = 'SE2321000131-P000000000000' WHERE entry = 2",
    "row_uncovered": (
        "INSERT INTO access_log (at, person, clinic, care_provider, case_id, number, resident, what)"
        " SELECT at, person, clinic, care_provider, case_id, number, resident, what FROM access_log WHERE entry = 2"
    ),
    "proof_broken": "UPDATE access_log_seals SET digest = sha256('x') WHERE seal = 1",
    "seal_missing": "DELETE FROM access_log_seals WHERE seal = 1",
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_r_case_18_what_is_changed_afterwards_shows(own_world: World, what: str) -> None:
    """R-CASE-18: the database refuses it; and where someone gets past that, the seals tell."""
    case = own_world.start().case
    for _ in range(2):
        for _ in range(3):
            own_world.get(case, own_world.receiver)
        own_world.seal()
    url = own_world.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as intruder:
        if not TAMPERINGS[what].startswith("INSERT"):
            with pytest.raises(psycopg.errors.RaiseException):
                intruder.execute(TAMPERINGS[what].encode())
        for table in ("access_log", "access_log_seals"):
            intruder.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
        intruder.execute(TAMPERINGS[what].encode())
    assert what in {fault.what for fault in seals.check_all(own_world.database)}


# --- at rest and on the wire


def test_r_case_9_what_has_been_sent_is_not_changed_even_by_the_service(own_world: World) -> None:
    """R-CASE-9"""
    case = own_world.waiting_case()
    own_world.get(case, own_world.resident)
    for statement in (
        "UPDATE messages SET content = 'x'",
        "UPDATE messages SET opened_at = now()",
        "DELETE FROM message_files",
        "DELETE FROM messages",
        "UPDATE activities SET person = 'x'",
        "DELETE FROM activities",
        "TRUNCATE activities",
    ):
        with pytest.raises(Exception, match=r"internal|sent|added"), own_world.database.transaction() as tx:
            tx.connection.exec_driver_sql(statement)


def test_r_sys_2_texts_answers_and_file_names_are_sealed_at_rest(own_world: World) -> None:
    """R-SYS-2, R-SYS-3"""
    secret = "Hemligheten om knät"
    file = own_world.file(own_world.resident, f"{secret}.png")
    case = own_world.start(answers=[cases.Answer(component="what", values=[secret])], attachments=[file]).case
    own_world.assign(case, partial_reply=secret)
    own_world.reply(case, "counter_question", text=secret)
    own_world.write(case, text=secret)
    shown = own_world.get(case, own_world.receiver)
    assert [secret in one.text for one in shown.messages] == [True] * 4
    assert shown.messages[0].attachments[0].name == f"{secret}.png"
    from sqlalchemy import text

    with own_world.database.transaction() as tx:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        for table in tables:
            for row in tx.execute(text(f"SELECT t::text FROM {table} t")).scalars():
                assert "Hemligheten" not in row, table
                assert "Tolvan" not in row, table
                assert secret.encode().hex() not in row, table


def test_a_message_moved_to_another_case_does_not_open(own_world: World) -> None:
    """R-SYS-2"""
    one, other = own_world.start(), own_world.start()
    from sqlalchemy import text

    with own_world.database.transaction() as tx:
        tx.connection.exec_driver_sql("ALTER TABLE messages DISABLE TRIGGER USER")
        tx.execute(
            text("UPDATE messages SET content = (SELECT content FROM messages WHERE id = :one) WHERE id = :other"),
            {"one": one.message, "other": other.message},
        )
    refused("sealed_value_broken", Internal, own_world.get, other.case, own_world.receiver)
