"""What the broker says of published messages is taken for those it is said of, and for no others (R-SYS-5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.confirming import Confirms, Outcome


def published(confirms: Confirms, count: int) -> None:
    confirms.begin(count)
    for _ in range(count):
        confirms.sent()


@given(st.integers(0, 20), st.data())
def test_each_has_what_the_broker_said_of_it_in_whatever_order(before: int, data: st.DataObject) -> None:
    """Singly or `multiple`, which means all before it that were not spoken of yet."""
    confirms, count = Confirms(), data.draw(st.integers(1, 12))
    published(confirms, before)
    confirms.end([None] * before)
    published(confirms, count)
    expected = dict.fromkeys(range(before + 1, before + count + 1), Outcome.UNKNOWN)
    while not confirms.complete.is_set():
        open_ones = [number for number, outcome in expected.items() if outcome is Outcome.UNKNOWN]
        assert open_ones, "all were spoken of, and it waits"
        number, multiple, good = data.draw(st.tuples(st.sampled_from(open_ones), st.booleans(), st.booleans()))
        (confirms.acked if good else confirms.nacked)(number, multiple)
        for one in open_ones:
            if one == number or (multiple and one < number):
                expected[one] = Outcome.CONFIRMED if good else Outcome.NACKED
    assert confirms.end([None] * count) == list(expected.values())
    assert Outcome.UNKNOWN not in expected.values()


@given(st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_what_comes_too_late_counts_for_no_message_that_was_sent_after(late: int, then: int, multiple: bool) -> None:
    confirms = Confirms()
    published(confirms, late)
    assert confirms.end([None] * late) == [Outcome.UNKNOWN] * late
    published(confirms, then)
    confirms.acked(late, multiple)
    assert not confirms.complete.is_set()
    assert confirms.end([None] * then) == [Outcome.UNKNOWN] * then


def test_one_that_no_queue_takes_is_known_by_its_id_though_it_is_confirmed_after() -> None:
    confirms = Confirms()
    published(confirms, 3)
    confirms.returned("b")
    confirms.acked(3, True)
    assert confirms.complete.is_set()
    assert confirms.end(["a", "b", None]) == [Outcome.CONFIRMED, Outcome.RETURNED, Outcome.CONFIRMED]
    published(confirms, 1)
    confirms.acked(4, False)
    assert confirms.end(["b"]) == [Outcome.CONFIRMED], "that was the one before"
