"""PDF: every object read, every stream decoded, every page opened; what does something by itself is found or removed.

Two libraries read each document, and must agree on its pages: a file that they read differently shows differently in
different readers.
"""

from __future__ import annotations

import io
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.attachments.examination import foreign, pictures
from services.attachments.examination.actions import is_active, is_active_value, surplus
from services.attachments.examination.words import (
    ACTIVE_CONTENT,
    DAMAGED,
    LOCKED,
    POLYGLOT,
    TOO_LARGE_PICTURE,
    TOO_MANY_PAGES,
    Limits,
    Unfit,
)

_NAMED_ACTIVE = ("/JavaScript", "/EmbeddedFiles", "/Renditions")
_UNPACKED_BY_QPDF = {
    "/FlateDecode", "/LZWDecode", "/ASCIIHexDecode", "/ASCII85Decode", "/RunLengthDecode", "/DCTDecode",
    "/Fl", "/LZW", "/AHx", "/A85", "/RL", "/DCT",
}  # fmt: skip
_CLEANING_ROUNDS = 20
_TWICE = "duplicated key"
"""What qpdf warns of in whatever it has read so far."""
_TAIL_BYTES = 4096
_END = re.compile(rb"startxref\s+\d+\s*(?:%%EOF)?[\s\0\x1a]*")


def rewrite(path: Path, target: Path, *, clean: bool) -> bool:
    """Writes the document without its active content, if it has any and that is to be removed. Answers whether it did.

    Raises `Unfit` if it has any that may not be removed, or if the file is also something else.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        foreign.look_at_whole(data, picture=False)
        _look_at_end(data[-_TAIL_BYTES:])
    with _opened(path) as document:
        if not _does_something(document):
            return False
        if not clean:
            raise Unfit(ACTIVE_CONTENT)
        _remove_active(document)
        with target.open("w+b") as kept:
            document.save(kept)
        return True


def _look_at_end(tail: bytes) -> None:
    """Refuses what comes after the document's end. Where there is none it is damaged, which is found later."""
    last = tail.rfind(b"startxref")
    if last >= 0 and not _END.fullmatch(tail, last):
        raise Unfit(POLYGLOT)


def decode(path: Path, limits: Limits) -> None:
    """Reads all of it. Raises `Unfit`, or whatever the libraries make of a damaged file."""
    import pikepdf
    import pypdfium2

    with _opened(path) as document:
        pages = len(document.pages)
        if pages == 0:
            raise Unfit(DAMAGED)
        if pages > limits.max_pages:
            raise Unfit(TOO_MANY_PAGES)
        if _does_something(document):
            raise Unfit(ACTIVE_CONTENT)
        for thing in document.objects:
            if isinstance(thing, pikepdf.Stream):
                _decode_stream(thing, limits)
        if any(_TWICE in str(warning) for warning in document.get_warnings()):
            raise Unfit(DAMAGED)  # of a key's values one is seen here, and the other is what some readers take
    shown = pypdfium2.PdfDocument(path.read_bytes())
    try:
        if len(shown) != pages:
            raise Unfit(DAMAGED)
        for number in range(pages):
            shown[number].close()
    finally:
        shown.close()


def preview(path: Path, target: Path, most: int) -> None:
    """Writes the first page as a PNG of at most so many pixels a side."""
    import pypdfium2

    document = pypdfium2.PdfDocument(path.read_bytes())
    try:
        page = document[0]
        longest = max(*page.get_size(), 1.0)
        picture = page.render(scale=most / longest, may_draw_forms=False).to_pil()
        pictures.save(picture.convert("RGB"), target)
    finally:
        document.close()


def _opened(path: Path) -> Any:
    import pikepdf

    try:
        # a file that must be mended before it can be read shows differently in every reader
        return pikepdf.open(path, attempt_recovery=False, suppress_warnings=True)
    except pikepdf.PasswordError:
        raise Unfit(LOCKED) from None


# --- active content -------------------------------------------------------------------------------------------------


def _parts(thing: Any) -> Iterator[Any]:
    """Every dictionary in an object, itself included, without following references to other objects."""
    import pikepdf

    waiting = [thing]
    while waiting:
        now = waiting.pop()
        if isinstance(now, pikepdf.Stream):
            if "/F" in now.stream_dict:
                raise Unfit(ACTIVE_CONTENT)  # its content lies in another file
            now = now.stream_dict
        if isinstance(now, pikepdf.Dictionary):
            yield now
            inner = [value for _, value in now.items()]
        elif isinstance(now, pikepdf.Array):
            inner = list(now)
        else:
            continue
        waiting += [one for one in inner if isinstance(one, pikepdf.Object) and not one.is_indirect]


def _does_something(document: Any) -> bool:
    return any(is_active(part) or surplus(part) for thing in document.objects for part in _parts(thing))


def _remove_active(document: Any) -> None:
    """Takes every active part out of what it hangs in. What hangs nowhere is not saved.

    What is left active after some rounds is found by `decode`, which reads what was written.
    """
    import pikepdf

    if "/Names" in document.Root:
        for name in _NAMED_ACTIVE:
            if name in document.Root.Names:
                del document.Root.Names[name]
    for _ in range(_CLEANING_ROUNDS):
        found = False
        for thing in document.objects:
            for part in list(_parts(thing)):
                unfit = surplus(part)
                for key in unfit:
                    del part[key]
                found = found or bool(unfit)
                for key, value in list(part.items()):
                    if isinstance(value, pikepdf.Array):
                        fit = [one for one in value if not is_active_value(one)]
                        if len(fit) < len(value):
                            part[key] = pikepdf.Array(fit)
                            found = True
        if not found:
            return


# --- streams --------------------------------------------------------------------------------------------------------


def _decode_stream(stream: Any, limits: Limits) -> None:
    import pikepdf

    about = stream.stream_dict
    if about.get("/Subtype") == "/Image":
        pixels = int(about.get("/Width", 0)) * int(about.get("/Height", 0))
        if pixels > limits.max_pixels:
            raise Unfit(TOO_LARGE_PICTURE)
    filters = about.get("/Filter", [])
    names = [str(filters)] if isinstance(filters, pikepdf.Name) else [str(one) for one in filters]
    if names == ["/JPXDecode"]:
        _decode_jpx(stream.read_raw_bytes(), limits)
    elif set(names) <= _UNPACKED_BY_QPDF:
        stream.read_bytes(decode_level=pikepdf.StreamDecodeLevel.all)
    else:
        stream.read_raw_bytes()


def _decode_jpx(data: bytes, limits: Limits) -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as picture:
        if picture.width * picture.height > limits.max_pixels:
            raise Unfit(TOO_LARGE_PICTURE)
        picture.load()
