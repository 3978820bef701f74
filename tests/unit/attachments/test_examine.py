"""The program that decodes a file, as the checker runs it: in a child process with limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.attachments import checking, control
from services.attachments.checking import CannotCheck, Examined, NoVerdict
from services.attachments.examination import program
from services.attachments.examination.words import Limits, Wish
from tests.unit.attachments import corpus, crafted, crafted_pdf
from tests.unit.attachments.crafted import GIF, JPEG, PDF, PNG

MEGABYTE = 1 << 20


def settings(folder: Path, **limits: Any) -> Any:
    usual = {
        "check_seconds": 30,
        "check_memory_bytes": 1024 * MEGABYTE,
        "max_pixels": 100_000_000,
        "max_total_pixels": 1_000_000_000,
        "max_pages": 2_000,
        "max_file_bytes": 50 * MEGABYTE,
        "strip_metadata": True,
        "active_pdf": "refuse",
    }
    return SimpleNamespace(work_folder=folder, **(usual | limits))


def examined(data: bytes, content_type: str, folder: Path, **limits: Any) -> str | None:
    told = settings(folder, **limits)
    with checking.desk(told) as desk:
        desk.upload.write(data)
        desk.upload.flush()
        return checking.examine(desk, content_type, told).refusal


@pytest.mark.parametrize("content_type", [PDF, GIF, JPEG, PNG])
def test_whole_files_are_fit_r_att_1_r_att_7(content_type: str, tmp_path: Path) -> None:
    assert examined(crafted.fit(content_type), content_type, tmp_path) is None


@pytest.mark.parametrize(
    ("data", "content_type"),
    [(crafted.pdf_with_javascript(), PDF), (corpus.located_jpeg(), JPEG)],
    ids=["pdf", "photo"],
)
def test_what_is_kept_instead_and_its_preview_come_back_r_att_7(data: bytes, content_type: str, tmp_path: Path) -> None:
    told = settings(tmp_path, active_pdf="clean")
    with checking.desk(told) as desk:
        desk.upload.write(data)
        desk.upload.flush()
        assert checking.examine(desk, content_type, told) == Examined(None, rewritten=True, preview=True)
        rewritten, preview = desk.rewritten.read(), desk.preview.read()
    assert examined(rewritten, content_type, tmp_path) is None
    assert examined(preview, PNG, tmp_path) is None


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
    assert examined(crafted_pdf.pdf_nested_bomb(), PDF, tmp_path, check_memory_bytes=256 * MEGABYTE) == "too_complex"
    assert examined(crafted.pdf_bomb(250), PDF, tmp_path, check_memory_bytes=256 * MEGABYTE) == "too_complex"


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
        (-signal.SIGXCPU, "too_complex"),
        (-signal.SIGABRT, "too_complex"),
        (-signal.SIGSEGV, "damaged"),
    ],
)
def test_what_breaks_the_decoder_is_refused_r_att_7(status: int, refusal: str) -> None:
    assert checking.understood(status, b"").refusal == refusal


FIT = b'{"refusal": null, "rewritten": false}\n'


def test_a_preview_that_is_too_much_makes_no_file_unfit_r_att_7() -> None:
    for said in (FIT, FIT + b'{"preview": false}\n'):
        assert checking.understood(-signal.SIGXCPU if said == FIT else 0, said) == Examined(None)
    assert checking.understood(0, FIT + b'{"preview": true}\n') == Examined(None, preview=True)
    assert checking.understood(-signal.SIGSEGV, FIT).refusal == "damaged"


def test_a_picture_at_the_limit_of_pixels_fits_into_the_memory_r_att_7(tmp_path: Path) -> None:
    """100 million pixels in colour, as the largest cameras make them, with the limits as they are by themselves."""
    told = settings(tmp_path)
    with checking.desk(told) as desk:
        desk.upload.write(crafted.colourful_png(10_000))
        desk.upload.flush()
        assert checking.examine(desk, PNG, told) == Examined(None, preview=True)


@pytest.mark.parametrize(
    ("status", "said"),
    [(-signal.SIGKILL, b""), (1, b""), (120, b'{"refusal": null}'), (0, b""), (0, b"[]"), (0, b"{}")],
)
def test_a_decoder_that_fails_by_itself_refuses_nothing_r_att_7(status: int, said: bytes) -> None:
    with pytest.raises(NoVerdict):
        checking.understood(status, said)


def test_a_full_disk_is_no_files_fault_r_att_7(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(corpus.located_jpeg())
    wish = Wish(str(tmp_path / "file"), "/dev/full", str(tmp_path / "preview"), JPEG, True, False, 64)
    limits = Limits(60, 1 << 30, 1 << 26, **corpus.LIMITS)
    told = [json.dumps(asdict(one)) for one in (wish, limits)]
    ended = subprocess.run([sys.executable, "-m", program.__name__, *told], capture_output=True, check=False)
    with pytest.raises(CannotCheck, match="work_folder") as raised:
        checking.understood(ended.returncode, ended.stdout)
    assert not isinstance(raised.value, NoVerdict)


@pytest.mark.parametrize("content_type", [PDF, PNG])
def test_what_is_known_to_be_fit_is_found_fit_r_att_7(
    content_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control.examination_works(content_type, settings(tmp_path))
    monkeypatch.setattr(checking, "_START", "raise SystemExit(1)")
    assert not control.examination_works(content_type, settings(tmp_path))
