"""Files that hold more than is coded in them: behind the picture's data, in its pixels, between a PDF's objects."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pikepdf

from tests.unit.attachments import crafted

RAR = b"Rar!\x1a\x07\x01\x00" + bytes(24)
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c\0\4" + bytes(24)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def packed(data: bytes, name: bytes) -> tuple[int, int]:
    """Where the last chunk of this name in a PNG begins and ends."""
    at = data.rindex(name) - 4
    return at, at + 12 + int(struct.unpack_from(">I", data, at)[0])


def with_data(change: Callable[[bytes], bytes], png: bytes | None = None, name: bytes = b"IDAT") -> bytes:
    """A PNG whose last packed data are changed, and fit in their chunk."""
    plain = png or crafted.png()
    start, end = packed(plain, name)
    return plain[:start] + chunk(name, change(plain[start + 8 : end - 4])) + plain[end:]


def in_pieces(more: bytes) -> bytes:
    """A PNG whose packed data lie in three chunks: what comes after them begins in the second and fills the third."""
    plain = crafted.png()
    start, end = packed(plain, b"IDAT")
    body = plain[start + 8 : end - 4]
    pieces = (body[:100], body[100:] + more[:4], more[4:])
    return plain[:start] + b"".join(chunk(b"IDAT", piece) for piece in pieces if piece) + plain[end:]


def with_more_rows(more: bytes) -> bytes:
    return with_data(lambda body: zlib.compress(zlib.decompress(body) + more))


def grey(width: int, height: int, rows: bytes, *, interlaced: bool = False, level: int = 6) -> bytes:
    """A PNG of one byte a pixel; each of the rows with the byte that begins it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, body) for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(rows, level)), (b"IEND", b""))
    )


def interlaced_png() -> bytes:
    """5 by 3 pixels in the seven turns of Adam7, of which one is empty."""
    rows = ((1, 1), (1, 1), (0, 0), (1, 1), (3, 1), (2, 2), (5, 1))  # pixels a row, rows, of each turn
    return grey(5, 3, b"".join((b"\0" + bytes(width)) * height for width, height in rows if width), interlaced=True)


def in_pixels(more: bytes) -> bytes:
    """A PNG whose pixels are these bytes, not packed at all."""
    return grey(len(more), 1, b"\0" + more, level=0)


def in_scan(more: bytes) -> bytes:
    """A JPEG with more in its last scan than it shows."""
    plain = crafted.jpeg()
    return plain[:-2] + more + plain[-2:]


def in_last_block(more: bytes) -> bytes:
    """A GIF with one more block of data after its picture's."""
    plain = crafted.gif(frames=1)
    return plain[:-2] + bytes([len(more)]) + more + plain[-2:]


def before_table(more: bytes) -> bytes:
    """A PDF with something between its objects and the place of its table."""
    plain = crafted.pdf()
    at = plain.rindex(b"startxref")
    return plain[:at] + more + b"\n" + plain[at:]


def after_end(more: bytes) -> bytes:
    """A PDF that ends, and ends once more after something else."""
    plain = crafted.pdf()
    return plain + more + b"\n" + plain[plain.rindex(b"startxref") :]


def in_stream(more: bytes) -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        document.Root.More = pikepdf.Stream(document, more)

    return crafted.pdf(change, compress_streams=False)
