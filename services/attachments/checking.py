"""Checking one file: all there, the announced bytes, of the announced type, decodes in full (R-ATT-7).

The bytes are streamed to a nameless temporary file and never held in memory as a whole; what decodes them is a child
process with limits, because decoders are where strangers' bytes do their harm, and their memory is not this process's.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from services.attachments.rules import Refusal
from services.attachments.settings import CheckerSettings
from services.attachments.store import Store, save
from services.attachments.worklist import Turn

_PROGRAM = Path(__file__).with_name("examine.py")
_START_SECONDS = 10
_BROKEN_LIBRARY = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class CannotCheck(Exception):
    """The check itself failed, through no fault of the file: try again later."""


@contextmanager
def room(settings: CheckerSettings) -> Iterator[BinaryIO]:
    """A file without a name for the bytes of one check: however the process ends, nothing is left of it on the disk."""
    try:
        file = tempfile.TemporaryFile(dir=settings.work_folder)  # noqa: SIM115 - closed below
    except OSError as error:
        raise CannotCheck from error
    with file:
        yield file


def fetch(store: Store, turn: Turn, file: BinaryIO) -> str | None:
    """Streams the upload into `file`. Answers why it is refused, None if it is what was announced.

    Raises `StoreDown`, or `CannotCheck` if there is no room for it.
    """
    try:
        size, sha256 = save(store.read_upload(turn.attachment), file, most=turn.size)
    except OSError as error:
        raise CannotCheck from error
    if size != turn.size:
        return Refusal.WRONG_SIZE
    if sha256 != turn.sha256:
        return Refusal.WRONG_CHECKSUM
    return None


def examine(file: BinaryIO, content_type: str, settings: CheckerSettings) -> str | None:
    """Lets a child process decode the file. Answers why it is refused, None if it is fit. Raises `CannotCheck`."""
    limits = {
        "seconds": settings.check_seconds,
        "memory_bytes": settings.check_memory_bytes,
        "max_pixels": settings.max_pixels,
        "max_total_pixels": settings.max_total_pixels,
        "max_pages": settings.max_pages,
    }
    command = [sys.executable, "-I", str(_PROGRAM), "/dev/stdin", content_type, json.dumps(limits)]
    try:
        ended = subprocess.run(
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=settings.check_seconds + _START_SECONDS,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Refusal.TOO_COMPLEX
    except OSError as error:
        raise CannotCheck from error
    return understood(ended.returncode, ended.stdout)


def understood(status: int, said: bytes) -> str | None:
    """What the child's end means: `status` below 0 is the signal that ended it. Raises `CannotCheck`."""
    if status < 0:
        return Refusal.DAMAGED if -status in _BROKEN_LIBRARY else Refusal.TOO_COMPLEX
    if status != 0:
        raise CannotCheck
    try:
        refusal = json.loads(said)["refusal"]
    except (ValueError, KeyError, TypeError) as error:
        raise CannotCheck from error
    return None if refusal is None else str(refusal)
