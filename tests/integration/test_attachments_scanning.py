"""The virus scan, by a real clamd (R-ATT-7)."""

from __future__ import annotations

from datetime import timedelta

import pikepdf
import pytest

from deploy.local.servers.clamd import EICAR, OWN, Clamd
from services.attachments.checking import CannotCheck
from services.attachments.rules import REFUSALS_SV
from services.attachments.scanning import Scanner
from services.attachments.worker import Checker
from shared.contracts.attachments import State
from shared.messaging.errors import Conflict
from tests.integration.attachments_support import GIF, JPEG, PDF, PNG, World
from tests.unit.attachments import corpus, crafted

_SECONDS = 30.0


@pytest.fixture
def scanner(clamd: Clamd) -> Scanner:
    return Scanner(clamd.address, _SECONDS)


@pytest.fixture
def scanning(world: World, scanner: Scanner) -> Checker:
    return world.checker_on(world.store, scanner)


def infected_pdf() -> bytes:
    """EICAR in a stream that is packed."""

    def change(document: pikepdf.Pdf) -> None:
        document.Root.Extra = pikepdf.Stream(document, EICAR)

    return crafted.pdf(change)


INFECTED = [
    (PDF, infected_pdf()),
    (JPEG, corpus.with_segment(0xFE, EICAR)),
    (PNG, corpus.with_chunk(b"prVt", OWN)),
    (GIF, corpus.after(crafted.gif(), EICAR)),
]


@pytest.mark.parametrize(("content_type", "data"), INFECTED, ids=[content_type for content_type, _ in INFECTED])
def test_infected_files_are_refused_and_removed_r_att_7(
    world: World, scanning: Checker, content_type: str, data: bytes
) -> None:
    caller = world.resident()
    attachment = world.put(caller, data, content_type)
    world.make_due()
    assert scanning.round()
    shown = world.show(caller, attachment)
    assert (shown.state, shown.refusal_reason) == (State.REFUSED, "infected")
    assert shown.refusal == REFUSALS_SV["infected"]
    world.sweep()
    assert world.objects(attachment) == []
    with pytest.raises(Conflict) as refused:
        world.claim(caller, attachment)
    assert refused.value.reason == "attachment_refused"


def test_clean_files_become_usable_r_att_7(world: World, scanning: Checker) -> None:
    caller = world.resident()
    files = [world.put(caller, crafted.fit(one), one) for one in (PDF, GIF, JPEG, PNG)]
    world.make_due()
    while scanning.round():
        pass
    assert {world.show(caller, one).state for one in files} == {State.USABLE}


def test_the_largest_file_is_scanned_as_a_whole_r_att_2_r_att_7(scanner: Scanner, world: World) -> None:
    with (world.settings.work_folder / "large").open("w+b") as file:
        file.write(bytes(52_428_800 - len(OWN)) + OWN)
        assert scanner.found(file) == "Vardarende.Own.UNOFFICIAL"
        file.write(b"\1" * (16 << 20))  # more than it takes: it says so, and that is no verdict
        with pytest.raises(CannotCheck):
            scanner.found(file)


def test_a_scanner_that_is_down_delays_and_lets_nothing_through_r_att_7(
    world: World, clamd: Clamd, scanning: Checker
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    clamd.kill()
    try:
        for _ in range(3):
            assert scanning.round()
            world.make_due()
        assert world.outcomes == ["put_off"] * 3
        assert world.show(caller, attachment).state is State.CHECKING
        with pytest.raises(Conflict) as refused:
            world.claim(caller, attachment)
        assert refused.value.reason == "attachment_not_checked"
    finally:
        clamd.start()
        clamd.wait()
    world.move_clock(timedelta(seconds=31))
    assert scanning.round()
    assert world.show(caller, attachment).state is State.USABLE


def test_a_scanner_that_hangs_delays_r_att_7(world: World, clamd: Clamd) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    hanging = Scanner(clamd.address, 0.5)
    hanging.answers = lambda: True  # type: ignore[method-assign] # it hangs from now on
    clamd.pause()
    try:
        assert world.checker_on(world.store, hanging).round()
    finally:
        clamd.resume()
    assert world.outcomes == ["put_off"]
    assert world.show(caller, attachment).state is State.CHECKING
