"""Locking, changed numbers, refreshing from the register, one's own sessions, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from services.identity import logins, refreshing, resident_accounts, residents, sessions, signing_keys, terms
from services.identity.population_register import AnswerNotTrusted, PopulationRegister, RegisteredPerson
from services.identity.tables import signing_keys as table
from shared.contracts import identity, logging_in
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated, NotFound, Unavailable
from shared.operations import clock
from shared.security import endorsed_keys
from shared.security.caller import Caller
from shared.security.sealing import SealBroken
from shared.security.tokens import Signer, Verifier
from tests.integration.identity_support import NUMBER_KEY, Identity, new_number, new_person, registered
from tests.unit.kernel.test_tokens import write_keys


@pytest.fixture(scope="module")
def whole(rooms: Any) -> Iterator[Identity]:
    database = rooms.database("identity")
    made = Identity(database.url)
    yield made
    made.database.dispose()
    database.drop()


@pytest.fixture
def one(whole: Identity) -> Identity:
    whole.moved = timedelta()
    return whole


def take_in(one: Identity, person: RegisteredPerson) -> UUID:
    return one.take_in(person)


def card(one: Identity, resident: UUID) -> identity.ResidentCard:
    request = identity.ResidentCards(residents=[resident])
    [found] = one.run(lambda tx: residents.resident_cards(tx, request)).cards
    return found


def find(one: Identity, number: str) -> UUID | None:
    request = identity.FindResident(identity_number=number)
    return one.run(lambda tx: residents.find_resident(tx, request, NUMBER_KEY)).resident


def statuses(one: Identity, resident: UUID) -> list[tuple[bool, bool, int]]:
    told = [body for body in one.told("resident_status_changed") if body["resident"] == str(resident)]
    return [(body["active"], body["locked"], body["version"]) for body in told]


# --- locking (R-ID-4) -----------------------------------------------------------------------------------------------


def lock(one: Identity, resident: UUID) -> None:
    request = logging_in.LockLogin(request_id=uuid4())
    one.run(lambda tx: residents.lock(tx, request), Caller("resident", str(resident), uuid4()))


def unlock(one: Identity, person: RegisteredPerson) -> UUID:
    begin = logging_in.BeginLogin(request_id=uuid4(), kind="resident", purpose="unlock")
    begun = one.begin_login(begin)
    assert begun.max_age == 0
    request = logging_in.UnlockLogin(request_id=uuid4(), login=begun.login, id_token="verified before")
    one.begun(request, "unlock")
    one.run(lambda tx: logins.complete_unlocking(tx, request, person, NUMBER_KEY))
    return begun.login


def test_r_id_4_locking_ends_every_session_and_refuses_new_ones_until_unlocked(one: Identity) -> None:
    """R-ID-4, R-ID-21"""
    number = new_number()
    resident = take_in(one, registered(number))
    opened = [one.opened("resident", str(resident)) for _ in range(2)]
    for _ in range(2):
        lock(one, resident)
    for each in opened:
        with pytest.raises(NotAuthenticated):
            one.renew(each.renewal_token)
    ended = [body for body in one.told("rights_changed") if body["subject"] == str(resident)]
    assert len(ended[0]["ended_sessions"]) == 2
    with pytest.raises(Forbidden) as caught:
        take_in(one, registered(number))
    assert caught.value.reason == "login_locked"
    assert card(one, resident).locked
    unlock(one, registered(number))
    assert take_in(one, registered(number)) == resident
    assert not card(one, resident).locked
    assert statuses(one, resident) == [(True, True, 2), (True, False, 3)]
    unlock(one, registered(number))
    assert len(statuses(one, resident)) == 2


def test_r_id_4_unlocking_opens_no_session_and_works_once(one: Identity) -> None:
    """R-ID-4: a login begun for it does nothing else, and one begun for a session does not unlock."""
    number = new_number()
    resident = take_in(one, registered(number))
    lock(one, resident)
    login = unlock(one, registered(number))
    assert one.rows("SELECT 1 FROM sessions WHERE subject = %s", str(resident)) == []
    session = logging_in.CompleteLogin(request_id=uuid4(), login=login, id_token="t")
    with pytest.raises(NotAuthenticated) as caught:
        one.begun(session)
    assert caught.value.reason == "login_for_something_else"
    again = logging_in.UnlockLogin(request_id=uuid4(), login=login, id_token="t")
    with pytest.raises(NotAuthenticated) as caught:
        one.run(lambda tx: logins.complete_unlocking(tx, again, registered(number), NUMBER_KEY))
    assert caught.value.reason == "login_used"
    ordinary = logging_in.BeginLogin(request_id=uuid4(), kind="resident")
    begun = one.begin_login(ordinary)
    crossed = logging_in.UnlockLogin(request_id=uuid4(), login=begun.login, id_token="t")
    with pytest.raises(NotAuthenticated):
        one.begun(crossed, "unlock")
    staff = logging_in.BeginLogin(request_id=uuid4(), kind="staff", purpose="unlock")
    with pytest.raises(Invalid):
        one.begin_login(staff)


def test_r_id_4_only_an_e_id_shown_afresh_unlocks(one: Identity) -> None:
    """R-ID-4: not one that was shown before the login began."""

    class Begun:
        begun_at = datetime.fromisoformat("2026-11-23T10:00:00+00:00")

    shown = int(Begun.begun_at.timestamp())
    logins.require_fresh({"auth_time": shown + 5}, Begun)  # type: ignore[arg-type]
    for claims in ({"auth_time": shown - 300}, {"auth_time": "x"}, {"auth_time": 1e300}, {}):
        with pytest.raises(NotAuthenticated) as caught:
            logins.require_fresh(claims, Begun)  # type: ignore[arg-type]
        assert caught.value.reason == "login_not_fresh"


def test_r_id_17_unlocking_makes_no_inactive_account_active(one: Identity) -> None:
    """R-ID-4, R-ID-17"""
    number = new_number()
    resident = take_in(one, registered(number))
    lock(one, resident)
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(number, code="AV"), NUMBER_KEY))
    with pytest.raises(Forbidden):
        unlock(one, registered(number, code="UV"))
    assert card(one, resident).locked
    assert not card(one, resident).active


# --- changed numbers (R-ID-24) --------------------------------------------------------------------------------------


def test_r_id_24_a_changed_number_keeps_the_account(one: Identity) -> None:
    """R-ID-24: found by both; the new one is shown; the old one never comes back into force."""
    old, new = new_number(), new_number()
    resident = take_in(one, registered(old))
    assert take_in(one, registered(new, former=(old,))) == resident
    assert find(one, old) == find(one, new) == resident
    assert card(one, resident).identity_number == new
    assert take_in(one, registered(new, former=(old,))) == resident
    assert take_in(one, registered(new)) == resident
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(old, code="GN", replaced_by=new), NUMBER_KEY))
    assert card(one, resident).identity_number == new
    newest = new_number()
    assert take_in(one, registered(newest, former=(old, new))) == resident
    assert card(one, resident).identity_number == newest


def test_r_id_24_who_comes_first_after_the_change_is_found_by_the_old_number_too(one: Identity) -> None:
    """R-ID-24"""
    old, new = new_number(), new_number()
    resident = take_in(one, registered(new, former=(old,)))
    assert find(one, old) == resident
    assert card(one, resident).identity_number == new
    with pytest.raises(Forbidden):
        lock(one, resident)
        take_in(one, registered(new, former=(old,)))


def test_r_id_24_two_accounts_are_never_mixed(one: Identity) -> None:
    """R-ID-24: someone who had an account by each number keeps to that of the number in force."""
    old, new = new_number(), new_number()
    first, second = take_in(one, registered(old)), take_in(one, registered(new))
    assert take_in(one, registered(new, former=(old,))) == second
    assert (find(one, old), find(one, new)) == (first, second)
    assert card(one, first).identity_number == old


def test_r_id_14_the_record_of_a_replaced_number_unmasks_nobody(one: Identity) -> None:
    """R-ID-14, R-ID-24: of a protected person the register may tell no other numbers, so that the references are no
    longer mutual; whoever logs in by the old one stays protected, and their address is not kept."""
    old, new = new_number(), new_number()
    resident = take_in(one, registered(new, former=(old,), protected=True, place=None))
    assert take_in(one, registered(old, code="GN", replaced_by=new)) == resident
    assert one.kept(resident) == (True, True, None)
    assert card(one, resident).identity_number == new


def test_r_id_17_the_record_of_a_replaced_number_makes_no_dead_person_active(one: Identity) -> None:
    """R-ID-17, R-ID-24"""
    old, new = new_number(), new_number()
    resident = take_in(one, registered(new, former=(old,)))
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(new, code="AV"), NUMBER_KEY))
    for late in (registered(old, replaced_by=new), registered(old)):
        one.run(lambda tx, late=late: residents.bring_up_to_date(tx, None, late, NUMBER_KEY))
        assert not card(one, resident).active


@pytest.mark.parametrize(
    ("facts", "then"),
    [
        ({"protected": True, "place": None}, (True, True, None)),
        ({"code": "AV"}, (False, False, "Storgatan 1")),
        ({"given_name": "Old"}, (False, True, "Storgatan 1")),
    ],
)
def test_r_id_14_r_id_17_protection_and_death_count_by_whichever_number_they_are_told(
    one: Identity, facts: dict[str, Any], then: tuple[bool, bool, str | None]
) -> None:
    """R-ID-14, R-ID-17, R-ID-24: by the record of a replaced number too; nothing else does."""
    old, new = new_number(), new_number()
    resident = take_in(one, registered(new, former=(old,)))
    opened = one.opened("resident", str(resident))
    told = registered(old, replaced_by=new, **({"code": "GN"} | facts))
    one.run(lambda tx: residents.bring_up_to_date(tx, None, told, NUMBER_KEY))
    assert one.kept(resident) == then
    assert card(one, resident).name == "Eva Ek"
    assert lives(one, opened) is then[1]


Logged = list[tuple[str, str, dict[str, Any]]]
"""What `residents` has logged: level, event and facts."""


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    told: Logged = []

    class Log:
        def warning(self, event: str, **facts: Any) -> None:
            told.append(("warning", event, facts))

        def error(self, event: str, **facts: Any) -> None:
            told.append(("error", event, facts))

        def info(self, event: str, **facts: Any) -> None:
            pass

    for module in (residents, resident_accounts):
        monkeypatch.setattr(module, "log", Log())
    return told


def linked_by_mistake(one: Identity) -> tuple[str, str, UUID]:
    """Someone's number, that of another which the register linked with it until just now, and the account of both."""
    number, other = new_number(), new_number()
    resident = take_in(one, registered(number))
    assert take_in(one, registered(number, former=(other,))) == resident
    return number, other, resident


