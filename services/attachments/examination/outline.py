"""What a picture's file is made of, part by part: what makes the picture, and what only tells about it.

Metadata (where and when a photo was taken, by whom, with what; comments; thumbnails) are left out by leaving out their
parts: the picture's own bytes stay as they are, nothing is encoded anew. How the picture is to be turned is kept, in
the smallest form there is. What comes after the picture's end is left out too: phones hang films there, and forgers
archives (R-ATT-7).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap

from services.attachments.examination import profiles
from services.attachments.examination.packed import Packed, rows_bytes
from services.attachments.examination.words import DAMAGED, TOO_LARGE_PICTURE, Unfit

Data = mmap | bytes


@dataclass
class Outline:
    """What is kept, in order, and what is left out."""

    kept: list[slice | bytes] = field(default_factory=list)
    left_out: list[slice] = field(default_factory=list)

    def keep(self, start: int, end: int) -> None:
        """A part that makes the picture."""
        last = self.kept[-1] if self.kept else None
        if isinstance(last, slice) and last.stop == start:
            self.kept[-1] = slice(last.start, end)
        else:
            self.kept.append(slice(start, end))

    def leave_out(self, start: int, end: int) -> None:
        """A part that does not."""
        if end > start:
            self.left_out.append(slice(start, end))

    def replace(self, start: int, end: int, by: bytes) -> None:
        """A part of which something else is kept; the part itself, if it is the same."""
        self.kept.append(by)
        self.leave_out(start, end)

    def pieces(self, data: Data) -> Iterator[bytes]:
        """The picture's bytes without what is left out."""
        for piece in self.kept:
            yield piece if isinstance(piece, bytes) else data[piece]


def outline(data: Data, form: str, max_pixels: int | None = None) -> Outline:
    """The parts of a file of this form. Raises `Unfit` if it does not hold together up to its end, and for a picture
    of more pixels if it would have to be unpacked."""
    try:
        return _OUTLINES[form](data) if form != "PNG" else _png(data, max_pixels)
    except (IndexError, struct.error):
        raise Unfit(DAMAGED) from None


# --- how a picture is to be turned ----------------------------------------------------------------------------------

_ORIENTATION = 0x0112


def _orientation(tiff: bytes) -> int:
    """What Exif data say about how the picture is to be turned: 1 (as it is) to 8; 1 too where they make no sense."""
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, at + 2 + 12 * number)
            if tag == _ORIENTATION and kind == 3 and 1 <= value <= 8:
                return int(value)
    except (KeyError, struct.error):
        pass
    return 1


def _only_orientation(value: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, value, 0, 0)


# --- JPEG -----------------------------------------------------------------------------------------------------------

_SOI, _EOI, _SOS, _DNL, _COM, _APP0, _APP2, _APP14, _APP15 = 0xD8, 0xD9, 0xDA, 0xDC, 0xFE, 0xE0, 0xE2, 0xEE, 0xEF
_ALONE = {0x01, *range(0xD0, 0xD8)}
_SCAN_ENDS = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_EXIF, _ICC, _ADOBE = b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe"
_JFIF_BYTES, _ADOBE_BYTES, _PROFILE_PIECE_BYTES = 14, 12, 65_519


