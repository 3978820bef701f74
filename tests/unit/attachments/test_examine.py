"""The program that decodes a file, as the checker runs it: in a child process with limits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.attachments import checking, rules
from services.attachments.checking import CannotCheck
from tests.unit.attachments import crafted
from tests.unit.attachments.crafted import GIF, JPEG, PDF, PNG

MEGABYTE = 1 << 20


def settings(folder: Path, **limits: Any) -> Any:
    usual = {
        "check_seconds": 30,
        "check_memory_bytes": 1024 * MEGABYTE,
        "max_pixels": 100_000_000,
        "max_total_pixels": 1_000_000_000,
        "max_pages": 2_000,
    }
    return SimpleNamespace(work_folder=folder, **(usual | limits))


def examined(data: bytes, content_type: str, folder: Path, **limits: Any) -> str | None:
    told = settings(folder, **limits)
    with checking.room(told) as file:
        file.write(data)
        file.flush()
        return checking.examine(file, content_type, told)


@pytest.mark.parametrize("content_type", [PDF, GIF, JPEG, PNG])
def test_whole_files_are_fit_r_att_1_r_att_7(content_type: str, tmp_path: Path) -> None:
    assert examined(crafted.fit(content_type), content_type, tmp_path) is None


@pytest.mark.parametrize("announced", [PDF, GIF, JPEG, PNG])
@pytest.mark.parametrize("really", [PDF, GIF, JPEG, PNG])
def test_the_content_decides_the_type_r_att_1(announced: str, really: str, tmp_path: Path) -> None:
    expected = None if announced == really else "wrong_type"
    assert examined(crafted.fit(really), announced, tmp_path) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"MZ" + b"\0" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"PK\x03\x04" + b"\0" * 60,
        b"\n%PDF-1.7",
    ],
)
@pytest.mark.parametrize("announced", [PDF, PNG])
def test_other_types_are_refused_r_att_1(data: bytes, announced: str, tmp_path: Path) -> None:
    assert examined(data, announced, tmp_path) == "wrong_type"


@pytest.mark.parametrize("content_type", [PDF, GIF, JPEG, PNG])
def test_cut_files_are_refused_r_att_7(content_type: str, tmp_path: Path) -> None:
    assert examined(crafted.cut(crafted.fit(content_type)), content_type, tmp_path) == "damaged"


@pytest.mark.parametrize("content_type", [PDF, GIF, JPEG, PNG])
def test_a_beginning_alone_is_refused_r_att_7(content_type: str, tmp_path: Path) -> None:
    assert examined(crafted.fit(content_type)[:12], content_type, tmp_path) == "damaged"


@pytest.mark.parametrize("content_type", [GIF, PNG])
def test_scratched_files_are_refused_r_att_7(content_type: str, tmp_path: Path) -> None:
    assert examined(crafted.scratched(crafted.fit(content_type)), content_type, tmp_path) == "damaged"


@pytest.mark.parametrize(
    "make",
    [
        crafted.pdf_with_javascript,
        crafted.pdf_with_hidden_javascript,
        crafted.pdf_with_launch,
        crafted.pdf_with_embedded_file,
    ],
)
def test_active_pdfs_are_refused_r_att_7(make: Any, tmp_path: Path) -> None:
    assert examined(make(), PDF, tmp_path) == "active_content"


def test_a_pdf_may_have_links_r_att_7(tmp_path: Path) -> None:
    assert examined(crafted.pdf_with_link(), PDF, tmp_path) is None


def test_a_locked_pdf_is_refused_r_att_7(tmp_path: Path) -> None:
    assert examined(crafted.locked_pdf(), PDF, tmp_path) == "locked"


def test_pages_are_limited_r_att_7(tmp_path: Path) -> None:
    assert examined(crafted.pdf(pages=3), PDF, tmp_path, max_pages=3) is None
    assert examined(crafted.pdf(pages=4), PDF, tmp_path, max_pages=3) == "too_many_pages"
    assert examined(crafted.pdf(pages=0), PDF, tmp_path) == "damaged"


def test_pixels_are_limited_at_the_boundary_r_att_7(tmp_path: Path) -> None:
    assert examined(crafted.png(), PNG, tmp_path, max_pixels=3_600) is None
    assert examined(crafted.png(), PNG, tmp_path, max_pixels=3_599) == "too_large_picture"
    assert examined(crafted.gif(frames=3), GIF, tmp_path, max_total_pixels=3 * 3_600) is None
    assert examined(crafted.gif(frames=3), GIF, tmp_path, max_total_pixels=3 * 3_600 - 1) == "too_large_picture"


def test_bombs_are_refused_r_att_7(tmp_path: Path) -> None:
    assert examined(crafted.huge_png(), PNG, tmp_path) == "too_large_picture"
    assert examined(crafted.pdf_bomb(300), PDF, tmp_path, check_memory_bytes=256 * MEGABYTE) == "too_complex"


def test_time_is_limited_r_att_7(tmp_path: Path) -> None:
    began = time.monotonic()
    assert examined(crafted.pdf_bomb(50, streams=200), PDF, tmp_path, check_seconds=1) == "too_complex"
    assert time.monotonic() - began < 10


def test_nothing_is_left_on_the_disk(tmp_path: Path) -> None:
    examined(crafted.fit(PNG), PNG, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (-signal.SIGKILL, "too_complex"),
        (-signal.SIGXCPU, "too_complex"),
        (-signal.SIGABRT, "too_complex"),
        (-signal.SIGSEGV, "damaged"),
    ],
)
def test_what_breaks_the_decoder_is_refused_r_att_7(status: int, refusal: str) -> None:
    assert checking.understood(status, b"") == refusal


@pytest.mark.parametrize(("status", "said"), [(1, b""), (120, b'{"refusal": null}'), (0, b""), (0, b"[]"), (0, b"{}")])
def test_a_decoder_that_fails_by_itself_refuses_nothing_r_att_7(status: int, said: bytes) -> None:
    with pytest.raises(CannotCheck):
        checking.understood(status, said)


def test_every_word_of_the_program_is_known() -> None:
    program = Path(checking.__file__).with_name("examine.py").read_text()
    words = set(rules.REFUSALS_SV)
    for said in (
        "wrong_type",
        "damaged",
        "too_large_picture",
        "too_complex",
        "too_many_pages",
        "locked",
        "active_content",
    ):
        assert f'"{said}"' in program
        assert said in words
