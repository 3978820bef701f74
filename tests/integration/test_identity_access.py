"""Access to clinics, listings, my clinics, blocked guardians, on a database (R-ID-13, R-ID-15, R-ID-22, R-ID-23)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.identity import approvals, clinic_access, listings, representation
from services.identity.population_register import Place
from shared.contracts import access, directory
from shared.contracts.base import Role
from shared.messaging.errors import Conflict, Forbidden, Invalid, LimitExceeded, NotFound, Unavailable
from shared.operations.clock import SWEDEN
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, Identity, new_clinic, new_number, new_person, registered


def taken_in(one: Identity, number: str, **facts: Any) -> UUID:
    return one.take_in(registered(number, **facts))


def counties(**of: str | None) -> directory.Clinics:
    return directory.Clinics(
        clinics=[
            directory.ClinicFacts(
                clinic=clinic,
                name="",
                care_provider="",
                care_provider_name="",
                active=True,
                in_directory=True,
                end_date=None,
                county_code=county,
                municipality_code=None,
            )
            for clinic, county in of.items()
        ]
    )


def asked(one: Identity, resident: UUID, *clinics: str, guardian: UUID | None = None, places: Any = None) -> Any:
    """As the service does it; `places`: what the directory says."""
    request = access.AccessToClinics(resident=resident, clinics=list(clinics), guardian=guardian)
    found = one.run(lambda tx: clinic_access.facts(tx, request))
    if wanted := found.to_ask(request.clinics):
        assert places is not None, "the directory is asked"
        one.run(lambda tx: clinic_access.keep_places(tx, request, wanted, counties(**places)))
        found = one.run(lambda tx: clinic_access.facts(tx, request))
    return one.run(lambda tx: clinic_access.decide(tx, request, found)).access


def approve(one: Identity, admin: Caller, clinic: str, number: str, **limits: Any) -> UUID:
    request = access.ApproveResident(request_id=uuid4(), clinic=clinic, identity_number=number, **limits)
    return one.run(lambda tx: approvals.approve(tx, request, NUMBER_KEY), admin).approval


def limit(one: Identity, admin: Caller, clinic: str, **area: list[str]) -> None:
    request = access.SetCatchment(request_id=uuid4(), clinic=clinic, **area)
    one.run(lambda tx: approvals.set_catchment(tx, request), admin)


def import_(one: Identity, *lines: tuple[str, str | None, timedelta]) -> access.ListingsImported:
    request = access.ImportListings(
        request_id=uuid4(),
        listings=[access.Listing(identity_number=number, clinic=at, as_of=one.now + ago) for number, at, ago in lines],
    )
    return one.run(lambda tx: listings.take_in(tx, request, NUMBER_KEY))


AGO = -timedelta(hours=1)


def test_r_id_22_catchment_and_approval(one: Identity) -> None:
    """R-ID-22: limited to an area, let in one by one, with limits, taken back; without an account too."""
    clinic, admin = one.clinic_with_admin()
    number, types = new_number(), [uuid4()]
    limit(one, admin, clinic, counties=["13"], municipalities=["1481"])
    first = approve(one, admin, clinic, f" {number[:8]}-{number[8:]} ", case_types=types)
    resident = taken_in(one, number, place=Place(county_code="14", municipality_code="80"))
    open_to_all = new_clinic()
    [there, everywhere] = asked(one, resident, clinic, open_to_all)
    assert (there.allowed, there.case_types, everywhere.allowed) == (True, types, True)
    second = approve(one, admin, clinic, number, last_day=one.now.astimezone(SWEDEN).date())
    [there] = asked(one, resident, clinic)
    assert (there.allowed, there.case_types) == (True, None)
    one.moved = timedelta(days=1)
    [there] = asked(one, resident, clinic)
    assert (there.allowed, there.reason) == (False, "outside_catchment")
    page = one.run(lambda tx: approvals.list_approvals(tx, access.ListApprovals(clinic=clinic)), admin)
    assert [(one.approval, one.holds, one.name, one.identity_number) for one in page.approvals] == [
        (second, False, "Eva Ek", number)
    ]
    third = approve(one, admin, clinic, number)
    assert asked(one, resident, clinic)[0].allowed
    withdraw = access.WithdrawApprovals(request_id=uuid4(), clinic=clinic, approvals=[first, third, uuid4()])
    assert one.run(lambda tx: approvals.withdraw(tx, withdraw), admin).withdrawn == [third]
    assert not asked(one, resident, clinic)[0].allowed
    limit(one, admin, clinic)
    assert asked(one, resident, clinic)[0].allowed


def test_r_id_22_whoever_lives_inside_needs_no_approval(one: Identity) -> None:
    """R-ID-22: by county, by municipality."""
    clinic, admin = one.clinic_with_admin()
    limit(one, admin, clinic, municipalities=["1480"])
    inside = taken_in(one, new_number(), place=Place(county_code="14", municipality_code="80"))
    beside = taken_in(one, new_number(), place=Place(county_code="14", municipality_code="81"))
    assert asked(one, inside, clinic)[0].allowed
    assert not asked(one, beside, clinic)[0].allowed
    read = one.run(lambda tx: approvals.get_catchment(tx, access.GetCatchment(clinic=clinic)), admin)
    assert (read.counties, read.municipalities) == ([], ["1480"])


def test_r_id_15_the_protected_outside_their_county(one: Identity) -> None:
    """R-ID-15: the directory is asked in which county the clinics lie, and not again within a day."""
    near, _ = one.clinic_with_admin()
    far, far_admin = one.clinic_with_admin()
    listed, number = new_clinic(), new_number()
    resident = taken_in(one, number, protected=True, place=None)
    places = {near: "14", far: "13", listed: "14"}
    assert [one.reason for one in asked(one, resident, near, far, places=places)] == ["protected_outside_county"] * 2
    import_(one, (number, listed, AGO))
    answers = asked(one, resident, near, far, listed, places=places)
    assert [one.allowed for one in answers] == [True, False, True]
    assert [one.allowed for one in asked(one, resident, near, far, listed)] == [True, False, True]
    approve(one, far_admin, far, number)
    assert asked(one, resident, far)[0].allowed
    one.moved = timedelta(hours=25)
    request = access.AccessToClinics(resident=resident, clinics=[near])
    stale = one.run(lambda tx: clinic_access.facts(tx, request))
    assert stale.to_ask([near]) == sorted([near, listed])
    clinic_access.require_known(stale, [near])  # the directory is down: what was known yesterday will do
    with pytest.raises(Unavailable):
        clinic_access.require_known(stale, [near, new_clinic()])


def test_r_id_15_what_the_asker_knows_of_places_is_not_asked_for(one: Identity) -> None:
    """R-ID-15, R-DIR-13: a search in the directory; its word about places is believed over what was kept."""
    near, far, listed, number = new_clinic(), new_clinic(), new_clinic(), new_number()
    resident = taken_in(one, number, protected=True, place=None)
    import_(one, (number, listed, AGO))
    asked(one, resident, near, listed, places={near: "13", listed: "14"})
    request = access.AccessToClinics(
        resident=resident,
        clinics=[near, far],
        places=[access.ClinicPlace(clinic=near, county_code="14"), access.ClinicPlace(clinic=far)],
    )
    found = one.run(lambda tx: clinic_access.facts(tx, request))
    assert found.to_ask(request.clinics) == []
    answers = one.run(lambda tx: clinic_access.decide(tx, request, found)).access
    assert [answer.allowed for answer in answers] == [True, False]


def test_r_id_15_an_ordinary_resident_costs_no_question_to_the_directory(one: Identity) -> None:
    """R-ID-15, R-ID-22: nor does one whom nobody knows."""
    resident = taken_in(one, new_number())
    clinics = [new_clinic() for _ in range(3)]
    assert [one.clinic for one in asked(one, resident, *clinics)] == clinics
    assert [one.reason for one in asked(one, uuid4(), clinics[0])] == ["unknown_resident"]


def test_r_id_22_only_those_who_administer_there(one: Identity) -> None:
    """R-ID-6, R-ID-22: neither receivers nor administrators of other clinics, and bad input is told."""
    clinic, admin = one.clinic_with_admin()
    _, stranger = one.clinic_with_admin()
    receiver = new_person()
    one.give(admin, clinic, receiver, Role.CASE_RECEIVER)
    for caller in (stranger, one.staff(receiver)):
        for refused in (
            lambda who: approve(one, who, clinic, new_number()),
            lambda who: limit(one, who, clinic),
            lambda who: one.run(lambda tx: approvals.list_approvals(tx, access.ListApprovals(clinic=clinic)), who),
            lambda who: one.run(lambda tx: approvals.get_catchment(tx, access.GetCatchment(clinic=clinic)), who),
            lambda who: block(one, who, clinic, new_number(), new_number()),
            lambda who: blocked_at(one, who, clinic),
        ):
            with pytest.raises(Forbidden):
                refused(caller)
    with pytest.raises(Invalid):
        approve(one, admin, clinic, "Eva Ek")
    with pytest.raises(Invalid):
        approve(one, admin, clinic, new_number(), last_day=one.now.date() - timedelta(days=2))
    with pytest.raises(NotFound):
        strange = access.ListApprovals(clinic=clinic, after=uuid4())
        one.run(lambda tx: approvals.list_approvals(tx, strange), admin)
    other = approve(one, admin, clinic, new_number())
    foreign = access.WithdrawApprovals(request_id=uuid4(), clinic=clinic, approvals=[other])
    with pytest.raises(Forbidden):
        one.run(lambda tx: approvals.withdraw(tx, foreign), stranger)


def test_r_id_14_the_list_of_approvals_pages_and_marks_the_protected(one: Identity) -> None:
    """R-ID-14, R-ID-22"""
    clinic, admin = one.clinic_with_admin()
    numbers = [new_number() for _ in range(5)]
    taken_in(one, numbers[4], protected=True, place=None)
    for step, number in enumerate(numbers):
        one.moved = timedelta(seconds=step)
        approve(one, admin, clinic, number)
    seen: list[access.Approval] = []
    after, more = None, True
    while more:
        request = access.ListApprovals(clinic=clinic, after=after, limit=2)
        page = one.run(lambda tx, asked=request: approvals.list_approvals(tx, asked), admin)
        seen, more = seen + page.approvals, page.more
        after = seen[-1].approval
    assert [one.identity_number for one in seen] == numbers[::-1]
    assert [one.protected for one in seen] == [True, False, False, False, False]


def test_r_id_22_r_id_24_approvals_by_several_numbers_of_one_person_hold_together(one: Identity) -> None:
    """R-ID-22, R-ID-24: given before anyone knew that they are one person's. One that has passed, or is for some case
    types, takes nothing from another."""
    clinic, admin = one.clinic_with_admin()
    limit(one, admin, clinic, counties=["13"])
    types = sorted(uuid4() for _ in range(2))
    numbers = [new_number() for _ in range(4)]
    yesterday = one.now.astimezone(SWEDEN).date() - timedelta(days=1)
    for number, limits in zip(
        numbers,
        [{"last_day": yesterday}, {"case_types": types[:1]}, {"case_types": types[1:]}, {"last_day": yesterday}],
        strict=True,
    ):
        one.moved = -timedelta(days=2)
        approve(one, admin, clinic, number, **limits)
    one.moved = timedelta()
    resident = taken_in(one, numbers[0], former=tuple(numbers[1:]))
    [there] = asked(one, resident, clinic)
    assert (there.allowed, there.case_types) == (True, types)


def test_r_id_22_r_id_24_an_approval_replaces_one_by_another_number_of_the_person(one: Identity) -> None:
    """R-ID-22, R-ID-24: what is limited by the new number is not let in by the old one."""
    clinic, admin = one.clinic_with_admin()
    other, elsewhere = one.clinic_with_admin()
    limit(one, admin, clinic, counties=["13"])
    old, new, types = new_number(), new_number(), [uuid4()]
    for where, who in ((clinic, admin), (other, elsewhere)):
        approve(one, who, where, old)
    resident = taken_in(one, new, former=(old,))
    approval = approve(one, admin, clinic, new, case_types=types)
    assert asked(one, resident, clinic)[0].case_types == types
    found = one.run(lambda tx: approvals.list_approvals(tx, access.ListApprovals(clinic=clinic)), admin).approvals
    assert [each.approval for each in found] == [approval]
    kept = one.run(lambda tx: approvals.list_approvals(tx, access.ListApprovals(clinic=other)), elsewhere).approvals
    assert [each.identity_number for each in kept] == [old]


def test_r_id_22_r_id_24_approvals_by_two_numbers_at_once_leave_one(one: Identity) -> None:
    """R-ID-22, R-ID-24: two administrators, each by another number of the person."""
    clinic, admin = one.clinic_with_admin()
    for _ in range(5):
        numbers = [new_number() for _ in range(2)]
        taken_in(one, numbers[0], former=(numbers[1],))
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda number: approve(one, admin, clinic, number), numbers))
        request = access.ListApprovals(clinic=clinic, limit=100)
        found = one.run(lambda tx, asked=request: approvals.list_approvals(tx, asked), admin).approvals
        assert len({each.approval for each in found} & set(made)) == 1


# --- listings and my clinics ----------------------------------------------------------------------------------------


def test_r_id_23_imports_are_harmless_when_repeated_and_in_any_order(one: Identity) -> None:
    """R-ID-23: the newest stands; what can't be used is named and the rest kept."""
    number, other = new_number(), new_number()
    resident = taken_in(one, number)
    first, second = new_clinic(), new_clinic()
    told = import_(one, (number, first, AGO), ("nonsense", first, AGO), (other, first, timedelta(days=1)))
    assert (told.changed, told.unchanged) == (1, 0)
    assert [(one.position, one.reason) for one in told.refused] == [
        (1, "not_an_identity_number"),
        (2, "from_the_future"),
    ]
    assert import_(one, (number, second, AGO / 2)).changed == 1
    for again in ((number, first, AGO), (number, first, AGO / 2 - timedelta(seconds=1))):
        assert (lambda told: (told.changed, told.unchanged))(import_(one, again)) == (0, 1)
    assert one.run(lambda tx: listings.listed_at(tx, resident)) == second
    # The same person twice in one batch: the newer line, whichever comes first.
    assert import_(one, (number, None, AGO / 4), (number, first, AGO / 3)).changed == 1
    assert one.run(lambda tx: listings.listed_at(tx, resident)) is None


