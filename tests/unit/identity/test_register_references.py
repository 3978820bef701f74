"""What the register tells of custody and of changed numbers, and when it is believed (R-ID-11, R-ID-13, R-ID-24)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from services.identity.fetching import fetched
from services.identity.identity_numbers import IdentityNumber, parse
from services.identity.population_register import (
    AnswerNotTrusted,
    PartialDate,
    Place,
    PopulationRegister,
    RegisteredPerson,
    Relation,
    RelationCodes,
)
from shared.messaging.errors import Unavailable
from tests.unit.identity.test_population_register import answer, register

TODAY = date(2026, 11, 23)
OLD, NEW, NEWER = "199601012397", "199601012389", "198501022381"


def identity_of(number: str) -> str:
    return (
        "<referredPersonalIdentity><root>1.2.752.129.2.1.3.1</root>"
        f"<extension>{number}</extension></referredPersonalIdentity>"
    )


def referred(number: str, status: str) -> str:
    return (
        f"<referredPersonalIdentities>{identity_of(number)}<referredPersonalIdentityStatus>{status}"
        "</referredPersonalIdentityStatus></referredPersonalIdentities>"
    )


def custody(kind: str, number: str | None, ends: str = "") -> str:
    person = (
        f"<personalIdentity><root>1.2.752.129.2.1.3.1</root><extension>{number}</extension></personalIdentity>"
        if number
        else "<dateOfBirth><format>YYYY</format><value>1980</value></dateOfBirth>"
    )
    until = f"<relationshipToDate><format>YYYY-MM</format><value>{ends}</value></relationshipToDate>" if ends else ""
    return (
        f"<relationship><relationshipId>{person}</relationshipId><relationshipType>{kind}</relationshipType>{until}"
        "</relationship>"
    )


def told(monkeypatch: pytest.MonkeyPatch, more: str, **changes: str) -> RegisteredPerson:
    found = register(answer(more=more, **changes).encode(), monkeypatch).look_up(
        parse("189001029819", TODAY), relations=True
    )
    assert found is not None
    return found


# --- dates of any accuracy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "earliest", "latest"),
    [
        ("2026", date(2026, 1, 1), date(2026, 12, 31)),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        ("2026-03-14", date(2026, 3, 14), date(2026, 3, 14)),
    ],
)
def test_a_date_may_lack_day_and_month(value: str, earliest: date, latest: date) -> None:
    assert (PartialDate(value).earliest(), PartialDate(value).latest()) == (earliest, latest)


@given(st.text(alphabet="0123456789-", max_size=12))
def test_any_text_is_a_date_or_is_refused(text: str) -> None:
    try:
        found = PartialDate(text)
    except ValueError:
        return
    assert found.earliest() <= found.latest()


# --- custody --------------------------------------------------------------------------------------------------------


def test_r_id_11_custody_is_read_by_codes_that_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-11: other relations, and people without a number, are passed over."""
    more = custody("V", OLD) + custody("VF", NEW, "2026-12") + custody("M", NEWER) + custody("V", None)
    found = told(monkeypatch, more).relations
    assert found == (Relation("guardian", OLD), Relation("child", NEW, None, PartialDate("2026-12")))
    made = register(answer(more=custody("7", OLD)).encode(), monkeypatch)
    made._codes = RelationCodes(guardian=frozenset({"7"}), child=frozenset({"8"}))
    found_by_others = made.look_up(parse("189001029819", TODAY))
    assert found_by_others is not None
    assert [one.other for one in found_by_others.relations] == ["guardian"]


def test_r_id_13_of_a_protected_person_no_custody_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-13: whatever the register returned."""
    assert told(monkeypatch, custody("V", OLD), protected="true").relations == ()


@pytest.mark.parametrize(
    ("relation", "holds"),
    [
        (Relation("guardian", OLD), True),
        (Relation("guardian", OLD, begins=PartialDate("2026")), False),
        (Relation("guardian", OLD, begins=PartialDate("2026-11-23")), True),
        (Relation("guardian", OLD, ends=PartialDate("2026")), False),
        (Relation("guardian", OLD, ends=PartialDate("2026-11-23")), False),
        (Relation("guardian", OLD, ends=PartialDate("2026-11-24")), True),
    ],
)
def test_r_id_11_a_date_that_is_not_known_whole_counts_against_custody(relation: Relation, holds: bool) -> None:
    """R-ID-11"""
    assert relation.in_force(TODAY) is holds


# --- changed numbers ------------------------------------------------------------------------------------------------


def test_r_id_24_what_a_record_says_of_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-24: Skatteverket's references and the register's own links; a number of an unknown kind is passed over."""
    linked = (
        f"<linkedIdentity>{identity_of(NEWER)}<assuranceLevel>1</assuranceLevel>"
        "<primaryIdentity>false</primaryIdentity></linkedIdentity>"
    )
    found = told(monkeypatch, linked + referred(OLD, "AS") + referred("DK-1234", "AS"))
    assert (found.replaced_by, found.former) == (None, (OLD, NEWER))
    assert told(monkeypatch, referred(NEW, "NY")).replaced_by == NEW


