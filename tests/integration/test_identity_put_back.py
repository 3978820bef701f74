"""What goes back with identity's database when it is put back from a copy, and must not stay so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.identity import custody, refreshing, signing_keys
from services.identity.restored import begin_anew
from tests.integration.identity_support import NUMBER_KEY, Identity, registered
from tests.integration.test_identity_representation import Home, years_ago


@pytest.fixture
def one(rooms: Any) -> Iterator[Identity]:
    database = rooms.database("identity")
    made = Identity(database.url)
    yield made
    made.database.dispose()
    database.drop()


def next_runs(home: Home) -> None:
    """Those of `refresh_residents` and `confirm_custody` that come within the hour."""
    one, fresh = home.one, home.one.now - timedelta(hours=24)
    refreshing.refresh(one.at_its_time, home.register, NUMBER_KEY, fresh)  # type: ignore[arg-type]
    custody.confirm(one.at_its_time, home.register, fresh, lambda: False)  # type: ignore[arg-type]


def known(one: Identity, resident: UUID) -> tuple[Any, ...]:
    [row] = one.rows("SELECT protected, active FROM residents WHERE resident = %s", resident)
    return row


def test_r_id_21_a_key_that_was_withdrawn_since_the_copy_signs_for_nobody(one: Identity) -> None:
    """R-ID-21: it may have been stolen, and the copy has it still. Identity's own key signs until there is another."""
    own = one.desk.keys.own
    one.run(lambda tx: signing_keys.rotate(tx, own))
    with one.database.engine.connect() as connection:
        withdrawn = signing_keys.endorsements(connection)
        assert withdrawn
    begin_anew(one.url)
    assert one.run(lambda tx: one.desk.keys.signer(tx)) is own
    one.run(lambda tx: signing_keys.rotate(tx, own))
    with one.database.engine.connect() as connection:
        assert not set(signing_keys.endorsements(connection)) & set(withdrawn)


@pytest.mark.parametrize("what", ["protected", "dead", "custody"])
def test_r_id_11_r_id_13_r_id_17_what_the_register_has_told_since_the_copy_is_asked_for_again(
    one: Identity, what: str
) -> None:
    """R-ID-11, R-ID-13, R-ID-14, R-ID-17: of everybody, in the next run, however fresh the copy calls what it has."""
    home = Home(one)
    number = home.child(years_ago(one, 5))
    [child] = home.children()
    next_runs(home)
    assert home.acting(child), "the data are fresh"
    facts: dict[str, Any] = {"protected": {"protected": True}, "dead": {"code": "AV"}}.get(what, {})
    home.register.people[number] = registered(number, relations=(), asked_at=one.now, **facts)
    begin_anew(one.url)
    next_runs(home)
    assert known(one, child) == (what == "protected", what != "dead")
    assert not home.acting(child)