def test_r_sys_1_r_id_24_a_link_that_the_register_has_undone_gives_nobody_anothers_account(
    one: Identity, logged: Logged
) -> None:
    """R-SYS-1, R-ID-24: the login is refused and nothing changes; people are told whose account it is about."""
    number, other, resident = linked_by_mistake(one)
    before = one.kept(resident), card(one, resident)
    newer = new_number()
    for told in (
        registered(other, given_name="Bo"),
        registered(other, given_name="Bo", protected=True, place=None),
        registered(other, given_name="Bo", code="GN", replaced_by=new_number()),
        registered(newer, given_name="Bo", former=(other,)),
        registered(other, given_name="Bo", asked_at=one.now - timedelta(minutes=1)),
    ):
        with pytest.raises(Forbidden) as caught:
            take_in(one, told)
        assert caught.value.reason == "number_to_be_looked_at"
    assert (one.kept(resident), card(one, resident)) == before
    assert find(one, newer) is None
    assert logged == [("error", "number_to_be_looked_at", {"resident": str(resident)})] * 5
    assert take_in(one, registered(number)) == resident


def test_r_id_4_r_id_17_r_id_24_nor_is_anothers_account_unlocked_or_made_inactive_by_it(one: Identity) -> None:
    """R-ID-4, R-ID-17, R-ID-24"""
    _, other, resident = linked_by_mistake(one)
    lock(one, resident)
    with pytest.raises(Forbidden) as caught:
        unlock(one, registered(other))
    assert caught.value.reason == "number_to_be_looked_at"
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(other, code="AV"), NUMBER_KEY))
    assert card(one, resident).locked
    assert card(one, resident).active


