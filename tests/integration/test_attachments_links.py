"""Links: to the version that was checked, for a minute, saved under its name (R-ATT-5, R-ATT-6)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests

from shared.messaging.errors import Conflict, NotFound
from tests.integration.attachments_support import PDF, PNG, World
from tests.unit.attachments import crafted

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
    assert answer.headers["Cache-Control"] == "private, no-store"
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