def _segments(data: Data, *, scans: bool = True) -> Iterator[tuple[int, int, slice, int]]:
    """Marker, start, body and end of each part up to the picture's end, or its first scan. Raises `Unfit`."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise Unfit(DAMAGED)
        start = at
        while data[at] == 0xFF:
            at += 1
        marker, at = data[at], at + 1
        if marker == _EOI or marker in _ALONE:
            yield marker, start, slice(at, at), at
            if marker == _EOI:
                return
            continue
        if marker in (0x00, _SOI):
            raise Unfit(DAMAGED)
        (length,) = struct.unpack_from(">H", data, at)
        end = at + length
        if length < 2 or end > len(data):
            raise Unfit(DAMAGED)
        body, at = slice(at + 2, end), end
        if marker == _SOS:
            if not scans:
                return
            found = _SCAN_ENDS.search(data, end)
            if found is None:
                raise Unfit(DAMAGED)
            at = found.start()
        yield marker, start, body, at


def _jpeg(data: Data) -> Outline:
    parts, turned = Outline(), False
    parts.keep(0, 2)
    profile = _jpeg_profile(data)
    for marker, start, body, end in _segments(data):
        if marker == _EOI:
            parts.keep(start, end)
            parts.leave_out(end, len(data))
        elif marker == _APP2 and _is_profile(data, body):
            if profile is None:  # as it should be
                parts.keep(start, end)
            else:
                parts.replace(start, end, profile)
                profile = b""
        elif marker == _DNL:  # how high it is: said already, or the picture could not be decoded
            parts.leave_out(start, end)
        elif _APP0 <= marker <= _APP15 or marker == _COM:
            turned = _application_segment(parts, data, marker, start, body, turned)
        else:
            parts.keep(start, end)
            if marker == _SOS:  # a profile comes before the picture: of what comes later nothing stays
                profile = b""
    return parts


def _is_profile(data: Data, body: slice) -> bool:
    return data[body.start : min(body.start + len(_ICC), body.stop)] == _ICC


def _jpeg_profile(data: Data) -> bytes | None:
    """What is to stand in the place of the parts that hold the profile of colours; None if they may stay."""
    found = [
        (data[start:end], data[body.start + len(_ICC) : body.stop])
        for marker, start, body, end in _segments(data, scans=False)
        if marker == _APP2 and _is_profile(data, body)
    ]
    if sum(len(piece) for _, piece in found) > profiles.LARGEST:
        return b""
    bare = profiles.bare(b"".join(piece[2:] for _, piece in sorted(found, key=lambda one: one[1][:1])))
    whole = b"" if bare is None else _profile_segments(bare)
    return None if b"".join(segment for segment, _ in found) == whole else whole


def _profile_segments(profile: bytes) -> bytes:
    size = _PROFILE_PIECE_BYTES
    pieces = [profile[at : at + size] for at in range(0, len(profile), size)]
    return b"".join(
        b"\xff\xe2" + struct.pack(">H", 2 + len(_ICC) + 2 + len(piece)) + _ICC + bytes([number, len(pieces)]) + piece
        for number, piece in enumerate(pieces, 1)
    )


def _application_segment(parts: Outline, data: Data, marker: int, start: int, body: slice, turned: bool) -> bool:
    """Keeps it, leaves it out, or keeps what matters of it. Answers whether it is said how the picture is turned."""
    head, end = data[body.start : min(body.start + 16, body.stop)], body.stop
    if marker == _APP0 and head.startswith(b"JFIF\0") and body.stop - body.start >= _JFIF_BYTES:
        if end - body.start == _JFIF_BYTES and data[body.start + 12 : end] == b"\0\0":
            parts.keep(start, end)
        else:  # with a thumbnail
            bare = data[body.start : body.start + 12] + b"\0\0"
            parts.kept.append(b"\xff\xe0" + struct.pack(">H", len(bare) + 2) + bare)
            parts.leave_out(body.start + _JFIF_BYTES, end)
        return turned
    if marker == _APP14 and head.startswith(_ADOBE) and body.stop - body.start >= _ADOBE_BYTES:
        if end - body.start == _ADOBE_BYTES:
            parts.keep(start, end)
        else:  # with something after it
            said = data[body.start : body.start + _ADOBE_BYTES]
            parts.replace(start, end, b"\xff\xee" + struct.pack(">H", len(said) + 2) + said)
        return turned
    if marker == 0xE1 and head.startswith(_EXIF) and not turned:
        orientation = _orientation(data[body.start + len(_EXIF) : end])
        bare = _EXIF + _only_orientation(orientation)
        if orientation != 1:
            if data[body] == bare:
                parts.keep(start, end)
                return True
            parts.kept.append(b"\xff\xe1" + struct.pack(">H", len(bare) + 2) + bare)
            turned = True
    parts.leave_out(start, end)
    return turned


# --- PNG ------------------------------------------------------------------------------------------------------------

_COLOURS = (0, 2, 3, 4, 6)
_GREY, _TRUE, _PALETTE, _GREY_ALPHA, _TRUE_ALPHA = _COLOURS
_LENGTHS: dict[bytes, dict[int, int]] = {
    **{
        name: dict.fromkeys(_COLOURS, length)
        for name, length in {
            b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"acTL": 8,
        }.items()
    },
    b"tRNS": {_GREY: 2, _TRUE: 6},
    b"sBIT": {_GREY: 1, _TRUE: 3, _PALETTE: 3, _GREY_ALPHA: 2, _TRUE_ALPHA: 4},
    b"bKGD": {_GREY: 2, _TRUE: 6, _PALETTE: 1, _GREY_ALPHA: 2, _TRUE_ALPHA: 6},
}  # fmt: skip
"""What makes the picture's colours and its movement: how long it is, for each kind of picture that may have it."""
_ENDS: dict[bytes, int] = {b"IHDR": 13, b"IEND": 0}
_DATA = b"IDAT"
_COUNTED, _FRAME, _FRAME_DATA, _FRAME_BYTES = b"acTL", b"fcTL", b"fdAT", 26