def test_r_id_23_my_clinics_always_has_the_one_where_the_resident_is_listed(one: Identity) -> None:
    """R-ID-23"""
    number, listed, added = new_number(), new_clinic(), new_clinic()
    resident = taken_in(one, number)
    me = Caller("resident", str(resident), uuid4())
    import_(one, (number, listed, AGO))

    def add(clinic: str) -> list[tuple[str, bool]]:
        request = access.AddMyClinic(request_id=uuid4(), clinic=clinic)
        return shown(one.run(lambda tx: listings.add(tx, request), me))

    def remove(clinic: str) -> list[tuple[str, bool]]:
        request = access.RemoveMyClinic(request_id=uuid4(), clinic=clinic)
        return shown(one.run(lambda tx: listings.remove(tx, request), me))

    def shown(found: access.MyClinicsFound) -> list[tuple[str, bool]]:
        return [(one.clinic, one.listed) for one in found.clinics]

    assert shown(one.run(lambda tx: listings.mine(tx, access.MyClinics()), me)) == [(listed, True)]
    assert add(added) == add(added) == [(listed, True), (added, False)]
    assert add(listed) == [(listed, True), (added, False)]
    with pytest.raises(Conflict) as caught:
        remove(listed)
    assert caught.value.reason == "listed_there"
    assert remove(added) == [(listed, True)]
    one.rows(
        "INSERT INTO my_clinics SELECT %s, 'SE2321000131-F' || n, now() FROM generate_series(1, 99) AS n", resident
    )
    with pytest.raises(LimitExceeded):
        add(added)


