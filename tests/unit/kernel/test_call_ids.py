"""The trail of calls, which callers write and which goes into logs and events (R-SYS-3)."""

from uuid import uuid4

from shared.contracts.cases import LIST_INBOX
from shared.messaging.server import call_ids
from shared.messaging.wire import next_call_ids


def test_ids_of_our_own_calls_are_kept():
    trail = next_call_ids(next_call_ids([], "cases", "start_case"), "attachments", "claim")
    assert call_ids(trail, LIST_INBOX) == trail


def test_of_ids_from_outside_only_the_random_part_is_kept_R_SYS_3():
    random = str(uuid4())
    [kept] = call_ids([f"tolvan_tolvansson.ringde.{random}"], LIST_INBOX)
    assert kept == f"outside.call.{random}"


def test_what_is_no_id_is_left_out_and_a_new_one_is_made_R_SYS_3():
    for sent in (
        None,
        "x",
        7,
        [],
        ["Tolvan Tolvansson"],
        [{"a": 1}, 5],
        ["cases.list_inbox.191212121212"],
        ["\n" * 50],
    ):
        [made] = call_ids(sent, LIST_INBOX)
        assert made.startswith("cases.list_inbox.")
        assert "191212121212" not in made
