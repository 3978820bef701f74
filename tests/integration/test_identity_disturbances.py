"""Disturbances (R-ID-20)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from services.identity import disturbances
from shared.contracts import disturbances as contract
from shared.messaging.errors import Forbidden, Invalid, NotFound
from shared.security.caller import ANYONE, Caller
from tests.integration.identity_support import OPERATOR, Identity, new_person


@pytest.fixture(scope="module")
def one(rooms: Any) -> Iterator[Identity]:
    database = rooms.database("identity")
    made = Identity(database.url)
    made.settings = SimpleNamespace(status_page_url="https://status.example")
    yield made
    made.database.dispose()
    database.drop()


def shown(one: Identity) -> list[str]:
    found = one.run(lambda tx: disturbances.shown_now(tx, contract.Disturbances()), ANYONE)
    assert found.status_page == "https://status.example"
    return [each.title for each in found.disturbances]


def publish(one: Identity, caller: Caller, title: str, **when: Any) -> contract.Disturbance:
    request = contract.PublishDisturbance(request_id=uuid4(), title=title, text="Vi arbetar med felet.", **when)
    return one.run(lambda tx: disturbances.publish(tx, request), caller)


def test_r_id_20_shown_to_everyone_while_it_lasts(one: Identity) -> None:
    """R-ID-20: published by the operator or the region, changed, ended; what is to come is not shown yet."""
    first = publish(one, OPERATOR, "Inloggningen krånglar", shown_until=one.now + timedelta(hours=2))
    publish(one, one.regional_admin(), "Underhåll i natt", shown_from=one.now + timedelta(hours=1))
    assert shown(one) == ["Inloggningen krånglar"]
    one.moved = timedelta(hours=1, minutes=1)
    assert shown(one) == ["Underhåll i natt", "Inloggningen krånglar"]
    one.moved = timedelta(hours=3)
    assert shown(one) == ["Underhåll i natt"]
    one.moved = timedelta()

    def change(title: str, **when: Any) -> None:
        request = contract.ChangeDisturbance(
            request_id=uuid4(), disturbance=first.disturbance, title=title, text="Klart.", **when
        )
        one.run(lambda tx: disturbances.change(tx, request), one.regional_admin())

    change("Inloggningen fungerar igen")
    assert shown(one) == ["Inloggningen fungerar igen"]
    change("Inloggningen fungerar igen", shown_until=one.now)
    assert shown(one) == []
    everything = one.run(lambda tx: disturbances.all_of_them(tx, contract.AllDisturbances()), OPERATOR)
    assert len(everything.disturbances) == 2


def test_r_id_20_nobody_else_writes_them_and_bad_input_is_told(one: Identity) -> None:
    """R-ID-20"""
    for caller in (one.staff(new_person()), one.clinic_with_admin()[1], Caller("resident", str(uuid4()), uuid4())):
        with pytest.raises(Forbidden):
            publish(one, caller, "Påhittat")
        with pytest.raises(Forbidden):
            one.run(lambda tx: disturbances.all_of_them(tx, contract.AllDisturbances()), caller)
    with pytest.raises(Invalid):
        publish(one, OPERATOR, "För sent", shown_until=one.now - timedelta(hours=1))
    with pytest.raises(NotFound):
        request = contract.ChangeDisturbance(request_id=uuid4(), disturbance=uuid4(), title="Ingen", text="Ingen.")
        one.run(lambda tx: disturbances.change(tx, request), OPERATOR)