# --- blocked guardians ----------------------------------------------------------------------------------------------


def block(one: Identity, admin: Caller, clinic: str, guardian: str, child: str, blocked: bool = True) -> None:
    request = access.BlockGuardian(
        request_id=uuid4(), clinic=clinic, guardian_number=guardian, child_number=child, blocked=blocked
    )
    one.run(lambda tx: representation.block(tx, request, NUMBER_KEY), admin)


def blocked_at(one: Identity, admin: Caller, clinic: str) -> list[tuple[str, str]]:
    request = access.ListBlockedGuardians(clinic=clinic)
    found = one.run(lambda tx: representation.list_blocked(tx, request), admin)
    return [(one.guardian_number, one.child_number) for one in found.blocked]


def test_r_id_13_a_clinic_blocks_a_guardian(one: Identity) -> None:
    """R-ID-13: at that clinic, for that child; taken back it is gone."""
    clinic, admin = one.clinic_with_admin()
    other = new_clinic()
    numbers = new_number(), new_number()
    guardian, child = (taken_in(one, number) for number in numbers)
    birthday = one.now.astimezone(SWEDEN).date() + timedelta(days=1)
    one.rows(
        "INSERT INTO guardianships (guardian, child, ends_on, confirmed_at) VALUES (%s, %s, %s, now())",
        guardian,
        child,
        birthday,
    )
    assert [one.allowed for one in asked(one, child, clinic, other, guardian=guardian)] == [True, True]
    for _ in range(2):
        block(one, admin, clinic, *numbers)
    assert blocked_at(one, admin, clinic) == [numbers]
    answers = asked(one, child, clinic, other, guardian=guardian)
    assert [(one.allowed, one.reason) for one in answers] == [(False, "guardian_blocked"), (True, None)]
    now = one.run(lambda tx: representation.now(tx, guardian, child))
    assert (now.acting, now.blocked_at) == (True, [clinic])
    assert asked(one, child, clinic)[0].allowed, "the child itself is not blocked"
    import_(one, (numbers[1], clinic, AGO))
    for caller, seen in (
        (Caller("resident", str(guardian), uuid4(), acting_for=child), []),
        (Caller("resident", str(child), uuid4()), [clinic]),
    ):
        mine = one.run(lambda tx: listings.mine(tx, access.MyClinics()), caller).clinics
        assert [each.clinic for each in mine] == seen
    block(one, admin, clinic, *numbers, blocked=False)
    assert blocked_at(one, admin, clinic) == []
    assert asked(one, child, clinic, guardian=guardian)[0].allowed
    one.moved = timedelta(days=1)
    assert asked(one, child, clinic, guardian=guardian)[0].reason == "not_representative"


