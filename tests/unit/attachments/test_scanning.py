"""What is said to a clamd, and what its answers mean (R-ATT-7)."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.attachments.checking import CannotCheck
from services.attachments.scanning import Scanner


@contextmanager
def saying(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A socket at a path that takes all that it is told, up to the end mark, and answers so."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            line, _ = server.accept()
            with line:
                told = b""
                while not told.endswith((b"\0\0\0\0", b"PING\0")):
                    told += line.recv(65_536)
                heard.append(told)
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join()


def test_the_bytes_are_sent_in_pieces_with_their_lengths(tmp_path: Path) -> None:
    with saying(tmp_path / "s", b"stream: OK\0") as heard:
        assert Scanner(str(tmp_path / "s"), 5).found(io.BytesIO(b"abc")) is None
    assert heard == [b"zINSTREAM\0" + b"\0\0\0\3abc" + b"\0\0\0\0"]


def test_what_is_found_is_named(tmp_path: Path) -> None:
    with saying(tmp_path / "s", b"stream: Win.Test.EICAR FOUND\0"):
        assert Scanner(str(tmp_path / "s"), 5).found(io.BytesIO(b"abc")) == "Win.Test.EICAR"


@pytest.mark.parametrize("answer", [b"", b"INSTREAM size limit exceeded. ERROR\0", b"stream: OK and more\0", b"OK\0"])
def test_any_other_answer_is_no_verdict_r_att_7(answer: bytes, tmp_path: Path) -> None:
    with saying(tmp_path / "s", answer), pytest.raises(CannotCheck):
        Scanner(str(tmp_path / "s"), 5).found(io.BytesIO(b"abc"))


def test_a_scanner_that_is_not_there_is_no_verdict_r_att_7(tmp_path: Path) -> None:
    away = Scanner(str(tmp_path / "s"), 1)
    assert not away.answers()
    with pytest.raises(CannotCheck):
        away.found(io.BytesIO(b"abc"))


def test_it_is_there_if_it_answers(tmp_path: Path) -> None:
    with saying(tmp_path / "s", b"PONG\0") as heard:
        assert Scanner(str(tmp_path / "s"), 5).answers()
    assert heard == [b"zPING\0"]
