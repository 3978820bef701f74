"""Files that are two things at once: a picture that is also an archive, a page, a program (R-ATT-7)."""

from __future__ import annotations

import re
from typing import Protocol

from services.attachments.examination.words import POLYGLOT, Unfit


class Bytes(Protocol):
    """A file's content, in memory or mapped."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


HEAD_BYTES = 1024
"""So far browsers and PDF readers look for what a file might be."""

_MARKUP = rb"(?i:<(?:script|html|svg|iframe|body|!doctype html|\?php))"
_IN_HEAD_OF_PICTURE = re.compile(_MARKUP + rb"|%PDF-")
_IN_HEAD_OF_PDF = re.compile(_MARKUP)
# Few enough bytes are like these by chance: one file of 50 MB in 100 000. Of markup it would be one in ten.
_ARCHIVE = rb"PK\x03\x04[\x0a-\x3f]\x00|PK\x05\x06\x00\x00|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c"
_CODED_IN_PICTURE = re.compile(_ARCHIVE + rb"|%PDF-[12]\.")
_CODED_IN_PDF = re.compile(_ARCHIVE)
_ANYWHERE = re.compile(
    _ARCHIVE + rb"|%PDF-[12]\.|\x7fELF[\x01\x02]"
    rb"|program cannot be run in DOS mode|" + _MARKUP
)
_ARCHIVE_END, _ARCHIVE_END_BYTES, _LONGEST_COMMENT = b"PK\x05\x06", 22, 65_535


def look_at_whole(data: Bytes, *, picture: bool) -> None:
    """Raises `Unfit` if the file as a whole is also something else: told by its head, its end, and by the beginning of
    an archive, wherever that is: its readers look for it, and what is coded can't be told from what is put there."""
    head = data[:HEAD_BYTES]
    if (_IN_HEAD_OF_PICTURE if picture else _IN_HEAD_OF_PDF).search(head) or _ends_as_archive(data):
        raise Unfit(POLYGLOT)
    if (_CODED_IN_PICTURE if picture else _CODED_IN_PDF).search(data):  # type: ignore[call-overload]
        raise Unfit(POLYGLOT)


def look_at_part(part: bytes) -> None:
    """Raises `Unfit` if something else lies in a part of the file that is not the picture itself."""
    if _ANYWHERE.search(part):
        raise Unfit(POLYGLOT)


def _ends_as_archive(data: Bytes) -> bool:
    # readers of ZIP (and of JAR, DOCX, APK) begin at the end, whatever the file begins with
    tail = data[max(0, len(data) - _ARCHIVE_END_BYTES - _LONGEST_COMMENT) :]
    at = tail.find(_ARCHIVE_END)
    while at >= 0:
        comment = int.from_bytes(tail[at + 20 : at + 22], "little")
        if at + _ARCHIVE_END_BYTES + comment == len(tail):
            return True
        at = tail.find(_ARCHIVE_END, at + 1)
    return False
