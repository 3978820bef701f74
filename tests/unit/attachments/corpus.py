"""A corpus of crafted files: what the check must make of each. All of them are made here."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pikepdf
from PIL import Image, ImageCms, PngImagePlugin

from services.attachments.examination.profiles import bare
from tests.unit.attachments import crafted, surplus
from tests.unit.attachments.crafted import GIF, JPEG, PDF, PNG
from tests.unit.attachments.crafted_pdf import (
    link,
    pdf_action,
    pdf_address,
    pdf_annotation,
    pdf_base,
    pdf_chained_script,
    pdf_form,
    pdf_linked,
    pdf_named_script,
    pdf_outline,
    pdf_page_event,
    pdf_picture,
    pdf_picture_of_another_file,
    pdf_program,
    pdf_streamed,
    pdf_with_an_action_of_two_kinds,
    pdf_with_broken_table,
    pdf_with_two_actions,
    pdf_with_two_roots,
    root,
    web,
)
from tests.unit.attachments.surplus import RAR, SEVEN_ZIP, chunk

SECRETS = (b"GPSSECRET", b"Anna Testsson", b"x:xmpmeta")
"""What stands in the metadata of the corpus, and in nothing that is kept."""


@dataclass(frozen=True)
class Case:
    """A file, and what is to come of it: the refusal's word, or None; whether what is kept differs from it."""

    name: str
    content_type: str
    make: Callable[[], bytes]
    refusal: str | None = None
    rewritten: bool = False


# --- tools ----------------------------------------------------------------------------------------------------------


def archive() -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as file:
        file.writestr("klass.class", b"\xca\xfe\xba\xbe" * 20)
    return kept.getvalue()


def after(data: bytes, more: bytes) -> bytes:
    return data + more


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segment(marker: int, body: bytes, data: bytes | None = None) -> bytes:
    """A JPEG with one more segment, right behind its beginning."""
    plain = data or crafted.jpeg()
    return plain[:2] + segment(marker, body) + plain[2:]


def with_chunk(name: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk, right behind its first."""
    plain = crafted.png()
    return plain[:33] + chunk(name, body) + plain[33:]


def last_chunk(name: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk, right before its end."""
    plain = crafted.png()
    return plain[:-12] + chunk(name, body) + plain[-12:]


def with_block(block: bytes) -> bytes:
    """A GIF with one more block, right before its end."""
    return crafted.gif()[:-1] + block + b";"


def blocks(data: bytes) -> bytes:
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    kept = io.BytesIO()
    picture.save(kept, form, **options)
    return kept.getvalue()


def photo() -> Image.Image:
    """Wider than high, so that turning it shows."""
    return Image.frombytes("RGB", (80, 40), bytes(range(256)) * 37 + bytes(128))


def exif(orientation: int = 1) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x010E] = "Anna Testsson"
    made.get_ifd(0x8825)[29] = "GPSSECRET"
    return made


def located_jpeg(orientation: int = 1) -> bytes:
    return saved(photo(), "JPEG", exif=exif(orientation))


def little_endian_exif() -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 8, 0) + struct.pack("<HHII", 0x010E, 2, 14, 40)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entry + bytes(6) + b"Anna Testsson\0"


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profiled(form: str, profile: bytes) -> bytes:
    """A picture with these bytes as its colour profile."""
    return saved(photo(), form.partition("/")[2].upper(), icc_profile=profile)


def late_profile() -> bytes:
    """A fit profile, and a piece of another between the picture and its end."""
    picture = profiled(JPEG, bare(SRGB) or b"")
    return picture[:-2] + segment(0xE2, b"ICC_PROFILE\0\1\1GPSSECRET") + picture[-2:]


def telling_profile() -> bytes:
    """sRGB with one more part, and a text where the light is described."""
    count = struct.unpack_from(">I", SRGB, 128)[0]
    table = bytearray(SRGB[132 : 132 + 12 * count])
    for number in range(count):
        at = 12 * number + 4
        struct.pack_into(">I", table, at, struct.unpack_from(">I", table, at)[0] + 12)
    more = struct.pack(">4sII", b"prvt", len(SRGB) + 12, 12)
    made = SRGB[:128] + struct.pack(">I", count + 1) + bytes(table) + more + SRGB[132 + 12 * count :] + b"GPSSECRET..."
    return struct.pack(">I", len(made)) + made[4:68] + b"GPSSECRET..." + made[80:]


