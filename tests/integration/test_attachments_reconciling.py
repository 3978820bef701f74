"""Store and database compared: each difference is found, told, and put right where that is safe (R-ATT-8, R-ATT-9)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests

from services.attachments import cleaning, rules
from services.attachments.reconciling import Reconciler
from services.attachments.store import new_clean_key
from shared.contracts.attachments import State
from tests.integration.attachments_support import PNG, World, send
from tests.unit.attachments import crafted


@pytest.fixture
def alone(attachments_place: tuple[str, SimpleNamespace], tmp_path: Path) -> Iterator[World]:
    """A service whose buckets nobody else has put anything into; listings come in pages of three."""
    mark = secrets.token_hex(4)
    made = World(*attachments_place, tmp_path / "alone", s3_bucket=f"t-{mark}", s3_upload_bucket=f"t-{mark}-uploads")
    made.rows("TRUNCATE attachments")
    made.store.prepare()
    whole = made.store.listing
    made.store.listing = lambda bucket, prefix="": whole(bucket, prefix, page_size=3)  # type: ignore[method-assign]
    yield made
    made.close()


def differences(world: World, at_once: int = 2) -> dict[str, int]:
    return dict(Reconciler(world.database.transaction, world.store, at_once=at_once).run())


def kept(world: World, attachment: UUID) -> tuple[str, str]:
    return world.kept(attachment)[0]


def put(world: World, key: str, bucket: str | None = None) -> None:
    """As somebody does who has keys to the store."""
    world.store._do("put_object", Bucket=bucket or world.settings.s3_bucket, Key=key, Body=b"other")


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_where_they_agree_nothing_is_found_r_att_8(alone: World, at_once: int) -> None:
    caller = alone.resident()
    assert differences(alone, at_once) == {}, "nothing at all"
    for seed in range(5):
        alone.usable(caller, crafted.png(seed), PNG)
    assert differences(alone, at_once) == {}, "not yet swept"
    alone.sweep()
    alone.ask(caller, b"x", PNG)
    alone.put(caller, b"waits for its check", PNG)
    alone.remove(caller, alone.usable(caller, crafted.png(), PNG))
    assert differences(alone, at_once) == {}


def test_the_store_is_listed_page_by_page_in_order(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = alone.resident()
    files = sorted(str(alone.usable(caller, crafted.png(seed), PNG)) for seed in range(5))
    asked: list[str] = []
    plain = alone.store._do

    def counted(operation: str, **arguments: Any) -> Any:
        asked.append(operation)
        return plain(operation, **arguments)

    monkeypatch.setattr(alone.store, "_do", counted)
    listed = [one.key.partition("/")[0] for one in alone.store.listing(alone.settings.s3_bucket)]
    assert listed == [one for one in files for _ in ("file", "preview")]
    assert asked == ["list_object_versions"] * 4


def test_objects_without_rows_are_told_and_stay_r_att_8(alone: World) -> None:
    caller = alone.resident()
    lost = [alone.usable(caller, crafted.png(), PNG) for _ in range(2)]
    alone.usable(caller, crafted.png(), PNG)
    alone.sweep()
    # as when the database was restored from before they were uploaded
    alone.rows("DELETE FROM attachments WHERE attachment = ANY(%s)", lost)
    put(alone, str(uuid4()), alone.settings.s3_upload_bucket)
    put(alone, "what is this")
    assert differences(alone) == {"object_without_row": 4}
    alone.sweep()
    assert all(alone.objects(one) for one in lost)


def test_rows_without_objects_are_told_r_att_8(alone: World) -> None:
    caller = alone.resident()
    fine, gone, half = (alone.usable(caller, crafted.png(seed), PNG) for seed in range(3))
    alone.sweep()
    alone.store.remove_clean(gone, except_for=())
    alone.store.remove_clean(half, except_for=alone.kept(half)[1:])
    assert differences(alone) == {"row_without_object": 2}
    assert alone.objects(fine) == alone.kept(fine)


def test_the_last_rows_count_too_r_att_8(alone: World) -> None:
    attachment = alone.usable(alone.resident(), crafted.png(), PNG)
    alone.sweep()
    alone.store.remove_clean(attachment, except_for=())
    assert differences(alone) == {"row_without_object": 1}


@pytest.mark.parametrize("how", ["overwritten", "deleted", "both"])
def test_a_sent_file_that_somebody_writes_over_is_repaired_and_told_r_att_5_r_att_9(alone: World, how: str) -> None:
    caller, message, case, data = alone.resident(), uuid4(), uuid4(), crafted.png()
    attachment = alone.usable(caller, data, PNG)
    alone.claim(caller, attachment, message=message, case=case)
    alone.sent(message, case, attachment)
    alone.move_clock(timedelta(hours=2))
    alone.sweep()
    key, _ = kept(alone, attachment)
    if how != "deleted":
        put(alone, key)
    if how != "overwritten":
        alone.store._do("delete_object", Bucket=alone.settings.s3_bucket, Key=key)
    assert requests.get(alone.link(attachment, case).url, timeout=10).content == data, "readers never see it"
    assert differences(alone) == {"overwritten": 1}
    alone.sweep()
    assert alone.objects(attachment) == alone.kept(attachment)
    newest = alone.store._client.get_object(Bucket=alone.settings.s3_bucket, Key=key)["Body"].read()
    assert newest == data
    assert differences(alone) == {}


def test_what_was_left_behind_is_swept_r_att_8(alone: World) -> None:
    caller = alone.resident()
    attachment = alone.usable(caller, crafted.png(), PNG)
    alone.move_clock(timedelta(hours=2))
    alone.sweep()
    assert alone.row(attachment, "sweep_at") == (None,)
    put(alone, new_clean_key(attachment))
    put(alone, str(attachment), alone.settings.s3_upload_bucket)
    assert differences(alone) == {}, "nothing is lost by it"
    alone.sweep()
    assert alone.objects(attachment) == alone.kept(attachment)


def test_what_changes_meanwhile_is_no_difference_r_att_8(alone: World) -> None:
    """R-ATT-8: files are checked, removed and swept between the listing and the look at the rows."""
    caller = alone.resident()
    going, coming = (alone.put(caller, crafted.png(seed), PNG) for seed in range(2))
    alone.check()
    alone.remove(caller, coming)
    alone.sweep()
    alone.move_clock(timedelta(hours=1))
    whole = alone.store.listing

    def listing(bucket: str, prefix: str = "") -> Iterator[Any]:
        yield from list(whole(bucket, prefix))
        if prefix == "" and bucket == alone.settings.s3_bucket and alone.row(going, "1"):
            alone.remove(caller, going)
            alone.sweep()
            alone.move_clock(rules.CHECK_GRACE)
            alone.sweep()
            assert alone.row(going, "1") is None
            alone.usable(caller, crafted.png(9), PNG)

    alone.store.listing = listing  # type: ignore[method-assign]
    assert differences(alone) == {}
    assert alone.rows("SELECT state FROM attachments") == [(State.USABLE,)]


@pytest.mark.parametrize("step", ["uploaded", "checked", "kept", "removed", "swept half"])
def test_they_agree_after_a_crash_at_any_step_r_att_8_r_sys_5(alone: World, step: str) -> None:
    caller, data = alone.resident(), crafted.png()
    asked = alone.ask(caller, data, PNG)
    assert send(asked.upload, data).status_code == 200
    attachment = asked.attachment
    if step == "kept":  # the checker dies before it can write that
        put(alone, new_clean_key(attachment))
    if step not in ("uploaded", "kept"):
        alone.check()
    if step == "removed":
        alone.remove(caller, attachment)
    if step == "swept half":
        alone.remove(caller, attachment)
        with alone.database.transaction() as tx:
            task = cleaning.next_sweep(tx)
        assert task is not None
        alone.store.remove_upload(attachment)
    # somebody else goes on
    alone.move_clock(cleaning.SWEEP_LEASE + timedelta(seconds=1))
    alone.check()
    alone.sweep()
    alone.move_clock(timedelta(hours=2))
    alone.sweep()
    assert differences(alone) == {}
    there = alone.row(attachment, "1")
    assert alone.objects(attachment) == (alone.kept(attachment) if there else [])
    assert (there is None) == (step in ("removed", "swept half"))
