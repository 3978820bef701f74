"""Roles: given, taken, listed, numbered and told (R-ID-5 to R-ID-10)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.identity import contacts, revocations, roles
from shared.contracts import directory, identity
from shared.contracts.base import Role
from shared.database import migrate
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, OPERATOR, Identity, new_clinic, new_person

RECEIVER, HANDLER, LOCAL = Role.CASE_RECEIVER, Role.CASE_HANDLER, Role.LOCAL_ADMIN


@pytest.fixture(scope="module")
def one(rooms: Any) -> Iterator[Identity]:
    database = rooms.database("identity")
    made = Identity(database.url)
    yield made
    made.database.dispose()
    database.drop()


def test_the_migration_makes_what_the_tables_say(one: Identity) -> None:
    assert migrate.differences("identity", one.url) == []


def first(one: Identity, person: str) -> identity.FirstAdministrator:
    request = identity.MakeFirstAdministrator(request_id=uuid4(), person=person)
    return one.run(lambda tx: roles.make_first_administrator(tx, request, person), OPERATOR)


def test_r_id_6_the_first_regional_administrator_is_made_once(one: Identity) -> None:
    """R-ID-6: also when several operators try at the same time, and again when that one is gone."""
    people = [new_person() for _ in range(4)]
    outcomes: list[str] = []

    def attempt(person: str) -> None:
        try:
            outcomes.append(first(one, person).person)
        except Conflict as conflict:
            outcomes.append(str(conflict.reason))

    threads = [threading.Thread(target=attempt, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [made] = [one for one in outcomes if one in people]
    assert outcomes.count("administrator_exists") == 3
    assert one.staff(made).rights.is_regional_admin
    assert one.rows("SELECT role, change, by FROM role_history WHERE person = %s", made) == [
        ("regional_admin", "given", "operator:operator")
    ]
    one.rows("DELETE FROM regional_admins")
    with pytest.raises(Conflict):
        first(one, people[0])


def test_r_id_6_the_operator_makes_further_regional_administrators_and_takes_all_but_the_last(one: Identity) -> None:
    """R-ID-6, R-ID-10: in the history, told at once; never the only one, also where two are taken at the same time."""
    one.rows("DELETE FROM regional_admins")
    people = sorted(new_person() for _ in range(2))

    def give(person: str) -> list[str]:
        request = identity.GiveRegionalAdmin(request_id=uuid4(), person=person)
        return one.run(lambda tx: roles.give_regional_admin(tx, request, person), OPERATOR).people

    def take(person: str) -> list[str]:
        request = identity.TakeRegionalAdmin(request_id=uuid4(), person=person)
        return one.run(lambda tx: roles.take_regional_admin(tx, request, person), OPERATOR).people

    def told(person: str) -> list[bool]:
        return [each["regional"] for each in one.told("rights_changed") if each["subject"] == person]

    assert give(people[0]) == people[:1]
    assert give(people[1]) == give(people[1]) == people
    assert one.staff(people[1]).rights.is_regional_admin
    assert take(people[1]) == take(people[1]) == people[:1]
    assert not one.staff(people[1]).rights.is_regional_admin
    assert told(people[1]) == [True, False]
    assert one.rows("SELECT clinic, change, by FROM role_history WHERE person = %s ORDER BY seq", people[1]) == [
        (None, "given", "operator:operator"),
        (None, "taken", "operator:operator"),
    ]
    give(people[1])
    outcomes: list[str] = []

    def attempt(person: str) -> None:
        try:
            take(person)
        except Conflict as conflict:
            outcomes.append(str(conflict.reason))

    threads = [threading.Thread(target=attempt, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["last_administrator"]
    [(left,)] = one.rows("SELECT person FROM regional_admins")
    assert told(left)[-1] is True


def test_r_id_10_what_was_given_and_taken_is_only_added_to(one: Identity) -> None:
    """R-ID-6, R-ID-10: the database itself refuses to change or remove who gave and took what."""
    clinic, admin = one.clinic_with_admin()
    one.give(admin, clinic, new_person(), HANDLER)
    before = one.rows("SELECT * FROM role_history ORDER BY seq")
    for statement in ("UPDATE role_history SET by = 'x'", "DELETE FROM role_history", "TRUNCATE role_history"):
        with pytest.raises(psycopg.errors.RaiseException):
            one.rows(statement)
    assert one.rows("SELECT * FROM role_history ORDER BY seq") == before


def test_r_id_8_someone_new_is_added_in_the_same_step(one: Identity) -> None:
    """R-ID-5, R-ID-8: one person may have several roles at several clinics."""
    clinic, admin = one.clinic_with_admin()
    other, other_admin = one.clinic_with_admin()
    person = new_person()
    assert one.give(admin, clinic, person, HANDLER).roles == [HANDLER]
    assert one.give(admin, clinic, person, RECEIVER).roles == [RECEIVER, HANDLER]
    one.give(other_admin, other, person, HANDLER)
    rights = one.staff(person).rights
    assert rights.roles_at(clinic) == {RECEIVER, HANDLER}
    assert rights.roles_at(other) == {HANDLER}
    assert rights.roles_at(new_clinic()) == frozenset()


def test_r_id_7_a_pasted_hsa_id_works_and_nonsense_is_said_to_be_none(one: Identity) -> None:
    """R-ID-7"""
    clinic, admin = one.clinic_with_admin()
    person = new_person()
    pasted = f" \u00a0{person[:7].lower()}\u200b {person[7:]}\t"
    assert one.give(admin, clinic, pasted, HANDLER).person == person
    with pytest.raises(Invalid) as caught:
        roles.hsa_id_of("Eva Ek")
    assert caught.value.fields == (("person", "är inget HSA-id"),)


def test_r_id_6_nobody_gives_rights_where_they_administer_nothing(one: Identity) -> None:
    """R-ID-6"""
    clinic, admin = one.clinic_with_admin()
    elsewhere, _ = one.clinic_with_admin()
    person = new_person()
    for caller, place, role in (
        (admin, elsewhere, HANDLER),
        (one.staff(person), clinic, HANDLER),
        (admin, clinic, Role.LOG_REVIEWER),
        (admin, clinic, Role.OPERATIONS_MANAGER),
        (one.regional_admin(), clinic, HANDLER),
    ):
        with pytest.raises(Forbidden):
            one.give(caller, place, person, role)
        with pytest.raises(Forbidden):
            one.take(caller, place, person, role)
    assert one.rows("SELECT 1 FROM roles WHERE person = %s", person) == []


def test_r_id_6_who_lost_the_right_in_between_gives_nothing(one: Identity) -> None:
    """R-ID-6, R-ID-10: rights are looked at again where nobody else can change them."""
    clinic, admin = one.clinic_with_admin()
    regional = one.regional_admin()
    one.take(regional, clinic, admin.subject, LOCAL)
    assert admin.rights.roles_at(clinic) == {LOCAL}
    with pytest.raises(Forbidden):
        one.give(admin, clinic, new_person(), HANDLER)


def test_r_id_6_who_is_missing_in_hsa_is_no_administrator_who_stays(one: Identity) -> None:
    """R-ID-6: they can never log in. Taken themselves, they leave the clinic no poorer."""
    clinic, admin = one.clinic_with_admin()
    gone = new_person()
    one.give(admin, clinic, gone, LOCAL)
    with pytest.raises(Conflict) as caught:
        one.take(admin, clinic, admin.subject, LOCAL, missing={gone})
    assert caught.value.reason == "last_administrator"
    one.take(admin, clinic, gone, LOCAL, missing={gone})
    one.give(admin, clinic, gone, LOCAL)
    one.take(admin, clinic, admin.subject, LOCAL)  # nobody could tell


def test_r_id_6_the_last_administrator_stays_unless_the_region_says_so(one: Identity) -> None:
    """R-ID-6: also when two administrators take each other at the same time."""
    clinic, admin = one.clinic_with_admin()
    with pytest.raises(Conflict) as caught:
        one.take(admin, clinic, admin.subject, LOCAL)
    assert caught.value.reason == "last_administrator"
    second = new_person()
    one.give(admin, clinic, second, LOCAL)
    outcomes: list[str] = []

    def attempt(caller: Caller, victim: str) -> None:
        try:
            one.take(caller, clinic, victim, LOCAL)
            outcomes.append("taken")
        except (Conflict, Forbidden) as refused:
            outcomes.append(str(refused.reason))

    other = one.staff(second)
    threads = [
        threading.Thread(target=attempt, args=(admin, second)),
        threading.Thread(target=attempt, args=(other, admin.subject)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["may_not_take_role", "taken"]
    [(last,)] = one.rows("SELECT person FROM roles WHERE clinic = %s AND role = 'local_admin'", clinic)
    assert one.take(one.regional_admin(), clinic, last, LOCAL).roles == []


def test_r_id_10_every_change_has_the_next_number_and_is_told(one: Identity) -> None:
    """R-ID-10: without gaps, in their order, also from many at once; what changes nothing takes no number."""
    clinic, admin = one.clinic_with_admin()
    people = [new_person() for _ in range(5)]

    def change(person: str) -> None:
        one.give(admin, clinic, person, HANDLER)
        one.give(admin, clinic, person, HANDLER)
        one.take(admin, clinic, person, HANDLER)
        one.take(admin, clinic, person, HANDLER)

    threads = [threading.Thread(target=change, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = one.told("rights_changed")
    numbers = [body["number"] for body in told]
    assert numbers == list(range(1, len(numbers) + 1))
    with one.database.engine.connect() as connection:
        assert revocations.latest_number(connection) == numbers[-1]
    for person in people:
        mine = [body for body in told if body["subject"] == person]
        assert [body["roles"] for body in mine] == [[{"clinic": clinic, "role": "case_handler"}], []]
        assert mine[0]["version"] < mine[1]["version"]
    history = one.rows(
        "SELECT person, change, by FROM role_history WHERE clinic = %s AND role = %s", clinic, "case_handler"
    )
    assert len(history) == 2 * len(people)
    assert {by for _, _, by in history} == {f"staff:{admin.subject}"}


def test_r_id_10_current_rights_answers_what_holds_now(one: Identity) -> None:
    """R-ID-10"""
    clinic, admin = one.clinic_with_admin()

    def now(subject: str, session: UUID | None) -> identity.RightsNow:
        question = identity.CurrentRights(subject=subject, session=session)
        return one.run(lambda tx: revocations.current_rights(tx, question))

    answer = now(admin.subject, admin.session)
    assert answer.session_live
    assert [(held.clinic, held.role) for held in answer.roles] == [(clinic, LOCAL)]
    one.take(one.regional_admin(), clinic, admin.subject, LOCAL)
    later = now(admin.subject, admin.session)
    assert later.roles == []
    assert later.number == answer.number + 1
    assert not now(new_person(), admin.session).session_live
    assert not now(admin.subject, uuid4()).session_live
    with one.database.engine.connect() as connection, pytest.raises(NotAuthenticated):
        revocations.rights_source(connection, Caller("staff", admin.subject, uuid4()))


def test_r_id_9_the_list_says_who_is_missing_in_the_directory(one: Identity) -> None:
    """R-ID-9"""
    clinic, admin = one.clinic_with_admin()
    gone, protected = new_person(), new_person()
    one.give(admin, clinic, gone, RECEIVER)
    one.give(admin, clinic, protected, HANDLER)
    request = identity.ListRights(clinic=clinic)
    held = one.run(lambda tx: roles.people_at(tx, request), one.staff(admin.subject))
    facts = [
        directory.StaffFacts(person=admin.subject, status="fine", given_name="Eva", surname="Ek", title="Läkare"),
        directory.StaffFacts(person=protected, status="fine", given_name="Bo", surname="Al", protected=True),
    ]
    people = {each.person: each for each in roles.with_directory(held, facts, {}, None).people}
    assert {each.overlapping_addresses for each in people.values()} == {None}
    assert people[gone].directory_status == "missing"
    assert people[gone].roles == [RECEIVER]
    assert (people[admin.subject].directory_status, people[admin.subject].title) == ("fine", "Läkare")
    assert people[protected].protected
    with pytest.raises(Forbidden):
        one.run(lambda tx: roles.people_at(tx, request), one.staff(protected))


def test_r_id_10_the_list_says_which_of_the_clinics_addresses_are_a_persons_own(one: Identity) -> None:
    """R-ID-10: unknown where notifications could not tell."""
    person, other = new_person(), new_person()
    facts = [directory.StaffFacts(person=person, status="fine", email="shared@vard.example")]
    held = {person: [RECEIVER], other: [HANDLER]}
    own = {person: ["shared@vard.example"]}

    def found(overlapping: list[str] | None) -> list[list[str] | None]:
        people = roles.with_directory(held, facts, own, overlapping).people
        return [each.overlapping_addresses for each in people]

    assert found(["shared@vard.example"]) == [["shared@vard.example"], []]
    assert found([]) == [[], []]
    assert found(None) == [None, None]


def test_r_id_10_r_not_9_a_persons_own_addresses_are_that_of_hsa_and_the_verified_one(one: Identity) -> None:
    """R-ID-10, R-NOT-9: one that was only set is not theirs yet."""
    person, nobody = new_person(), new_person()
    caller = Caller("staff", person, uuid4())
    facts = [directory.StaffFacts(person=person, status="fine", email="eva@vard.example")]
    facts.append(directory.StaffFacts(person=nobody, status="missing"))

    def own() -> dict[str, list[str]]:
        return one.run(lambda tx: contacts.own_mail(tx, None, facts, NUMBER_KEY))

    setting = identity.SetContact(request_id=uuid4(), email="Eva@example.org", mobile="0701740605")
    one.run(lambda tx: contacts.set_contact(tx, setting, NUMBER_KEY), caller)
    assert own() == {person: ["eva@vard.example"], nobody: []}
    hashed = contacts.address_hash(NUMBER_KEY, "email", "Eva@example.org")
    one.run(lambda tx: contacts.verify(tx, "email", hashed), caller)
    assert own() == {person: ["eva@vard.example", "Eva@example.org"], nobody: []}


def test_r_id_6_what_someone_holds_is_told_to_those_who_may_know(one: Identity) -> None:
    """R-ID-5, R-ID-6: all of it to the region and to themselves, else of clinics where the asker administers."""
    clinic, admin = one.clinic_with_admin()
    other, other_admin = one.clinic_with_admin()
    person = new_person()
    one.give(admin, clinic, person, HANDLER)
    one.give(other_admin, other, person, RECEIVER)

    def seen(caller: Caller, whom: str = person) -> list[tuple[str, Role]]:
        request = identity.ListRolesOf(person=whom)
        found = one.run(lambda tx: roles.roles_of(tx, request, whom), caller)
        return [(held.clinic, held.role) for held in found.roles]

    whole = sorted([(clinic, HANDLER), (other, RECEIVER)])
    assert seen(one.regional_admin()) == seen(one.staff(person)) == whole
    assert seen(one.staff(admin.subject)) == [(clinic, HANDLER)]
    assert seen(one.staff(new_person())) == []
    regional = one.regional_admin()
    request = identity.ListRolesOf(person=regional.subject)
    assert one.run(lambda tx: roles.roles_of(tx, request, regional.subject), regional).regional
    assert not one.run(lambda tx: roles.roles_of(tx, request, regional.subject), one.staff(admin.subject)).regional


def test_r_id_6_who_gave_and_took_what_can_be_read_page_by_page(one: Identity) -> None:
    """R-ID-6"""
    clinic, admin = one.clinic_with_admin()
    person = new_person()
    one.give(admin, clinic, person, HANDLER)
    one.take(admin, clinic, person, HANDLER)
    admin = one.staff(admin.subject)

    def read(caller: Caller, **limits: Any) -> identity.RoleHistory:
        request = identity.ListRoleHistory(clinic=clinic, **limits)
        return one.run(lambda tx: roles.history(tx, request), caller)

    whole = read(admin)
    assert [(each.person, each.role, each.change) for each in whole.changes] == [
        (person, HANDLER, "taken"),
        (person, HANDLER, "given"),
        (admin.subject, LOCAL, "given"),
    ]
    assert {each.by for each in whole.changes[:2]} == {f"staff:{admin.subject}"}
    first = read(admin, limit=2)
    assert (first.more, first.changes) == (True, whole.changes[:2])
    assert read(admin, before=first.changes[-1].number).changes == whole.changes[2:]
    assert len(read(admin, person=person).changes) == 2
    with pytest.raises(Forbidden):
        read(one.staff(new_person()))


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (
            lambda: roles.require_in_directory(directory.StaffFacts(person=new_person(), status="missing")),
            "staff_missing_in_directory",
        ),
        (lambda: roles.require_active(new_clinic(), directory.Clinics(clinics=[])), "clinic_not_active"),
    ],
)
def test_r_id_8_only_people_in_hsa_and_active_clinics(check: Callable[[], None], reason: str) -> None:
    """R-ID-8"""
    with pytest.raises((Invalid, Conflict)) as caught:
        check()
    assert caught.value.reason == reason


def test_r_id_6_nobody_makes_oneself_a_log_reviewer(one: Identity) -> None:
    """R-ID-6, R-CASE-18: another regional administrator has to; an administrator may well handle cases."""
    regional, another, clinic = one.regional_admin(), one.regional_admin(), new_clinic()
    with pytest.raises(Forbidden) as caught:
        one.give(regional, clinic, regional.subject, Role.LOG_REVIEWER)
    assert caught.value.reason == "not_to_oneself"
    assert one.give(another, clinic, regional.subject, Role.LOG_REVIEWER).roles == [Role.LOG_REVIEWER]
    one.give(regional, clinic, regional.subject, Role.LOCAL_ADMIN)
    own = one.staff(regional.subject)
    assert Role.CASE_HANDLER in one.give(own, clinic, own.subject, Role.CASE_HANDLER).roles
