"""Guardians and children, on a database, with a register of the test's own (R-ID-11, R-ID-13)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from services.identity import custody, representation, residents, sessions
from services.identity.identity_numbers import luhn
from services.identity.population_register import (
    AnswerNotTrusted,
    PartialDate,
    PopulationRegister,
    RegisteredPerson,
    Relation,
)
from shared.contracts import access, identity, logging_in
from shared.messaging.errors import Forbidden, NotAuthenticated
from shared.operations.clock import SWEDEN
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, Identity, new_number, registered


class Register(PopulationRegister):
    """Persons by number, as the population register answers."""

    def __init__(self, one: Identity) -> None:
        self.one = one
        self.people: dict[str, RegisteredPerson] = {}
        self.asked: list[list[str]] = []

    def look_up_many(
        self, numbers: Any, *, relations: bool = False, seconds: float | None = None
    ) -> dict[str, RegisteredPerson | None]:
        self.asked.append([one.number for one in numbers])
        found = {one.number: self.people.get(one.number) for one in numbers}
        return {number: person and replace(person, asked_at=self.one.now) for number, person in found.items()}


class Home:
    """A guardian who has logged in, and whose children the register has."""

    def __init__(self, one: Identity) -> None:
        self.one, self.register, self.number = one, Register(one), new_number()
        self.resident = one.take_in(registered(self.number))
        self.session = one.open("resident", str(self.resident))
        self.me = Caller("resident", str(self.resident), self.session)
        self.custody: dict[str, Relation] = {}
        self.tell()

    def tell(self, **facts: Any) -> None:
        """What the register says of the guardian from now on."""
        relations = () if facts.get("protected") else tuple(self.custody.values())
        self.register.people[self.number] = registered(self.number, relations=relations, **facts)

    def child(self, born: date, *, ends: str | None = None, guardian: str | None = None, **facts: Any) -> str:
        number = number_of(born)
        until = PartialDate(ends) if ends else None
        self.custody[number] = Relation("child", number, ends=until)
        self.tell()
        theirs = () if facts.get("protected") else (Relation("guardian", guardian or self.number, ends=until),)
        self.register.people[number] = registered(number, given_name="Alva", relations=theirs, **facts)
        return number

    def family(self) -> access.ChildrenFound:
        """As the service does it."""
        return self.take_in(self.look_up())

    def look_up(self) -> representation.Family:
        number = self.one.run(lambda tx: representation.require_oneself(tx, None), self.me)
        return representation.look_up(self.register, number, self.one.now)

    def take_in(self, found: representation.Family) -> access.ChildrenFound:
        return self.one.run(lambda tx: representation.take_in(tx, None, found, NUMBER_KEY), self.me)

    def children(self) -> list[UUID]:
        return [one.child for one in self.family().children]

    def act(self, child: UUID) -> logging_in.SessionOpened:
        self.family()
        request = access.ActForChild(request_id=uuid4(), child=child)
        return self.one.run(lambda tx: representation.act(tx, request, self.one.desk), self.me)

    def acting(self, child: UUID) -> bool:
        return self.one.run(lambda tx: representation.now(tx, self.resident, child)).acting


_SERIALS = count(1)


def number_of(born: date) -> str:
    """Another one each time: two children must never share an account by chance."""
    nine = f"{born:%y%m%d}{next(_SERIALS):03}"
    return f"{born:%Y}"[:2] + nine + luhn(nine)


def years_ago(one: Identity, years: int, days: int = 0) -> date:
    today = one.now.astimezone(SWEDEN).date() + timedelta(days=days)
    return date(today.year - years, today.month, min(today.day, 28))


def claims(opened: logging_in.SessionOpened) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(opened.access_token, options={"verify_signature": False})
    return found


def ended(one: Identity, opened: logging_in.SessionOpened) -> bool:
    [(at,)] = one.rows("SELECT ended_at FROM sessions WHERE session = %s", claims(opened)["sid"])
    return at is not None


@pytest.fixture
def home(one: Identity) -> Home:
    return Home(one)


def test_r_id_11_a_guardian_acts_for_a_child(home: Home) -> None:
    """R-ID-11: found by the register's word; the child has an id and no number is given."""
    home.child(years_ago(home.one, 5))
    [child] = home.family().children
    assert child.name == "Alva Ek"
    opened = home.act(child.child)
    said = claims(opened)
    assert (said["sub"], said["acting_for"], said["kind"]) == (str(home.resident), str(child.child), "resident")
    assert claims(home.one.renew(opened.renewal_token))["acting_for"] == str(child.child)
    assert home.register.asked[-1] != [home.number], "the child's own record is asked for too"