def test_r_sys_1_r_id_24_an_account_is_linked_with_none_that_only_an_undone_link_leads_to(
    one: Identity, logged: Logged
) -> None:
    """R-SYS-1, R-ID-24: someone else's account has a former number of theirs; their own is let in, and kept apart."""
    _, other, strangers = linked_by_mistake(one)
    newer = new_number()
    own = take_in(one, registered(newer))
    assert take_in(one, registered(newer, given_name="Bo", former=(other,), protected=True, place=None)) == own
    assert one.run(lambda tx: resident_accounts.every_account(tx, own)) == [own]
    assert one.kept(strangers) == (False, True, "Storgatan 1")
    assert card(one, strangers).name == "Eva Ek"
    assert logged == [("error", "number_to_be_looked_at", {"resident": str(strangers)})]


def two_accounts(one: Identity) -> tuple[str, str, UUID, UUID]:
    """The older number and the one in force of someone whom the register knew by both, and the account of each."""
    old, new = new_number(), new_number()
    return old, new, take_in(one, registered(old)), take_in(one, registered(new))


def test_r_id_14_r_id_17_what_is_learnt_of_a_person_holds_in_each_of_their_accounts(one: Identity) -> None:
    """R-ID-14, R-ID-17, R-ID-24: cases hang on both: they are protected in both, and dead in both."""
    old, new, first, second = two_accounts(one)
    opened = [one.opened("resident", str(account)) for account in (first, second)]
    hidden = registered(new, former=(old,), protected=True, place=None)
    one.run(lambda tx: residents.bring_up_to_date(tx, None, hidden, NUMBER_KEY))
    assert card(one, first).protected and card(one, second).protected
    dead = registered(new, former=(old,), code="AV")
    one.run(lambda tx: residents.bring_up_to_date(tx, None, dead, NUMBER_KEY))
    assert not card(one, first).active and not card(one, second).active
    for session in opened:
        with pytest.raises(NotAuthenticated):
            one.renew(session.renewal_token)


