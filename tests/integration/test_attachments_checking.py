"""The checker on the real store: what becomes usable, what is refused, what happens when something dies (R-ATT-7)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from deploy.local.stack import Stack
from services.attachments import checking, rules, worklist
from services.attachments import store as store_module
from services.attachments.store import Store, StoreDown
from services.attachments.worker import Checker
from shared.contracts.attachments import State
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Unavailable
from tests.integration.attachments_support import GIF, JPEG, PDF, PNG, World, send
from tests.unit.attachments import crafted


class Killed(BaseException):
    """The process dies here: nothing of it runs any more."""


@pytest.mark.parametrize("content_type", [PDF, GIF, JPEG, PNG])
def test_a_fit_file_becomes_usable_r_att_1_r_att_7(world: World, content_type: str) -> None:
    caller, data = world.resident(), crafted.fit(content_type)
    attachment = world.put(caller, data, content_type)
    assert world.show(caller, attachment).state is State.WAITING
    assert world.check() == 1
    assert world.show(caller, attachment).state is State.USABLE
    assert requests.get(world.preview(caller, attachment).url, timeout=10).content == data


def test_whoever_sends_many_files_is_waited_for_by_nobody_else_r_att_7(world: World) -> None:
    one, other = world.resident(), world.resident()
    first, second, third, fourth = [world.put(who, crafted.png(), PNG) for who in (one, one, one, other)]
    world.make_due()
    taken = []
    for _ in range(4):
        with world.database.transaction() as tx:
            turn = worklist.take(tx, uuid4(), 30)
        assert turn is not None
        taken.append(turn.attachment)
    assert taken == [first, fourth, second, third]


@pytest.mark.parametrize(
    ("data", "announced", "reason"),
    [
        (crafted.jpeg(), PNG, "wrong_type"),
        (crafted.cut(crafted.png()), PNG, "damaged"),
        (crafted.cut(crafted.pdf()), PDF, "damaged"),
        (crafted.pdf_with_javascript(), PDF, "active_content"),
        (crafted.locked_pdf(), PDF, "locked"),
        (crafted.huge_png(), PNG, "too_large_picture"),
    ],
    ids=["other type", "cut png", "cut pdf", "script", "locked", "pixels"],
)
def test_an_unfit_file_is_refused_and_the_owner_told_why_r_att_7(
    world: World, data: bytes, announced: str, reason: str
) -> None:
    caller = world.staff()
    attachment = world.put(caller, data, announced)
    world.check()
    shown = world.show(caller, attachment)
    assert (shown.state, shown.refusal_reason, shown.refusal) == (State.REFUSED, reason, rules.REFUSALS_SV[reason])
    world.sweep()
    assert world.objects(attachment) == []
    with pytest.raises(Conflict):
        world.preview(caller, attachment)


@pytest.mark.parametrize(
    ("really", "reason"), [(b"x" * 500, "wrong_checksum"), (b"x" * 501, "wrong_size"), (b"x", "wrong_size")]
)
def test_bytes_that_got_past_the_store_are_refused_r_att_7(world: World, really: bytes, reason: str) -> None:
    caller = world.resident()
    attachment = world.ask(caller, b"y" * 500, PNG).attachment
    # as with the store's own keys, or by a store that does not compare
    world.store._do("put_object", Bucket=world.settings.s3_upload_bucket, Key=str(attachment), Body=really)
    world.check()
    assert world.show(caller, attachment).refusal_reason == reason


def test_what_is_kept_is_what_was_examined_r_att_7_r_att_9(world: World) -> None:
    caller, data = world.resident(), crafted.png()
    attachment = world.usable(caller, data, PNG)
    stored = world.row(attachment, "clean_key, clean_version")
    assert stored is not None
    key, version = stored
    head = world.store._client.head_object(Bucket=world.settings.s3_bucket, Key=key, VersionId=version)
    assert (head["ServerSideEncryption"], head["ContentType"], head["ContentLength"]) == ("AES256", PNG, len(data))
    # someone with keys to the store overwrites it: what is given out is the version that was checked
    world.store._do("put_object", Bucket=world.settings.s3_bucket, Key=key, Body=b"other")
    assert requests.get(world.preview(caller, attachment).url, timeout=10).content == data


def test_nothing_uploaded_is_looked_for_with_growing_pauses_until_it_expires_r_att_7(world: World) -> None:
    caller = world.resident()
    attachment = world.ask(caller, crafted.png(), PNG).attachment
    pauses = []
    for _ in range(7):
        assert world.check() == 1
        [(pause,)] = world.rows("SELECT extract(epoch FROM look_at - now())::float FROM attachments")
        pauses.append(round(pause))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert not world.checker.round(), "it is not due"
    world.move_clock(timedelta(seconds=world.settings.upload_seconds) + rules.UPLOAD_GRACE)
    world.check()
    assert world.show(caller, attachment).refusal_reason == "upload_expired"


def test_the_client_can_hurry_the_check_r_att_7(world: World) -> None:
    caller, data = world.resident(), crafted.png()
    asked = world.ask(caller, data, PNG)
    for _ in range(5):
        world.check()
    send(asked.upload, data)
    assert not world.checker.round()
    world.hurry(caller, asked.attachment)
    assert world.checker.round()
    assert world.show(caller, asked.attachment).state is State.USABLE


class _Failing:
    """The store, until the named step, at which it does what it is told. `keep 2` is its second `keep`, the preview."""

    def __init__(self, store: Store, step: str, raises: BaseException) -> None:
        self._store, self._raises = store, raises
        self._step, _, nth = step.partition(" ")
        self._left = int(nth or 1)

    def __getattr__(self, name: str) -> Any:
        if name == self._step:
            self._left -= 1
            if self._left == 0:
                self.fail()
        return getattr(self._store, name)

    def fail(self) -> None:
        raise self._raises


STEPS = ["uploaded_size", "read_upload", "keep", "keep 2"]


@pytest.mark.parametrize("step", STEPS)
def test_a_store_that_is_down_delays_the_check_r_att_7(world: World, step: str) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    assert world.checker_on(_Failing(world.store, step, StoreDown())).round()
    assert world.outcomes == ["put_off"]
    assert world.show(caller, attachment).state in (State.WAITING, State.CHECKING)
    world.check()
    assert world.show(caller, attachment).state is State.USABLE


def test_a_store_that_hangs_delays_the_check_r_att_7(
    world: World, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_READ_SECONDS", 0.5)
    hasty = world.checker_on(Store(world.settings))
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    servers.servers["seaweedfs"].pause()
    try:
        assert hasty.round()
    finally:
        servers.servers["seaweedfs"].resume()
    assert world.outcomes == ["put_off"]
    [(pause,)] = world.rows("SELECT extract(epoch FROM look_at - now())::float FROM attachments")
    assert pause <= rules.LONGEST_PAUSE.total_seconds()
    world.check()
    assert world.show(caller, attachment).state is State.USABLE


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_checkers_file_is_taken_over_r_att_7_r_sys_5(world: World, step: str) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    with pytest.raises(Killed):
        world.checker_on(_Failing(world.store, step, Killed())).round()
    assert not world.checker.round(), "its lease is not over"
    world.move_clock(timedelta(seconds=world.settings.lease_seconds + 1))
    assert world.checker.round()
    assert world.show(caller, attachment).state is State.USABLE


@pytest.mark.parametrize("step", ["fetch", "examine"])
def test_a_checker_that_is_killed_at_its_own_work_is_followed_by_another_r_att_7(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checking, step, dies)
        with pytest.raises(Killed):
            world.checker.round()
    assert world.show(caller, attachment).state is State.CHECKING
    world.move_clock(timedelta(seconds=world.settings.lease_seconds + 1))
    assert world.checker.round()
    assert world.show(caller, attachment).state is State.USABLE


def test_a_checker_that_died_after_keeping_leaves_no_second_copy_r_sys_5(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()

    def dies(*_: object) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(worklist, "accept", dies)
        with pytest.raises(Killed):
            world.checker.round()
    assert len(world.objects(attachment)) == 3, "upload, file, preview"
    world.move_clock(timedelta(seconds=world.settings.lease_seconds + 1))
    world.checker.round()
    assert len(world.objects(attachment)) == 5
    world.sweep()
    assert world.objects(attachment) == world.kept(attachment)


def test_a_checker_that_lost_its_turn_changes_nothing_r_att_7(world: World) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()

    class Slow(_Failing):
        def fail(self) -> None:
            world.move_clock(timedelta(seconds=world.settings.lease_seconds + 1))
            assert world.checker.round()

    assert world.checker_on(Slow(world.store, "keep", Killed())).round()
    assert world.outcomes == ["usable", "lost"]
    assert world.show(caller, attachment).state is State.USABLE
    world.sweep()
    assert world.objects(attachment) == world.kept(attachment)


def test_a_file_removed_during_its_check_stays_removed_r_att_5(world: World) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()

    class Removing(_Failing):
        def fail(self) -> None:
            world.remove(caller, attachment)

    world.checker_on(Removing(world.store, "keep", Killed())).round()
    assert world.outcomes == ["lost"]
    world.sweep()
    assert world.objects(attachment) == []


def test_a_file_over_which_checkers_die_is_refused_at_last_r_att_7(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()

    def dies(*_: object) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checking, "examine", dies)
        for _ in range(rules.MAX_SUSPICIONS):
            with pytest.raises(Killed):
                world.checker.round()
            world.move_clock(timedelta(seconds=world.settings.lease_seconds + 1))
    world.checker.round()
    assert world.show(caller, attachment).refusal_reason == "check_failed"


DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL); "
DIES_OVER_LARGE_FILES = "import os, signal; os.fstat(0).st_size > 20_000 and os.kill(os.getpid(), signal.SIGKILL); "


def test_a_file_over_which_the_decoder_always_dies_is_refused_at_last_and_no_other_is_r_att_7(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.resident()
    monkeypatch.setattr(checking, "_START", DIES_OVER_LARGE_FILES + checking._START)
    deadly, fit = world.put(caller, crafted.pdf_of_size(30_000), PDF), world.put(caller, crafted.png(), PNG)
    for _ in range(rules.MAX_SUSPICIONS):
        assert world.show(caller, deadly).state in (State.WAITING, State.CHECKING)
        world.check()
    world.check()
    assert world.show(caller, deadly).refusal_reason == "check_failed"
    assert world.show(caller, fit).state is State.USABLE


def test_a_decoder_that_dies_over_every_file_refuses_none_r_att_7(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    with monkeypatch.context() as patch:
        patch.setattr(checking, "_START", DIES + checking._START)
        for _ in range(rules.MAX_SUSPICIONS + 2):
            world.check()
    assert world.show(caller, attachment).state is State.CHECKING
    world.check()
    assert world.show(caller, attachment).state is State.USABLE


def test_outages_of_the_database_hold_nothing_against_a_file_r_att_7(world: World) -> None:
    """Each verdict is reached while the database is away, and another takes over before it can be written."""
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    behind: list[Checker] = []
    for _ in range(rules.MAX_SUSPICIONS + 2):
        checker = Checker(_Unreliable(world, at=4, committed=False), world.store, world.settings, lambda *_: None)
        with pytest.raises(Unavailable):
            checker.round()
        for one in behind:
            one.catch_up()
        behind = [checker]
        world.move_clock(timedelta(seconds=world.settings.lease_seconds + 1))
    assert world.show(caller, attachment).state is State.CHECKING
    world.check()
    assert world.show(caller, attachment).state is State.USABLE
    behind[0].catch_up()
    assert world.row(attachment, "suspects") == ([],)


def test_checkers_side_by_side_check_each_file_once_r_att_7(world: World) -> None:
    caller = world.resident()
    files = [world.put(caller, crafted.png(seed), PNG) for seed in range(12)]
    world.make_due()

    def work() -> None:
        while world.checker.round():
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.outcomes == ["usable"] * 12
    assert {world.show(caller, one).state for one in files} == {State.USABLE}


class _Unreliable:
    """The database, which goes away at the named write: before it took effect or after."""

    def __init__(self, world: World, *, at: int, committed: bool) -> None:
        self._world, self._at, self._committed = world, at, committed
        self._count = 0

    @contextmanager
    def __call__(self) -> Iterator[Transaction]:
        self._count += 1
        away = self._count == self._at
        if away and not self._committed:
            raise Unavailable
        with self._world.database.transaction() as tx:
            yield tx
        if away:
            raise Unavailable


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4], ids=["take", "begin", "suspect", "accept"])
def test_a_database_that_was_away_leaves_no_file_to_the_end_of_its_lease_r_att_7(
    world: World, at: int, committed: bool
) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    transaction = _Unreliable(world, at=at, committed=committed)
    checker = Checker(transaction, world.store, world.settings, lambda *_: None)
    with pytest.raises(Unavailable):
        checker.round()
    checker.round()
    assert world.show(caller, attachment).state is State.USABLE
    assert world.row(attachment, "takeovers, suspects") == (0, [])
    world.sweep()
    assert world.objects(attachment) == world.kept(attachment)


def test_no_room_on_the_disk_delays_the_check_r_att_7(world: World, tmp_path: Path) -> None:
    caller = world.resident()
    attachment = world.put(caller, crafted.png(), PNG)
    world.make_due()
    away = world.settings.model_copy(update={"work_folder": tmp_path / "away"})
    checker = world.checker_on(world.store)
    checker._settings = away
    assert checker.round()
    assert world.outcomes == ["put_off"]
    assert world.show(caller, attachment).state is State.CHECKING
    world.check()
    assert world.show(caller, attachment).state is State.USABLE


def test_the_database_and_its_migration_say_the_same(attachments_place: Any) -> None:
    from shared.database.migrate import differences

    assert differences("attachments", attachments_place[0]) == []