def test_r_id_13_r_id_24_a_block_is_lifted_by_any_of_the_persons_numbers(one: Identity) -> None:
    """R-ID-13, R-ID-24: and by another number there is no second one."""
    clinic, admin = one.clinic_with_admin()
    guardian, guardian_before, child, child_before = (new_number() for _ in range(4))
    taken_in(one, guardian, former=(guardian_before,))
    taken_in(one, child, former=(child_before,))
    block(one, admin, clinic, guardian_before, child)
    block(one, admin, clinic, guardian, child_before)
    assert blocked_at(one, admin, clinic) == [(guardian_before, child)]
    block(one, admin, clinic, guardian, new_number(), blocked=False)
    assert len(blocked_at(one, admin, clinic)) == 1, "another child's"
    block(one, admin, clinic, guardian, child_before, blocked=False)
    assert blocked_at(one, admin, clinic) == []


def test_r_id_24_what_is_kept_by_number_holds_in_both_accounts_of_a_person(one: Identity) -> None:
    """R-ID-13, R-ID-15, R-ID-22, R-ID-23, R-ID-24: listing, approval and block, by the numbers of either."""
    clinic, admin = one.clinic_with_admin()
    limit(one, admin, clinic, counties=["13"])
    old, new, listed = new_number(), new_number(), new_clinic()
    both = [taken_in(one, number) for number in (old, new)]
    taken_in(one, new, former=(old,))
    import_(one, (old, listed, AGO))
    for account in both:
        assert one.run(lambda tx, account=account: listings.listed_at(tx, account)) == listed
        assert not asked(one, account, clinic)[0].allowed
    for number in (old, new):
        approve(one, admin, clinic, number)
    found = one.run(lambda tx: approvals.list_approvals(tx, access.ListApprovals(clinic=clinic)), admin).approvals
    assert [each.identity_number for each in found] == [new]
    assert all(asked(one, account, clinic)[0].allowed for account in both)
    child = taken_in(one, child_number := new_number())
    block(one, admin, clinic, old, child_number)
    for guardian in both:
        acts_for(one, guardian, child)
        assert one.run(lambda tx, who=guardian: representation.now(tx, who, child)).blocked_at == [clinic]
    found_guardians = one.run(lambda tx: representation.guardians_of(tx, [child]))
    assert {row.guardian: list(row.blocked_at) for row in found_guardians} == {who: [clinic] for who in both}
    block(one, admin, clinic, new, child_number, blocked=False)
    assert blocked_at(one, admin, clinic) == []


