"""How many statements each call takes, whatever there is to show, and that none reads a large table through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import event, text

from services.cases import expiry, reminding, rights_lost
from services.cases.tables import UNHANDLED_SINCE
from shared.contracts import case_desk as desk
from shared.contracts import case_records as records
from shared.contracts import case_types as offer
from shared.contracts import cases, inbox
from shared.contracts import contacting as contacts
from shared.contracts.base import Role
from shared.operations import clock
from shared.security.caller import Caller
from tests.integration.cases_support import World, shared_database
from tests.stack.rooms import Rooms

LARGE = ("cases", "messages", "message_files", "activities", "access_log")
CLINICS, CASES_OF_EACH = 20, 400


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


KERNELS = ("BEGIN", "COMMIT", "INSERT INTO requests", "UPDATE requests", "SELECT caller, method", "INSERT INTO outbox")
"""What the kernel's own statements begin with."""


class Seen:
    """The statements of the service itself, by SQLAlchemy or sent as they are, alone or several in a message."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []

    def __len__(self) -> int:
        return len(self.statements)

    def note_sent(self, message: bytes) -> None:
        """A message with the values in it; no value of these tests has a semicolon."""
        several = [one.strip() for one in message.decode().split(";")]
        self.statements += [(one, None) for one in several if not one.startswith(KERNELS)]


@contextmanager
def watched(world: World) -> Iterator[Seen]:
    seen = Seen()
    send = psycopg.ClientCursor.execute

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        seen.statements.append((statement, parameters))

    def note_sent(cursor: Any, query: bytes, *args: Any, **named: Any) -> Any:
        seen.note_sent(query)
        return send(cursor, query, *args, **named)

    event.listen(world.database.engine, "before_cursor_execute", note)
    psycopg.ClientCursor.execute = note_sent  # type: ignore[assignment,method-assign]
    try:
        yield seen
    finally:
        del psycopg.ClientCursor.execute
        event.remove(world.database.engine, "before_cursor_execute", note)


def count(world: World, action: Any, *args: Any, **named: Any) -> int:
    with watched(world) as seen:
        action(*args, **named)
    return len(seen)


def test_statements_of_each_call_are_as_the_readme_says(world: World) -> None:
    """Those that prepare a change are counted with it."""
    rows = (Path(__file__).parents[2] / "services/cases/README.md").read_text().splitlines()
    told = {
        cells[1].strip().strip("`"): cells[2].strip()
        for cells in (row.split("|") for row in rows if row.startswith("| `"))
        if len(cells) == 4 and cells[2].strip().isdigit()
    }
    files = [world.file(world.resident)]
    case = world.start().case
    found = {
        "start_case": count(world, world.start),
        "start_case with files": count(world, world.start, attachments=files),
        "assign_case": count(world, world.assign, case, version=1),
        "assign_case with a partial reply": count(world, world.assign, case, version=2, partial_reply="Hej."),
        "reply": count(world, world.reply, case, "counter_question", version=3),
        "get_case by staff": count(world, world.get, case, world.handler),
        "get_case by the resident": count(world, world.get, case, world.resident),
        "send_message": count(world, world.write, case),
        "close_case": count(
            world,
            world.call,
            cases.CLOSE_CASE,
            cases.CloseCase(request_id=uuid4(), case=case, version=5),
            world.receiver,
        ),
        "list_clinic_cases": count(
            world, world.call, cases.LIST_CLINIC_CASES, cases.ListClinicCases(clinic=world.clinic), world.receiver
        ),
        "list_clinic_cases by identity number": _listed_by_number(world),
        "list_my_cases": count(world, world.call, cases.LIST_MY_CASES, cases.ListMyCases(), world.handler),
        "list_inbox": count(world, world.call, cases.LIST_INBOX, cases.ListInbox(), world.resident),
        "access_log": count(
            world, world.call, cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.reviewer
        ),
        "sample_access_log": count(
            world,
            world.call,
            records.SAMPLE_ACCESS_LOG,
            records.SampleAccessLog(clinic=world.clinic, since=clock.now() - timedelta(days=1), until=clock.now()),
            world.reviewer,
        ),
        "extract_access_log": count(
            world,
            world.call,
            records.EXTRACT_ACCESS_LOG,
            records.ExtractAccessLog(
                clinic=world.clinic,
                identity_number="191212121212",
                since=clock.now() - timedelta(days=1),
                until=clock.now(),
                format="text",
            ),
            world.reviewer,
        ),
        "take_out_case": count(
            world, world.call, records.TAKE_OUT_CASE, records.TakeOutCase(case=case, format="text"), world.receiver
        ),
        "mark_recorded": count(
            world,
            world.call,
            records.MARK_RECORDED,
            records.MarkRecorded(request_id=uuid4(), case=case, version=world.version(case)),
            world.receiver,
        ),
        "statistics": count(
            world,
            world.call,
            records.STATISTICS,
            records.AskStatistics(clinic=world.clinic, first_day=clock.today(), last_day=clock.today()),
            world.receiver,
        ),
        "my_access_log": count(world, world.call, cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), world.resident),
        "list_case_types": count(
            world, world.call, cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=world.clinic), world.resident
        ),
        "activate_case_type": count(world, world.new_case_type),
        "offered_case_types": count(
            world,
            world.call,
            cases.OFFERED_CASE_TYPES,
            cases.AskOfferedCaseTypes(clinics=[world.clinic]),
            world.reviewer,
        ),
        "clinic_activity": count(
            world, world.call, cases.CLINIC_ACTIVITY, cases.AskClinicActivity(clinic=world.clinic), world.reviewer
        ),
        "messages_exist": count(
            world, world.call, cases.MESSAGES_EXIST, cases.MessagesExist(messages=[uuid4()]), world.reviewer
        ),
    }
    asked = cases.AskUnhandledCases(clinics=[cases.UnhandledAt(clinic=world.clinic, silent_since=clock.now())])
    found["unhandled_cases"] = count(world, world.call, cases.UNHANDLED_CASES, asked, world.reviewer)
    found["open_attachment by staff"] = _open(world)
    found |= _at_the_desk(world) | _begun_by_the_clinic(world)
    assert {name: str(number) for name, number in found.items()} == told


def _at_the_desk(world: World) -> dict[str, int]:
    case = world.start().case
    noting = desk.AddNote(request_id=uuid4(), case=case, text="Ring.")
    saving = desk.SaveDraft(request_id=uuid4(), case=case, version=1, text="Hej")
    counting = desk.CountCases(clinic=world.clinic)
    changing = offer.UpdateCaseType(request_id=uuid4(), case_type=world.case_type, form_version=1, name="Annat")
    usable = offer.ListUsableCaseTypes(clinics=[world.clinic, world.new_clinic()])
    return {
        "add_note": count(world, world.call, desk.ADD_NOTE, noting, world.receiver),
        "save_draft": count(world, world.call, desk.SAVE_DRAFT, saving, world.receiver),
        "get_draft": count(world, world.call, desk.GET_DRAFT, desk.GetDraft(case=case), world.receiver),
        "count_cases": count(world, world.call, desk.COUNT_CASES, counting, world.receiver),
        "update_case_type": count(world, world.call, offer.UPDATE_CASE_TYPE, changing, world.admin),
        "list_usable_case_types": count(world, world.call, offer.LIST_USABLE_CASE_TYPES, usable, world.resident),
    }


def _begun_by_the_clinic(world: World) -> dict[str, int]:
    number = "199001011247"
    world.numbered(number)
    make = offer.CreateTemplate(
        request_id=uuid4(), clinic=world.clinic, purpose="information", name="Provsvar", text="Bra."
    )
    template = world.call(offer.CREATE_TEMPLATE, make, world.admin).case_type
    contact = contacts.ContactResident(
        request_id=uuid4(), clinic=world.clinic, template=template, identity_number=number
    )
    booked = inbox.PutInboxMessage(
        request_id=uuid4(), clinic=world.clinic, identity_number=number, title="Din tid", text="Välkommen."
    )
    return {
        "contact_resident": count(world, world.call, contacts.CONTACT_RESIDENT, contact, world.handler),
        "put_inbox_message": count(world, world.call, inbox.PUT_INBOX_MESSAGE, booked, Caller("system", "booking")),
    }


def _listed_by_number(world: World) -> int:
    resident = world.numbered("199001011254")
    for _ in range(3):
        world.start(resident)
    ask = cases.ListClinicCases(clinic=world.clinic, identity_number="199001011254")
    return count(world, world.call, cases.LIST_CLINIC_CASES, ask, world.receiver)


def _open(world: World) -> int:
    file = world.file(world.resident)
    ask = cases.OpenAttachment(case=world.start(attachments=[file]).case, attachment=file)
    return count(world, world.call, cases.OPEN_ATTACHMENT, ask, world.receiver)


def test_more_to_show_takes_no_more_statements(world: World) -> None:
    few, many = world.waiting_case(), world.start(attachments=[world.file(world.resident)]).case
    world.assign(many)
    for _ in range(5):
        world.reply(many, "counter_question", attachments=[world.file(world.handler) for _ in range(3)])
        world.write(many)
    for caller in (world.receiver, world.resident):
        world.get(few, caller)
        world.get(many, caller)
        assert count(world, world.get, few, caller) == count(world, world.get, many, caller)
    for _ in range(10):
        world.start()
    one, ten = cases.ListInbox(limit=1), cases.ListInbox(limit=10)
    assert count(world, world.call, cases.LIST_INBOX, one, world.resident) == count(
        world, world.call, cases.LIST_INBOX, ten, world.resident
    )


# --- plans

FILL = """
    INSERT INTO cases (id, number, clinic, care_provider, resident, case_type, case_type_name, form_version,
        takes_attachments, state, closed_reason, closed_at, version, handler, started_at, message_count,
        latest_message_at, latest_written_by, resident_wrote_at, counter_question_at, answer_before)
    SELECT gen_random_uuid(), 'x-' || c || '-' || n, 'SE2321000131-EFILL' || c, 'SE2321000131-E1', gen_random_uuid(),
        :case_type, 'Kontakta mig', 1, false,
        state, CASE WHEN state = 'closed' THEN 'answered' END, CASE WHEN state = 'closed' THEN at END, 3,
        CASE WHEN state <> 'new' THEN 'SE2321000131-PFILL' || c || 'H' || n % 10 END, at, 3,
        at, 'staff', at, CASE WHEN state = 'awaiting_resident' THEN at END,
        CASE WHEN state = 'awaiting_resident' THEN at + interval '400 days' END
    FROM generate_series(1, :clinics) c, generate_series(1, :each) n,
        LATERAL (SELECT (ARRAY['new','assigned','awaiting_resident','closed','closed'])[1 + n % 5] AS state,
                        now() - n * interval '1 hour' AS at) s
