"""Guardians of the same children, their logins, refreshing, blockings and ends, all at once (R-ID-11, R-ID-13)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.identity import custody, refreshing, representation, resident_accounts, residents, sessions
from services.identity.population_register import RegisteredPerson, Relation
from shared.contracts import access, logging_in
from shared.database.transaction import Database, Transaction
from shared.messaging.errors import Forbidden, NotAuthenticated
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, SEALER, Identity, registered
from tests.integration.test_identity_representation import Home, Register, number_of, years_ago

AT_ONCE = 50
EACH = 12
GUARDIANS, CHILDREN = 4, 4


class Wavering(Register):
    """A register that says something else each time: a name, whether a child is protected, who has custody."""

    def look_up_many(self, numbers: Any, *, relations: bool = False) -> dict[str, RegisteredPerson | None]:
        found = super().look_up_many(numbers, relations=relations)
        return {number: person and self._waver(person) for number, person in found.items()}

    def _waver(self, person: RegisteredPerson) -> RegisteredPerson:
        known = replace(person, given_name=random.choice(["Eva", "Ewa"]))
        if any(one.other == "guardian" for one in known.relations):
            if random.random() < 0.1:
                return replace(known, protected=True, place=None, relations=())
            if random.random() < 0.2:
                return replace(known, relations=known.relations[1:])
        return known


class Crowd:
    """Guardians of the same children, each with some sessions, and a clinic that blocks them."""

    def __init__(self, one: Identity) -> None:
        self.one, self.register = one, Wavering(one)
        self.children = [number_of(years_ago(one, 3 + place)) for place in range(CHILDREN)]
        self.homes = [Home(one) for _ in range(GUARDIANS)]
        self.clinic, self.admin = one.clinic_with_admin()
        for home in self.homes:
            home.custody = {child: Relation("child", child) for child in self.children}
            home.tell()
            self.register.people |= home.register.people
            home.register = self.register
        both = tuple(Relation("guardian", home.number) for home in self.homes)
        for child in self.children:
            self.register.people[child] = registered(child, relations=both)
        self.accounts = {home.resident: home.children() for home in self.homes}
        self.sessions = {home.resident: [home.session] * 3 for home in self.homes}

    def caller(self, home: Home) -> Caller:
        return Caller("resident", str(home.resident), random.choice(self.sessions[home.resident]))

    def act(self, home: Home) -> None:
        home.family()
        request = access.ActForChild(request_id=uuid4(), child=self.any_child())
        self.one.run(lambda tx: representation.act(tx, request, self.one.desk), self.caller(home))

    def any_child(self) -> UUID:
        return random.choice([child for some in self.accounts.values() for child in some])

    def log_in_together(self, _home: Home) -> None:
        """Whoever of them comes at the same moment, as the joint transactions of logins have them."""
        people = list(self.register.people.values())
        random.shuffle(people)

        def let_in(tx: Transaction) -> None:
            found = resident_accounts.find_for_change(tx, people, NUMBER_KEY)
            for row, person in zip(found, people, strict=True):
                if row is not None and row.locked_at is None:
                    residents.let_in(tx, row, person, NUMBER_KEY)

        self.one.run(let_in)

    def refresh(self, _home: Home) -> None:
        older_than = self.one.now + timedelta(hours=1)
        refreshing.refresh(self.one.at_its_time, self.register, NUMBER_KEY, older_than, lambda: random.random() < 0.5)  # type: ignore[arg-type]

    def confirm(self, _home: Home) -> None:
        older_than = self.one.now + timedelta(hours=1)
        custody.confirm(self.one.at_its_time, self.register, older_than, lambda: random.random() < 0.5)  # type: ignore[arg-type]

    def block(self, home: Home) -> None:
        request = access.BlockGuardian(
            request_id=uuid4(),
            clinic=self.clinic,
            guardian_number=home.number,
            child_number=random.choice(self.children),
            blocked=random.random() < 0.5,
        )
        self.one.run(lambda tx: representation.block(tx, request, NUMBER_KEY), self.admin)

    def log_out(self, home: Home) -> None:
        caller = self.caller(home)
        self.one.run(lambda tx: sessions.log_out(tx, logging_in.LogOut(request_id=uuid4())), caller)
        self.sessions[home.resident] = [
            self.one.open("resident", caller.subject) if one == caller.session else one
            for one in self.sessions[home.resident]
        ]

    def lock_and_unlock(self, home: Home) -> None:
        self.one.run(lambda tx: residents.lock(tx, logging_in.LockLogin(request_id=uuid4())), self.caller(home))
        self.one.run(lambda tx: residents.unlock(tx, registered(home.number), NUMBER_KEY))


@pytest.fixture
def crowd(rooms: Any) -> Iterator[Crowd]:
    """With as many connections as there are at once: none waits for one where it could wait for a lock."""
    database = rooms.database("identity")
    one = Identity(database.url)
    one.database.dispose()
    one.database = Database(database.url, service="identity", sealer=SEALER, pool_size=AT_ONCE)
    yield Crowd(one)
    one.database.dispose()
    database.drop()


def test_r_id_11_r_id_13_nobody_waits_for_each_other_in_a_circle(crowd: Crowd) -> None:
    """R-ID-11, R-ID-13: whatever fifty do at once to the same families, each comes to its end or to a refusal."""
    works: list[Callable[[Home], None]] = [crowd.act, crowd.act, crowd.act, crowd.log_in_together, crowd.refresh]
    works += [crowd.confirm, crowd.block, crowd.log_out, crowd.lock_and_unlock]

    def live(place: int) -> list[str]:
        failed = []
        for turn in range(EACH):
            work, home = works[(place + turn) % len(works)], random.choice(crowd.homes)
            try:
                work(home)
            except (Forbidden, NotAuthenticated):
                pass  # locked, blocked, ended or no custody at this moment
            except Exception as error:
                failed.append(f"{work.__name__}: {type(error).__name__} {error.__cause__ or error}"[:300])
        return failed

    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [one for some in pool.map(live, range(AT_ONCE)) for one in some]
    assert not failed, "\n".join(sorted(set(failed))[:10])
    # Each that has acted can act again afterwards: nothing is left held.
    home = crowd.homes[0]
    crowd.register.__class__ = Register
    [child, *_] = home.children()
    home.session = crowd.one.open("resident", str(home.resident))
    home.me = Caller("resident", str(home.resident), home.session)
    assert home.act(child)