def _png(data: Data, max_pixels: int | None) -> Outline:
    parts, at = Outline(), 8
    parts.keep(0, 8)
    seen: dict[bytes, int] = {}
    packed = _packed(data, 16, max_pixels)
    frames = counted = 0
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or (at == 8) != (name == b"IHDR") or length != _ENDS.get(name, length):
            raise Unfit(DAMAGED)
        checksum = zlib.crc32(data[at + 4 : end - 4])
        if data[end - 4 : end] != struct.pack(">I", checksum):
            raise Unfit(DAMAGED)
        if _makes_picture(name, length, data[25], seen):
            if name == _DATA:
                _png_data(parts, data, at, end, packed)
            else:
                parts.keep(at, end)
            if name == _FRAME and _DATA in seen:
                packed = _packed(data, at + 12, max_pixels)
            elif name == _FRAME_DATA and packed.take(data[at + 12 : end - 4]) < length - 4:
                raise Unfit(DAMAGED)  # nothing comes after a frame's data: its parts are numbered, none can be left out
            seen[name] = length
            frames += name == _FRAME
            if name == _COUNTED:
                (counted,) = struct.unpack_from(">I", data, at + 8)
        elif name == b"eXIf":
            _png_exif(parts, data, at, end)
        elif name == b"iCCP":
            _png_profile(parts, data, at, end)
        elif name[0] & 0x20 == 0 and (name != b"PLTE" or data[25] == _PALETTE):
            raise Unfit(DAMAGED)  # nobody knows what it is, and without it the picture is another
        else:
            parts.leave_out(at, end)
        at = end
        if name == b"IEND":
            if frames != counted:  # those that are not counted are not decoded by all
                raise Unfit(DAMAGED)
            parts.leave_out(end, len(data))
            return parts


def _packed(data: Data, at: int, max_pixels: int | None) -> Packed:
    """What is to be taken of the picture whose width and height stand there."""
    width, height = struct.unpack_from(">II", data, at)
    if max_pixels is not None and width * height > max_pixels:
        raise Unfit(TOO_LARGE_PICTURE)
    return Packed(rows_bytes(width, height, data[24], data[25], interlaced=data[28] == 1))


def _png_data(parts: Outline, data: Data, start: int, end: int, packed: Packed) -> None:
    """Keeps of a chunk what the picture is made of; what comes after that shows nowhere."""
    taken = packed.take(data[start + 8 : end - 4])
    if start + 8 + taken == end - 4 and taken:
        parts.keep(start, end)
        return
    if taken:
        body = data[start + 8 : start + 8 + taken]
        parts.kept += [struct.pack(">I4s", taken, _DATA), body, struct.pack(">I", zlib.crc32(_DATA + body))]
    parts.leave_out(start + 8 + taken if taken else start, end - 4 if taken else end)


