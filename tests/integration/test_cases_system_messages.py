"""Messages that booking and calling systems put into residents' inboxes (R-CASE-21)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from shared.contracts import case_types as offer
from shared.contracts import cases, inbox
from shared.messaging.errors import Conflict, Invalid, NotFound, Unavailable
from shared.security.caller import Caller
from tests.integration.cases_support import CARE_PROVIDER, World, refused, shared_database
from tests.stack.rooms import Rooms

BOOKING, CALLING = Caller("system", "booking"), Caller("system", "calling")
NUMBER = "199001011239"


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


@pytest.fixture
def own_world(fresh_database: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    yield from World.made(fresh_database("cases").url, tmp_path)


def put(world: World, by: Caller = BOOKING, **changed: Any) -> inbox.InboxMessagePut:
    values = {
        "request_id": uuid4(),
        "clinic": world.clinic,
        "identity_number": NUMBER,
        "title": "Din tid",
        "text": "Du har en tid den 12 maj.",
    }
    answer: inbox.InboxMessagePut = world.call(inbox.PUT_INBOX_MESSAGE, inbox.PutInboxMessage(**(values | changed)), by)
    return answer


def listed(world: World, resident: Caller) -> cases.Inbox:
    found: cases.Inbox = world.call(cases.LIST_INBOX, cases.ListInbox(), resident)
    return found


def test_r_case_21_a_message_is_read_listed_told_and_kept_like_a_case(world: World) -> None:
    """R-CASE-21, R-CASE-10, R-ID-25"""
    resident = world.numbered(NUMBER)
    link = inbox.InboxLink(text="Boka om", url="https://bokning.example.se/omboka")
    answer = put(world, link=link)
    assert answer.result == "stored"
    assert answer.case is not None
    [item] = listed(world, resident).cases
    assert (item.title, item.case_type_name, item.inbox_state, item.unopened) == (
        "Din tid",
        "Meddelande om bokning",
        "closed",
        1,
    )
    shown = world.get(answer.case, resident)
    [message] = shown.messages
    assert (message.title, message.text, message.written_by) == ("Din tid", "Du har en tid den 12 maj.", "system")
    assert message.links == [cases.LinkShown(text="Boka om", url="https://bokning.example.se/omboka")]
    assert (shown.care_provider, shown.may_write) == (CARE_PROVIDER, False)
    refused("case_closed", Conflict, world.write, answer.case, resident)
    assert world.get(answer.case, world.receiver).messages[0].opened_at is not None
    [(kind, told)] = world.events(answer.case)
    assert (kind, told["written_by"], told["notify"], told["handler"]) == ("message_sent", "system", True, None)
    quiet = put(world, notify=False).case
    assert quiet is not None
    assert world.events(quiet)[0][1]["notify"] is False
    world.move(timedelta(days=740))
    assert listed(world, resident).cases == []
    refused("case_not_found", NotFound, world.get, answer.case, resident)


def test_r_case_21_docbook_is_kept_as_text_and_links(world: World) -> None:
    """R-CASE-21"""
    resident = world.numbered(NUMBER)
    markup = '<article><para>Kom&nbsp;i tid. <ulink url="https://a.se/x">Karta</ulink></para></article>'
    case = put(world, CALLING, text=markup, format="docbook").case
    assert case is not None
    [message] = world.get(case, resident).messages
    assert (message.text, message.links) == (
        "Kom\u00a0i tid. Karta",
        [cases.LinkShown(text="Karta", url="https://a.se/x")],
    )
    refused("message_not_safe", Invalid, put, world, text="<!DOCTYPE a><article/>", format="docbook")
    bad = inbox.InboxLink(text="Läs", url="javascript:alert(1)")
    refused("message_not_safe", Invalid, put, world, link=bad)
    assert len(listed(world, resident).cases) == 1


def test_r_case_21_a_thread_stands_together_and_is_its_systems_own(world: World) -> None:
    """R-CASE-21: also when several come at once."""
    resident = world.numbered(NUMBER)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(put(world, thread="bokning-17", title="Ändrad tid")))
        for _ in range(5)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    [case] = {one.case for one in answers}
    assert len(world.get(case, resident).messages) == 5
    put(world, thread="bokning-17", title="Avbokad")
    assert listed(world, resident).cases[0].title == "Avbokad"
    assert listed(world, resident).unopened == 1
    others = [put(world, CALLING, thread="bokning-17"), put(world, thread="bokning-18"), put(world)]
    assert len({case, *(one.case for one in others)}) == 4


def test_r_case_21_no_account_or_a_locked_one_and_nothing_is_stored(world: World) -> None:
    """R-CASE-21, R-CASE-22, R-CASE-12: and a repetition gets the first answer."""
    assert put(world, identity_number="199001010009").result == "no_account"
    locked = world.numbered("199001010017", locked=True)
    request_id = uuid4()
    assert put(world, identity_number="199001010017", request_id=request_id).result == "locked"
    assert listed(world, locked).cases == []
    inactive = world.numbered("199001010025", active=False)
    answer = put(world, identity_number="199001010025")
    assert (answer.result, answer.resident_active) == ("stored", False)
    assert len(listed(world, inactive).cases) == 1
    resident = world.numbered(NUMBER)
    same = uuid4()
    first = put(world, request_id=same)
    assert put(world, request_id=same) == first
    world.neighbours.cards.clear()
    assert put(world, request_id=same) == first
    world.neighbours.faults["find_resident"] = Unavailable()
    assert put(world, request_id=same) == first
    assert len(listed(world, resident).cases) == 1


def test_r_case_21_only_from_a_clinic_in_use(world: World) -> None:
    """R-CASE-21"""
    world.numbered(NUMBER)
    refused("clinic_not_active", Conflict, put, world, clinic=world.new_clinic(active=False))


def test_r_case_21_no_one_administers_what_the_messages_are_counted_as(world: World) -> None:
    """R-CASE-21, R-CASE-1"""
    world.numbered(NUMBER)
    case = put(world).case
    assert case is not None
    case_type = world.get(case, world.receiver).case_type
    change = offer.UpdateCaseType(request_id=uuid4(), case_type=case_type, form_version=1, name="Mitt")
    refused("case_type_not_found", NotFound, world.call, offer.UPDATE_CASE_TYPE, change, world.admin)
    on = offer.ReactivateCaseType(request_id=uuid4(), case_type=case_type)
    refused("case_type_not_found", NotFound, world.call, offer.REACTIVATE_CASE_TYPE, on, world.admin)


def test_r_sys_2_titles_are_sealed(own_world: World) -> None:
    """R-SYS-2, R-SYS-3"""
    own_world.numbered(NUMBER)
    put(own_world, title="Hemligheten", text="Hemligheten", thread="t1")
    with own_world.database.transaction() as tx:
        for table in ("cases", "messages", "outbox", "activities"):
            stored = " ".join(tx.execute(text(f"SELECT t::text FROM {table} t")).scalars())
            assert "Hemligheten" not in stored
            assert b"Hemligheten".hex() not in stored
            assert NUMBER not in stored
