"""A PNG's packed data: where they end, and that they hold the picture's rows and nothing else (R-ATT-7)."""

from __future__ import annotations

import zlib

from services.attachments.examination.words import DAMAGED, Unfit

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = (1, 2, 4, 8, 16)
_TURNS = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture: first column and row, and how far it is to the next ones."""
_PIECE_BYTES, _MOST_AT_ONCE = 1 << 16, 1 << 20


def rows_bytes(width: int, height: int, depth: int, colour: int, *, interlaced: bool) -> int:
    """Bytes of all the picture's rows, each with the byte that begins it. Raises `Unfit` for a kind there is not."""
    if colour not in _CHANNELS or depth not in _DEPTHS:
        raise Unfit(DAMAGED)
    pixel = depth * _CHANNELS[colour]
    total = 0
    for left, top, across, down in _TURNS if interlaced else ((0, 0, 1, 1),):
        columns, rows = (width - left + across - 1) // across, (height - top + down - 1) // down
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * pixel + 7) // 8)
    return total


class Packed:
    """The data of one picture, taken chunk by chunk; `expected`: the bytes that they unpack to at most."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._unpacker = zlib.decompressobj()

    def take(self, body: bytes) -> int:
        """How many bytes of the chunk are the picture's: not all, where its data end in it or before it.

        Raises `Unfit` for what is not packed, and for more than the picture's rows.
        """
        for at in range(0, len(body), _PIECE_BYTES):
            piece = body[at : at + _PIECE_BYTES]
            surplus = self._unpack(piece)
            if self._unpacker.eof:
                return at + len(piece) - surplus
        return len(body)

    def _unpack(self, piece: bytes) -> int:
        """How many of the bytes come after the data's end."""
        if self._unpacker.eof:
            return len(piece)
        try:
            while True:
                unpacked = len(self._unpacker.decompress(piece, _MOST_AT_ONCE))
                self._left -= unpacked
                if self._left < 0:
                    raise Unfit(DAMAGED)
                piece = self._unpacker.unconsumed_tail
                if not piece and unpacked < _MOST_AT_ONCE:
                    return len(self._unpacker.unused_data)
        except zlib.error:
            raise Unfit(DAMAGED) from None
