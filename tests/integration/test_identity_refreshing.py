"""Residents are looked up again in the register; what it said later counts, on a real database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.identity import refreshing, residents
from services.identity.population_register import AnswerNotTrusted, PopulationRegister, RegisteredPerson
from shared.messaging.errors import Forbidden, NotAuthenticated, Unavailable
from tests.integration.identity_support import (
    NUMBER_KEY,
    Identity,
    card,
    find,
    new_number,
    registered,
    statuses,
    take_in,
    two_accounts,
)


class Register(PopulationRegister):
    """What it says of each number; not of whom it can't be trusted about."""

    def __init__(self, one: Identity) -> None:
        self.one = one
        self.people: dict[str, RegisteredPerson | None] = {}
        self.poisoned: set[str] = set()
        self.down = False
        self.sizes: list[int] = []

    def look_up_many(self, numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        self.sizes.append(len(numbers))
        assert len(numbers) <= 500
        if self.down:
            raise Unavailable(reason="population_register_unavailable")
        if self.poisoned & {each.number for each in numbers}:
            raise AnswerNotTrusted(reason="population_register_unavailable")
        found = {each.number: self.people.get(each.number, registered(each.number)) for each in numbers}
        return {number: person and replace(person, asked_at=self.one.now) for number, person in found.items()}


def refresh(one: Identity, register: Register) -> refreshing.Refreshed:
    return refreshing.refresh(one.database.transaction, register, NUMBER_KEY, one.now)


def test_r_id_17_an_account_by_an_older_number_is_refreshed_too(made: Identity) -> None:
    """R-ID-14, R-ID-17, R-ID-24: once in each round, like any other."""
    old, new, first, second = two_accounts(made)

    class Linking(Register):
        def look_up_current(self, number: Any) -> RegisteredPerson | None:
            return registered(new, former=(old,), protected=True, place=None, asked_at=made.now)

    register = Linking(made)
    register.people = {
        old: registered(old, code="GN", replaced_by=new, place=None),
        new: registered(new, former=(old,), protected=True, place=None),
    }
    made.moved = timedelta(hours=48)
    refreshing.refresh(made.at_its_time, register, NUMBER_KEY, made.now - timedelta(hours=24))
    assert card(made, first).protected and card(made, second).protected
    register.sizes.clear()
    refreshing.refresh(made.at_its_time, register, NUMBER_KEY, made.now - timedelta(hours=24))
    assert register.sizes == []


def test_known_residents_are_looked_up_again(made: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-17, R-ID-14, R-ID-24, R-ID-18: what has changed is learnt without a login; one whose answer can't be trusted
    keeps nobody else from it."""
    monkeypatch.setattr(refreshing, "MANY", 4)
    numbers = [new_number() for _ in range(10)]
    accounts = [take_in(made, registered(number)) for number in numbers]
    dead, hidden, changed, gone, poisoned, odd, *_ = numbers
    opened = made.opened("resident", str(accounts[0]))
    register, new = Register(made), new_number()
    register.people = {
        dead: registered(dead, code="AV"),
        hidden: registered(hidden, protected=True, place=None),
        changed: registered(changed, code="GN", replaced_by=new),
        new: registered(new, former=(changed,)),
        gone: None,
        odd: registered(odd, code="ZZ"),
    }
    register.poisoned = {poisoned}
    found = refresh(made, register)
    assert (found.asked, found.changed, found.unknown, found.not_trusted) == (10, 3, 1, 1)
    assert not card(made, accounts[0]).active
    assert statuses(made, accounts[0]) == [(False, False, 2)]
    with pytest.raises(NotAuthenticated):
        made.renew(opened.renewal_token)
    assert card(made, accounts[1]).protected
    assert card(made, accounts[2]).identity_number == new
    assert find(made, changed) == accounts[2]
    for still in (3, 4, 5, 6):
        assert card(made, accounts[still]).active
    before = made.rows("SELECT resident FROM residents WHERE looked_up_at < now() - interval '1 hour'")
    assert before == []
    register.poisoned.clear()
    assert refresh(made, register).changed <= 1


def test_r_id_18_an_unknown_code_is_logged_once_in_a_run(made: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-18: however many have it, and in however many pages; without a number."""
    told: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, event: str, **facts: Any) -> None:
            told.append((event, facts))

    monkeypatch.setattr(residents, "log", Log())
    monkeypatch.setattr(refreshing, "MANY", 2)
    register = Register(made)
    for code in ("ZZ", "ZZ", "ZZ", "UV", "", None):
        number = new_number()
        take_in(made, registered(number))
        register.people[number] = registered(number, code=code)
    refresh(made, register)
    assert sorted(facts["code"] for _, facts in told) == ["", "ZZ"]
    assert told[0][0] == "unknown_deregistration_code"


def test_r_id_17_one_who_can_not_be_read_keeps_nobody_from_being_looked_up(
    made: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-17: nor does a page of nothing else."""
    monkeypatch.setattr(refreshing, "MANY", 2)
    numbers = [new_number() for _ in range(5)]
    accounts = [take_in(made, registered(number)) for number in numbers]
    for account in accounts[1:4]:
        made.rows("UPDATE identity_numbers SET sealed = 'x' WHERE resident = %s", account)
    register = Register(made)
    register.people = {number: registered(number, code="AV") for number in numbers}
    found = refresh(made, register)
    assert (found.asked, found.changed) == (2, 2)
    active = made.rows("SELECT active FROM residents ORDER BY created_at, resident")
    assert active == [(False,), (True,), (True,), (True,), (False,)]


def test_a_register_that_is_down_changes_nothing(made: Identity) -> None:
    """R-ID-17: the run fails, and is made again."""
    resident = take_in(made, registered(new_number()))
    register = Register(made)
    register.down = True
    before = made.rows("SELECT * FROM residents")
    with pytest.raises(Unavailable):
        refresh(made, register)
    assert made.rows("SELECT * FROM residents") == before
    assert card(made, resident).active


def test_news_of_a_login_is_not_undone_by_an_older_answer(made: Identity) -> None:
    """R-ID-14: who became protected while the answer was under way stays so."""
    number = new_number()
    resident = take_in(made, registered(number, given_name="Old"))
    register = Register(made)
    asked = register.look_up_many

    def meanwhile(numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        answer = asked(numbers)
        take_in(made, registered(number, protected=True, place=None))
        return answer

    register.look_up_many = meanwhile  # type: ignore[method-assign]
    refresh(made, register)
    assert card(made, resident).protected


@pytest.mark.parametrize("known", [True, False])
def test_an_older_answer_of_a_login_is_replaced_by_the_newer_one(made: Identity, known: bool) -> None:
    """R-ID-14: of a login whose look-up was asked before the refreshing and is written while that is under way; whether
    or not what the refreshing is told was known when it began."""
    number = new_number()
    resident = take_in(made, registered(number, protected=known, place=None))
    slow = registered(number, given_name="Old")
    register = Register(made)
    register.people[number] = registered(number, protected=True, place=None)
    asked = register.look_up_many

    def meanwhile(numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        answer = asked(numbers)
        take_in(made, slow)
        return answer

    register.look_up_many = meanwhile  # type: ignore[method-assign]
    refresh(made, register)
    assert card(made, resident).protected


def test_an_older_answer_of_the_register_undoes_nothing(one: Identity) -> None:
    """R-ID-14, R-ID-17, R-ID-24: two look-ups under way, and that which was asked for first is written last."""
    old, number, other = new_number(), new_number(), new_number()
    slow = registered(number, given_name="Old", former=(other,))
    slow_by_old_number = registered(old, given_name="Old")
    resident = take_in(one, registered(number, former=(old,), protected=True, place=None))
    kept = one.rows("SELECT particulars, looked_up_at FROM residents WHERE resident = %s", resident)
    assert take_in(one, slow) == resident
    with pytest.raises(Forbidden):  # as of then, it is another's
        take_in(one, slow_by_old_number)
    assert card(one, resident).protected
    assert card(one, resident).identity_number == number
    assert one.rows("SELECT particulars, looked_up_at FROM residents WHERE resident = %s", resident) == kept
    assert find(one, other) is None
    slow = registered(number)
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(number, code="AV"), NUMBER_KEY))
    with pytest.raises(Forbidden) as caught:
        take_in(one, slow)
    assert caught.value.reason == "account_inactive"
    assert statuses(one, resident) == [(False, False, 2)]


def test_an_older_answer_ends_no_session(one: Identity) -> None:
    """R-ID-17: nor does a death that the register has taken back."""
    number = new_number()
    resident = take_in(one, registered(number))
    dead = registered(number, code="AV")
    take_in(one, registered(number))
    opened = one.opened("resident", str(resident))
    one.run(lambda tx: residents.bring_up_to_date(tx, None, dead, NUMBER_KEY))
    assert one.renew(opened.renewal_token)
    assert statuses(one, resident) == []


def test_what_is_known_from_a_time_to_come_stands_against_no_answer(one: Identity) -> None:
    """R-ID-14: a clock that went wrong and was set right again."""
    number = new_number()
    resident = take_in(one, registered(number, asked_at=one.now + timedelta(days=400)))
    take_in(one, registered(number, protected=True, place=None))
    assert card(one, resident).protected