def several_in_one() -> bytes:
    """As phones make them: the picture, and another one after it."""
    return saved(photo(), "MPO", save_all=True, append_images=[photo()])


def moving_png() -> bytes:
    frames = [photo(), photo().rotate(180), photo()]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=False)


def telling_png() -> bytes:
    told = PngImagePlugin.PngInfo()
    told.add_text("Author", "Anna Testsson")
    told.add_text("Comment", "GPSSECRET" * 40, zip=True)
    told.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    return saved(photo(), "PNG", pnginfo=told, exif=exif(6))


def many_frames(count: int, side: int) -> bytes:
    """Small on the disk: each frame is all of one colour."""
    frames = [Image.new("P", (side, side), number % 2) for number in range(count)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def huge_jpeg() -> bytes:
    """Says that it is 65 500 pixels high and wide."""
    data = crafted.jpeg()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65_500, 65_500) + data[at + 4 :]


# --- the corpus -----------------------------------------------------------------------------------------------------


def _fit() -> Iterator[Case]:
    yield Case("png", PNG, crafted.png)
    yield Case("png, one pixel", PNG, lambda: saved(Image.new("RGB", (1, 1)), "PNG"))
    yield Case("png, black and white", PNG, lambda: saved(photo().convert("1"), "PNG"))
    yield Case("png, 16 bits", PNG, lambda: saved(Image.new("I;16", (30, 20), 40_000), "PNG"))
    yield Case("png, palette with a hole", PNG, lambda: saved(photo().quantize(), "PNG", transparency=1))
    yield Case("png, see-through", PNG, lambda: saved(photo().convert("RGBA"), "PNG"))
    yield Case("png, moving", PNG, moving_png)
    yield Case("png, interlaced", PNG, surplus.interlaced_png)
    yield Case("png, in pieces", PNG, lambda: surplus.in_pieces(b""))
    yield Case("jpeg", JPEG, crafted.jpeg)
    yield Case("jpeg, one pixel", JPEG, lambda: saved(Image.new("RGB", (1, 1)), "JPEG"))
    yield Case("jpeg, progressive", JPEG, lambda: saved(photo(), "JPEG", progressive=True))
    yield Case("jpeg, four inks", JPEG, lambda: saved(photo().convert("CMYK"), "JPEG"))
    yield Case("jpeg, grey", JPEG, lambda: saved(photo().convert("L"), "JPEG"))
    yield Case("jpeg, restarts", JPEG, lambda: saved(photo(), "JPEG", restart_marker_blocks=2))
    yield Case("jpeg, colour profile of numbers alone", JPEG, lambda: profiled(JPEG, bare(SRGB) or b""))
    yield Case("gif, loops", GIF, lambda: with_block(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"))
    yield Case("gif, moving", GIF, crafted.gif)
    yield Case("gif, one frame", GIF, lambda: crafted.gif(frames=1))
    yield Case("gif, endless", GIF, lambda: saved(photo(), "GIF", save_all=True, append_images=[photo()], loop=0))
    yield Case("pdf", PDF, crafted.pdf)
    yield Case("pdf, packed objects", PDF, lambda: crafted.pdf(object_stream_mode=pikepdf.ObjectStreamMode.generate))
    yield Case("pdf, empty lines after it", PDF, lambda: after(crafted.pdf(), b"\r\n\r\n\0\x1a"))
    yield Case("pdf, linear", PDF, lambda: crafted.pdf(linearize=True))
    yield Case("pdf, link to the web", PDF, crafted.pdf_with_link)
    yield Case("pdf, link to a mail address", PDF, lambda: pdf_address("mailto:a@example.org"))
    for address in ("http://a.se", "www.1177.se", "tel:1177", "sms:1177", "#kapitel", "bilaga.html", "a..b.html", ""):
        yield Case(f"pdf, link to {address!r}", PDF, lambda a=address: pdf_address(a))  # type: ignore[misc]
    yield Case(
        "pdf, link and then a page",
        PDF,
        lambda: pdf_linked(
            "URI",
            URI=pikepdf.String("https://a.se"),
            Next=pikepdf.Array([pikepdf.Dictionary({"/S": pikepdf.Name.GoTo, "/D": pikepdf.Array([0])})]),
        ),
    )
    yield Case("pdf, addresses begin at a web page", PDF, lambda: pdf_base("https://www.1177.se/"))
    yield Case("pdf, opens at a page", PDF, lambda: pdf_action("GoTo", D=pikepdf.Array([0, pikepdf.Name.Fit])))
    yield Case(
        "pdf, opens at a place", PDF, lambda: crafted.pdf(root("/OpenAction", pikepdf.Array([0, pikepdf.Name.Fit])))
    )
    yield Case("pdf, opens at its next page", PDF, lambda: pdf_action("Named", N=pikepdf.Name.NextPage))
    yield Case("pdf, hides a note when shown", PDF, lambda: pdf_page_event("Hide", T=pikepdf.String("not")))
    yield Case("pdf, chapters", PDF, pdf_outline)
    yield Case("pdf, form", PDF, lambda: pdf_form(xfa=False))
    yield Case("pdf, photo", PDF, lambda: pdf_picture(crafted.jpeg(), "DCTDecode"))
    yield Case("pdf, jpeg 2000", PDF, lambda: pdf_picture(saved(photo(), "JPEG2000"), "JPXDecode"))
    yield Case("pdf, only its owner may change it", PDF, lambda: crafted.pdf(encryption=pikepdf.Encryption(owner="x")))


PHYS, PLACED = chunk(b"pHYs", bytes(9)), chunk(b"pHYs", b"GPSSECRET")


def height_after() -> bytes:
    plain = crafted.jpeg()
    return plain[:-2] + segment(0xDC, b"GPSSECRET") + plain[-2:]


def _telling() -> Iterator[Case]:
    def told(name: str, content_type: str, make: Callable[[], bytes]) -> Case:
        return Case(name, content_type, make, rewritten=True)

    yield told("jpeg, place", JPEG, located_jpeg)
    yield told("jpeg, place, turned", JPEG, lambda: located_jpeg(6))
    yield told("jpeg, turned, the other order of bytes", JPEG, lambda: with_segment(0xE1, little_endian_exif()))
    yield told("jpeg, exif without sense", JPEG, lambda: with_segment(0xE1, b"Exif\0\0GPSSECRET"))
    yield told("jpeg, xmp", JPEG, lambda: with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"))
    yield told("jpeg, iptc", JPEG, lambda: with_segment(0xED, b"Photoshop 3.0\0Anna Testsson"))
    yield told("jpeg, comment", JPEG, lambda: with_segment(0xFE, b"Anna Testsson"))
    yield told("jpeg, thumbnail", JPEG, lambda: with_segment(0xE0, b"JFXX\0\x10" + b"GPSSECRET"))
    yield told(
        "jpeg, small thumbnail",
        JPEG,
        lambda: crafted.jpeg()[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\3GPSSECRET") + crafted.jpeg()[20:],
    )
    yield told("jpeg, several in one", JPEG, several_in_one)
    yield told("jpeg, film after it", JPEG, lambda: after(crafted.jpeg(), b"\0\0\0\x18ftypmp42GPSSECRET"))
    yield told("png, texts and turned", PNG, telling_png)
    yield told("png, time", PNG, lambda: with_chunk(b"tIME", bytes([7, 230, 1, 1, 1, 1, 1])))
    yield told("png, private chunk", PNG, lambda: with_chunk(b"prVt", b"GPSSECRET"))
    yield told("png, text that is a bomb", PNG, lambda: with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26))))
    yield told("png, more after it", PNG, lambda: after(crafted.png(), b"GPSSECRET" * 5))
    yield told("png, more after its data", PNG, lambda: surplus.with_data(lambda data: data + b"GPSSECRET"))
    yield told("png, more after its data, in pieces", PNG, lambda: surplus.in_pieces(b"GPSSECRET"))
    yield told("png, empty data after its data", PNG, lambda: last_chunk(b"IDAT", b""))
    yield told("jpeg, colour profile", JPEG, lambda: profiled(JPEG, SRGB))
    yield told("jpeg, profile that is none", JPEG, lambda: profiled(JPEG, b"GPSSECRET" * 20))
    yield told("jpeg, profile with a text of its own", JPEG, lambda: profiled(JPEG, telling_profile()))
    yield told("jpeg, more in Adobe's part", JPEG, lambda: with_segment(0xEE, b"Adobe\0d\0\0\0\0\1" + b"GPSSECRET"))
    yield told("jpeg, too little in Adobe's part", JPEG, lambda: with_segment(0xEE, b"Adobe\0d"))
    yield told("png, colour profile", PNG, lambda: profiled(PNG, SRGB))
    yield told("png, profile that is none", PNG, lambda: profiled(PNG, b"GPSSECRET" * 20))
    yield told("png, profile with a text of its own", PNG, lambda: profiled(PNG, telling_profile()))
    # parts that make a picture, but not this one: of another length, in another place, once more, of another kind
    for name in (
        "gAMA",
        "cHRM",
        "sRGB",
        "sBIT",
        "bKGD",
        "hIST",
        "pHYs",
        "cICP",
        "mDCV",
        "cLLI",
        "tRNS",
        "PLTE",
        "acTL",
    ):
        yield told(f"png, {name} that is none", PNG, partial(last_chunk, name.encode(), b"GPSSECRET" * 9))
        yield told(f"png, {name} that is none, before it", PNG, partial(with_chunk, name.encode(), b"GPSSECRET" * 9))
    yield told("png, pHYs twice", PNG, lambda: with_chunk(b"pHYs", bytes(9)).replace(PHYS, PHYS + PLACED))
    yield told("png, pHYs after it", PNG, lambda: last_chunk(b"pHYs", b"GPSSECRET"))
    yield told("png, frames of no film", PNG, lambda: with_chunk(b"fdAT", b"\0\0\0\1GPSSECRET"))
    yield told("jpeg, its height once more", JPEG, height_after)
    yield told("gif, more in its loops", GIF, lambda: with_block(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\x09GPSSECRET\0"))
    yield told("gif, other words in its loops", GIF, lambda: with_block(b"!\xff\x0bANIMEXTS1.0\x09GPSSECRET\0"))
    yield told("gif, profile", GIF, lambda: with_block(b"!\xff\x0bICCRGBG1012" + blocks(b"GPSSECRET")))
    yield told("gif, more in a control", GIF, lambda: with_block(b"!\xf9\x04\0\0\0\0\x09GPSSECRET\0"))
    yield told("gif, text that is hidden", GIF, lambda: with_block(b"!\x01\x0c" + bytes(12) + blocks(b"GPSSECRET")))
    yield told("gif, an extension nobody knows", GIF, lambda: with_block(b"!\x77" + blocks(b"GPSSECRET")))
    yield told("gif, comment", GIF, lambda: with_block(b"!\xfe" + blocks(b"Anna Testsson")))
    yield told("gif, xmp", GIF, lambda: with_block(b"!\xff\x0bXMP DataXMP" + blocks(b"<x:xmpmeta/>")))
    yield told("gif, more after it", GIF, lambda: after(crafted.gif(), bytes(100)))


def _active() -> Iterator[Case]:
    def active(name: str, make: Callable[[], bytes]) -> Case:
        return Case("pdf, " + name, PDF, make, "active_content")

    yield active("script", crafted.pdf_with_javascript)
    yield active("hidden script", crafted.pdf_with_hidden_javascript)
    yield active("named script", pdf_named_script)
    yield active("script after a link", pdf_chained_script)
    yield active("launches", crafted.pdf_with_launch)
    yield active("embedded file", crafted.pdf_with_embedded_file)
    yield active("sends itself", lambda: pdf_action("SubmitForm", F=pikepdf.String("https://example.org")))
    yield active("imports", lambda: pdf_action("ImportData", F=pikepdf.String("a.fdf")))
    yield active("goes to another file", lambda: pdf_action("GoToR", F=pikepdf.String("\\\\host\\share\\a.pdf")))
    yield active("goes to a file inside", lambda: pdf_action("GoToE"))
    yield active("film", lambda: pdf_annotation("Movie"))
    yield active("rich media", lambda: pdf_annotation("RichMedia"))
    yield active("screen", lambda: pdf_annotation("Screen"))
    yield active("sound", lambda: pdf_annotation("Sound"))
    yield active("attached file", lambda: pdf_annotation("FileAttachment"))
    yield active("address that is a script", lambda: pdf_address("javascript:alert(1)"))
    yield active("address that begins with a control character", lambda: pdf_address(b"\x18javascript:alert(1)"))
    yield active(
        "action that is a stream", lambda: pdf_streamed(root, "/OpenAction", S=pikepdf.Name.URI, URI="http://a")
    )
    yield active("action that is a stream, unknown", lambda: pdf_streamed(link, "/A", S=pikepdf.Name.Unknown))
    yield active("events that are a stream", lambda: pdf_streamed(root, "/AA", WC=web()))
    yield active("program for a printer", lambda: pdf_program(pikepdf.Name.PS))
    yield active("address on another machine's disk", lambda: pdf_address("\\\\host\\share"))
    for address in (
        "file:///etc/passwd", " FILE:a.pdf", "fi\nle:///a", "file%3A///a", "c:\\a.exe", "//host/share", "/etc/passwd",
        "..\\a.exe", "a/../../b.exe", "%5C%5Chost%5Cshare", "smb://host/a", "ms-word:ofe|u|https://example.org/a.doc",
    ):  # fmt: skip
        yield active(f"address {address!r}", lambda a=address: pdf_address(a))  # type: ignore[misc]
    yield active("addresses begin at a file", lambda: pdf_base("file://host/share/"))
    yield active("calls home when opened", lambda: crafted.pdf(root("/OpenAction", web())))
    yield active("calls home when a page is shown", lambda: pdf_page_event("URI", URI=pikepdf.String("https://a.se")))
    yield active("calls home afterwards", lambda: pdf_action("Named", N=pikepdf.Name.NextPage, Next=web()))
    yield active("prints itself", lambda: pdf_action("Named", N=pikepdf.Name.Print))
    yield active("thread in another file", lambda: pdf_linked("Thread", F=pikepdf.String("a.pdf"), D=0))
    yield active("an action nobody knows", lambda: pdf_linked("Frobnicate"))
    yield active(
        "an unknown action afterwards",
        lambda: pdf_linked(
            "URI",
            URI=pikepdf.String("https://a.se"),
            Next=pikepdf.Array([pikepdf.Dictionary({"/S": pikepdf.Name.Frobnicate})]),
        ),
    )
    yield active("page of another file", lambda: pdf_picture_of_another_file("/Ref"))
    yield active("picture of another file", lambda: pdf_picture_of_another_file("/OPI"))
    yield active(
        "names another file",
        lambda: pdf_annotation(
            "Text", FS=pikepdf.Dictionary({"/Type": pikepdf.Name.Filespec, "/F": pikepdf.String("a.pdf")})
        ),
    )
    yield active("form that is a program", lambda: pdf_form(xfa=True))


def longer_beginning() -> bytes:
    plain = crafted.png()
    return plain[:8] + chunk(b"IHDR", plain[16:29] + b"GPSSECRET") + plain[33:]


def recounted(frames: int) -> bytes:
    return moving_png().replace(
        chunk(b"acTL", bytes([0, 0, 0, 3]) + bytes(4)), chunk(b"acTL", struct.pack(">II", frames, 0))
    )


def _damaged() -> Iterator[Case]:
    for content_type, make in ((PDF, crafted.pdf), (GIF, crafted.gif), (JPEG, crafted.jpeg), (PNG, crafted.png)):
        word = content_type.partition("/")[2]
        for share in (0.3, 0.95):
            yield Case(
                f"{word}, {share:.0%} of it", content_type, lambda m=make, s=share: crafted.cut(m(), s), "damaged"
            )  # type: ignore[misc]
        yield Case(f"{word}, its head", content_type, lambda m=make: m()[:12], "damaged")  # type: ignore[misc]
    yield Case("jpeg, no end", JPEG, lambda: crafted.jpeg()[:-2], "damaged")
    yield Case("png, no end", PNG, lambda: crafted.png()[:-12], "damaged")
    yield Case("gif, no end", GIF, lambda: crafted.gif()[:-1], "damaged")
    yield Case("png, scratched", PNG, lambda: crafted.scratched(crafted.png()), "damaged")
    yield Case("gif, scratched", GIF, lambda: crafted.scratched(crafted.gif()), "damaged")
    yield Case("png, nothing in it", PNG, lambda: crafted.png()[:33] + chunk(b"IEND", b""), "damaged")
    yield Case("png, unknown part that matters", PNG, lambda: with_chunk(b"ABCD", b"x"), "damaged")
    yield Case("png, more in its end", PNG, lambda: crafted.png()[:-12] + chunk(b"IEND", b"GPSSECRET"), "damaged")
    yield Case("png, more in its beginning", PNG, longer_beginning, "damaged")
    yield Case("png, more frames than it counts", PNG, lambda: recounted(2), "damaged")
    yield Case("png, fewer frames than it counts", PNG, lambda: recounted(4), "damaged")
    yield Case("png, more rows than it has", PNG, lambda: surplus.with_more_rows(b"GPSSECRET" * 30), "damaged")
    yield Case("png, one byte more than its rows", PNG, lambda: surplus.with_more_rows(b"!"), "damaged")
    yield Case(
        "png, more after a frame's data",
        PNG,
        lambda: surplus.with_data(lambda data: data + b"GPSSECRET", moving_png(), b"fdAT"),
        "damaged",
    )
    yield Case(
        "png, data that are not packed", PNG, lambda: surplus.with_data(lambda data: b"?" * len(data)), "damaged"
    )
    yield Case("png, too long a part", PNG, lambda: crafted.png()[:33] + b"\x7f\xff\xff\xffIDAT", "damaged")
    yield Case("jpeg, too long a part", JPEG, lambda: b"\xff\xd8\xff\xe1\xff\xff" + bytes(50), "damaged")
    yield Case("jpeg, begins twice", JPEG, lambda: b"\xff\xd8" + crafted.jpeg(), "damaged")
    yield Case("jpeg, no picture", JPEG, lambda: b"\xff\xd8\xff\xd9", "damaged")
    yield Case("gif, no picture", GIF, lambda: b"GIF89a" + bytes(7) + b";", "damaged")
    yield Case("gif, unknown block", GIF, lambda: with_block(b"\x99"), "damaged")
    yield Case("pdf, no pages", PDF, lambda: crafted.pdf(pages=0), "damaged")
    yield Case("pdf, broken table", PDF, pdf_with_broken_table, "damaged")
    yield Case("pdf, two actions", PDF, pdf_with_two_actions, "damaged")
    yield Case("pdf, an action of two kinds", PDF, pdf_with_an_action_of_two_kinds, "damaged")
    yield Case("pdf, two roots", PDF, pdf_with_two_roots, "damaged")
    yield Case("pdf, broken photo", PDF, lambda: pdf_picture(b"\xff\xd8 no photo", "DCTDecode"), "damaged")
    yield Case("pdf, broken jpeg 2000", PDF, lambda: pdf_picture(b"no photo", "JPXDecode"), "damaged")
    yield Case("pdf, needs a password", PDF, crafted.locked_pdf, "locked")


def _other_types() -> Iterator[Case]:
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    for name, data in (
        ("web page", page),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("program", b"MZ" + bytes(200)),
        ("archive", archive()),
        ("tiff", saved(photo(), "TIFF")),
        ("bmp", saved(photo(), "BMP")),
        ("webp", b"RIFF\x10\0\0\0WEBPVP8 " + bytes(20)),
        ("heic", b"\0\0\0\x18ftypheic" + bytes(40)),
        ("one byte", b"\xff"),
    ):
        yield Case(f"{name} called png", PNG, lambda d=data: d, "wrong_type")  # type: ignore[misc]
    yield Case("pdf after a line", PDF, lambda: b"\n" + crafted.pdf(), "wrong_type")
    yield Case("png called jpeg", JPEG, crafted.png, "wrong_type")
    yield Case("jpeg called gif", GIF, crafted.jpeg, "wrong_type")
    yield Case("gif called pdf", PDF, crafted.gif, "wrong_type")
    yield Case("pdf called png", PNG, crafted.pdf, "wrong_type")


def _two_in_one() -> Iterator[Case]:
    def both(name: str, content_type: str, make: Callable[[], bytes]) -> Case:
        return Case(name, content_type, make, "polyglot")

    yield both("png and archive", PNG, lambda: after(crafted.png(), archive()))
    yield both("jpeg and archive", JPEG, lambda: after(crafted.jpeg(), archive()))
    yield both("gif and archive", GIF, lambda: after(crafted.gif(), archive()))
    yield both("pdf and archive", PDF, lambda: after(crafted.pdf(), archive()))
    yield both("png and archive in a part", PNG, lambda: with_chunk(b"prVt", archive()))
    yield both("png and pdf", PNG, lambda: after(crafted.png(), crafted.pdf()))
    yield both("png and program", PNG, lambda: after(crafted.png(), b"\x7fELF\x02" + bytes(60)))
    yield both("jpeg and pdf in a comment", JPEG, lambda: with_segment(0xFE, b"%PDF-1.4 1 0 obj"))
    yield both("jpeg and php", JPEG, lambda: with_segment(0xFE, b"<?php system($_GET['c']); ?>"))
    yield both("jpeg and php in exif", JPEG, lambda: saved(photo(), "JPEG", exif=_php()))
    yield both("png and script", PNG, lambda: with_chunk(b"tEXt", b"a\0<script src=x></script>"))
    yield both("gif and script", GIF, lambda: with_block(b"!\xfe" + blocks(b"<SCRIPT>alert(1)</SCRIPT>")))
    for name, other in (("archive", RAR), ("other archive", SEVEN_ZIP), ("beginning of an archive", archive()[:60])):
        yield both(f"png and {name} in its pixels", PNG, partial(surplus.in_pixels, other))
        yield both(f"png and {name} after its data", PNG, partial(last_chunk, b"IDAT", other))
        yield both(f"jpeg and {name} in its scan", JPEG, partial(surplus.in_scan, other))
        yield both(f"gif and {name} after its data", GIF, partial(surplus.in_last_block, other))
        yield both(f"pdf and {name} in a stream", PDF, partial(surplus.in_stream, other))
        yield both(f"pdf and {name} between its parts", PDF, partial(surplus.before_table, other))
        yield both(f"pdf and {name} before its second end", PDF, partial(surplus.after_end, other))
    yield both("jpeg and pdf in its scan", JPEG, lambda: surplus.in_scan(b"%PDF-1.7"))
    for more in (b"MZ" + bytes(60), b"GPSSECRET", crafted.jpeg()[:900], b"%comment"):
        yield both(f"pdf and {more[:4]!r} after its end", PDF, partial(after, crafted.pdf(), more))
    yield both("pdf and web page", PDF, lambda: _page_in_pdf())


def _php() -> Image.Exif:
    made = Image.Exif()
    made[0x010E] = "<?php phpinfo(); ?>"
    return made


def _page_in_pdf() -> bytes:
    first, _, rest = crafted.pdf().partition(b"\n")
    return first + b"\n%<html><script>alert(1)</script>\n" + rest


def _bombs() -> Iterator[Case]:
    yield Case("png, 144 million pixels", PNG, crafted.huge_png, "too_large_picture")
    yield Case("jpeg, 4 000 million pixels", JPEG, huge_jpeg, "too_large_picture")
    yield Case("gif, all frames together", GIF, lambda: many_frames(12, 3_000), "too_large_picture")
    yield Case("pdf, large picture", PDF, lambda: pdf_picture(b"", "FlateDecode", side=11_000), "too_large_picture")
    yield Case("pdf, too many pages", PDF, lambda: crafted.pdf(pages=31), "too_many_pages")


CORPUS = [*_fit(), *_telling(), *_active(), *_damaged(), *_other_types(), *_two_in_one(), *_bombs()]
LIMITS = {"max_pixels": 100_000_000, "max_total_pixels": 100_000_000, "max_pages": 30}
"""The limits that the bombs exceed."""
