"""A copy of the rights that an event never came to is mended, and trusts itself again (R-ID-10)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from services.identity import restored, revocations
from shared.contracts import identity
from shared.contracts.base import Role
from shared.database.transaction import Database
from shared.security import rights, rights_comparing
from shared.security.caller import Caller
from shared.security.rights import SETTLED_AFTER_SECONDS, Freshness
from tests.integration.identity_support import SEALER, Identity, new_clinic, new_person


class Copy:
    """A service's copy, and identity, between which a test carries the events or loses them."""

    def __init__(self, one: Identity, database: Database) -> None:
        self.one, self.database = one, database
        self.freshness = Freshness()
        self.asked: list[str] = []
        self.admin = one.regional_admin()
        one.run(lambda tx: revocations.tell(tx, self.admin.subject))
        self.hear(*self.events())

    def events(self) -> list[identity.RightsChanged]:
        """Those that were told since this was last asked for."""
        bodies = self.one.told("rights_changed")
        self.one.rows("DELETE FROM outbox")
        return [identity.RightsChanged(**body) for body in bodies]

    def hear(self, *changes: identity.RightsChanged) -> None:
        for change in changes:
            self.database.hear(uuid4(), lambda tx, change=change: rights.apply(tx.connection, change))

    def ask(self, call: Any, request: Any) -> Any:
        self.asked.append(call.name)
        work = {"all_rights": revocations.all_rights, "tell_rights_again": revocations.tell_again}[call.name]
        return self.one.run(lambda tx: work(tx, request))

    def announced(self, ago: float = 0.0) -> None:
        """Identity's latest number, as it was heard then."""
        with self.one.database.engine.connect() as connection:
            number = revocations.latest_number(connection)
        for sender in range(3):
            at = time.monotonic() - ago + sender * 0.01
            self.freshness.hear(number, "identity", at, at)

    def mend(self) -> None:
        rights_comparing.mend(self.database.transaction, self.ask, self.freshness)

    def roles(self, person: str, clinic: str) -> frozenset[Role] | None:
        """By the copy; None: it is not sure."""
        known = rights.RightsCopy(self.never)
        known.freshness = self.freshness
        self.announced()
        with self.database.engine.connect() as connection:
            found = known.of(connection, Caller("staff", person, uuid4()))
        return None if found is None else found.roles_at(clinic)

    @staticmethod
    def never(_question: Any) -> Any:
        raise AssertionError("asked")


@pytest.fixture
def copy(rooms: Any) -> Iterator[Copy]:
    identitys, cases = rooms.database("identity"), rooms.database("cases")
    made = Copy(Identity(identitys.url), Database(cases.url, service="cases", sealer=SEALER))
    yield made
    made.one.database.dispose()
    made.database.dispose()
    identitys.drop()
    cases.drop()


def test_r_id_10_a_lost_change_of_rights_is_told_anew_and_the_copy_goes_on_without_it(copy: Copy) -> None:
    """R-ID-10: the role that was taken works nowhere; the copy, which could not be sure for ever, is sure again; and
    the lost events change nothing when they come at last."""
    admin, clinic, person, other = copy.admin, new_clinic(), new_person(), new_person()
    copy.one.give(admin, clinic, person, Role.LOCAL_ADMIN)
    copy.one.give(admin, clinic, other, Role.LOCAL_ADMIN)
    copy.hear(*copy.events())
    assert copy.roles(person, clinic) == {Role.LOCAL_ADMIN}
    copy.one.take(admin, clinic, person, Role.LOCAL_ADMIN)
    lost = copy.events()
    assert len(lost) == 1
    copy.one.give(admin, clinic, other, Role.OPERATIONS_MANAGER)
    copy.hear(*copy.events())
    assert copy.roles(other, clinic) is None, "one number is missing"
    copy.mend()
    assert copy.asked == [], "it may still come"
    copy.freshness = Freshness()
    copy.announced(ago=SETTLED_AFTER_SECONDS + 1)
    copy.mend()
    assert copy.asked == ["all_rights", "tell_rights_again"]
    assert copy.roles(other, clinic) is None
    [again] = copy.events()
    assert again.subject == person
    copy.hear(again)
    copy.mend()
    assert copy.roles(person, clinic) == frozenset()
    assert copy.roles(other, clinic) == {Role.LOCAL_ADMIN, Role.OPERATIONS_MANAGER}
    copy.hear(*lost)
    assert copy.roles(person, clinic) == frozenset()
    copy.asked.clear()
    copy.mend()
    assert copy.asked == [], "nothing is lacking: nobody is asked"


