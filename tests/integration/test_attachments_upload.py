"""Asking for a place and uploading: what the service refuses, and what the store itself enforces."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import requests

from deploy.local import system_packages
from deploy.local import upload as helper
from services.attachments import rules
from shared.contracts.attachments import State
from shared.messaging.errors import Invalid, LimitExceeded, NotFound, Refused
from tests.integration.attachments_support import PDF, PNG, World, send
from tests.unit.attachments import crafted

DATA = random.Random(7).randbytes(70_000)
OTHER = random.Random(8).randbytes(70_000)


@pytest.fixture
def asked(world: World) -> Any:
    return world.ask(world.resident(), DATA, PNG)


def test_the_store_takes_what_was_announced_encrypted_r_att_9(world: World, asked: Any) -> None:
    assert send(asked.upload, DATA).status_code == 200
    assert world.store.uploaded_size(asked.attachment) == len(DATA)
    head = world.store._client.head_object(Bucket=world.settings.s3_upload_bucket, Key=str(asked.attachment))
    assert (head["ServerSideEncryption"], head["ContentType"]) == ("AES256", PNG)


def test_the_store_encrypts_whatever_is_put_there_and_a_place_that_does_not_is_not_ready_r_att_9(
    attachments_place: Any, world: World, tmp_path: Path
) -> None:
    assert world.store.answers()
    for bucket in world.store.buckets:
        world.store._do("put_object", Bucket=bucket, Key="by-hand", Body=b"x")
        head = world.store._client.head_object(Bucket=bucket, Key="by-hand")
        assert head["ServerSideEncryption"] == "AES256"
        for key, version in world.store.versions(bucket, "by-hand"):
            world.store._do("delete_object", Bucket=bucket, Key=key, VersionId=version)
    plain = f"plain-{uuid4()}"
    unfit = World(*attachments_place, tmp_path / "unfit", s3_bucket=plain)
    assert not unfit.store.answers(), "there is no such bucket"
    unfit.store._do("create_bucket", Bucket=plain)
    assert not unfit.store.answers(), "it keeps no versions, and does not encrypt"
    unfit.store.prepare()
    assert unfit.store.answers()
    unfit.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [(DATA[:-1], 403), (DATA + b"x", 403), (b"", 403), (OTHER, 400)],
    ids=["shorter", "longer", "empty", "other bytes"],
)
def test_the_store_refuses_other_bytes_r_att_2_r_att_7(world: World, asked: Any, data: bytes, status: int) -> None:
    assert send(asked.upload, data).status_code == status
    assert world.store.uploaded_size(asked.attachment) is None
    assert send(asked.upload, DATA).status_code == 200, "a failed try does not use the place up"


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": "text/html"},
        {"content_type": None},
        {"x_amz_checksum_sha256": None},
        {"x_amz_checksum_sha256": "A" * 43 + "="},
        {"if_none_match": None},
        {"x_amz_server_side_encryption": None},
    ],
    ids=str,
)
def test_the_store_refuses_other_headers_r_att_1_r_att_9(world: World, asked: Any, changes: dict[str, Any]) -> None:
    assert send(asked.upload, DATA, **changes).status_code == 403
    assert world.store.uploaded_size(asked.attachment) is None


def test_the_store_takes_it_once(world: World, asked: Any) -> None:
    assert send(asked.upload, DATA).status_code == 200
    assert send(asked.upload, DATA).status_code == 412


def test_the_store_refuses_what_comes_too_late(attachments_place: Any, tmp_path: Path) -> None:
    world = World(*attachments_place, tmp_path / "brief", upload_seconds=1)
    asked = world.ask(world.resident(), DATA, PNG)
    time.sleep(2.1)
    assert send(asked.upload, DATA).status_code == 403
    world.close()


def test_nobody_reads_or_lists_without_a_signature_r_att_6(world: World) -> None:
    attachment = world.put(world.resident(), DATA, PNG)
    place = world.settings.public_endpoint
    for bucket in (world.settings.s3_upload_bucket, world.settings.s3_bucket):
        for path in (bucket, f"{bucket}/{attachment}"):
            assert requests.get(f"{place}/{path}", timeout=10).status_code == 403


def test_the_signed_request_does_nothing_else(world: World, asked: Any) -> None:
    assert send(asked.upload, DATA).status_code == 200
    for method in ("GET", "HEAD"):
        assert requests.request(method, asked.upload.url, timeout=10).status_code == 403
    inside = asked.upload.url.replace(world.settings.public_endpoint, world.settings.s3_endpoint)
    assert requests.delete(inside, timeout=10).status_code == 403
    for method in ("DELETE", "POST", "OPTIONS"):
        assert requests.request(method, asked.upload.url, timeout=10).status_code == 405, "the door lets none through"
    elsewhere = asked.upload.url.replace(str(asked.attachment), str(uuid4()))
    moved = asked.upload.model_copy(update={"url": elsewhere})
    assert send(moved, DATA).status_code == 403


def test_clients_get_the_public_address(world: World, asked: Any) -> None:
    assert asked.upload.url.startswith(world.settings.public_endpoint)
    assert world.settings.public_endpoint != world.settings.s3_endpoint


@pytest.mark.parametrize(
    ("other", "kind", "reason"),
    [
        ({"size": 0}, Invalid, "file_empty"),
        ({"size": 52_428_801}, LimitExceeded, "file_too_large"),
        ({"content_type": "image/svg+xml"}, Invalid, "type_not_allowed"),
        ({"name": "bild.pdf"}, Invalid, "name_type_mismatch"),
        ({"name": "bild"}, Invalid, "name_type_mismatch"),
        ({"name": ".png"}, Invalid, "name_empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_not_be_attached_is_refused_at_once_r_att_1_r_att_2(
    world: World, other: dict[str, Any], kind: type[Refused], reason: str
) -> None:
    with pytest.raises(kind) as refused:
        world.ask(world.resident(), DATA, PNG, **other)
    assert refused.value.reason == reason
    assert world.rows("SELECT 1 FROM attachments") == []


def test_the_largest_file_travels_r_att_2(world: World) -> None:
    data = crafted.pdf_of_size(52_428_800)
    assert len(data) == 52_428_800
    caller = world.resident()
    attachment = world.usable(caller, data, PDF)
    assert world.show(caller, attachment).size == 52_428_800


def test_the_same_file_twice_is_two_files_r_att_5(world: World) -> None:
    caller, data = world.resident(), crafted.png()
    one, other = (world.usable(caller, data, PNG) for _ in range(2))
    assert one != other
    world.remove(caller, one)
    world.sweep()
    assert requests.get(world.preview(caller, other).url, timeout=10).content == data


def test_files_that_wait_are_found_again_with_their_outcome_r_att_5_r_att_7(world: World) -> None:
    caller, draft = world.resident(), uuid4()
    fit = world.put(caller, crafted.png(), PNG, draft=draft, name="Åsa.png")
    unfit = world.put(caller, crafted.cut(crafted.png()), PNG, draft=draft)
    world.check()
    other = world.ask(caller, DATA, PNG).attachment
    for gone in (world.usable(caller, crafted.png(), PNG), world.usable(caller, crafted.png(), PNG, draft=draft)):
        world.claim(caller, gone)
    world.remove(caller, world.ask(caller, DATA, PNG).attachment)
    world.ask(world.resident(), DATA, PNG, draft=draft)
    listed = [(one.attachment, one.state) for one in world.unsent(caller)]
    assert listed == [(fit, State.USABLE), (unfit, State.REFUSED), (other, State.WAITING)]
    shown = world.unsent(caller, draft)
    assert [(one.name, one.refusal_reason, one.draft) for one in shown] == [
        ("Åsa.png", None, draft),
        ("fil.png", "damaged", draft),
    ]


def test_the_name_is_kept_clean_and_sealed_r_att_1_r_sys_2(world: World) -> None:
    caller = world.staff()
    attachment = world.ask(caller, DATA, PNG, name="C:\\bilder\\Läkarintyg Åsa.PNG").attachment
    shown = world.show(caller, attachment)
    assert (shown.name, shown.state) == ("Läkarintyg Åsa.PNG", State.WAITING)
    stored = world.row(attachment, "name")
    assert stored is not None
    assert b"karintyg" not in bytes(stored[0])


def test_others_files_are_not_found_r_att_6(world: World) -> None:
    mine = world.put(world.resident(), DATA, PNG)
    for other in (world.resident(), world.staff()):
        for action in (world.show, world.preview, world.remove, world.hurry):
            with pytest.raises(NotFound):
                action(other, mine)


def test_files_that_are_never_sent_are_limited(attachments_place: Any, tmp_path: Path) -> None:
    world = World(*attachments_place, tmp_path / "few", max_unsent_files=2)
    caller = world.resident()
    first = world.ask(caller, DATA, PNG).attachment
    world.ask(caller, DATA, PNG)
    with pytest.raises(LimitExceeded) as refused:
        world.ask(caller, DATA, PNG)
    assert refused.value.reason == "too_many_unsent"
    world.ask(world.resident(), DATA, PNG)
    world.remove(caller, first)
    world.ask(caller, DATA, PNG)
    world.close()


def test_files_that_are_refused_or_removed_can_not_be_tried_for_ever(attachments_place: Any, tmp_path: Path) -> None:
    world = World(*attachments_place, tmp_path / "few", max_unsent_files=3)
    caller = world.resident()
    for number in range(3):
        attachment = world.put(caller, DATA[:20], PNG)
        if number:
            world.remove(caller, attachment)
        else:
            world.check()
            assert world.show(caller, attachment).state is State.REFUSED
    with pytest.raises(LimitExceeded) as refused:
        world.ask(caller, DATA, PNG)
    assert refused.value.reason == "too_many_tries"
    world.ask(world.resident(), DATA, PNG)
    world.move_clock(timedelta(seconds=world.settings.upload_seconds) + rules.UPLOAD_GRACE)
    world.ask(caller, DATA, PNG)
    world.close()


def test_many_asking_at_once_get_no_more_places_than_one_after_the_other(
    attachments_place: Any, tmp_path: Path
) -> None:
    world = World(*attachments_place, tmp_path / "few", max_unsent_files=5)
    caller = world.resident()

    def ask(_: int) -> bool:
        try:
            world.ask(caller, DATA, PNG)
        except LimitExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(50))) == 5
    world.close()


def test_the_helper_uploads_by_the_answer(world: World, tmp_path: Path) -> None:
    path = tmp_path / "bild.png"
    path.write_bytes(crafted.png())
    about = SimpleNamespace(**helper.about(path))
    caller = world.resident()
    asked = world.ask(
        caller, b"", PNG, name=about.name, size=about.size, content_type=about.content_type, sha256=about.sha256
    )
    helper.upload(path, asked.upload.model_dump())
    with pytest.raises(helper.UploadRefused) as refused:
        helper.upload(path, asked.upload.model_dump())
    assert refused.value.status == 412
    world.check()
    assert world.show(caller, asked.attachment).state is State.USABLE


def test_the_curl_line_uploads(world: World, tmp_path: Path, progress: Callable[[str], None]) -> None:
    system_packages.require(["curl"], progress)
    path = tmp_path / "bild med 'blank.png"
    path.write_bytes(DATA)
    asked = world.ask(world.resident(), DATA, PNG)
    line = helper.curl(path, asked.upload.model_dump())
    assert subprocess.run(line, shell=True, capture_output=True, timeout=60).returncode == 0
    assert world.store.uploaded_size(asked.attachment) == len(DATA)
    assert subprocess.run(line, shell=True, capture_output=True, timeout=60).returncode == 22