def test_r_id_4_a_login_locked_by_one_number_is_locked_by_the_other(one: Identity) -> None:
    """R-ID-4, R-ID-24: and unlocked by whichever is in force."""
    old, new, first, second = two_accounts(one)
    person = registered(new, former=(old,))
    request = logging_in.LockLogin(request_id=uuid4())
    one.run(lambda tx: residents.lock(tx, request), Caller("resident", str(first), uuid4()))
    with pytest.raises(Forbidden, match="login_locked"):
        take_in(one, person)
    one.run(lambda tx: residents.unlock(tx, person, NUMBER_KEY))
    assert not card(one, first).locked
    assert take_in(one, person) == second


def link(one: Identity, *numbers: str) -> None:
    """The register tells that they are one person's, the first of them in force."""
    person = registered(numbers[0], former=numbers[1:])
    one.run(lambda tx: residents.bring_up_to_date(tx, None, person, NUMBER_KEY))


def lives(one: Identity, opened: logging_in.SessionOpened) -> bool:
    try:
        one.renew(opened.renewal_token)
    except NotAuthenticated:
        return False
    return True


@pytest.mark.parametrize("by", [0, 1])
def test_r_id_4_r_id_24_a_lock_ends_the_sessions_in_both_accounts(one: Identity, by: int) -> None:
    """R-ID-4, R-ID-24: at once, in whichever it is locked; and both are locked, and unlocked."""
    old, new, *both = two_accounts(one)
    link(one, new, old)
    opened = [one.opened("resident", str(account)) for account in both]
    lock(one, both[by])
    assert not any(lives(one, each) for each in opened)
    assert all(card(one, account).locked for account in both)
    unlock(one, registered(new))
    assert not any(card(one, account).locked for account in both)
    for account in both:
        assert statuses(one, account) == [(True, True, 2), (True, False, 3)]