def acts_for(one: Identity, guardian: UUID, child: UUID, days: int = 1) -> Caller:
    """The guardian in a session for the child, until a birthday so many days away."""
    birthday = one.now.astimezone(SWEDEN).date() + timedelta(days=days)
    one.rows("INSERT INTO guardianships VALUES (%s, %s, %s, now())", guardian, child, birthday)
    return Caller("resident", str(guardian), uuid4(), acting_for=child)


def test_r_id_13_a_blocked_guardian_neither_learns_nor_changes_anything_by_the_list(one: Identity) -> None:
    """R-ID-13: the answers are the same whether the child is listed at the clinic, has added it, or neither."""
    clinic, admin = one.clinic_with_admin()
    listed, added, neither = ((new_number(), new_number()) for _ in range(3))
    answers = []
    for guardian_number, child_number in (listed, added, neither):
        guardian, child = taken_in(one, guardian_number), taken_in(one, child_number)
        if child_number == listed[1]:
            import_(one, (child_number, clinic, AGO))
        if child_number == added[1]:
            one.rows("INSERT INTO my_clinics VALUES (%s, %s, now())", child, clinic)
        block(one, admin, clinic, guardian_number, child_number)
        me = acts_for(one, guardian, child)
        add = access.AddMyClinic(request_id=uuid4(), clinic=clinic)
        remove = access.RemoveMyClinic(request_id=uuid4(), clinic=clinic)
        before = one.rows("SELECT clinic FROM my_clinics WHERE resident = %s", child)
        answers += [
            one.run(lambda tx, asked=add: listings.add(tx, asked), me),
            one.run(lambda tx, asked=remove: listings.remove(tx, asked), me),
            one.run(lambda tx: listings.mine(tx, access.MyClinics()), me),
        ]
        assert one.rows("SELECT clinic FROM my_clinics WHERE resident = %s", child) == before
    assert answers == [access.MyClinicsFound(clinics=[])] * 9