@pytest.mark.parametrize(
    "facts",
    [
        {"ends": "2020-01-01"},
        {"guardian": "198501022381"},
        {"protected": True, "place": None},
        {"code": "AV"},
    ],
)
def test_r_id_11_r_id_13_nobody_acts_without_custody_that_both_records_tell(home: Home, facts: Any) -> None:
    """R-ID-11, R-ID-13: ended, another's, protected, dead."""
    home.child(years_ago(home.one, 5), **facts)
    assert home.children() == []
    with pytest.raises(Forbidden) as caught:
        home.act(uuid4())
    assert caught.value.reason == "not_representative"


def test_r_id_11_nobody_acts_for_a_child_of_13_nor_for_an_adult(home: Home) -> None:
    """R-ID-11: on the birthday itself no more, the day before still."""
    older = [home.child(years_ago(home.one, years)) for years in (13, 14, 30)]
    assert home.children() == []
    assert not set(older) & {number for asked in home.register.asked for number in asked}
    home.child(years_ago(home.one, 13, days=32))
    assert len(home.children()) == 1


def test_r_id_11_no_token_outlives_the_13th_birthday(home: Home) -> None:
    """R-ID-11: Swedish date, also in a session that was begun before, and not by renewing it."""
    one = home.one
    tomorrow = one.now.astimezone(SWEDEN).date() + timedelta(days=1)
    midnight = datetime.combine(tomorrow, datetime.min.time(), SWEDEN)
    home.child(date(tomorrow.year - 13, tomorrow.month, tomorrow.day))
    one.moved = midnight - timedelta(minutes=2) - datetime.now(SWEDEN)
    home.session = one.open("resident", str(home.resident))
    home.me = Caller("resident", str(home.resident), home.session)
    [child] = home.children()
    opened = home.act(child)
    assert claims(opened)["exp"] == midnight.timestamp() == opened.session_expires_at.timestamp()
    assert home.acting(child)
    renewed = one.renew(opened.renewal_token)
    assert claims(renewed)["exp"] == midnight.timestamp()
    one.moved += timedelta(minutes=2, seconds=1)
    assert not home.acting(child)
    with pytest.raises(NotAuthenticated):
        one.renew(renewed.renewal_token)
    assert home.children() == []
    with pytest.raises(Forbidden):
        home.act(child)


@pytest.mark.parametrize("who", ["guardian", "child"])
def test_r_id_13_it_ends_when_either_becomes_protected(home: Home, who: str) -> None:
    """R-ID-13: at once, by whichever look-up it is learnt, and the session with it."""
    one, number = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    learnt = registered(home.number if who == "guardian" else number, protected=True, place=None)
    one.run(lambda tx: residents.bring_up_to_date(tx, None, learnt, NUMBER_KEY))
    assert ended(one, opened)
    assert not home.acting(child)
    told = one.told("rights_changed")[-1]
    assert [each["session"] for each in told["ended_sessions"]] == [claims(opened)["sid"]]
    if who == "guardian":
        [(own,)] = one.rows("SELECT ended_at FROM sessions WHERE session = %s", home.session)
        assert own is None, "the guardian's own session goes on"
        home.tell(protected=True, place=None)
        assert home.children() == []


def test_r_id_11_custody_that_the_register_no_longer_tells_of_has_ended(home: Home) -> None:
    """R-ID-11: for this guardian, and at once."""
    one, number = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    del home.custody[number]
    home.tell()
    assert home.children() == []
    assert ended(one, opened)
    assert not home.acting(child)


