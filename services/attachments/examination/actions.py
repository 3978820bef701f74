"""PDF: which parts of a document do something, or lead out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

_KEYS = {"/JS", "/EF", "/XFA", "/OPI"}
_VALUES = {
    "/S": {
        "/JavaScript", "/Launch", "/ImportData", "/SubmitForm", "/GoToE", "/GoToR", "/Thread", "/Rendition",
        "/RichMediaExecute",
    },
    "/Subtype": {"/FileAttachment", "/RichMedia", "/Screen", "/Movie", "/Sound", "/3D", "/PS"},
    "/Subtype2": {"/PS"},
    "/Type": {"/EmbeddedFile", "/Filespec", "/F"},
}  # fmt: skip

# What an action may be is listed: readers know more of them than the standard. One that nobody asked for, by a click,
# may besides not tell anybody that the file was opened.
_STAYING = {"/GoTo", "/Hide", "/SetOCGState", "/Trans"}
_TURNING = {"/NextPage", "/PrevPage", "/FirstPage", "/LastPage"}
_WHEN_ASKED, _AFTERWARDS, _BY_ITSELF = ("/A", "/PA"), "/Next", ("/OpenAction", "/AA")
_MOST_IN_A_ROW = 100

_SCHEMES = {"http", "https", "mailto", "tel", "sms"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_MARK = re.compile("^(?:\xfe\xff|\xff\xfe|\xef\xbb\xbf)")
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0\u200b\ufeff]+")


def is_active(part: Any) -> bool:
    """Whether the dictionary itself does something, whatever it hangs in."""
    import pikepdf

    keys = set(part.keys())
    if keys & _KEYS:
        return True
    if any(not _is_fit(address) for key in ("/URI", "/Base") for address in _addresses(part.get(key))):
        return True
    if "/Ref" in keys and isinstance(part["/Ref"], pikepdf.Dictionary) and "/F" in part["/Ref"]:
        return True  # a page of another file
    return any(key in keys and str(part[key]) in values for key, values in _VALUES.items())


def surplus(part: Any) -> set[str]:
    """The keys of the dictionary under which something active hangs."""
    return {key for key, value in part.items() if key in _KEYS or _is_active_at(key, value)}


def is_active_value(value: Any) -> bool:
    """Whether it is a dictionary, or a stream, that does something."""
    dictionary = _dictionary(value)
    return dictionary is not None and is_active(dictionary)


def _dictionary(value: Any) -> Any:
    """The dictionary, of a stream its own: readers take the one for the other. None if it is neither."""
    import pikepdf

    if isinstance(value, pikepdf.Stream):
        return value.stream_dict
    return value if isinstance(value, pikepdf.Dictionary) else None


def _is_active_at(key: str, value: Any) -> bool:
    if is_active_value(value):
        return True
    if key == "/OpenAction":
        return any(not _stays(action) for action in _row(value))
    dictionary = _dictionary(value)
    if dictionary is None:
        return False
    if key == "/AA":
        return any(not _stays(action) for _, first in dictionary.items() for action in _row(first))
    if key in _WHEN_ASKED and "/S" in dictionary:
        return any(not _stays(action) and str(action.get("/S")) != "/URI" for action in _row(dictionary))
    return False


def _row(action: Any) -> Iterator[Any]:
    """The action and those that follow it. A place to go to, which stands for an action, is none."""
    import pikepdf

    waiting = [action]
    for _ in range(_MOST_IN_A_ROW):
        if not waiting:
            return
        now = _dictionary(waiting.pop())
        if now is not None:
            yield now
            then = now.get(_AFTERWARDS)
            waiting += list(then) if isinstance(then, pikepdf.Array) else [then]
    yield pikepdf.Dictionary()  # more than anybody needs: one of them may be anything


def _stays(action: Any) -> bool:
    kind = str(action.get("/S"))
    return kind in _STAYING or (kind == "/Named" and str(action.get("/N")) in _TURNING)


def _addresses(value: Any) -> Iterator[str]:
    """The text as a text of PDF's, and as the bare bytes that most readers take it for."""
    import pikepdf

    if isinstance(value, pikepdf.String):
        yield str(value)
        yield _MARK.sub("", bytes(value).decode("latin-1"))


def _is_fit(address: str) -> bool:
    """Whether a link may have it: it leads to the web, to somebody, or stays. Others run something, open a file of the
    reader's, or show the reader's credentials to another machine."""
    plain = _BLANK.sub("", unquote(address))
    scheme = _SCHEME.match(plain)
    if scheme:
        return scheme[1].lower() in _SCHEMES
    path = re.split(r"[?#]", plain, maxsplit=1)[0]
    return "\\" not in path and not path.startswith("/") and ".." not in path.split("/")
