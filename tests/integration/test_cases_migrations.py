"""The tables are what the migrations make, and the way back and forth works on tables that are in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from shared.contracts import case_desk as desk
from shared.contracts import case_types as offer
from shared.contracts import contacting as contacts
from shared.contracts import inbox
from shared.database import gradual, migrate
from shared.security.caller import Caller
from tests.integration.cases_support import World

NUMBER = "199001011262"


def test_tables_and_migrations_say_the_same(fresh_database: Callable[..., Any]) -> None:
    assert migrate.differences("cases", fresh_database("cases").url) == []


def test_down_and_up_again(fresh_database: Callable[..., Any]) -> None:
    url = fresh_database("cases").url
    down = migrate.downgrade("cases", url)
    assert migrate.upgrade("cases", url) == list(reversed(down))


def _use_everything(world: World) -> None:
    """Rows of each kind: cases in every state, notes, drafts, templates, mailings, messages of other systems."""
    world.numbered(NUMBER)
    world.start()
    world.assign(world.start().case)
    world.close_case(world.start().case)
    case = world.waiting_case()
    world.get(case, world.handler)
    world.call(desk.ADD_NOTE, desk.AddNote(request_id=uuid4(), case=case, text="Ring."), world.receiver)
    draft = desk.SaveDraft(request_id=uuid4(), case=case, version=1, text="Hej")
    world.call(desk.SAVE_DRAFT, draft, world.receiver)
    make = offer.CreateTemplate(request_id=uuid4(), clinic=world.clinic, purpose="information", name="Provsvar")
    template = world.call(offer.CREATE_TEMPLATE, make, world.admin).case_type
    mailing = contacts.CreateMailing(request_id=uuid4(), clinic=world.clinic, template=template, text="Hej.")
    world.call(contacts.CREATE_MAILING, mailing, world.handler)
    booked = inbox.PutInboxMessage(
        request_id=uuid4(), clinic=world.clinic, identity_number=NUMBER, title="Din tid", text="Välkommen.", thread="1"
    )
    world.call(inbox.PUT_INBOX_MESSAGE, booked, Caller("system", "booking"))
    world.seal()


def _rows(world: World, question: str) -> list[tuple[Any, ...]]:
    with world.database.transaction() as tx:
        return [tuple(row) for row in tx.execute(text(question))]


DERIVED = "SELECT id, remind_at, unread, first_reply_at, last_reply_at FROM cases ORDER BY id"
KEPT = "SELECT id, case_id, content FROM messages ORDER BY id"
OF_OTHER_SYSTEMS = "SELECT id, title, thread FROM cases WHERE title IS NOT NULL ORDER BY id"


def test_down_and_up_again_with_rows_in_every_table(
    fresh_database: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back loses what has no place there, and nothing else; what can be worked out again is."""
    monkeypatch.setattr(gradual, "AT_ONCE", 2)  # several lots, the last of them not full
    url = fresh_database("cases").url
    for world in World.made(url, tmp_path):
        _use_everything(world)
        before, sent = _rows(world, DERIVED), _rows(world, KEPT)
        assert len(before) == 5
        migrate.downgrade("cases", url, "0003_log_review")
        names = _rows(world, "SELECT name FROM case_types WHERE active")
        assert names == [("Kontakta mig",)], "no template is offered to residents"
        migrate.downgrade("cases", url, "0001")
        migrate.upgrade("cases", url)
        assert migrate.differences("cases", url) == []
        after = _rows(world, DERIVED)
        # that a case has been read is nothing that can be worked out: what is new is unread
        assert [(*row[:2], *row[3:]) for row in after] == [(*row[:2], *row[3:]) for row in before]
        assert _rows(world, KEPT) == sent
        assert _rows(world, "SELECT DISTINCT name FROM case_types WHERE purpose = 'system'") == [
            ("Meddelande om bokning",)
        ]
        world.start()


def test_r_case_21_what_other_systems_call_their_messages_survives_the_way_back(
    fresh_database: Callable[..., Any], tmp_path: Path
) -> None:
    """R-CASE-21, R-CASE-9: titles and threads stay, for a version that does not know them and the one after it."""
    url = fresh_database("cases").url
    for world in World.made(url, tmp_path):
        _use_everything(world)
        [(case, title, thread)] = _rows(world, OF_OTHER_SYSTEMS)
        assert title is not None and thread is not None
        migrate.downgrade("cases", url, "0009_mailings")
        migrate.upgrade("cases", url)
        assert _rows(world, OF_OTHER_SYSTEMS) == [(case, title, thread)]
        assert migrate.differences("cases", url) == []
        moved = inbox.PutInboxMessage(
            request_id=uuid4(), clinic=world.clinic, identity_number=NUMBER, title="Ny tid", text="Flyttad.", thread="1"
        )
        assert world.call(inbox.PUT_INBOX_MESSAGE, moved, Caller("system", "booking")).case == case


def test_one_that_failed_halfway_is_run_again(fresh_database: Callable[..., Any]) -> None:
    """An index that was left half made is made anew; a column that is there already is no error."""
    url = fresh_database("cases").url
    migrate.downgrade("cases", url, "0001")
    with psycopg.connect(url, autocommit=True) as connection:
        for left in (
            "ALTER TABLE cases ADD COLUMN remind_at timestamptz",
            "ALTER TABLE cases ADD COLUMN first_reply_at timestamptz",
            "ALTER TABLE cases ADD COLUMN unanswered_since timestamptz",
            "CREATE INDEX access_log_of_person ON access_log (person)",
        ):
            connection.execute(left)
    migrate.upgrade("cases", url)
    assert migrate.differences("cases", url) == []


def test_who_writes_is_not_kept_waiting_by_an_index(fresh_database: Callable[..., Any]) -> None:
    """While the index waits for a transaction that began before it, others read and write its table."""
    url = fresh_database("cases").url
    migrate.downgrade("cases", url, "0002_reminders")
    done: list[list[str]] = []
    with _connection(url) as early, _connection(url) as other:
        early.execute("LOCK TABLE access_log IN ROW EXCLUSIVE MODE")
        migrating = threading.Thread(target=lambda: done.append(migrate.upgrade("cases", url)))
        migrating.start()
        _wait_until_something_waits(other)
        other.execute("SET LOCAL lock_timeout = '1s'")
        other.execute("LOCK TABLE access_log IN ROW EXCLUSIVE MODE")
        other.commit()
        early.commit()
        migrating.join(30)
    [revisions] = done
    assert revisions[0] == "0003_log_review"


def _wait_until_something_waits(connection: psycopg.Connection[Any]) -> None:
    ends = time.monotonic() + 10
    question = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'migrate' AND wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    while connection.execute(question).fetchone() == (0,):
        connection.commit()
        assert time.monotonic() < ends, "the migration waits for nobody"
        time.sleep(0.05)
    connection.commit()


@contextmanager
def _connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as connection:
        yield connection