def test_r_id_11_a_guardian_who_may_no_longer_act_sees_and_changes_no_list(one: Identity) -> None:
    """R-ID-11, R-ID-13: also while the session's token is good."""
    guardian, child = (taken_in(one, new_number()) for _ in range(2))
    me, clinic = acts_for(one, guardian, child, days=0), new_clinic()
    one.rows("INSERT INTO my_clinics VALUES (%s, %s, now())", child, clinic)
    for refused in (
        lambda tx: listings.mine(tx, access.MyClinics()),
        lambda tx: listings.add(tx, access.AddMyClinic(request_id=uuid4(), clinic=new_clinic())),
        lambda tx: listings.remove(tx, access.RemoveMyClinic(request_id=uuid4(), clinic=clinic)),
    ):
        with pytest.raises(Forbidden) as caught:
            one.run(refused, me)
        assert caught.value.reason == "not_representative"
    assert one.rows("SELECT clinic FROM my_clinics WHERE resident = %s", child) == [(clinic,)]


def test_r_id_22_two_who_approve_the_same_resident_at_once_make_one_approval(one: Identity) -> None:
    """R-ID-22, R-ID-13: and two who block the same guardian one block; nobody gets an error of the database."""
    clinic, admin = one.clinic_with_admin()
    number, child = new_number(), new_number()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: approve(one, admin, clinic, number), range(6)))
        list(pool.map(lambda _: block(one, admin, clinic, number, child), range(6)))
    page = one.run(lambda tx: approvals.list_approvals(tx, access.ListApprovals(clinic=clinic)), admin)
    assert [each.identity_number for each in page.approvals] == [number]
    assert blocked_at(one, admin, clinic) == [(number, child)]


def test_r_id_24_a_persons_numbers_are_found_by_an_index(one: Identity) -> None:
    """R-ID-15, R-ID-24: at every question about access; there are ten million of them."""
    numbers = "SELECT hash FROM numbers_of_person WHERE resident = %s"
    with psycopg.connect(one.url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {numbers}", [uuid4()]))
    assert plan.count("identity_numbers_resident") == 2
    assert "Seq Scan" not in plan
