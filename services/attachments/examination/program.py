"""The program: examines one file, rewrites it where that is wished, draws a preview.

It is told what to do by two arguments, JSON of `Wish` and of `Limits`, and answers with a line of JSON,
`{"refusal": null, "rewritten": false}` or `{"refusal": "<word>"}`; if the file is fit, another follows when the preview
is drawn, `{"preview": true}`. Exit status 0. `NO_ROOM`: the disk is full. Any other status means that the program
itself failed, a signal that the file broke the library or its limits.
"""

from __future__ import annotations

import ctypes
import errno
import json
import resource
import signal
import sys
from importlib import import_module
from pathlib import Path

from services.attachments.examination.words import DAMAGED, TOO_COMPLEX, WRONG_TYPE, Limits, Unfit, Wish

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "application/pdf": (b"%PDF-",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
}
"""What each type begins with, at the very first byte: a file that begins otherwise may be read as something else."""

PICTURES = {"image/gif": "GIF", "image/jpeg": "JPEG", "image/png": "PNG"}
_PICTURE_LIBRARIES = ("PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.MpoImagePlugin", "PIL.PngImagePlugin")
_PDF_LIBRARIES = ("pikepdf", "pypdfium2", "PIL.Jpeg2KImagePlugin", "PIL.PngImagePlugin")

NO_ROOM = 75
"""Exit status: there is no room on the disk for what is written, which is not the file's fault."""

_PR_SET_PDEATHSIG = 1
_LAST_SECONDS = 5


def type_by_content(head: bytes) -> str | None:
    """The type that the first bytes tell (at least 8), None if it is none of the allowed (R-ATT-1)."""
    for content_type, signatures in SIGNATURES.items():
        if head.startswith(signatures):
            return content_type
    return None


def examine(wish: Wish, limits: Limits) -> bool:
    """Raises `Unfit` unless the file is whole and what it was announced as. Answers whether it was rewritten.

    What is decoded is what will be kept: the file as it was rewritten, if it was.
    """
    from services.attachments.examination import documents, pictures

    file, rewritten = Path(wish.file), Path(wish.rewritten)
    with file.open("rb") as opened:
        head = opened.read(16)
    if type_by_content(head) != wish.content_type:
        raise Unfit(WRONG_TYPE)
    form = PICTURES.get(wish.content_type)
    if form is None:
        changed = documents.rewrite(file, rewritten, clean=wish.clean_pdf)
        documents.decode(rewritten if changed else file, limits)
    else:
        changed = pictures.rewrite(file, form, rewritten, limits, strip=wish.strip_metadata)
        pictures.decode(rewritten if changed else file, form, limits)
    return changed


def verdict(wish: Wish, limits: Limits) -> dict[str, str | bool | None]:
    """What is said of the file."""
    try:
        return {"refusal": None, "rewritten": examine(wish, limits)}
    except Unfit as unfit:
        return {"refusal": str(unfit)}
    except MemoryError:
        return {"refusal": TOO_COMPLEX}
    except (PermissionError, FileNotFoundError):
        raise
    except Exception as error:  # the libraries raise nearly everything over damaged files
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        too_much = "bad_alloc" in str(error) or (isinstance(error, OSError) and error.errno == errno.EFBIG)
        return {"refusal": TOO_COMPLEX if too_much else DAMAGED}


def draw(wish: Wish, *, rewritten: bool) -> bool:
    """Draws the preview. False if it can't be drawn within the limits: the file is fit all the same."""
    from services.attachments.examination import documents, pictures

    file, target = Path(wish.rewritten if rewritten else wish.file), Path(wish.preview)
    form = PICTURES.get(wish.content_type)
    try:
        if form is None:
            documents.preview(file, target, wish.preview_pixels)
        else:
            pictures.preview(file, form, target, wish.preview_pixels)
    except (Exception, MemoryError):
        return False
    return True


def _end_with_the_checker() -> None:
    """A checker that is killed leaves no child behind that goes on decoding."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):  # where there is none, the limits end it
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _take_limits(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.output_bytes, limits.output_bytes))
    # the first ends it by a signal of its own, so that being killed by others can be told from it
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + _LAST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def main() -> None:
    """Examines the file that the arguments name."""
    wish, limits = Wish(**json.loads(sys.argv[1])), Limits(**json.loads(sys.argv[2]))
    # imported before the limits and outside the verdict: a missing library must not look like a damaged file
    for library in _PICTURE_LIBRARIES if wish.content_type in PICTURES else _PDF_LIBRARIES:
        import_module(library)
    _end_with_the_checker()
    _take_limits(limits)
    try:
        said = verdict(wish, limits)
    except OSError as error:
        sys.exit(NO_ROOM if error.errno == errno.ENOSPC else 1)
    print(json.dumps(said), flush=True)
    if said["refusal"] is None:
        print(json.dumps({"preview": draw(wish, rewritten=bool(said["rewritten"]))}), flush=True)


if __name__ == "__main__":
    main()
