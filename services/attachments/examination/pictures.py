"""Pictures: every frame decoded, their size limited, their metadata left out, a small PNG to show."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from services.attachments.examination import foreign
from services.attachments.examination.outline import outline
from services.attachments.examination.words import TOO_LARGE_PICTURE, Limits, Unfit

_LOOKED_AT_BYTES = 16 * 1024 * 1024


def rewrite(path: Path, form: str, target: Path, limits: Limits, *, strip: bool) -> bool:
    """Writes the picture without what only tells about it, if there is such and it is to go. Answers whether it did.

    Raises `Unfit` if the file is also something else, whether that would be left out or not.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        foreign.look_at_whole(data, picture=True)
        parts = outline(data, form, limits.max_pixels)
        for part in parts.left_out:
            for at in range(part.start, part.stop, _LOOKED_AT_BYTES):
                foreign.look_at_part(data[at : min(part.stop, at + _LOOKED_AT_BYTES + 64)])
        if not (strip and parts.left_out):
            return False
        with target.open("wb") as kept:
            kept.writelines(parts.pieces(data))
        return True


def decode(path: Path, form: str, limits: Limits) -> None:
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
                raise Unfit(TOO_LARGE_PICTURE)
            picture.load()
            frame += 1
            if form == "JPEG":
                return
            try:
                picture.seek(frame)
            except EOFError:
                return


def preview(path: Path, form: str, target: Path, most: int) -> None:
    """Writes the first frame as a PNG of at most so many pixels a side, turned as it is to be seen."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=[form]) as picture:
        picture.draft("RGB", (most, most))
        picture.thumbnail((most, most), reducing_gap=2.0)
        save(ImageOps.exif_transpose(picture), target)


def save(picture: Any, target: Path) -> None:
    """Writes it as a PNG that carries nothing but the picture."""
    if picture.mode.startswith("I"):  # 16 bits of grey, as of X-rays: the upper eight
        picture = picture.point(lambda value: value * (1 / 256)).convert("L")
    transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    plain = picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGBA" if transparent else "RGB")
    plain.info = {}
    with target.open("wb") as file:
        plain.save(file, "PNG")
