"""People who log in at the same moment share a request to the population register, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import requests
from lxml import etree

from services.identity.identity_numbers import IdentityNumber, luhn, parse
from services.identity.joint_look_ups import JointPopulationRegister
from services.identity.population_register import RegisteredPerson
from shared.messaging.errors import Unavailable
from tests.unit.identity.test_population_register import ENVELOPE, FLAT, PERSON, RECORD

EXTENSION = "{urn:riv:strategicresourcemanagement:persons:person:5}extension"


def number(place: int) -> IdentityNumber:
    nine = f"700101{100 + place:03}"
    return parse(f"19{nine}{luhn(nine)}", date(2026, 1, 1))


class Register(JointPopulationRegister):
    """One that counts its questions. The first is held up until all of the others wait."""

    def __init__(self) -> None:
        super().__init__("https://pu.example", certificate="c", key="k", ca="a", logical_address="SE2321000156")
        self.questions: list[list[str]] = []
        self.others = 0
        self.disturb: Callable[[list[str]], None] = lambda asked: None
        self.record: Callable[[str], str] = lambda asked: asked
        self.unknown: set[str] = set()

    def _send(self, envelope: bytes, seconds: float) -> bytes:
        asked = [str(one.text) for one in etree.fromstring(envelope).iter(EXTENSION)]
        self.questions.append(asked)
        if len(self.questions) == 1:
            ends = time.monotonic() + 5
            while len(self._joint._queue) < self.others:
                assert time.monotonic() < ends
                time.sleep(0.001)
        self.disturb(asked)
        return ENVELOPE.format(
            records="".join(RECORD.format(asked=one, record=self._record(one)) for one in asked)
        ).encode()

    def _record(self, asked: str) -> str:
        if asked in self.unknown:
            return ""
        return PERSON.format(number=self.record(asked), protected="false", test="false", name=FLAT, more="")

    def ask(self, count: int) -> list[RegisteredPerson | Unavailable | None]:
        """What each gets of so many who ask at the same moment; the first is asked for before the others."""
        self.others = count - 1

        def one(who: IdentityNumber) -> RegisteredPerson | Unavailable | None:
            try:
                return self.look_up(who)
            except Unavailable as refused:
                return refused

        with ThreadPoolExecutor(count) as pool:
            first = pool.submit(one, number(0))
            while not self.questions:
                time.sleep(0.001)
            others = [pool.submit(one, number(place)) for place in range(1, count)]
            return [each.result(20) for each in (first, *others)]


@pytest.fixture
def register() -> Register:
    return Register()


def numbers(found: list[RegisteredPerson | Unavailable | None]) -> list[str | None]:
    return [one.number if isinstance(one, RegisteredPerson) else None for one in found]


def test_those_of_one_moment_share_a_request_and_each_gets_their_own_record(register: Register) -> None:
    register.unknown = {number(3).number}
    found = register.ask(8)
    assert numbers(found) == [None if place == 3 else number(place).number for place in range(8)]
    assert found[3] is None
    assert [len(asked) for asked in register.questions] == [1, 7]


def test_one_whose_record_is_anothers_lets_nobody_else_down(register: Register) -> None:
    """R-ID-14: a typed error for that one, the right record for all others; nothing of the shared answer is used."""
    wrong = number(5).number
    register.record = lambda asked: number(99).number if asked == wrong else asked
    found = register.ask(8)
    assert isinstance(found[5], Unavailable)
    assert found[5].reason == "population_register_unavailable"
    assert numbers(found) == [None if place == 5 else number(place).number for place in range(8)]
    assert sorted(map(len, register.questions)) == [1] * 8 + [7]


def test_one_whom_the_register_breaks_on_lets_nobody_else_down(register: Register) -> None:
    wrong = number(2).number

    def breaks(asked: list[str]) -> None:
        if wrong in asked:
            raise requests.ConnectionError

    register.disturb = breaks
    found = register.ask(6)
    assert isinstance(found[2], Unavailable)
    assert numbers(found) == [None if place == 2 else number(place).number for place in range(6)]


def test_a_register_that_is_down_is_down_for_each(register: Register) -> None:
    def down(asked: list[str]) -> None:
        raise requests.ConnectionError

    register.disturb = down
    found = register.ask(5)
    assert all(isinstance(one, Unavailable) and one.reason == "population_register_unavailable" for one in found)


def test_a_shared_request_is_given_less_time_than_one_alone(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One person whom the register is slow about holds the others up for two seconds, not for ten."""
    given: list[tuple[int, float]] = []
    send = register._send

    def noted(envelope: bytes, seconds: float) -> bytes:
        given.append((envelope.count(b":personId>") // 2, seconds))
        return send(envelope, seconds)

    monkeypatch.setattr(register, "_send", noted)
    register.ask(4)
    assert given == [(1, 10.0), (3, 2.0)]


def test_the_same_person_twice_is_asked_for_once(register: Register) -> None:
    register.others = 3
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(register.look_up, number(0))
        while not register.questions:
            time.sleep(0.001)
        others = [pool.submit(register.look_up, number(place)) for place in (1, 1, 2)]
        found = [each.result(10) for each in (first, *others)]
    assert numbers(list(found)) == [number(place).number for place in (0, 1, 1, 2)]
    assert sorted(register.questions[1]) == [number(1).number, number(2).number]


def test_custody_is_never_asked_for_together(register: Register) -> None:
    """R-ID-11: it is another profile, which nobody gets who did not ask for it."""
    held = threading.Event()
    register.disturb = lambda asked: held.wait(5) and None if asked == [number(0).number] else None  # type: ignore
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(register.look_up, number(0))
        while not register.questions:
            time.sleep(0.001)
        assert pool.submit(lambda: register.look_up(number(1), relations=True)).result(5) is not None
        assert not first.done()
        held.set()
        assert first.result(5) is not None