"""
FILL_MESSAGES = """
    INSERT INTO messages (id, case_id, position, care_provider, kind, sent_at, written_by, writer, content)
    SELECT gen_random_uuid(), cases.id, n, 'SE2321000131-E1', 'start', started_at,
        CASE WHEN n = 1 THEN 'resident' ELSE 'staff' END, 'w', 'x'
    FROM cases, generate_series(1, 3) n WHERE clinic LIKE 'SE2321000131-EFILL%'
"""
FILL_FILES = """
    INSERT INTO message_files (attachment, message, case_id, position, size, content_type)
    SELECT gen_random_uuid(), id, case_id, 0, 1, 'image/png' FROM messages WHERE writer = 'w'
"""
FILL_ACTIVITIES = """
    INSERT INTO activities (case_id, case_version, care_provider, at, kind, by)
    SELECT case_id, position, 'SE2321000131-E1', sent_at, 'started', 'staff' FROM messages WHERE writer = 'w'
"""
FILL_LOG = """
    INSERT INTO access_log (at, person, clinic, care_provider, case_id, number, resident, what)
    SELECT started_at, 'SE2321000131-PFILL', clinic, care_provider, id, number, resident, 'case'
    FROM cases, generate_series(1, 3) WHERE clinic LIKE 'SE2321000131-EFILL%'
