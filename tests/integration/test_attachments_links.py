"""Links: to the version that was checked, for a minute, saved under its name (R-ATT-5, R-ATT-6)."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pikepdf
import pytest
import requests
from PIL import Image

from services.attachments.checking import PREVIEW_PIXELS
from shared.messaging.errors import Conflict, NotFound
from tests.integration.attachments_support import ENDINGS, GIF, JPEG, PDF, PNG, SAFE, World
from tests.unit.attachments import corpus, crafted

NAME = "Läkarintyg “höft”; 100 % 👍.pdf"


def sent_file(world: World, data: bytes, **other: Any) -> tuple[UUID, UUID]:
    """A file in a message, and its case."""
    caller, message, case = world.staff(), uuid4(), uuid4()
    attachment = world.usable(caller, data, PDF, **other)
    world.claim(caller, attachment, message=message, case=case)
    world.sent(message, case, attachment)
    return attachment, case


def test_the_bytes_come_back_with_safe_headers_r_att_6(world: World) -> None:
    data = crafted.pdf()
    link = world.link(*sent_file(world, data, name=NAME))
    assert (link.name, link.content_type) == (NAME, PDF)
    assert link.url.startswith(world.settings.public_endpoint)
    answer = requests.get(link.url, timeout=10)
    assert answer.content == data
    assert answer.headers["Content-Type"] == PDF
    assert {name: answer.headers[name] for name in SAFE} == SAFE
    plain, _, extended = answer.headers["Content-Disposition"].partition("; filename*=")
    assert plain.startswith('attachment; filename="Lakarintyg')
    assert extended == "UTF-8''L%C3%A4karintyg%20%E2%80%9Ch%C3%B6ft%E2%80%9D%3B%20100%20%25%20%F0%9F%91%8D.pdf"


def test_a_link_lives_a_minute_at_most_r_att_6(attachments_place: Any, tmp_path: Path, world: World) -> None:
    with pytest.raises(ValueError, match="link_seconds"):
        World(*attachments_place, tmp_path / "long", link_seconds=61)
    brief = World(*attachments_place, tmp_path / "brief", link_seconds=1)
    link = brief.link(*sent_file(brief, crafted.pdf()))
    assert requests.get(link.url, timeout=10).status_code == 200
    time.sleep(2.1)
    assert requests.get(link.url, timeout=10).status_code == 403
    brief.close()


def test_a_changed_link_gives_nothing_r_att_6(world: World) -> None:
    link = world.link(*sent_file(world, crafted.pdf()))
    for before, after in (("application%2Fpdf", "text%2Fhtml"), ("attachment%3B", "inline%3B"), ("versionId=", "v=")):
        changed = link.url.replace(before, after)
        assert changed != link.url
        assert requests.get(changed, timeout=10).status_code == 403


def test_a_file_is_given_out_through_its_own_case_only_r_att_6(world: World) -> None:
    attachment, _ = sent_file(world, crafted.pdf())
    with pytest.raises(NotFound):
        world.link(attachment, uuid4())
    caller = world.resident()
    unsent = world.usable(caller, crafted.png(), PNG)
    with pytest.raises(NotFound):
        world.link(unsent, uuid4())


def test_the_owner_previews_before_sending_r_att_5(world: World) -> None:
    caller, data = world.resident(), crafted.png()
    attachment = world.put(caller, data, PNG)
    with pytest.raises(Conflict) as refused:
        world.preview(caller, attachment)
    assert refused.value.reason == "attachment_not_checked"
    world.check()
    assert requests.get(world.preview(caller, attachment).url, timeout=10).content == data


@pytest.mark.parametrize("content_type", [PDF, GIF, JPEG, PNG])
def test_a_picture_of_it_is_shown_before_and_after_sending_r_att_5_r_att_6(world: World, content_type: str) -> None:
    caller, message, case = world.staff(), uuid4(), uuid4()
    attachment = world.usable(caller, crafted.fit(content_type), content_type, name=f"Å{ENDINGS[content_type]}")
    assert world.show(caller, attachment).preview
    before = world.preview(caller, attachment)
    world.claim(caller, attachment, message=message, case=case)
    world.sent(message, case, attachment)
    for link in (before, world.link(attachment, case)):
        assert link.preview_url is not None
        assert "X-Amz-Expires=60" in link.preview_url
        answer = requests.get(link.preview_url, timeout=10)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == "inline; filename=\"A.png\"; filename*=UTF-8''%C3%85.png"
        assert {name: answer.headers[name] for name in SAFE} == SAFE
        picture = Image.open(io.BytesIO(answer.content))
        assert picture.format == "PNG"
        assert max(picture.size) <= PREVIEW_PIXELS


def test_a_photo_is_given_out_without_its_place_r_att_7(world: World) -> None:
    caller, data = world.resident(), corpus.located_jpeg(6)
    assert b"GPSSECRET" in data
    attachment = world.usable(caller, data, JPEG)
    link = world.preview(caller, attachment)
    given = requests.get(link.url, timeout=10).content
    assert b"GPSSECRET" not in given
    assert world.show(caller, attachment).size == len(given) < len(data)
    assert not link.cleaned, "that is said of active content alone"


def test_a_cleaned_document_is_marked_everywhere_r_att_7(attachments_place: Any, tmp_path: Path) -> None:
    world = World(*attachments_place, tmp_path / "cleaning", active_pdf="clean")
    caller, message, case = world.resident(), uuid4(), uuid4()
    attachment = world.usable(caller, crafted.pdf_with_hidden_javascript(), PDF)
    plain = world.usable(caller, crafted.pdf(), PDF)
    assert (world.show(caller, attachment).cleaned, world.show(caller, plain).cleaned) == (True, False)
    [claimed] = world.claimed(caller, attachment, message=message, case=case)
    assert claimed.cleaned
    world.sent(message, case, attachment)
    link = world.link(attachment, case)
    given = requests.get(link.url, timeout=10).content
    assert link.cleaned
    assert len(given) == claimed.size
    with pikepdf.open(io.BytesIO(given)) as document:
        assert not any("JavaScript" in repr(thing) for thing in document.objects)
    world.close()


def test_what_is_bound_to_a_message_is_not_previewed_r_att_6(world: World) -> None:
    """R-ATT-5, R-ATT-6: it may have been sent; from then on it is read through its case, which logs that."""
    caller, message, case = world.staff(), uuid4(), uuid4()
    attachment = world.usable(caller, crafted.png(), PNG)
    world.preview(caller, attachment)
    world.claim(caller, attachment, message=message, case=case)
    with pytest.raises(Conflict) as refused:
        world.preview(caller, attachment)
    assert refused.value.reason == "attachment_already_used"
    world.sent(message, case, attachment)
    with pytest.raises(NotFound):
        world.preview(caller, attachment)
