"""Files known to be fit: a check that fails over them too is not failing because of anybody's file (R-ATT-7)."""

from __future__ import annotations

from services.attachments import checking, rules
from services.attachments.checking import CannotCheck, Examined
from services.attachments.settings import CheckerSettings

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a494441"
    "54789c63f80f0001010100b138f6140000000049454e44ae426082"
)
"""One white pixel."""

_OBJECTS = (
    b"<< /Type /Catalog /Pages 2 0 R >>",
    b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 10 10] /Resources << >> >>",
)


def _pdf() -> bytes:
    """One white page."""
    text, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, made in enumerate(_OBJECTS, 1):
        table += b"%010d 00000 n \n" % len(text)
        text += b"%d 0 obj\n%b\nendobj\n" % (number, made)
    count = len(_OBJECTS) + 1
    end = b"trailer << /Root 1 0 R /Size %d >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(text))
    return text + b"xref\n0 %d\n" % count + table + end


PDF = _pdf()


def examination_works(content_type: str, settings: CheckerSettings) -> bool:
    """Whether the program that examines files of this type finds the fit one fit."""
    data, known = (PDF, rules.PDF) if content_type == rules.PDF else (PNG, rules.PREVIEW_TYPE)
    try:
        with checking.desk(settings) as desk:
            desk.upload.write(data)
            desk.upload.flush()
            return checking.examine(desk, known, settings) == Examined(None, preview=True)
    except (CannotCheck, OSError):
        return False
