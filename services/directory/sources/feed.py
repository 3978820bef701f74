"""Reads a JSON feed `{"meta": ..., "units": [...]}` record by record, whatever its size.

Only one record is held in memory at a time. Anything that is not such a feed, to its last character, raises
`SourceError`: a truncated document is found at its end at the latest.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from services.directory.records import Raw
from services.directory.sources import SourceError

_PIECE = 1 << 16
_LARGEST_VALUE = 4 << 20
_BLANKS = " \t\r\n"


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number too large")
    return value


class _Text:
    """The document as a window of text that is filled on demand."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="strict").decode
        self._json = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
        self._text = ""
        self._at = 0
        self._ended = False

    def close(self) -> None:
        self._file.close()

    def _more(self) -> bool:
        if self._ended:
            return False
        piece = self._file.read(_PIECE)
        self._ended = not piece
        try:
            self._text = self._text[self._at :] + self._decode(piece, final=self._ended)
        except UnicodeDecodeError:
            raise SourceError("not_utf8") from None
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANKS:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise SourceError("not_json" if found else "truncated")
        self._at += 1

    def value(self) -> Any:
        """The next JSON value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                # A number at the window's edge may go on behind it.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            except RecursionError:
                raise SourceError("nested_too_deep") from None
            except ValueError:
                if self._ended:
                    raise SourceError("truncated" if self._unfinished() else "not_json") from None
                if len(self._text) - self._at > _LARGEST_VALUE:
                    raise SourceError("not_json") from None
            self._more()

    def _unfinished(self) -> bool:
        return self._text[self._at :].rstrip(_BLANKS)[-1:] not in ("}", "]")


def records(path: Path, keys: Collection[str]) -> Iterator[Raw | None]:
    """The records under the first-level keys; None for an item that is no object with attributes.

    Raises `SourceError` with `not_utf8`, `not_json`, `truncated`, `nested_too_deep`, or `no_records` when none of the
    keys is there.
    """
    text = _Text(path)
    try:
        if not text.peek():
            raise SourceError("empty")
        text.take("{")
        found = False
        while text.peek() != "}":
            key = text.value()
            if not isinstance(key, str):
                raise SourceError("not_json")
            text.take(":")
            if key.casefold() in keys and text.peek() == "[":
                found = True
                yield from _items(text)
            else:
                text.value()
            if text.peek() != "}":
                text.take(",")
        text.take("}")
        if text.peek():
            raise SourceError("not_json")
        if not found:
            raise SourceError("no_records")
    finally:
        text.close()


def _items(text: _Text) -> Iterator[Raw | None]:
    text.take("[")
    while text.peek() != "]":
        yield _record(text.value())
        if text.peek() != "]":
            text.take(",")
    text.take("]")


def _record(item: Any) -> Raw | None:
    if not isinstance(item, dict):
        return None
    item = {key.casefold(): value for key, value in item.items()}
    attributes, dn = item.get("attributes"), item.get("dn")
    if not isinstance(attributes, dict):
        return None
    return Raw(dn if isinstance(dn, str) else "", attributes)