def test_r_id_4_r_id_24_accounts_that_are_linked_after_a_lock_are_both_locked(one: Identity) -> None:
    """R-ID-4, R-ID-24: with their sessions; a death that is told by the same answer has the next version."""
    old, new, first, second = two_accounts(one)
    lock(one, first)
    opened = one.opened("resident", str(second))
    link(one, new, old)
    assert not lives(one, opened)
    assert card(one, second).locked
    dead = registered(new, former=(old,), code="AV")
    one.run(lambda tx: residents.bring_up_to_date(tx, None, dead, NUMBER_KEY))
    assert statuses(one, second) == [(True, True, 2), (False, True, 3)]


def test_r_id_24_accounts_that_are_linked_one_after_another_are_all_one_persons(one: Identity) -> None:
    """R-ID-24: also where two that were linked each with another turn out to be one person's."""
    numbers = [new_number() for _ in range(4)]
    accounts = [take_in(one, registered(number)) for number in numbers]
    link(one, numbers[0], numbers[1])
    link(one, numbers[2], numbers[3])
    for _ in range(2):
        link(one, numbers[0], numbers[2])
    for account in accounts:
        assert one.run(lambda tx, account=account: resident_accounts.every_account(tx, account)) == sorted(accounts)
    for number, account in zip(numbers, accounts, strict=True):
        ask = identity.FindResident(identity_number=number)
        found = one.run(lambda tx, ask=ask: residents.find_resident(tx, ask, NUMBER_KEY))
        assert found.resident == account, "that by the number"
        assert {account, *found.linked} == set(accounts)
    stranger = take_in(one, registered(new_number()))
    assert one.run(lambda tx: resident_accounts.every_account(tx, stranger)) == [stranger]


def test_r_id_4_r_id_24_a_lock_reaches_accounts_that_only_an_earlier_answer_has_linked(one: Identity) -> None:
    """R-ID-4, R-ID-24: a third account that turns out to be the same person's is locked: so are the two."""
    numbers = [new_number() for _ in range(3)]
    first, second, third = (take_in(one, registered(number)) for number in numbers)
    link(one, numbers[1], numbers[0])
    lock(one, third)
    opened = [one.opened("resident", str(account)) for account in (first, second)]
    link(one, numbers[2], numbers[1])
    assert not any(lives(one, each) for each in opened)
    assert all(card(one, account).locked for account in (first, second, third))
    assert statuses(one, first) == [(True, True, 2)]
    with pytest.raises(Forbidden, match="login_locked"):
        take_in(one, registered(numbers[0]))


def learn(one: Identity, person: RegisteredPerson) -> None:
    one.run(lambda tx: residents.bring_up_to_date(tx, None, person, NUMBER_KEY))


def test_r_id_14_r_id_24_protection_reaches_linked_accounts_that_the_answer_does_not_name(one: Identity) -> None:
    """R-ID-13, R-ID-14, R-ID-24: the register may tell no other numbers of a protected person. Neither the record of
    the old number nor an older answer takes the mark away; one that names both does."""
    old, new, first, second = two_accounts(one)
    link(one, new, old)
    learn(one, registered(old, surname="Alm"))
    slow = registered(new, former=(old,))
    learn(one, registered(new, protected=True, place=None))
    hidden = (True, True, None)
    assert [one.kept(account) for account in (first, second)] == [hidden, hidden]
    assert card(one, first).name == "Eva Alm", "what it is called there is what its own record said"
    learn(one, slow)
    learn(one, registered(old, surname="Berg"))
    assert [one.kept(account) for account in (first, second)] == [hidden, hidden]
    assert card(one, first).name == "Eva Berg"
    learn(one, registered(new, former=(old,)))
    assert [one.kept(account)[0] for account in (first, second)] == [False, False]


def test_r_id_17_r_id_24_a_death_reaches_linked_accounts_that_the_answer_does_not_name(one: Identity) -> None:
    """R-ID-17, R-ID-21, R-ID-24: with their sessions; the record of the old number brings nobody back to life."""
    old, new, first, second = two_accounts(one)
    link(one, new, old)
    opened = [one.opened("resident", str(account)) for account in (first, second)]
    learn(one, registered(new, code="AV"))
    assert not any(lives(one, each) for each in opened)
    learn(one, registered(old))
    assert not any(card(one, account).active for account in (first, second))
    with pytest.raises(Forbidden, match="account_inactive"):
        take_in(one, registered(old))
    learn(one, registered(new, former=(old,)))
    assert all(card(one, account).active for account in (first, second))
    for account in (first, second):
        assert statuses(one, account) == [(False, False, 2), (True, False, 3)]