"""


def _fill(world: World) -> None:
    with world.database.transaction() as tx:
        amount = {"case_type": world.case_type, "clinics": CLINICS, "each": CASES_OF_EACH}
        tx.execute(text(FILL), amount)
        for statement in (FILL_MESSAGES, FILL_FILES, FILL_ACTIVITIES, FILL_LOG):
            tx.execute(text(statement))
    with world.database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")


def _scans(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "Relation Name" in plan:
        yield plan["Node Type"], plan["Relation Name"]
    for inner in plan.get("Plans", []):
        yield from _scans(inner)


def test_no_call_reads_a_large_table_through(world: World) -> None:
    _fill(world)
    clinic, handler = "SE2321000131-EFILL7", "SE2321000131-PFILL7H1"
    receiver = world.give(world.receiver.subject, *world.receiver.rights.roles_at(world.clinic), clinic=clinic)
    mine = world.give(handler, *world.handler.rights.roles_at(world.clinic), clinic=clinic)
    case = world.start(attachments=[world.file(world.resident)]).case
    world.assign(case)
    ask_clinic, ask_mine = cases.ListClinicCases(clinic=clinic, limit=20), cases.ListMyCases(limit=5)
    after = world.call(cases.LIST_CLINIC_CASES, ask_clinic, receiver).after
    after_mine = world.call(cases.LIST_MY_CASES, ask_mine, mine).after
    with watched(world) as seen:
        for state in (None, "new", "closed"):
            for place in (None, after):
                ask = ask_clinic.model_copy(update={"state": state, "after": place})
                world.call(cases.LIST_CLINIC_CASES, ask, receiver)
        for filters in (
            {"unread": True},
            {"number": "2026-0000001"},
            {"handler": handler},
            {"case_type": world.case_type},
            {"started_from": date.today(), "started_to": date.today()},
        ):
            world.call(cases.LIST_CLINIC_CASES, ask_clinic.model_copy(update=filters), receiver)
            world.call(desk.COUNT_CASES, desk.CountCases(clinic=clinic, **filters), receiver)  # type: ignore[arg-type]
        world.call(desk.GET_DRAFT, desk.GetDraft(case=case), world.receiver)
        for place in (None, after_mine):
            world.call(cases.LIST_MY_CASES, ask_mine.model_copy(update={"after": place}), mine)
        world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident)
        world.reply(case, "counter_question", version=2)
        world.get(case, world.receiver)
        world.get(case, world.resident)
        world.write(case)
        world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.reviewer)
        world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic, case=case), world.reviewer)
        busy = world.give(world.reviewer.subject, Role.LOG_REVIEWER, clinic=clinic)
        since = clock.now() - timedelta(days=3)
        for asked in ({"person": handler}, {"since": since}, {"identity_number": "191212121212"}):
            world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=clinic, **asked), busy)
        period = records.SampleAccessLog(clinic=clinic, since=since, until=clock.now())
        world.call(records.SAMPLE_ACCESS_LOG, period, busy)
        days = records.AskStatistics(clinic=clinic, first_day=clock.today() - timedelta(7), last_day=clock.today())
        world.call(records.STATISTICS, days, receiver)
        world.call(cases.MY_ACCESS_LOG, cases.ReadMyAccessLog(), world.resident)
        world.call(cases.CLINIC_ACTIVITY, cases.AskClinicActivity(clinic=clinic), world.reviewer)
        world.call(cases.MESSAGES_EXIST, cases.MessagesExist(messages=[uuid4(), UUID(int=1)]), world.reviewer)
        until, asked_before = clock.now() - timedelta(days=3), clock.now() - timedelta(days=4)
        asked = [
            cases.UnhandledAt(clinic=f"SE2321000131-EFILL{n}", silent_since=until, written_after=asked_before)
            for n in range(1, 4)
        ]
        world.call(cases.UNHANDLED_CASES, cases.AskUnhandledCases(clinics=asked), world.reviewer)
        with world.database.transaction() as tx:
            expiry.close_some(tx)
            reminding.remind_some(tx)
            rights_lost.take_cases_from(tx, handler, 1)
    url = world.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    looked_at = 0
    with psycopg.connect(url) as connection:
        for statement, parameters in seen.statements:
            if not any(f" {table}" in statement for table in LARGE) or statement.lstrip().startswith("INSERT"):
                continue
            looked_at += 1
            cursor = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters)
            [[[plan]]] = cursor.fetchall()
            through = [table for node, table in _scans(plan["Plan"]) if node == "Seq Scan" and table in LARGE]
            assert not through, f"{through} read through by: {statement}"
            if UNHANDLED_SINCE in statement:
                assert "cases_unhandled" in str(plan), "cases were looked at whose wait is not asked about"
    assert looked_at > 20
