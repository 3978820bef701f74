"""The corpus of crafted files, as the program that examines them sees it (R-ATT-1, R-ATT-7)."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.attachments import rules
from services.attachments.examination import program, words
from services.attachments.examination.outline import outline
from services.attachments.examination.words import Limits, Wish
from tests.unit.attachments import corpus, crafted, crafted_pdf
from tests.unit.attachments.corpus import CORPUS, LIMITS, SECRETS, Case
from tests.unit.attachments.crafted import GIF, JPEG, PDF, PNG

FORMS = {GIF: "GIF", JPEG: "JPEG", PNG: "PNG"}


NOT_READ_AS_IT_WAS = ("png, text that is a bomb", "png, acTL that is none, before it", "png, frames of no film")
"""What is left out of these is nothing that the library would read."""


class Examined:
    """What the program makes of some bytes. Here it runs in this process: its limits are proved elsewhere."""

    def __init__(self, data: bytes, content_type: str, folder: Path, **other: Any) -> None:
        (folder / "file").write_bytes(data)
        self.wish = replace(
            Wish(
                file=str(folder / "file"),
                rewritten=str(folder / "rewritten"),
                preview=str(folder / "preview"),
                content_type=content_type,
                strip_metadata=True,
                clean_pdf=False,
                preview_pixels=64,
            ),
            **other,
        )
        limits = Limits(seconds=60, memory_bytes=1 << 30, output_bytes=1 << 26, **LIMITS)
        said = program.verdict(self.wish, limits)
        self.refusal = said["refusal"]
        self.rewritten = bool(said.get("rewritten"))
        self.kept = Path(self.wish.rewritten if self.rewritten else self.wish.file).read_bytes()

    def preview(self) -> Image.Image:
        assert program.draw(self.wish, rewritten=self.rewritten)
        return Image.open(self.wish.preview)


def test_the_corpus_is_large_enough_and_every_name_is_its_own() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS) > 100


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_the_corpus_r_att_1_r_att_7(case: Case, tmp_path: Path) -> None:
    examined = Examined(case.make(), case.content_type, tmp_path)
    assert (examined.refusal, examined.rewritten) == (case.refusal, case.rewritten)
    if case.refusal is not None:
        assert case.refusal in rules.REFUSALS_SV
        return
    assert not any(secret in examined.kept for secret in SECRETS)
    preview = examined.preview()
    assert preview.format == "PNG"
    assert max(preview.size) <= 64
    if case.content_type in FORMS:
        assert outline(examined.kept, FORMS[case.content_type]).left_out == [], "what is kept is left as it is"


@pytest.mark.parametrize("case", [one for one in CORPUS if one.rewritten], ids=lambda case: case.name)
def test_the_picture_itself_is_not_encoded_anew_r_att_7(case: Case, tmp_path: Path) -> None:
    if case.name in NOT_READ_AS_IT_WAS:
        return
    data = case.make()
    kept = Examined(data, case.content_type, tmp_path).kept
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(kept)) as after:
        assert after.tobytes() == before.tobytes()
        assert after.getexif().get(0x0112, 1) == before.getexif().get(0x0112, 1)
    if case.content_type == JPEG:
        scan = data[data.index(b"\xff\xda") : data.index(b"\xff\xd9", data.index(b"\xff\xda"))]
        assert scan.partition(b"\xff\xdc")[0] in kept


@pytest.mark.parametrize("case", [one for one in CORPUS if one.rewritten], ids=lambda case: case.name)
def test_metadata_stay_where_that_is_wished_r_att_7(case: Case, tmp_path: Path) -> None:
    data = case.make()
    examined = Examined(data, case.content_type, tmp_path, strip_metadata=False)
    if case.name in NOT_READ_AS_IT_WAS:
        assert examined.refusal == "damaged"
        return
    assert (examined.refusal, examined.rewritten, examined.kept) == (None, False, data)


@pytest.mark.parametrize("case", [one for one in CORPUS if one.refusal == "polyglot"], ids=lambda case: case.name)
def test_two_in_one_is_refused_even_where_metadata_stay_r_att_7(case: Case, tmp_path: Path) -> None:
    assert Examined(case.make(), case.content_type, tmp_path, strip_metadata=False).refusal == "polyglot"


@pytest.mark.parametrize("case", [one for one in CORPUS if one.refusal == "active_content"], ids=lambda case: case.name)
def test_active_content_is_removed_where_that_is_wished_r_att_7(case: Case, tmp_path: Path) -> None:
    examined = Examined(case.make(), PDF, tmp_path, clean_pdf=True)
    assert (examined.refusal, examined.rewritten) == (None, True)
    for trace in (b"alert", b"cmd.exe", b"MZ", b"hemligt", b"xdp"):
        assert trace not in examined.kept
    again = Examined(examined.kept, PDF, tmp_path)
    assert (again.refusal, again.rewritten) == (None, False)
    assert examined.preview().size == (43, 64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from([one for one in CORPUS if one.refusal is None and one.content_type != PDF]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_whatever_the_bytes_there_is_a_verdict_and_what_is_kept_is_whole_r_att_7(
    which: Case, changes: list[tuple[float, int]], tmp_path: Path
) -> None:
    data = bytearray(which.make())
    for place, byte in changes:
        data[int(place * len(data))] = byte
    examined = Examined(bytes(data), which.content_type, tmp_path)
    assert examined.refusal is None or examined.refusal in rules.REFUSALS_SV
    if examined.refusal is None:
        assert outline(examined.kept, FORMS[which.content_type]).left_out == []


def test_a_profile_after_the_picture_does_not_stay_r_att_7(tmp_path: Path) -> None:
    examined = Examined(corpus.late_profile(), JPEG, tmp_path)
    assert (examined.refusal, examined.rewritten) == (None, True)
    assert examined.kept == corpus.profiled(JPEG, corpus.bare(corpus.SRGB) or b"")


def test_a_stream_that_lies_in_another_file_is_refused_r_att_7(tmp_path: Path) -> None:
    for clean in (False, True):
        assert Examined(crafted_pdf.pdf_outside_stream(), PDF, tmp_path, clean_pdf=clean).refusal == "active_content"


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 32)), (3, (64, 32)), (6, (32, 64)), (8, (32, 64))])
def test_previews_are_turned_as_the_photo_is_to_be_seen_r_att_5(
    orientation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    assert Examined(corpus.located_jpeg(orientation), JPEG, tmp_path).preview().size == size


def test_previews_of_many_greys_are_not_white_r_att_5(tmp_path: Path) -> None:
    grey = corpus.saved(Image.new("I;16", (30, 20), 40_000), "PNG")
    assert Examined(grey, PNG, tmp_path).preview().getpixel((5, 5)) == 40_000 // 256


def test_previews_carry_nothing_but_the_picture_r_att_7(tmp_path: Path) -> None:
    examined = Examined(corpus.telling_png(), PNG, tmp_path, strip_metadata=False)
    examined.preview()
    written = Path(examined.wish.preview).read_bytes()
    assert not any(secret in written for secret in SECRETS)
    for name in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP"):
        assert name not in written


def test_every_word_of_the_program_is_known_r_att_7() -> None:
    said = {value for name, value in vars(words).items() if name.isupper()}
    assert said <= set(rules.REFUSALS_SV)


def test_the_program_imports_nothing_else_of_the_project() -> None:
    for module in Path(program.__file__).parent.glob("*.py"):
        for line in module.read_text().splitlines():
            if line.strip().startswith(("from services", "from shared", "import services", "import shared")):
                assert "services.attachments.examination" in line


def test_fit_files_of_each_type_are_kept_byte_for_byte_r_att_7(tmp_path: Path) -> None:
    for content_type in (PDF, GIF, JPEG, PNG):
        data = crafted.fit(content_type)
        assert Examined(data, content_type, tmp_path).kept == data