def _makes_picture(name: bytes, length: int, colour: int, seen: dict[bytes, int]) -> bool:
    """Whether this picture is drawn with it. `seen`: what came before it and is, with its length."""
    if name in _ENDS or name == _DATA:
        return True
    if name in (_FRAME, _FRAME_DATA):
        return _COUNTED in seen and (length == _FRAME_BYTES if name == _FRAME else length > 4)
    if _DATA in seen or name in seen:  # readers know them before the picture, and once
        return False
    if name == b"PLTE":
        return colour == _PALETTE and 0 < length <= 3 * 256 and length % 3 == 0
    if name == b"tRNS" and colour == _PALETTE:
        return 0 < length <= seen.get(b"PLTE", 0) // 3
    return length == _LENGTHS.get(name, {}).get(colour)


def _png_exif(parts: Outline, data: Data, start: int, end: int) -> None:
    tiff = data[start + 8 : end - 4]
    orientation = _orientation(tiff)
    bare = _only_orientation(orientation)
    if orientation != 1 and tiff == bare:
        parts.keep(start, end)
        return
    if orientation != 1:
        checksum = zlib.crc32(b"eXIf" + bare)
        parts.kept.append(struct.pack(">I", len(bare)) + b"eXIf" + bare + struct.pack(">I", checksum))
    parts.leave_out(start, end)


def _png_profile(parts: Outline, data: Data, start: int, end: int) -> None:
    unpacker, packed = zlib.decompressobj(), data[start + 8 : end - 4].partition(b"\0")[2][1:]
    try:
        bare = profiles.bare(unpacker.decompress(packed, profiles.LARGEST))
    except zlib.error:
        bare = None
    body = b"" if bare is None else b"icc\0\0" + zlib.compress(bare, 9)
    if data[start + 8 : end - 4] == body:
        parts.keep(start, end)
    elif bare is None:
        parts.leave_out(start, end)
    else:
        checksum = struct.pack(">I", zlib.crc32(b"iCCP" + body))
        parts.replace(start, end, struct.pack(">I", len(body)) + b"iCCP" + body + checksum)


# --- GIF ------------------------------------------------------------------------------------------------------------

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = b"!\xf9\x04", b"!\xff\x0b"
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


def _gif(data: Data) -> Outline:
    parts = Outline()
    at = 13 + _colours(data[10])
    parts.keep(0, at)
    while True:
        start, kind = at, data[at]
        if kind == _TRAILER:
            parts.keep(start, start + 1)
            parts.leave_out(start + 1, len(data))
            return parts
        if kind == _PICTURE:
            at = _after_blocks(data, start + 11 + _colours(data[start + 9]))
            parts.keep(start, at)
            continue
        if kind != _EXTENSION:
            raise Unfit(DAMAGED)
        at = _after_blocks(data, start + 2)
        made = _gif_extension(data[start:at])
        if made == data[start:at]:
            parts.keep(start, at)
        else:
            parts.replace(start, at, made)


def _gif_extension(block: bytes) -> bytes:
    """What is kept of it: how long a frame is shown, how often all are; and that in its shortest form."""
    if block.startswith(_CONTROL):
        return block[:7] + b"\0"
    if block.startswith(_APPLICATION) and block[3:14] in _LOOPS and block[14:16] == b"\x03\x01":
        return block[:18] + b"\0"
    return b""


def _colours(flags: int) -> int:
    return int(3 << ((flags & 7) + 1)) if flags & 0x80 else 0


def _after_blocks(data: Data, at: int) -> int:
    while size := data[at]:
        at += 1 + size
    return at + 1


_OUTLINES: dict[str, Callable[[Data], Outline]] = {"JPEG": _jpeg, "GIF": _gif}
