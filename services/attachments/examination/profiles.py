"""Colour profiles (ICC): what makes the colours, without what tells about the device, its owner, or anything else.

A profile has room for any text: the name of a screen, when it was measured, and whatever a forger puts there. It is put
together anew from the numbers that colours are computed from, each cut to its own length (ICC.1:2022).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

LARGEST = 8 * 1024 * 1024
_HEADER, _ENTRY = 128, 12
_D50 = bytes.fromhex("0000f6d6000100000000d32d")
_PARAMETERS = (1, 3, 4, 5, 7)

_LENGTHS: dict[bytes, Callable[[bytes], int]] = {
    b"XYZ ": lambda tag: 20,
    b"sf32": lambda tag: 44,
    b"curv": lambda tag: 12 + 2 * _number(tag, 8),
    b"para": lambda tag: 12 + 4 * _PARAMETERS[_number(tag, 8) >> 16],
    b"cicp": lambda tag: 12,
    # tables: as long as they are
    b"mft1": len, b"mft2": len, b"mAB ": len, b"mBA ": len, b"mpet": len,
}  # fmt: skip
_TAGS = {
    *(b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt", b"chad", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"cicp"),
    *(way + number for way in (b"A2B", b"B2A", b"D2B", b"B2D") for number in (b"0", b"1", b"2", b"3")),
}


def bare(profile: bytes) -> bytes | None:
    """The profile without all that colours are not computed from; None if it is none."""
    if len(profile) < _HEADER + 4 or profile[36:40] != b"acsp" or _number(profile, 0) != len(profile):
        return None
    try:
        tags = dict(_tags(profile))
    except (struct.error, IndexError, KeyError, ValueError):
        return None
    if not tags:
        return None
    return _put_together(profile, {**_names(profile[8]), **tags})


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _tags(profile: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for number in range(_number(profile, _HEADER)):
        name, start, length = struct.unpack_from(">4sII", profile, _HEADER + 4 + number * _ENTRY)
        if name not in _TAGS:
            continue
        tag = profile[start : start + length]
        kept = _LENGTHS[tag[:4]](tag)
        if len(tag) != length or kept > length:
            raise ValueError
        found.append((name, tag[:4] + bytes(4) + tag[8:kept]))
    return found


def _names(version: int) -> dict[bytes, bytes]:
    """The two texts that every profile has to have, saying nothing."""
    if version >= 4:
        said = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", 2, 28) + "-".encode("utf-16-be")
        return {b"desc": said, b"cprt": said}
    described = b"desc" + bytes(4) + struct.pack(">I", 2) + b"-\0" + bytes(78)
    return {b"desc": described, b"cprt": b"text" + bytes(4) + b"-\0"}


def _put_together(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body, places = b"", b"", dict[bytes, int]()
    begin = _HEADER + 4 + _ENTRY * len(tags)
    for name, tag in tags.items():
        if tag not in places:
            places[tag] = begin + len(body)
            body += tag + bytes(-len(tag) % 4)
        table += struct.pack(">4sII", name, places[tag], len(tag))
    head = b"".join((
        struct.pack(">I4x", begin + len(body)),
        profile[8:24],  # version, class, spaces of colour
        bytes(12) + b"acsp" + bytes(24),
        struct.pack(">I", _number(profile, 64) & 3),
        _D50,
        bytes(48),
    ))  # fmt: skip
    return head + struct.pack(">I", len(tags)) + table + body