def test_r_id_10_a_right_that_was_over_does_not_come_back_with_a_late_event(copy: Copy) -> None:
    """R-ID-10: given and taken again, both lost: nothing differs, and the first of them alone is not believed."""
    admin, clinic, person = copy.admin, new_clinic(), new_person()
    copy.hear(*copy.events())
    copy.one.give(admin, clinic, person, Role.LOCAL_ADMIN)
    copy.one.take(admin, clinic, person, Role.LOCAL_ADMIN)
    given, *_ = copy.events()
    copy.announced(ago=SETTLED_AFTER_SECONDS + 1)
    copy.mend()
    assert copy.asked == ["all_rights"]
    copy.hear(given)
    assert copy.roles(person, clinic) == frozenset()


def test_r_id_10_what_comes_late_while_the_copy_is_compared_is_not_half_believed(copy: Copy) -> None:
    """R-ID-10: given and taken again, both late by ten minutes, and the first comes when nothing was found to differ
    but the numbers are not passed over yet: without the second, the copy would hold a right for good that is over."""
    admin, clinic, person = copy.admin, new_clinic(), new_person()
    copy.one.give(admin, clinic, person, Role.LOCAL_ADMIN)
    copy.one.take(admin, clinic, person, Role.LOCAL_ADMIN)
    late = copy.events()
    copy.announced(ago=SETTLED_AFTER_SECONDS + 1)
    pages = rights_comparing._pages

    def and_then_the_first_comes(ask: Any) -> Iterator[Any]:
        yield from pages(ask)
        copy.hear(late[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rights_comparing, "_pages", and_then_the_first_comes)
        copy.mend()
    copy.hear(*late[1:])
    assert copy.roles(person, clinic) == frozenset()


def test_r_id_10_a_copy_that_has_something_else_is_found_though_it_lacks_no_number(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-10: someone more, someone less, someone otherwise; over the edges of pages."""
    monkeypatch.setattr(revocations, "PAGE", 2)
    admin, clinic = copy.admin, new_clinic()
    people = sorted(new_person() for _ in range(5))
    for person in people:
        copy.one.give(admin, clinic, person, Role.LOCAL_ADMIN)
    copy.hear(*copy.events())
    assert rights_comparing.compare(copy.database.transaction, copy.ask) == 0
    with copy.database.transaction() as tx:
        for sql in (
            f"DELETE FROM rights_subjects WHERE subject = '{people[1]}'",
            f"UPDATE rights_subjects SET roles = '[]' WHERE subject = '{people[4]}'",
            f"UPDATE rights_subjects SET regional = true WHERE subject = '{people[2]}'",
            "INSERT INTO rights_subjects SELECT 'ZZ9-NOBODY', 0, roles, false FROM rights_subjects"
            f" WHERE subject = '{people[0]}'",
        ):
            tx.connection.exec_driver_sql(sql)
    assert rights_comparing.compare(copy.database.transaction, copy.ask) == 4
    copy.hear(*copy.events())
    assert rights_comparing.compare(copy.database.transaction, copy.ask) == 0


def test_what_was_heard_ten_minutes_ago_is_settled() -> None:
    freshness = Freshness()
    assert freshness.settled(0.0) == -1
    for second in range(3000):
        freshness.hear(second, "identity", float(second), float(second))
    assert 2999 - SETTLED_AFTER_SECONDS - 60 <= freshness.settled(2999.0) <= 2999 - SETTLED_AFTER_SECONDS
    assert len(freshness._history) < 30


def test_r_id_10_numbers_that_went_back_with_a_restored_database_are_told_and_mended(copy: Copy) -> None:
    """R-ID-10: identity gives numbers again that the copy has had: told every night until they have leapt beyond."""
    admin, clinic, person, gone = copy.admin, new_clinic(), new_person(), new_person()
    copy.one.give(admin, clinic, person, Role.LOCAL_ADMIN)
    copy.hear(*copy.events())
    [(backed_up,)] = copy.one.rows("SELECT number FROM rights_clock")
    copy.one.give(admin, clinic, gone, Role.LOCAL_ADMIN)
    copy.one.give(admin, clinic, gone, Role.OPERATIONS_MANAGER)
    copy.hear(*copy.events())
    copy.one.rows("DELETE FROM roles WHERE person = %s", gone)
    copy.one.rows("UPDATE rights_clock SET number = %s", backed_up)
    with pytest.raises(rights_comparing.NumbersWentBack):
        rights_comparing.compare(copy.database.transaction, copy.ask)
    restored.begin_anew(copy.one.url)
    copy.one.take(copy.one.regional_admin(), clinic, person, Role.LOCAL_ADMIN)
    copy.hear(*copy.events())
    assert copy.roles(person, clinic) is None, "identity is asked"
    copy.freshness = Freshness()
    copy.announced(ago=SETTLED_AFTER_SECONDS + 1)
    copy.mend()
    copy.hear(*copy.events())
    copy.announced(ago=SETTLED_AFTER_SECONDS + 1)
    copy.mend()
    assert copy.roles(person, clinic) == frozenset()
    assert copy.roles(gone, clinic) == frozenset()
