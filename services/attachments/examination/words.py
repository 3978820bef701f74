"""What the program says, and what one file may cost."""

from __future__ import annotations

from dataclasses import dataclass

WRONG_TYPE = "wrong_type"
DAMAGED = "damaged"
TOO_LARGE_PICTURE = "too_large_picture"
TOO_COMPLEX = "too_complex"
TOO_MANY_PAGES = "too_many_pages"
LOCKED = "locked"
ACTIVE_CONTENT = "active_content"
POLYGLOT = "polyglot"


class Unfit(Exception):
    """The file can't be used; the argument is the word for why."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost. The program ends itself when it needs more processor time or memory."""

    seconds: int
    memory_bytes: int
    output_bytes: int
    max_pixels: int
    max_total_pixels: int
    max_pages: int


@dataclass(frozen=True)
class Wish:
    """What is to be done with the file. `rewritten` and `preview`: where to write what is kept instead, and a PNG."""

    file: str
    rewritten: str
    preview: str
    content_type: str
    strip_metadata: bool
    clean_pdf: bool
    preview_pixels: int