def test_r_id_11_the_session_ends_with_the_guardians_own(home: Home) -> None:
    """R-ID-11, R-ID-21"""
    home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    home.one.run(lambda tx: sessions.log_out(tx, logging_in.LogOut(request_id=uuid4())), home.me)
    assert ended(home.one, opened)
    with pytest.raises(NotAuthenticated):
        home.act(child)


@pytest.mark.parametrize("why", ["logged_out", "login_locked", "guardian_died", "child_protected", "custody_ended"])
def test_r_id_11_r_id_21_what_is_begun_at_the_very_moment_of_the_end_has_ended_too(home: Home, why: str) -> None:
    """R-ID-11, R-ID-21: the end waits for the session that is being begun, and finds it."""
    one, number = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    request = access.ActForChild(request_id=uuid4(), child=child)

    def learn(of: str, **facts: Any) -> None:
        told = registered(of, **facts)
        one.run(lambda tx: residents.bring_up_to_date(tx, None, told, NUMBER_KEY))

    def lose_custody() -> None:
        del home.custody[number]
        home.tell()
        home.family()

    def log_out() -> None:
        one.run(lambda tx: sessions.log_out(tx, logging_in.LogOut(request_id=uuid4())), home.me)

    def lock() -> None:
        one.run(lambda tx: residents.lock(tx, logging_in.LockLogin(request_id=uuid4())), home.me)

    ends: dict[str, Callable[[], None]] = {
        "logged_out": log_out,
        "login_locked": lock,
        "guardian_died": lambda: learn(home.number, code="AV"),
        "child_protected": lambda: learn(number, protected=True, place=None),
        "custody_ended": lose_custody,
    }
    with ThreadPoolExecutor(1) as pool:
        with one.database.transaction(home.me) as tx:
            opened = representation.act(tx, request, one.desk)
            ending = pool.submit(ends[why])
            while not ending.done() and not one.rows(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                pass
            assert not ending.done(), "it waits for the one that is being begun"
        ending.result(timeout=30)
    assert ended(one, opened)


def test_r_id_21_a_session_for_a_child_lives_no_longer_than_the_guardians_own(home: Home) -> None:
    """R-ID-11, R-ID-21: an own session that nobody renews for 30 minutes takes it with it."""
    home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    home.one.moved = timedelta(minutes=20)
    opened = home.one.renew(opened.renewal_token)
    home.one.moved = timedelta(minutes=31)
    with pytest.raises(NotAuthenticated) as caught:
        home.one.renew(opened.renewal_token)
    assert caught.value.reason == "session_ended"


def test_r_id_11_r_id_21_accepting_terms_keeps_no_session_for_a_child_alive(home: Home) -> None:
    """R-ID-11, R-ID-21: as the guardian's own has gone idle, although the terms are still to be accepted."""
    home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    home.one.moved = timedelta(minutes=20)
    opened = home.one.renew(opened.renewal_token)
    home.one.moved = timedelta(minutes=31)
    caller = Caller("resident", str(home.resident), UUID(claims(opened)["sid"]), acting_for=child)
    accept = logging_in.AcceptTerms(request_id=uuid4(), version="1")
    with pytest.raises(NotAuthenticated) as caught:
        home.one.run(lambda tx: sessions.accept_terms(tx, accept, home.one.desk), caller)
    assert caught.value.reason == "session_ended"


def test_r_id_11_whoever_acts_for_a_child_acts_for_no_other_by_it(home: Home) -> None:
    """R-ID-11"""
    home.child(years_ago(home.one, 5))
    [child] = home.children()
    said = claims(home.act(child))
    home.me = Caller("resident", str(home.resident), UUID(said["sid"]), acting_for=child)
    with pytest.raises(Forbidden) as caught:
        home.family()
    assert caught.value.reason == "acting_for_child"


def test_r_id_11_the_other_guardians_session_goes_on(home: Home) -> None:
    """R-ID-11: what ends for one parent has not ended for the other."""
    number = home.child(years_ago(home.one, 5))
    other = Home(home.one)
    other.custody[number] = Relation("child", number)
    other.tell()
    both = (Relation("guardian", home.number), Relation("guardian", other.number))
    child_record = registered(number, relations=both)
    home.register.people[number] = other.register.people[number] = child_record
    [child] = home.children()
    assert other.children() == [child]
    mine, theirs = home.act(child), other.act(child)
    del home.custody[number]
    home.tell()
    assert home.children() == []
    assert (ended(home.one, mine), ended(home.one, theirs)) == (True, False)


def test_r_id_11_custody_is_asked_about_again_every_day(home: Home) -> None:
    """R-ID-11: so that it ends also for a guardian who just renews; what can't be known ends nothing."""
    one, number = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()

    def confirm() -> None:
        custody.confirm(one.at_its_time, home.register, one.now - timedelta(hours=24), lambda: False)

    def looked_up() -> int:
        return sum(number in asked for asked in home.register.asked)

    before = looked_up()
    confirm()
    assert looked_up() == before, "it was confirmed just now"
    one.moved = timedelta(hours=25)
    confirm()
    assert looked_up() == before + 1
    confirm()
    assert looked_up() == before + 1
    assert home.acting(child)
    record = home.register.people.pop(number)
    one.moved = timedelta(hours=50)
    confirm()
    assert home.acting(child), "the register does not know the child"
    home.session = one.open("resident", str(home.resident))
    home.me = Caller("resident", str(home.resident), home.session)
    request = access.ActForChild(request_id=uuid4(), child=child)
    opened = one.run(lambda tx: representation.act(tx, request, one.desk), home.me)
    home.register.people[number] = replace(record, relations=())
    confirm()
    assert not home.acting(child)
    assert ended(one, opened)


def test_r_id_11_one_child_whose_answer_can_not_be_trusted_keeps_no_other_custody_from_being_looked_at(
    one: Identity,
) -> None:
    """R-ID-11: the custody of all the others ends when the register no longer tells of it."""
    homes = [Home(one) for _ in range(3)]
    numbers = [home.child(years_ago(one, 5)) for home in homes]
    children = [home.children()[0] for home in homes]
    register = homes[0].register
    for home in homes[1:]:
        register.people |= home.register.people
    asked = register.look_up_many

    def poisoned(wanted: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        if numbers[1] in {each.number for each in wanted}:
            raise AnswerNotTrusted(reason="population_register_unavailable")
        return asked(wanted, relations=relations)

    register.look_up_many = poisoned  # type: ignore[method-assign]
    for number in numbers:
        register.people[number] = replace(register.people[number], relations=())
    one.moved = timedelta(hours=25)
    custody.confirm(one.at_its_time, register, one.now - timedelta(hours=24), lambda: False)
    acting = [home.acting(child) for home, child in zip(homes, children, strict=True)]
    assert acting == [False, True, False]


@pytest.mark.parametrize("who", ["guardian", "child"])
def test_r_id_11_one_number_that_can_not_be_read_keeps_no_other_custody_from_being_looked_at(
    one: Identity, who: str
) -> None:
    """R-ID-11: of whom it is, nothing is learnt."""
    homes = [Home(one) for _ in range(3)]
    numbers = [home.child(years_ago(one, 5)) for home in homes]
    children = [home.children()[0] for home in homes]
    register = homes[0].register
    for home, number in zip(homes, numbers, strict=True):
        register.people[number] = replace(home.register.people[number], relations=())
    damaged = homes[1].resident if who == "guardian" else children[1]
    one.rows("UPDATE identity_numbers SET sealed = 'x' WHERE resident = %s", damaged)
    one.moved = timedelta(hours=25)
    custody.confirm(one.at_its_time, register, one.now - timedelta(hours=24), lambda: False)  # type: ignore[arg-type]
    acting = [home.acting(child) for home, child in zip(homes, children, strict=True)]
    assert acting == [False, True, False]


@pytest.mark.parametrize("who", ["guardian", "child"])
def test_r_id_11_r_id_17_nobody_acts_for_or_as_one_who_has_died(home: Home, who: str) -> None:
    """R-ID-11, R-ID-17: from when it is learnt, before custody is asked about again."""
    number = home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    dead = registered(home.number if who == "guardian" else number, code="AV", asked_at=home.one.now)
    home.one.run(lambda tx: residents.bring_up_to_date(tx, None, dead, NUMBER_KEY))
    assert ended(home.one, opened)
    assert not home.acting(child)
    assert home.one.run(lambda tx: representation.guardians_of(tx, [child])) == []


def test_r_id_24_a_record_that_refers_to_another_takes_no_account_over(home: Home) -> None:
    """R-ID-24: what only one record tells of former numbers does not count, here either."""
    stranger = new_number()
    strangers = home.one.take_in(registered(stranger))
    number = home.child(years_ago(home.one, 5))
    for one in (home.number, number):
        home.register.people[one] = replace(home.register.people[one], former=(stranger,))
    [child] = home.children()
    find = identity.FindResident(identity_number=stranger)
    assert home.one.run(lambda tx: residents.find_resident(tx, find, NUMBER_KEY)).resident == strangers
    assert child not in (strangers, home.resident)


def test_r_id_24_a_childs_changed_number_keeps_the_account_by_the_guardians_path(home: Home) -> None:
    """R-ID-24: where both records tell of the change; else it is someone else."""
    born = years_ago(home.one, 5)
    old = home.child(born)
    [child] = home.children()
    opened = home.act(child)
    record = home.register.people[old]
    del home.custody[old]
    new = home.child(born)
    theirs = home.register.people[new]
    home.register.people[new] = replace(theirs, former=(old,))
    home.register.people[old] = replace(record, replaced_by=new, code="GN", relations=())
    assert home.children() == [child]
    assert not ended(home.one, opened)
    find = identity.FindResident(identity_number=new)
    assert home.one.run(lambda tx: residents.find_resident(tx, find, NUMBER_KEY)).resident == child


@pytest.mark.parametrize(("years", "acts"), [(14, False), (7, True)])
def test_r_id_11_r_id_24_a_number_that_tells_another_birthday_moves_the_end(home: Home, years: int, acts: bool) -> None:
    """R-ID-11, R-ID-24: by the daily look-up too; what was begun was to last until the other birthday."""
    one, old = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    born = years_ago(one, years)
    new, record = number_of(born), home.register.people[old]
    one.moved = timedelta(hours=25)
    home.session = one.open("resident", str(home.resident))
    home.me = Caller("resident", str(home.resident), home.session)
    request = access.ActForChild(request_id=uuid4(), child=child)
    opened = one.run(lambda tx: representation.act(tx, request, one.desk), home.me)
    changed = replace(record, number=new, former=(old,), asked_at=one.now)
    home.register.people[new] = changed
    one.run(lambda tx: residents.bring_up_to_date(tx, None, changed, NUMBER_KEY))
    custody.confirm(one.at_its_time, home.register, one.now - timedelta(hours=24), lambda: False)
    assert home.acting(child) is acts
    assert ended(one, opened)
    [(ends_on, over)] = one.rows("SELECT ends_on, ended_at IS NOT NULL FROM guardianships WHERE child = %s", child)
    assert over is not acts
    assert not acts or ends_on == born.replace(year=born.year + 13)


def test_r_id_11_r_id_24_another_birthday_ends_what_was_begun_by_the_guardians_own_look_up_too(home: Home) -> None:
    """R-ID-11, R-ID-24: as by the daily one."""
    one, old = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    assert not ended(one, opened)
    born = years_ago(one, 7)
    new, record = number_of(born), home.register.people[old]
    home.register.people[new] = replace(record, number=new, former=(old,))
    home.register.people[old] = replace(record, replaced_by=new, code="GN", relations=())
    home.custody = {new: Relation("child", new)}
    home.tell()
    assert [(each.child, each.last_day) for each in home.family().children] == [
        (child, born.replace(year=born.year + 13) - timedelta(days=1))
    ]
    assert ended(one, opened)


def test_r_id_11_an_older_answer_brings_no_custody_back(home: Home) -> None:
    """R-ID-11: two look-ups of a family under way; that which was asked for first is written last."""
    number = home.child(years_ago(home.one, 5))
    [child] = home.children()
    slow = home.look_up()
    del home.custody[number]
    home.tell()
    assert home.children() == []
    assert home.take_in(slow).children == []
    assert not home.acting(child)


def test_r_id_11_an_older_answer_ends_no_custody(home: Home) -> None:
    """R-ID-11: nor the sessions that rest on it, whether a guardian or the clock asked for it."""
    one = home.one
    slow, number = home.look_up(), home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    assert home.take_in(slow).children == []
    assert home.acting(child)
    asked = home.register.look_up_many

    def meanwhile(numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        home.register.people[number] = replace(record, relations=())
        answer = asked(numbers, relations=relations)
        home.register.people[number] = record
        home.register.look_up_many = asked  # type: ignore[method-assign]
        assert home.children() == [child]
        return answer

    record = home.register.people[number]
    home.register.look_up_many = meanwhile  # type: ignore[method-assign]
    one.moved = timedelta(hours=25)
    home.session = one.open("resident", str(home.resident))
    home.me = Caller("resident", str(home.resident), home.session)
    custody.confirm(one.at_its_time, home.register, one.now - timedelta(hours=24), lambda: False)
    assert home.acting(child)
    assert not ended(one, opened)


def test_r_id_11_the_daily_look_up_brings_no_custody_back(home: Home) -> None:
    """R-ID-11: which the register told the guardian's own look-up has ended meanwhile."""
    one, number = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    asked = home.register.look_up_many

    def meanwhile(numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        answer = asked(numbers, relations=relations)
        home.register.look_up_many = asked  # type: ignore[method-assign]
        del home.custody[number]
        home.tell()
        assert home.children() == []
        return answer

    home.register.look_up_many = meanwhile  # type: ignore[method-assign]
    one.moved = timedelta(hours=25)
    custody.confirm(one.at_its_time, home.register, one.now - timedelta(hours=24), lambda: False)
    assert not home.acting(child)


def test_r_id_13_an_older_answer_shows_no_child_who_is_protected(home: Home) -> None:
    """R-ID-13: a child whom something newer has told to be protected is not named, nor acted for."""
    number = home.child(years_ago(home.one, 5))
    [child] = home.children()
    slow = home.look_up()
    hidden = registered(number, protected=True, place=None, asked_at=home.one.now)
    home.one.run(lambda tx: residents.bring_up_to_date(tx, None, hidden, NUMBER_KEY))
    assert home.take_in(slow).children == []
    assert not home.acting(child)


# --- the record of a number that another one has replaced (R-ID-13, R-ID-14, R-ID-24) --------------------------------


def renumbered(home: Home, old: str, *, mutual: bool, **facts: Any) -> str:
    """The child has got another number, of the same birthday; what the register says by the old one stays, but that it
    refers to the new one, whose record says these `facts`, and nothing of the old one unless `mutual`."""
    new, record = number_of(years_ago(home.one, 5)), home.register.people[old]
    home.register.people[old] = replace(record, replaced_by=new, code="GN")
    former = (old,) if mutual else ()
    custody_told = () if facts.get("protected") else record.relations
    home.register.people[new] = replace(record, number=new, former=former, relations=custody_told, **facts)
    return new


@pytest.mark.parametrize("mutual", [True, False])
def test_r_id_13_r_id_14_the_record_of_a_childs_old_number_takes_no_protection_away(home: Home, mutual: bool) -> None:
    """R-ID-13, R-ID-14, R-ID-24: the guardian's record still names the old number, and that one's the guardian."""
    one, old = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    new = renumbered(home, old, mutual=mutual, protected=True, place=None)
    hidden = replace(home.register.people[new], former=(old,), asked_at=one.now)
    one.run(lambda tx: residents.bring_up_to_date(tx, None, hidden, NUMBER_KEY))
    assert home.children() == []
    assert one.kept(child) == (True, True, None)
    with pytest.raises(Forbidden) as caught:
        home.act(child)
    assert caught.value.reason == "not_representative"


@pytest.mark.parametrize("mutual", [True, False])
def test_r_id_13_nobody_acts_by_the_old_number_of_a_child_whose_new_one_is_protected(home: Home, mutual: bool) -> None:
    """R-ID-13, R-ID-24: before anything has told of it here."""
    old = home.child(years_ago(home.one, 5))
    [child] = home.children()
    renumbered(home, old, mutual=mutual, protected=True, place=None)
    assert home.children() == []
    with pytest.raises(Forbidden):
        home.act(child)


def test_r_id_11_r_id_24_a_guardian_acts_by_the_new_number_of_a_child_whose_old_one_they_are_told_of(
    home: Home,
) -> None:
    """R-ID-11, R-ID-24: where the register refers both ways; and the account is by the new number from then on."""
    old = home.child(years_ago(home.one, 5))
    [child] = home.children()
    new = renumbered(home, old, mutual=True)
    assert home.children() == [child]
    assert home.act(child)
    request = identity.ResidentCards(residents=[child])
    [card] = home.one.run(lambda tx: residents.resident_cards(tx, request)).cards
    assert card.identity_number == new


@pytest.mark.parametrize("mutual", [True, False])
def test_r_id_13_no_guardian_whose_new_number_is_protected_acts_by_the_old_one(home: Home, mutual: bool) -> None:
    """R-ID-13, R-ID-14, R-ID-24: and that they are protected is learnt by it."""
    home.child(years_ago(home.one, 5))
    [child] = home.children()
    opened = home.act(child)
    new = new_number()
    record = home.register.people[home.number]
    home.register.people[home.number] = replace(record, replaced_by=new, code="GN")
    former = (home.number,) if mutual else ()
    home.register.people[new] = registered(new, former=former, protected=True, place=None)
    assert home.children() == []
    assert ended(home.one, opened)
    assert home.one.kept(home.resident) == (True, True, None)
    with pytest.raises(Forbidden):
        home.act(child)


def test_r_id_11_r_id_24_a_guardian_who_has_got_another_number_goes_on_by_it(home: Home) -> None:
    """R-ID-11, R-ID-24: in the session that was begun by the old one."""
    number = home.child(years_ago(home.one, 5))
    [child] = home.children()
    new, record = new_number(), home.register.people[home.number]
    home.register.people[home.number] = replace(record, replaced_by=new, code="GN", relations=())
    home.register.people[new] = replace(record, number=new, former=(home.number,))
    theirs = home.register.people[number]
    home.register.people[number] = replace(theirs, relations=(Relation("guardian", new),))
    assert home.children() == [child]
    assert home.act(child)


def test_r_id_11_r_id_24_custody_is_not_confirmed_by_the_record_of_a_replaced_number(home: Home) -> None:
    """R-ID-11, R-ID-13, R-ID-24: what that one says of custody may be long gone."""
    one, old = home.one, home.child(years_ago(home.one, 5))
    [child] = home.children()
    renumbered(home, old, mutual=False)
    one.moved = timedelta(hours=25)
    custody.confirm(one.at_its_time, home.register, one.now - timedelta(hours=24), lambda: False)
    assert not home.acting(child)


def test_r_id_11_r_id_24_nobody_acts_by_the_number_of_a_child_in_the_account_of_another(home: Home) -> None:
    """R-ID-11, R-ID-24: which the register has linked by mistake, and no longer does; the other children are told."""
    one, mine = home.one, home.child(years_ago(home.one, 5))
    strangers = number_of(years_ago(one, 5))
    account = one.take_in(registered(strangers, former=(mine,)))
    other = home.child(years_ago(one, 6))
    found = home.family().children
    assert [child.child for child in found] != [account]
    assert len(found) == 1
    with pytest.raises(Forbidden):
        home.act(account)
    find = identity.FindResident(identity_number=other)
    assert one.run(lambda tx: residents.find_resident(tx, find, NUMBER_KEY)).resident == found[0].child
