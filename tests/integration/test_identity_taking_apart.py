"""Taking apart two people whom the register has told to be one by mistake, on a database (R-SYS-1, R-ID-24)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.identity import resident_accounts, residents, taking_apart
from services.identity.population_register import RegisteredPerson
from shared.contracts import identity, logging_in
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, OPERATOR, Identity, new_number, registered


def take_apart(one: Identity, resident: UUID, number: str) -> list[UUID]:
    request = identity.TakeApart(request_id=uuid4(), resident=resident, identity_number=number)
    return one.run(lambda tx: taking_apart.take_apart(tx, request, NUMBER_KEY), OPERATOR).residents


def learn(one: Identity, person: RegisteredPerson) -> None:
    one.run(lambda tx: residents.bring_up_to_date(tx, None, person, NUMBER_KEY))


def card(one: Identity, resident: UUID) -> identity.ResidentCard:
    request = identity.ResidentCards(residents=[resident])
    [found] = one.run(lambda tx: residents.resident_cards(tx, request)).cards
    return found


def accounts_of(one: Identity, resident: UUID) -> list[UUID]:
    return one.run(lambda tx: resident_accounts.every_account(tx, resident))


def lives(one: Identity, opened: logging_in.SessionOpened) -> bool:
    try:
        one.renew(opened.renewal_token)
    except NotAuthenticated:
        return False
    return True


def history(one: Identity, resident: UUID) -> list[tuple[Any, ...]]:
    return one.rows("SELECT other, number, by FROM taken_apart WHERE resident = %s ORDER BY seq", resident)


def joined(one: Identity) -> tuple[str, str, UUID]:
    """A number, that of somebody else which the register told to be the same person's, and the account of both."""
    number, others = new_number(), new_number()
    resident = one.take_in(registered(number, former=(others,)))
    return number, others, resident


def linked(one: Identity, *numbers: str) -> list[UUID]:
    """Accounts by numbers that the register told, by mistake, to be one person's."""
    accounts = [one.take_in(registered(number)) for number in numbers]
    learn(one, registered(numbers[0], former=numbers[1:]))
    return accounts


def test_r_sys_1_r_id_24_a_number_that_was_taken_out_gets_an_account_of_its_own(one: Identity) -> None:
    """R-SYS-1, R-ID-24: the sessions of all end, and it is kept who did it."""
    number, others, resident = joined(one)
    opened = one.opened("resident", str(resident))
    with pytest.raises(Forbidden, match="number_to_be_looked_at"):
        one.take_in(registered(others))
    assert take_apart(one, resident, f"{others[:8]}-{others[8:]}") == [resident]
    assert not lives(one, opened)
    told = [body for body in one.told("rights_changed") if body["subject"] == str(resident)]
    assert len(told[-1]["ended_sessions"]) == 1
    other = one.take_in(registered(others, given_name="Bo"))
    assert other != resident
    assert one.take_in(registered(number)) == resident
    assert (card(one, other).name, card(one, resident).identity_number) == ("Bo Ek", number)
    assert history(one, resident) == [(None, NUMBER_KEY.hash(others), OPERATOR.identity)]


def test_r_id_24_where_the_others_number_is_in_force_the_one_that_is_left_is_so_again(one: Identity) -> None:
    """R-ID-24, R-ID-14: the register is asked about them at the next run, whatever was learnt meanwhile."""
    number, others = new_number(), new_number()
    resident = one.take_in(registered(number))
    learn(one, registered(others, former=(number,), given_name="Bo", protected=True, place=None))
    assert card(one, resident).identity_number == others
    take_apart(one, resident, others)
    assert card(one, resident).identity_number == number
    assert one.rows("SELECT 1 FROM residents WHERE resident = %s AND looked_up_at = 'epoch'", resident)
    learn(one, registered(number))
    assert (card(one, resident).name, card(one, resident).protected) == ("Eva Ek", False)


def test_r_sys_1_r_id_24_accounts_that_were_linked_are_two_peoples_again(one: Identity) -> None:
    """R-SYS-1, R-ID-4, R-ID-14, R-ID-24: what is so of one is no longer so of the other."""
    numbers = [new_number() for _ in range(3)]
    accounts = linked(one, *numbers)
    opened = [one.opened("resident", str(account)) for account in accounts]
    assert sorted(take_apart(one, accounts[0], numbers[2])) == sorted(accounts)
    assert not any(lives(one, each) for each in opened)
    assert accounts_of(one, accounts[2]) == [accounts[2]]
    assert accounts_of(one, accounts[0]) == sorted(accounts[:2])
    learn(one, registered(numbers[0], protected=True, place=None))
    assert [one.kept(account)[0] for account in accounts] == [True, True, False]
    request = logging_in.LockLogin(request_id=uuid4())
    one.run(lambda tx: residents.lock(tx, request), Caller("resident", str(accounts[2]), uuid4()))
    assert [card(one, account).locked for account in accounts] == [False, False, True]
    assert history(one, accounts[0]) == [(accounts[2], NUMBER_KEY.hash(numbers[2]), OPERATOR.identity)]
    take_apart(one, accounts[0], numbers[1])
    assert not one.rows("SELECT 1 FROM linked_accounts WHERE resident = ANY(%s)", accounts)


def test_r_id_11_r_id_19_what_rested_on_their_being_one_person_ends(one: Identity) -> None:
    """R-ID-11, R-ID-19, R-ID-24: custody, until the register has told of it again, and reports, which are of both."""
    numbers = [new_number(), new_number()]
    accounts = linked(one, *numbers)
    child, stranger = (one.take_in(registered(new_number())) for _ in range(2))
    for guardian in (accounts[1], stranger):
        one.rows("INSERT INTO guardianships VALUES (%s, %s, '2090-01-01', now())", guardian, child)
    for resident in (accounts[1], stranger):
        one.rows("INSERT INTO reports VALUES (gen_random_uuid(), %s, now())", resident)
    take_apart(one, accounts[0], numbers[1])
    left = one.rows("SELECT guardian FROM guardianships WHERE child = %s AND ended_at IS NULL", child)
    assert left == [(stranger,)]
    assert one.rows("SELECT resident FROM reports WHERE resident = ANY(%s)", [*accounts, stranger]) == [(stranger,)]


def test_r_id_24_only_what_is_together_is_taken_apart(one: Identity) -> None:
    """R-ID-24: nobody loses the only number, and nothing changes."""
    number, others, resident = joined(one)
    strangers = new_number()
    stranger = one.take_in(registered(strangers))
    for account, wrong, reason in (
        (resident, strangers, "not_together"),
        (resident, new_number(), "not_together"),
        (uuid4(), number, "not_together"),
        (stranger, strangers, "only_number"),
    ):
        with pytest.raises(Conflict) as caught:
            take_apart(one, account, wrong)
        assert caught.value.reason == reason
    with pytest.raises(Invalid):
        take_apart(one, resident, "Eva Ek")
    assert history(one, resident) == history(one, stranger) == []
    take_apart(one, resident, others)
    for statement in ("UPDATE taken_apart SET by = 'x'", "DELETE FROM taken_apart", "TRUNCATE taken_apart"):
        with pytest.raises(psycopg.errors.RaiseException):
            one.rows(statement)
