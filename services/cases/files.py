"""A document as a file to hand out: plain text, or PDF."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Literal

from services.cases import pdf
from services.cases.document import Block, as_text
from shared.messaging.errors import LimitExceeded, Unavailable


@dataclass(frozen=True)
class File:
    """What a caller gets: `base64` is the content."""

    name: str
    content_type: str
    base64: str


def as_file(form: Literal["text", "pdf"], title: str, name: str, blocks: list[Block]) -> File:
    """The document in that form. `name` is without its ending.

    Raises `LimitExceeded` (`document_too_large`) for a PDF that would take too long: as text it can be had anyway.
    Raises `Unavailable` (`busy`) while others are being made.
    """
    if form == "text":
        return _file(f"{name}.txt", "text/plain; charset=utf-8", as_text(blocks).encode())
    try:
        return _file(f"{name}.pdf", "application/pdf", pdf.made(title, [asdict(block) for block in blocks]))
    except pdf.Busy:
        raise Unavailable(reason="busy") from None
    except pdf.NotMade:
        raise LimitExceeded(
            "Dokumentet är för stort för att bli en PDF. Ta ut det som text.", reason="document_too_large"
        ) from None


def _file(name: str, content_type: str, content: bytes) -> File:
    return File(name, content_type, base64.b64encode(content).decode())
