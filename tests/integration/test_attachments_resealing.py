"""A change of keys while the system is used: every name is sealed anew with the current one (R-SYS-2)."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from services.attachments import resealing
from shared.database.transaction import Database
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from tests.integration.attachments_support import PNG, World

OLD, NEW = {"test": b"k" * 32}, {"new": b"n" * 32}


def with_ring(world: World, current: str, keys: dict[str, bytes]) -> None:
    """The processes are started anew with this ring."""
    world.database.dispose()
    world.database = Database(world.url, service="attachments", sealer=Sealer(current, keys), settings=world.settings)


def reseal(world: World) -> int:
    return resealing.reseal_all(SimpleNamespace(transaction=world.database.transaction, stopping=threading.Event()))


def names(world: World, caller: Caller) -> list[str]:
    return sorted(one.name for one in world.unsent(caller))


@pytest.fixture
def named(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Caller, list[str]]:
    """More files than are looked through at once, by one owner."""
    monkeypatch.setattr(resealing, "AT_ONCE", 3)
    caller = world.resident()
    told = sorted(f"Läkarintyg {number}.png" for number in range(8))
    for name in told:
        world.ask(caller, b"x", PNG, name=name)
    return caller, told


def test_r_sys_2_afterwards_no_name_needs_the_old_key(world: World, named: Any) -> None:
    caller, told = named
    assert reseal(world) == 0, "nothing has changed"
    with_ring(world, "new", OLD | NEW)
    world.ask(caller, b"x", PNG, name="ny.png")
    assert reseal(world) == len(told)
    with_ring(world, "new", NEW)
    assert names(world, caller) == sorted([*told, "ny.png"])
    assert reseal(world) == 0


def test_r_sys_2_a_name_whose_key_is_gone_keeps_no_other_from_its_turn(world: World, named: Any) -> None:
    _, told = named
    [(lost,)] = world.rows("SELECT min(attachment::text) FROM attachments")
    world.rows("UPDATE attachments SET name = %s WHERE attachment = %s::uuid", b"\x04gone" + bytes(40), lost)
    with_ring(world, "new", OLD | NEW)
    assert reseal(world) == len(told) - 1
    sealed = world.rows("SELECT attachment::text, name FROM attachments")
    assert {one for one, name in sealed if not bytes(name).startswith(b"\x03new")} == {lost}
