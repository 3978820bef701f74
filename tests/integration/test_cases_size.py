"""Nothing that is written in a case makes it too large to be read: it fits in one reply, whole (R-CASE-3, R-CASE-6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared.contracts import case_records as records
from shared.contracts import cases
from shared.messaging.errors import LimitExceeded, Refused
from shared.messaging.wire import LARGEST_REPLY_BYTES
from tests.integration.cases_support import World, refused, shared_database
from tests.stack.rooms import Rooms

LONGEST = "\U0001f600" * cases.MESSAGE_LENGTH
ESCAPED = '"' * cases.MESSAGE_LENGTH
NAME = "\U0001f600" * 196 + ".png"


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def filled(action: Callable[[], Any]) -> int:
    """Does it until the case is full; how often."""
    for done in range(1000):
        try:
            action()
        except Refused as refusal:
            assert (type(refusal), refusal.reason) == (LimitExceeded, "case_full")
            return done
    raise AssertionError("never full")


def size(world: World, case: UUID) -> int:
    """In the largest of the replies that show the case."""
    readers = (world.receiver, world.handler, world.resident)
    return max(len(world.get(case, one).model_dump_json().encode()) for one in readers)


def counted(world: World, case: UUID) -> int:
    from sqlalchemy import text

    with world.database.transaction() as tx:
        return int(tx.execute(text("SELECT reply_bytes FROM cases WHERE id = :case"), {"case": case}).scalar_one())


def test_r_case_3_6_a_resident_can_not_make_a_case_unreadable(world: World) -> None:
    """R-CASE-3, R-CASE-6: what no reply would hold is refused when it is written, and the clinic can still answer."""
    case = world.waiting_case()
    assert filled(lambda: world.write(case, text=LONGEST)) > 80
    refused("case_full", LimitExceeded, world.write, case, text=LONGEST)
    assert size(world, case) <= counted(world, case) < LARGEST_REPLY_BYTES
    for kind in ("partial_reply", "counter_question", "answer"):
        world.reply(case, kind, text=LONGEST, attachments=[world.file(world.handler, NAME) for _ in range(20)])
    assert world.get(case, world.resident).state == "closed"


def test_r_case_3_staff_can_not_make_a_case_unreadable(world: World) -> None:
    """R-CASE-3: not with texts that grow when they are encoded, long names of files, or reassignments."""
    case = world.waiting_case()
    world.reply(case, text=ESCAPED, attachments=[world.file(world.handler, NAME) for _ in range(20)])
    for _ in range(10):
        world.assign(case)
    assert size(world, case) <= counted(world, case)
    assert filled(lambda: world.reply(case, text=LONGEST)) > 100
    refused("case_full", LimitExceeded, world.assign, case, partial_reply=LONGEST)
    assert size(world, case) <= counted(world, case) < LARGEST_REPLY_BYTES - 1_000_000
    filled(lambda: world.assign(case))
    world.close_case(case)
    assert size(world, case) < LARGEST_REPLY_BYTES


@pytest.mark.parametrize(
    "lines", ["a" + "\n" * (cases.MESSAGE_LENGTH - 2) + "b", "å\n" * (cases.MESSAGE_LENGTH // 2 - 1) + "å"]
)
def test_r_case_16_a_case_of_many_lines_can_be_taken_out_for_the_record(world: World, lines: str) -> None:
    """R-CASE-16: as text, which is the one way where it is too large for a PDF."""
    case = world.waiting_case()
    assert filled(lambda: world.write(case, text=lines)) > 100
    assert filled(lambda: world.reply(case, text=lines)) > 50
    filled(lambda: world.assign(case))
    world.close_case(case)
    request = records.TakeOutCase(case=case, format="text")
    document = world.call(records.TAKE_OUT_CASE, request, world.receiver)
    assert len(document.model_dump_json().encode()) < LARGEST_REPLY_BYTES


def test_r_att_7_no_file_is_claimed_for_a_message_that_the_case_has_no_room_for(world: World) -> None:
    """R-ATT-7: it is refused before its files are bound, so that they can be sent in another case."""
    case = world.waiting_case()
    filled(lambda: world.write(case, text=LONGEST))
    refused("case_full", LimitExceeded, world.write, case, text=LONGEST, attachments=[world.file(world.resident)])
    assert world.neighbours.claims == {}


def test_r_att_7_files_are_free_again_when_the_room_was_lost_to_another_message(world: World) -> None:
    """R-ATT-7: the case became full after the files were bound; it never gets room again."""
    from sqlalchemy import text

    def others_fill_it() -> None:
        with world.database.transaction() as tx:
            tx.execute(text("UPDATE cases SET reply_bytes = 4000000 WHERE id = :case"), {"case": case})

    case = world.waiting_case()
    world.neighbours.before["claim"] = others_fill_it
    refused("case_full", LimitExceeded, world.write, case, attachments=[world.file(world.resident)])
    assert world.neighbours.claims == {}
