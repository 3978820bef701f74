"""Blocks of a document as a PDF, with its font embedded, so that å, ä and ö look the same everywhere.

It is made in a process of its own, which has neither keys nor connections and may use only so much time and memory:
laying out a long case would keep everyone else's calls waiting. This file is that process too, and then imports nothing
of the service. A character that the font lacks is written as its number, so that none is lost without a trace.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

SECONDS = 20
WAIT_SECONDS = 5.0
_MEMORY_BYTES = 1 << 30
_FONT_FILE = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_FONT = "DejaVuSans"
_WIDTH, _HEIGHT = 595.28, 841.89  # A4, in points
_MARGIN = 57.0
_SIZES = {"title": 16.0, "heading": 12.0, "line": 9.0, "text": 9.0}
_BEFORE = {"title": 0.0, "heading": 14.0, "line": 0.0, "text": 3.0}
_INDENTS = {"text": 14.0}
_LEADING = 1.45


_Line = tuple[float, float, float, str]
"""Size, distance from the left and from the bottom, text."""


class NotMade(Exception):
    """The document takes too much time or memory as a PDF."""


class Busy(Exception):
    """Others are being made, for so long already that it would be too late."""


AT_ONCE = 2
_turns = threading.BoundedSemaphore(AT_ONCE)


def made(title: str, blocks: Sequence[Mapping[str, str]]) -> bytes:
    """The PDF, made in a process of its own, of which there are two at most. Raises `NotMade` and `Busy`."""
    if not _turns.acquire(timeout=WAIT_SECONDS):
        raise Busy
    try:
        return _made(title, blocks)
    finally:
        _turns.release()


def _made(title: str, blocks: Sequence[Mapping[str, str]]) -> bytes:
    asked = json.dumps({"title": title, "blocks": list(blocks)}).encode()
    command = [sys.executable, "-P", str(Path(__file__).resolve())]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, timeout=SECONDS, env={}, check=False)
    except subprocess.TimeoutExpired:
        raise NotMade from None
    if done.returncode != 0 or not done.stdout.startswith(b"%PDF"):
        raise NotMade
    return done.stdout


# --- in the process -------------------------------------------------------------------------------------------------


def render(title: str, blocks: Sequence[Mapping[str, str]]) -> bytes:
    """The PDF: `blocks` have a kind (title, heading, line, text) and a text."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    pdfmetrics.registerFont(TTFont(_FONT, str(_FONT_FILE)))
    font = pdfmetrics.getFont(_FONT)
    pages = list(_pages(font, blocks))
    file = BytesIO()
    canvas = Canvas(file, pagesize=(_WIDTH, _HEIGHT), pageCompression=1, initialFontName=_FONT, lang="sv-SE")
    canvas.setTitle(title)
    for number, page in enumerate(pages, 1):
        for size, left, height, line in page:
            canvas.setFont(_FONT, size)
            canvas.drawString(left, height, line)
        canvas.setFont(_FONT, 8)
        canvas.drawString(_MARGIN, _MARGIN / 2, title)
        canvas.drawRightString(_WIDTH - _MARGIN, _MARGIN / 2, f"Sida {number} av {len(pages)}")
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _pages(font: Any, blocks: Sequence[Mapping[str, str]]) -> Iterator[list[_Line]]:
    """Each page's lines."""
    page: list[_Line] = []
    height = _HEIGHT - _MARGIN
    for block in blocks:
        size = _SIZES[block["kind"]]
        height -= _BEFORE[block["kind"]] if page else 0.0
        left = _MARGIN + _INDENTS.get(block["kind"], 0.0)
        for line in _wrapped(font, _shown(font, block["text"]), size, _WIDTH - _MARGIN - left):
            if height - size * _LEADING < _MARGIN:
                yield page
                page, height = [], _HEIGHT - _MARGIN
            height -= size * _LEADING
            page.append((size, left, height, line))
    yield page


def _shown(font: Any, text: str) -> str:
    """What the font has of it; the rest by number. What can't be seen anyway is left out."""
    shown = []
    for character in unicodedata.normalize("NFC", text.replace("\t", "    ")):
        if character == "\n" or ord(character) in font.face.charToGlyph:
            shown.append(character)
        elif unicodedata.category(character) not in ("Cf", "Mn", "Cc"):
            shown.append(f"[U+{ord(character):04X}]")
    return "".join(shown)


def _wrapped(font: Any, text: str, size: float, room: float) -> Iterator[str]:
    for paragraph in text.split("\n"):
        line, used = "", 0.0
        for word in _words(paragraph):
            width = font.stringWidth(word, size)
            if line and used + width > room:
                yield line.rstrip()
                line, used, word = "", 0.0, word.lstrip()
                width = font.stringWidth(word, size)
            while width > room:
                fits = _fitting(font, word, size, room)
                yield word[:fits]
                word = word[fits:]
                width = font.stringWidth(word, size)
            line, used = line + word, used + width
        yield line.rstrip()


def _words(paragraph: str) -> Iterator[str]:
    """Each with the blanks before it, so that they come back together as they were."""
    start = 0
    for place in range(1, len(paragraph)):
        if paragraph[place] == " " and paragraph[place - 1] != " ":
            yield paragraph[start:place]
            start = place
    yield paragraph[start:]


def _fitting(font: Any, word: str, size: float, room: float) -> int:
    """How many of its characters fit in a line: one at least."""
    low, high = 1, len(word)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.stringWidth(word[:middle], size) <= room else (low, middle - 1)
    return low


def main() -> int:
    """Reads what is asked from standard input, and writes the PDF to standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    asked = json.load(sys.stdin.buffer)
    sys.stdout.buffer.write(render(asked["title"], asked["blocks"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