class Known(PopulationRegister):
    """A register of a few people; counts how often it was asked."""

    def __init__(self, *people: RegisteredPerson) -> None:
        self.people = {one.number: one for one in people}
        self.asked = 0

    def look_up_many(self, numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        self.asked += 1
        return {one.number: self.people.get(one.number) for one in numbers}


def person(number: str, **changes: Any) -> RegisteredPerson:
    return RegisteredPerson(
        **{"number": number, "given_name": "Kim", "surname": "Å", "protected": False, "code": None, "place": None}
        | {"asked_at": datetime(2026, 11, 23, tzinfo=UTC)}
        | changes
    )


def current(people: Mapping[str, Any] | Known, asked: str) -> RegisteredPerson:
    made = people if isinstance(people, Known) else Known(*people.values())
    found = made.look_up_current(number(asked))
    assert found is not None
    return found


def number(text: str) -> IdentityNumber:
    return parse(text, TODAY)


def test_r_id_24_an_old_number_leads_to_the_one_in_force_and_back() -> None:
    """R-ID-24"""
    known = Known(person(OLD, replaced_by=NEW, code="GN"), person(NEW, former=(OLD,)))
    for asked in (OLD, NEW):
        found = current(known, asked)
        assert (found.number, found.former, found.code) == (NEW, (OLD,), None)


def test_r_id_24_over_two_changes() -> None:
    """R-ID-24"""
    found = current(
        Known(
            person(OLD, replaced_by=NEW, code="GS"),
            person(NEW, former=(OLD,), replaced_by=NEWER, code="GN"),
            person(NEWER, former=(NEW,)),
        ),
        OLD,
    )
    assert (found.number, found.former) == (NEWER, (OLD, NEW))


@pytest.mark.parametrize(
    "people",
    [
        [person(OLD, replaced_by=NEW, code="GN"), person(NEW)],
        [person(OLD, replaced_by=NEW, code="GN")],
        [person(OLD, replaced_by=OLD, code="GN", former=(OLD,))],
    ],
)
def test_r_id_24_a_reference_that_does_not_stand_both_ways_is_not_followed(people: list[RegisteredPerson]) -> None:
    """R-ID-24: an error in one record makes nobody's account another's."""
    found = current(Known(*people), OLD)
    assert (found.number, found.code) == (OLD, "GN")


@pytest.mark.parametrize(
    ("newer", "protected", "code"),
    [
        (person(NEW, protected=True), True, "GN"),
        (person(NEW, code="AV"), False, "AV"),
        (person(NEW, code="UV"), False, "GN"),
    ],
)
def test_r_id_14_r_id_17_protection_and_death_count_by_a_reference_that_stands_one_way(
    newer: RegisteredPerson, protected: bool, code: str
) -> None:
    """R-ID-13, R-ID-14, R-ID-17: of a protected person the register tells no other numbers; no error unmasks one."""
    relations = (Relation("guardian", NEWER),)
    old = person(OLD, replaced_by=NEW, code="GN", place=Place("Storgatan 1"), relations=relations)
    found = current(Known(old, newer), OLD)
    assert (found.number, found.protected, found.code, found.replaced_by) == (OLD, protected, code, NEW)
    assert (found.place, found.relations) == ((None, ()) if protected else (old.place, relations))


def test_r_id_24_a_former_number_whose_record_says_nothing_of_it_does_not_count() -> None:
    """R-ID-24"""
    found = current(Known(person(NEW, former=(OLD, NEWER)), person(OLD, replaced_by=NEW), person(NEWER)), NEW)
    assert found.former == (OLD,)


def test_an_ordinary_person_costs_one_question() -> None:
    known = Known(person(NEW))
    current(known, NEW)
    assert known.asked == 1


def test_numbers_that_refer_in_a_ring_end() -> None:
    ring = [person(one, replaced_by=to, former=(OLD, NEW)) for one, to in ((OLD, NEW), (NEW, OLD))]
    assert current(Known(*ring), OLD).number in (OLD, NEW)


# --- slowness and garbage -------------------------------------------------------------------------------------------


class Dripping(BaseHTTPRequestHandler):
    """A byte now and then, for ever."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" ")
                self.wfile.flush()
                sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None:
        pass


def test_who_answers_a_byte_now_and_then_holds_nobody_up() -> None:
    """The register, a provider of keys, a certificate authority: so many seconds for the whole of an answer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        began = monotonic()
        with pytest.raises(requests.RequestException):
            fetched(requests.Session(), "POST", f"http://127.0.0.1:{server.server_port}", seconds=0.4, largest=10_000)
        assert monotonic() - began < 2
        server.shutdown()


def test_a_connection_is_used_again_and_again() -> None:
    """Else every look-up would begin with a handshake of mutual TLS."""
    connections: list[Any] = []

    class Kept(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 100_000)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Kept) as server, requests.Session() as http:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for _ in range(4):
            assert len(fetched(http, "GET", url, seconds=5, largest=200_000)) == 100_000
        assert len(connections) == 1
        with pytest.raises(ValueError, match="too large"):
            fetched(http, "GET", url, seconds=5, largest=10)
        assert len(fetched(http, "GET", url, seconds=5, largest=200_000)) == 100_000
        http.close()
        server.shutdown()


def test_garbage_is_told_apart_from_a_register_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    made = register(b"garbage", monkeypatch)
    with pytest.raises(AnswerNotTrusted):
        made.look_up(number(NEW))

    def down(_envelope: bytes, _seconds: float) -> bytes:
        raise requests.ConnectTimeout

    monkeypatch.setattr(made, "_send", down)
    with pytest.raises(Unavailable) as caught:
        made.look_up(number(NEW))
    assert not isinstance(caught.value, AnswerNotTrusted)