def test_r_id_18_an_unknown_code_is_logged_at_the_first_login_too(one: Identity, logged: Logged) -> None:
    """R-ID-18: the code, and nothing of the person."""
    number = new_number()
    resident = take_in(one, registered(number, code="ZZ"))
    take_in(one, registered(number, code="UV"))
    assert logged == [("warning", "unknown_deregistration_code", {"code": "ZZ"})]
    assert card(one, resident).active


# --- refreshing -----------------------------------------------------------------------------------------------------


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


@pytest.fixture
def made(rooms: Any) -> Iterator[Identity]:
    """One whose residents no other test has."""
    database = rooms.database("identity")
    alone = Identity(database.url)
    yield alone
    alone.database.dispose()
    database.drop()


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


# --- one's own sessions (R-ID-21) -----------------------------------------------------------------------------------


def own(one: Identity, caller: Caller) -> list[logging_in.Session]:
    return one.run(lambda tx: sessions.list_own(tx, logging_in.ListSessions()), caller).sessions


def test_r_id_21_people_see_and_end_their_own_sessions(one: Identity) -> None:
    """R-ID-21: live ones alone, and nobody else's."""
    person, other = new_person(), new_person()
    old = one.open("staff", person)
    one.moved += timedelta(minutes=31)
    first = one.open("staff", person)
    one.moved += timedelta(minutes=1)
    second = one.open("staff", person)
    stranger = one.open("staff", other)
    caller = Caller("staff", person, second)
    found = own(one, caller)
    assert [each.session for each in found] == [second, first]
    assert [each.this_one for each in found] == [True, False]
    for unknown in (stranger, uuid4()):
        with pytest.raises(NotFound):
            one.run(
                lambda tx, which=unknown: sessions.end_own(
                    tx, logging_in.EndSession(request_id=uuid4(), session=which)
                ),
                caller,
            )
    for _ in range(2):
        one.run(lambda tx: sessions.end_own(tx, logging_in.EndSession(request_id=uuid4(), session=first)), caller)
    assert [each.session for each in own(one, caller)] == [second]
    told = [body for body in one.told("rights_changed") if body["subject"] == person and body["ended_sessions"]]
    assert [body["ended_sessions"][0]["session"] for body in told] == [str(first)]
    assert [each.session for each in own(one, Caller("staff", other, stranger))] == [stranger]
    assert old not in {each.session for each in own(one, caller)}


# --- the keys of tokens (R-ID-21) -----------------------------------------------------------------------------------


def kid_of(opened: logging_in.SessionOpened) -> str:
    return str(jwt.get_unverified_header(opened.access_token)["kid"])


