"""Several numbers of one person: which account they lead to, and what holds in all of them, on a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.identity import resident_accounts, residents
from services.identity.population_register import RegisteredPerson
from shared.contracts import identity, logging_in
from shared.messaging.errors import Forbidden, NotAuthenticated
from shared.security.caller import Caller
from tests.integration.identity_support import (
    NUMBER_KEY,
    Identity,
    card,
    find,
    lock,
    new_number,
    registered,
    statuses,
    take_in,
    two_accounts,
    unlock,
)


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
