"""Files for the tests, made here: fit ones of each type, and ones that are not what they should be."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable

import pikepdf
from PIL import Image

PDF, GIF, JPEG, PNG = "application/pdf", "image/gif", "image/jpeg", "image/png"
ENDING = {PDF: ".pdf", GIF: ".gif", JPEG: ".jpg", PNG: ".png"}


def _noise(side: int = 60, seed: int = 1) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(side * side * 3))


def _saved(picture: Image.Image, form: str, **options: object) -> bytes:
    kept = io.BytesIO()
    picture.save(kept, form, **options)
    return kept.getvalue()


def png(seed: int = 1) -> bytes:
    return _saved(_noise(seed=seed), "PNG")


def jpeg(seed: int = 1) -> bytes:
    return _saved(_noise(seed=seed), "JPEG", quality=90)


def gif(frames: int = 3) -> bytes:
    first, *rest = [_noise(seed=number).quantize() for number in range(frames)]
    return _saved(first, "GIF", save_all=True, append_images=rest)


def pdf(change: Callable[[pikepdf.Pdf], object] = lambda _: None, pages: int = 2, **options: object) -> bytes:
    kept = io.BytesIO()
    with pikepdf.new() as document:
        for number in range(pages):
            page = document.add_blank_page(page_size=(200, 300))
            page.Contents = pikepdf.Stream(document, b"0 0 %d 40 re f " % (number + 10) * 400)
        change(document)
        document.save(kept, **options)
    return kept.getvalue()


def fit(content_type: str) -> bytes:
    """A file of the type with nothing wrong about it."""
    return {PDF: pdf, GIF: gif, JPEG: jpeg, PNG: png}[content_type]()


def huge_png(side: int = 12_000) -> bytes:
    """A few kilobytes that become `side` times `side` pixels."""
    return _saved(Image.new("1", (side, side)), "PNG")


def colourful_png(side: int) -> bytes:
    """All of one colour, three bytes a pixel."""
    return _saved(Image.new("RGB", (side, side), (200, 30, 90)), "PNG", compress_level=1)


def _with_action(**action: object) -> Callable[[pikepdf.Pdf], None]:
    def change(document: pikepdf.Pdf) -> None:
        document.Root.OpenAction = pikepdf.Dictionary(action)

    return change


def pdf_with_javascript() -> bytes:
    return pdf(_with_action(**{"/S": pikepdf.Name.JavaScript, "/JS": pikepdf.String("app.alert(1)")}))


def pdf_with_hidden_javascript() -> bytes:
    """The script lies in a compressed stream of objects, under an annotation of a page."""

    def change(document: pikepdf.Pdf) -> None:
        action = document.make_indirect(pikepdf.Dictionary({"/S": pikepdf.Name.JavaScript, "/JS": pikepdf.String("x")}))
        note = pikepdf.Dictionary({"/Subtype": pikepdf.Name.Link, "/AA": pikepdf.Dictionary({"/E": action})})
        document.pages[0].Annots = pikepdf.Array([note])

    return pdf(change, object_stream_mode=pikepdf.ObjectStreamMode.generate)


def pdf_with_launch() -> bytes:
    return pdf(_with_action(**{"/S": pikepdf.Name.Launch, "/F": pikepdf.String("cmd.exe")}))


def pdf_with_embedded_file() -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        document.attachments["recept.exe"] = b"MZ"

    return pdf(change)


def pdf_with_link() -> bytes:
    """A link to a page on the web, which is fine."""

    def change(document: pikepdf.Pdf) -> None:
        action = pikepdf.Dictionary({"/S": pikepdf.Name.URI, "/URI": pikepdf.String("https://www.1177.se/")})
        note = pikepdf.Dictionary({"/Subtype": pikepdf.Name.Link, "/Rect": pikepdf.Array([0, 0, 9, 9]), "/A": action})
        document.pages[0].Annots = pikepdf.Array([note])

    return pdf(change)


def locked_pdf() -> bytes:
    return pdf(encryption=pikepdf.Encryption(user="hemligt", owner="hemligt"))


def pdf_bomb(megabytes: int, streams: int = 1) -> bytes:
    """So many streams that unpack to so many megabytes each."""
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()

    def change(document: pikepdf.Pdf) -> None:
        bombs = [pikepdf.Stream(document, packed) for _ in range(streams)]
        for bomb in bombs:
            bomb.Filter = pikepdf.Name.FlateDecode
        document.Root.Bombs = pikepdf.Array(bombs)

    return pdf(change)


def cut(data: bytes, share: float = 0.6) -> bytes:
    return data[: int(len(data) * share)]


def scratched(data: bytes) -> bytes:
    """A few bytes in the middle are others."""
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + 24]) + data[middle + 24 :]


def pdf_of_size(size: int) -> bytes:
    """A fit PDF of exactly so many bytes, most of them one stream that nothing shows."""
    filler = size - len(pdf(_with_filler(0), compress_streams=False))
    while len(data := pdf(_with_filler(filler), compress_streams=False)) != size:
        filler -= len(data) - size
    return data


def _with_filler(size: int) -> Callable[[pikepdf.Pdf], None]:
    def change(document: pikepdf.Pdf) -> None:
        document.Root.Filler = pikepdf.Stream(document, random.Random(size).randbytes(size))

    return change
