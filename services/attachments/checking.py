"""Checking one file: all there, the announced bytes, no virus, of the announced type, decodes in full (R-ATT-7).

The bytes are streamed to nameless temporary files and never held in memory as a whole; what decodes them is a child
process with limits, because decoders are where strangers' bytes do their harm, and their memory is not this process's.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from services.attachments.examination.program import NO_ROOM
from services.attachments.examination.words import Limits, Wish
from services.attachments.rules import Refusal
from services.attachments.settings import CheckerSettings
from services.attachments.store import Store, save
from services.attachments.worklist import Turn

PREVIEW_PIXELS = 1024
"""The longest side of a preview."""

_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from services.attachments.examination.program import main; main()"
)
_STARVED = 5
"""How many times its processor time the child may last: on a machine with too much to do it is not the file's fault."""
_REWRITTEN_MAY_GROW_BYTES = 8 * 1024 * 1024
_BROKEN_LIBRARY = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
_ENDED_BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class CannotCheck(Exception):
    """The check itself failed, through no fault of the file: try again later. The argument is a word for why."""

    @property
    def reason(self) -> str:
        """What failed."""
        return str(self.args[0])


class NoVerdict(CannotCheck):
    """As that, but it may be the file's fault: something worked over it, and ended without a word."""


@dataclass(frozen=True)
class Desk:
    """Files without names for one check: however the process ends, nothing is left of them on the disk."""

    upload: BinaryIO
    rewritten: BinaryIO
    preview: BinaryIO


@dataclass(frozen=True)
class Examined:
    """What the child process says: why the file is refused, or which bytes are kept, and whether there is a preview."""

    refusal: str | None
    rewritten: bool = False
    preview: bool = False


@contextmanager
def desk(settings: CheckerSettings) -> Iterator[Desk]:
    """The files of one check. Raises `CannotCheck` if there is no place for them."""
    with ExitStack() as opened:
        try:
            files = [opened.enter_context(tempfile.TemporaryFile(dir=settings.work_folder)) for _ in range(3)]
        except OSError as error:
            raise CannotCheck("work_folder") from error
        yield Desk(*files)


def fetch(store: Store, turn: Turn, file: BinaryIO) -> str | None:
    """Streams the upload into `file`. Answers why it is refused, None if it is what was announced.

    Raises `StoreDown`, or `CannotCheck` if there is no room for it.
    """
    try:
        size, sha256 = save(store.read_upload(turn.attachment), file, most=turn.size)
    except OSError as error:
        raise CannotCheck("work_folder") from error
    if size != turn.size:
        return Refusal.WRONG_SIZE
    if sha256 != turn.sha256:
        return Refusal.WRONG_CHECKSUM
    return None


def examine(desk: Desk, content_type: str, settings: CheckerSettings) -> Examined:
    """Lets a child process decode the file, rewrite it where that is wished, and draw a preview.

    Raises `CannotCheck`.
    """
    wish = Wish(
        file="/dev/stdin",
        rewritten=f"/dev/fd/{desk.rewritten.fileno()}",
        preview=f"/dev/fd/{desk.preview.fileno()}",
        content_type=content_type,
        strip_metadata=settings.strip_metadata,
        clean_pdf=settings.active_pdf == "clean",
        preview_pixels=PREVIEW_PIXELS,
    )
    limits = Limits(
        seconds=settings.check_seconds,
        memory_bytes=settings.check_memory_bytes,
        output_bytes=settings.max_file_bytes + _REWRITTEN_MAY_GROW_BYTES,
        max_pixels=settings.max_pixels,
        max_total_pixels=settings.max_total_pixels,
        max_pages=settings.max_pages,
    )
    told = [json.dumps(asdict(one)) for one in (wish, limits)]
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", _START, str(_ROOT), *told],
            stdin=desk.upload,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(desk.rewritten.fileno(), desk.preview.fileno()),
            timeout=settings.check_seconds * _STARVED,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return understood(-signal.SIGKILL, late.stdout or b"")
    except OSError as error:
        raise CannotCheck("no_child_process") from error
    return understood(ended.returncode, ended.stdout)


def understood(status: int, said: bytes) -> Examined:
    """What the child's end means: `status` below 0 is the signal that ended it.

    Raises `CannotCheck`, or `NoVerdict` if it may be the file's fault.

    A file that was found fit before its preview used up the limits is fit, and has none.
    """
    if status < 0 and -status in _BROKEN_LIBRARY:
        return Examined(Refusal.DAMAGED)
    if status == NO_ROOM:
        raise CannotCheck("work_folder")
    if status > 0:
        raise NoVerdict("child_process_failed")
    try:
        first, *more = [json.loads(line) for line in said.splitlines()] or [None]
        if first is None and -status in _ENDED_BY_OTHERS:  # not by its limits
            raise NoVerdict("child_process_killed")
        if first is None and status < 0:
            return Examined(Refusal.TOO_COMPLEX)
        if first["refusal"] is not None:
            return Examined(str(first["refusal"]))
        drawn = bool(more[0]["preview"]) if more else False
        return Examined(None, rewritten=bool(first["rewritten"]), preview=drawn)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NoVerdict("child_process_unclear") from error
