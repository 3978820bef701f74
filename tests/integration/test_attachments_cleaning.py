"""Removing files: by their owner, by time, and whatever is left in the store (R-ATT-5, R-ATT-8)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.attachments import cleaning, rules
from services.attachments.store import StoreDown, new_clean_key
from services.attachments.worker import Sweeper
from shared.contracts.attachments import State
from shared.messaging.errors import NotFound
from tests.integration.attachments_support import PNG, World, send
from tests.unit.attachments import crafted

DAY = timedelta(hours=24)
SECOND = timedelta(seconds=1)


def remove_never_sent(world: World) -> int:
    with world.database.transaction() as tx:
        return cleaning.remove_never_sent(tx)


def window(world: World) -> timedelta:
    return timedelta(seconds=world.settings.upload_seconds) + rules.UPLOAD_GRACE


def overwrite(world: World, attachment: UUID) -> None:
    """Makes a second version and a marker of deletion, as someone with keys to the store can."""
    stored = world.row(attachment, "clean_key")
    assert stored is not None
    world.store._do("put_object", Bucket=world.settings.s3_bucket, Key=stored[0], Body=b"other")
    world.store._do("delete_object", Bucket=world.settings.s3_bucket, Key=stored[0])


def test_a_removed_file_is_gone_at_once_and_from_the_store_r_att_5(world: World) -> None:
    caller = world.resident()
    attachment = world.usable(caller, crafted.png(), PNG)
    overwrite(world, attachment)
    world.remove(caller, attachment)
    for action in (world.show, world.remove, world.preview):
        with pytest.raises(NotFound):
            action(caller, attachment)
    world.sweep()
    assert world.objects(attachment) == []


def test_never_sent_files_go_after_a_day_every_version_r_att_8(world: World) -> None:
    caller, message, case = world.resident(), uuid4(), uuid4()
    unsent, claimed, sent = (world.usable(caller, crafted.png(), PNG) for _ in range(3))
    refused = world.put(caller, crafted.cut(crafted.png()), PNG)
    world.check()
    empty = world.ask(caller, crafted.png(), PNG).attachment
    overwrite(world, unsent)
    world.claim(caller, claimed)
    world.claim(caller, sent, message=message, case=case)
    world.sent(message, case, sent)
    world.move_clock(DAY - 10 * SECOND)
    assert remove_never_sent(world) == 0
    world.move_clock(11 * SECOND)
    assert remove_never_sent(world) == 3
    world.sweep()
    for gone in (unsent, refused, empty):
        with pytest.raises(NotFound):
            world.show(caller, gone)
        assert world.objects(gone) == []
    world.move_clock(rules.CHECK_GRACE + SECOND)
    world.sweep()
    assert all(world.row(gone, "1") is None for gone in (unsent, refused, empty))
    for stays in (claimed, sent):
        assert world.objects(stays) == world.kept(stays)
    assert world.link(sent, case).name == "fil.png"


def test_a_day_counts_from_the_last_change_r_att_8(world: World) -> None:
    caller = world.resident()
    asked = world.ask(caller, crafted.png(), PNG)
    world.move_clock(DAY / 2)
    world.hurry(caller, asked.attachment)
    world.move_clock(DAY / 2 + SECOND)
    assert remove_never_sent(world) == 0
    world.move_clock(DAY / 2)
    assert remove_never_sent(world) == 1


def test_the_files_of_a_draft_are_kept_as_long_as_it_changes_r_att_8(world: World) -> None:
    caller, other, draft = world.resident(), world.resident(), uuid4()
    first = world.ask(caller, crafted.png(), PNG, draft=draft).attachment
    alone = world.ask(caller, crafted.png(), PNG).attachment
    world.move_clock(DAY / 2)
    second = world.ask(caller, crafted.png(), PNG, draft=draft).attachment
    third = world.ask(caller, crafted.png(), PNG, draft=draft).attachment
    world.ask(other, crafted.png(), PNG, draft=draft)
    world.move_clock(DAY / 2 + SECOND)
    assert remove_never_sent(world) == 1
    assert world.row(alone, "state") == ("removed",)
    world.remove(caller, third)
    world.move_clock(DAY / 2)
    assert remove_never_sent(world) == 1, "that of the other, whose draft only has the same name"
    assert {world.show(caller, one).state for one in (first, second)} == {State.WAITING}
    world.move_clock(DAY / 2 + SECOND)
    assert remove_never_sent(world) == 2


def test_a_draft_that_is_saved_in_a_case_keeps_its_files_r_att_8(world: World) -> None:
    caller, other = world.resident(), world.resident()
    mine, alone = (world.usable(caller, crafted.png(), PNG) for _ in range(2))
    theirs = world.usable(other, crafted.png(), PNG)
    for _ in range(3):
        world.move_clock(DAY / 2)
        world.draft_saved(caller, mine, theirs)
    assert remove_never_sent(world) == 2, "what the draft does not name, and what is not its writer's"
    assert [world.row(one, "state") for one in (alone, theirs)] == [("removed",)] * 2
    assert world.show(caller, mine).state is State.USABLE
    world.move_clock(DAY + SECOND)
    assert remove_never_sent(world) == 1


def test_an_upload_that_comes_in_after_the_removal_goes_too_r_att_8(world: World) -> None:
    caller, data = world.resident(), crafted.png()
    asked = world.ask(caller, data, PNG)
    world.remove(caller, asked.attachment)
    world.sweep()
    assert send(asked.upload, data).status_code == 200, "the store can't know"
    assert world.objects(asked.attachment) != []
    world.move_clock(window(world) + SECOND)
    world.sweep()
    assert world.objects(asked.attachment) == []
    assert world.row(asked.attachment, "1") is None


def test_a_usable_file_is_left_alone_and_nothing_else_of_it_r_att_7(world: World) -> None:
    caller, data = world.resident(), crafted.png()
    attachment = world.usable(caller, data, PNG)
    # what a checker that lost its turn and then died leaves behind
    world.store._do("put_object", Bucket=world.settings.s3_bucket, Key=new_clean_key(attachment), Body=data)
    assert len(world.objects(attachment)) == 4, "upload, file, preview, and the other"
    world.sweep()
    assert world.objects(attachment) == world.kept(attachment)
    world.move_clock(window(world) + SECOND)
    world.sweep()
    assert world.row(attachment, "sweep_at") == (None,)
    assert world.show(caller, attachment).state is State.USABLE


def test_a_file_that_is_checked_just_now_is_not_swept_r_att_7(world: World) -> None:
    """Whoever lost their turn before had armed the sweep."""
    attachment = world.put(world.resident(), crafted.png(), PNG)
    before = world.objects(attachment)
    assert before
    for state in ("waiting", "checking"):
        world.rows(f"UPDATE attachments SET state = '{state}', sweep_at = now() - interval '1 hour'")
        world.sweep()
        assert world.objects(attachment) == before


def test_a_file_removed_while_it_is_swept_is_swept_anew_r_att_5(world: World) -> None:
    caller = world.resident()
    attachment = world.usable(caller, crafted.png(), PNG)

    class Removing:
        def __getattr__(self, name: str) -> Any:
            if name == "remove_clean" and world.row(attachment, "state") == ("usable",):
                world.remove(caller, attachment)
            return getattr(world.store, name)

    assert Sweeper(world.database.transaction, Removing()).round()  # type: ignore[arg-type]
    world.sweep()
    assert world.objects(attachment) == []


def test_what_a_checker_that_dies_puts_behind_a_removal_goes_too_r_att_8(world: World) -> None:
    """Nothing more can be uploaded by then: the sweep that follows the removal was the last."""
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.move_clock(window(world) + SECOND)

    class Killed(BaseException):
        pass

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def keep(self, key: str, *kept: Any) -> str:
            if key.endswith(".preview"):
                world.remove(caller, attachment)
                world.sweep()
                world.store.keep(key, *kept)
                raise Killed
            return world.store.keep(key, *kept)

    world.make_due()
    with pytest.raises(Killed):
        world.checker_on(Dying()).round()
    assert len(world.objects(attachment)) == 1, "the preview"
    world.move_clock(rules.CHECK_GRACE + SECOND)
    world.sweep()
    assert world.objects(attachment) == []
    assert world.row(attachment, "1") is None


def test_a_store_that_is_down_is_swept_later_r_att_8(world: World) -> None:
    caller = world.resident()
    attachment = world.usable(caller, crafted.png(), PNG)
    world.remove(caller, attachment)

    class Down:
        def __getattr__(self, name: str) -> Any:
            raise StoreDown

    assert Sweeper(world.database.transaction, Down()).round()  # type: ignore[arg-type]
    assert world.sweep() == 0, "after a pause"
    world.move_clock(timedelta(seconds=31))
    world.sweep()
    assert world.objects(attachment) == []
