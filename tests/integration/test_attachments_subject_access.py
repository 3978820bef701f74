"""What attachments tells identity for a subject access report (R-ID-19)."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from services.attachments import subject_access
from shared.contracts import subject_access as report
from shared.messaging.errors import Invalid
from tests.integration.attachments_support import World
from tests.integration.test_attachments_binding import usable

PROVIDER = "SE2321000131-E000000000001"


def told(world: World, files: list[UUID], cases: list[UUID]) -> set[UUID]:
    """The files that are told of when those named are asked about, as of the cases named."""
    asked = report.SubjectAccess(resident=uuid4(), care_provider=PROVIDER, attachments=files, cases=cases)
    page = world.database.read(lambda tx: subject_access.page(tx, asked))
    return {UUID(value.value) for one in page.held for value in one.values if value.name == "Id"}


def test_of_a_file_in_another_case_nothing_is_told_r_att_6_r_id_19(world: World) -> None:
    """A draft in the resident's case may name it: its name, checksum and sender are another resident's."""
    handler, case, other = world.staff(), uuid4(), uuid4()
    [sent, elsewhere, on_its_way] = usable(world, handler, 3)
    for file, where in ((sent, case), (elsewhere, other)):
        message = uuid4()
        world.claim(handler, file, message=message, case=where)
        world.sent(message, where, file)
    world.claim(handler, on_its_way, case=other)
    assert told(world, [sent, elsewhere, on_its_way], [case]) == {sent}
    assert told(world, [elsewhere], [case]) == set()


def test_what_staff_are_writing_has_its_files_but_nobody_elses_r_id_19(world: World) -> None:
    """R-ID-19: a file that is in no message yet is its owner's draft's; a resident's is told of by itself."""
    [drafted], [residents] = usable(world, world.staff(), 1), usable(world, world.resident(), 1)
    assert told(world, [drafted, residents], [uuid4()]) == {drafted}


def test_files_are_not_asked_about_without_their_cases_r_att_6(world: World) -> None:
    """Whoever leaves them out is told so, rather than that there are none: the report would lack them unseen."""
    with pytest.raises(Invalid):
        told(world, usable(world, world.staff(), 1), [])