def test_r_id_21_keys_change_by_the_clock_and_at_once_and_every_token_stays_good(
    made: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-21: a key is used a minute after it was made; those before are trusted until their last token is dead."""
    monkeypatch.setattr(signing_keys, "_LOOK_AGAIN_SECONDS", -1.0)
    monkeypatch.setattr(clock, "now", lambda: made.now)
    own = made.desk.keys.own
    write_keys(tmp_path / "keys.json", {"identity": own._key})

    def told() -> list[str]:
        return made.run(lambda tx: signing_keys.public_keys(tx, identity.PublicKeys())).keys

    verifier = Verifier(tmp_path / "keys.json", told)
    monkeypatch.setattr(endorsed_keys, "_ASK_AGAIN_SECONDS", 0.0)
    person = new_person()
    first = made.opened("staff", person)
    assert verifier.verify(first.access_token).subject == person
    assert made.run(lambda tx: signing_keys.rotate(tx, own))
    assert kid_of(made.opened("staff", person)) == kid_of(first)
    made.moved += timedelta(minutes=2)
    second = made.opened("staff", person)
    assert kid_of(second) != kid_of(first)
    assert verifier.verify(second.access_token).subject == person
    assert not made.run(lambda tx: signing_keys.rotate(tx, own))

    change = identity.ChangeSigningKey(request_id=uuid4())
    made.run(lambda tx: signing_keys.change(tx, change, own))
    assert kid_of(made.opened("staff", person)) == kid_of(second)
    made.moved += timedelta(minutes=2)
    third = made.opened("staff", person)
    assert kid_of(third) not in (kid_of(first), kid_of(second))
    for token in (second, third):
        assert verifier.verify(token.access_token).subject == person
    made.moved += timedelta(minutes=20)
    assert made.run(lambda tx: signing_keys.rotate(tx, own)) is False
    assert len(told()) == 1

    withdrawn = made.opened("staff", person)
    made.run(lambda tx: signing_keys.change(tx, identity.ChangeSigningKey(request_id=uuid4(), withdraw=True), own))
    renewed = made.renew(withdrawn.renewal_token)
    assert kid_of(renewed) == kid_of(first)
    assert verifier.verify(renewed.access_token).subject == person
    verifier._learned._learn()  # type: ignore[union-attr]
    with pytest.raises(NotAuthenticated):
        verifier.verify(withdrawn.access_token)
    made.moved += timedelta(days=31)
    assert made.run(lambda tx: signing_keys.rotate(tx, own))
    made.moved += timedelta(days=61)
    assert kid_of(made.opened("staff", person)) == kid_of(first)


def test_keys_are_endorsed_anew_when_identitys_own_key_is_changed(made: Identity) -> None:
    """R-ID-21: else a change of that key would end what everybody trusts."""
    made.run(lambda tx: signing_keys.change(tx, identity.ChangeSigningKey(request_id=uuid4()), made.desk.keys.own))
    newer = Signer(Ed25519PrivateKey.generate(), "identity")
    made.run(lambda tx: signing_keys.rotate(tx, newer))
    told = made.run(lambda tx: signing_keys.public_keys(tx, identity.PublicKeys())).keys
    assert told
    assert all(newer.endorsed(one) for one in told)


def test_private_keys_stand_sealed_and_bound_to_their_names(made: Identity) -> None:
    """R-SYS-2"""
    for _ in range(2):
        made.run(lambda tx: signing_keys.change(tx, identity.ChangeSigningKey(request_id=uuid4()), made.desk.keys.own))
    first, second = made.rows("SELECT kid, sealed FROM signing_keys LIMIT 2")
    made.rows("UPDATE signing_keys SET sealed = %s WHERE kid = %s", first[1], second[0])
    with pytest.raises(SealBroken):
        made.run(lambda tx: signing_keys._opened(tx, tx.execute(select(table).where(table.c.kid == second[0])).one()))


# --- terms (R-ID-2, R-ID-3) -----------------------------------------------------------------------------------------


def test_r_id_2_what_was_accepted_is_read_again_word_for_word(made: Identity, tmp_path: Path) -> None:
    """R-ID-2, R-ID-3: whatever has become of the file since; and a new version asks again."""
    for kind in ("staff", "resident"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.md").write_text("Villkor, som de var")
    caller = Caller("staff", new_person(), uuid4())

    def shelf() -> terms.TermsShelf:
        return terms.TermsShelf.from_folder(tmp_path)

    def accept(version: str) -> None:
        request = logging_in.AcceptTerms(request_id=uuid4(), version=version)
        made.run(lambda tx: terms.accept(tx, request, shelf()), caller)

    def read(version: str | None = None) -> logging_in.Terms:
        return made.run(lambda tx: terms.read_terms(tx, logging_in.ReadTerms(version=version), shelf()), caller)

    accept("1")
    (tmp_path / "staff" / "1.md").write_text("Andra villkor under samma nummer")
    assert read().text == read("1").text == "Villkor, som de var"
    (tmp_path / "staff" / "2.md").write_text("Nya villkor")
    (tmp_path / "staff" / "1.md").unlink()
    assert (read().version, read().text, read().accepted_at) == ("2", "Nya villkor", None)
    assert read("1").text == "Villkor, som de var"
    accept("2")
    assert [one.version for one in read().accepted] == ["1", "2"]
    with pytest.raises(Conflict):
        accept("1")
