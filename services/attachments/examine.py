"""Decodes one file in full and says what is wrong with it: a program of its own, run by the checker as a child.

    python -I examine.py FILE CONTENT_TYPE '{"seconds": …, "memory_bytes": …, "max_pixels": …, …}'

It answers with one line of JSON, `{"refusal": null}` or `{"refusal": "<word>"}`, and exit status 0. Any other status
means that the program itself failed, a signal that the file broke the library or its limits. It imports nothing of this
project: what decodes strangers' bytes shall have little around it (R-ATT-7).
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "application/pdf": (b"%PDF-",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
}
"""What each type begins with, at the very first byte: a file that begins otherwise may be read as something else."""

PICTURES = {"image/gif": "GIF", "image/jpeg": "JPEG", "image/png": "PNG"}


class Unfit(Exception):
    """The file can't be used; the argument is the word for why."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost."""

    seconds: int
    memory_bytes: int
    max_pixels: int
    max_total_pixels: int
    max_pages: int


def type_by_content(head: bytes) -> str | None:
    """The type that the first bytes tell (at least 8), None if it is none of the allowed (R-ATT-1)."""
    for content_type, signatures in SIGNATURES.items():
        if head.startswith(signatures):
            return content_type
    return None


def examine(path: Path, content_type: str, limits: Limits) -> None:
    """Raises `Unfit` unless the file is whole and what it was announced as."""
    with path.open("rb") as file:
        head = file.read(16)
    if type_by_content(head) != content_type:
        raise Unfit("wrong_type")
    if content_type in PICTURES:
        examine_picture(path, PICTURES[content_type], limits)
    else:
        examine_pdf(path, limits)


def examine_picture(path: Path, form: str, limits: Limits) -> None:
    """Decodes every frame. Raises `Unfit`, or whatever the library makes of a damaged file.

    Of a JPEG the one picture that is shown: phones hang others (depth, brightness) after it in ways of their own.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the limit below is exact, and an error instead of a warning
    with Image.open(path, formats=[form]) as picture:
        picture.verify()
    with Image.open(path, formats=[form]) as picture:
        total, frame = 0, 0
        while True:
            pixels = picture.width * picture.height
            total += pixels
            if pixels > limits.max_pixels or total > limits.max_total_pixels:
                raise Unfit("too_large_picture")
            picture.load()
            frame += 1
            if form == "JPEG":
                return
            try:
                picture.seek(frame)
            except EOFError:
                return


# --- PDF ------------------------------------------------------------------------------------------------------------

ACTIVE_KEYS = {"/JS", "/EF", "/XFA"}
ACTIVE_VALUES = {
    "/S": {"/JavaScript", "/Launch", "/ImportData", "/SubmitForm", "/GoToE", "/Rendition", "/RichMediaExecute"},
    "/Subtype": {"/FileAttachment", "/RichMedia", "/Screen", "/Movie", "/Sound", "/3D"},
    "/Type": {"/EmbeddedFile"},
}
DECODABLE = {
    "/FlateDecode",
    "/LZWDecode",
    "/ASCIIHexDecode",
    "/ASCII85Decode",
    "/RunLengthDecode",
    "/Fl",
    "/LZW",
    "/AHx",
    "/A85",
    "/RL",
}


def examine_pdf(path: Path, limits: Limits) -> None:
    """Reads every object and decodes every stream. Raises `Unfit`, or whatever the library makes of a damaged file."""
    import pikepdf

    try:
        # a file that must be mended before it can be read shows differently in every reader
        document = pikepdf.open(path, attempt_recovery=False, suppress_warnings=True)
    except pikepdf.PasswordError:
        raise Unfit("locked") from None
    with document:
        pages = len(document.pages)
        if pages == 0:
            raise Unfit("damaged")
        if pages > limits.max_pages:
            raise Unfit("too_many_pages")
        for thing in document.objects:
            for part in _parts(thing):
                if _is_active(part):
                    raise Unfit("active_content")
            if isinstance(thing, pikepdf.Stream):
                _read(thing)


def _parts(thing: Any) -> Iterator[Any]:
    """Every dictionary in an object, itself included, without following references to other objects."""
    import pikepdf

    waiting = [thing]
    while waiting:
        now = waiting.pop()
        if isinstance(now, pikepdf.Stream):
            now = now.stream_dict
        if isinstance(now, pikepdf.Dictionary):
            yield now
            inner = [value for _, value in now.items()]
        elif isinstance(now, pikepdf.Array):
            inner = list(now)
        else:
            continue
        waiting += [one for one in inner if isinstance(one, pikepdf.Object) and not one.is_indirect]


def _is_active(part: Any) -> bool:
    keys = set(part.keys())
    if keys & ACTIVE_KEYS:
        return True
    return any(key in keys and str(part[key]) in values for key, values in ACTIVE_VALUES.items() if key in keys)


def _read(stream: Any) -> None:
    import pikepdf

    filters = stream.stream_dict.get("/Filter", [])
    names = {str(filters)} if isinstance(filters, pikepdf.Name) else {str(one) for one in filters}
    if names <= DECODABLE:
        stream.read_bytes()
    else:
        stream.read_raw_bytes()


# --- the program ----------------------------------------------------------------------------------------------------


def _take_limits(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def verdict(path: Path, content_type: str, limits: Limits) -> str | None:
    """The word for why the file is refused, None if it is fit."""
    try:
        examine(path, content_type, limits)
    except Unfit as unfit:
        return str(unfit)
    except MemoryError:
        return "too_complex"
    except (PermissionError, FileNotFoundError):
        raise
    except Exception as error:  # the libraries raise nearly everything over damaged files
        return "too_complex" if "bad_alloc" in str(error) else "damaged"
    return None


def main() -> None:
    path, content_type, told = sys.argv[1:4]
    limits = Limits(**json.loads(told))
    # imported before the limits and outside the verdict: a missing library must not look like a damaged file
    for library in ("pikepdf", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.MpoImagePlugin", "PIL.PngImagePlugin"):
        import_module(library)
    _take_limits(limits)
    print(json.dumps({"refusal": verdict(Path(path), content_type, limits)}))


if __name__ == "__main__":
    main()
