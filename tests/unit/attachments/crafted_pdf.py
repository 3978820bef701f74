"""PDFs that do something, lead out of themselves, or are broken."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pikepdf

from tests.unit.attachments import crafted


def root(key: str, value: object) -> Callable[[pikepdf.Pdf], None]:
    def change(document: pikepdf.Pdf) -> None:
        document.Root[key] = value

    return change


def pdf_action(kind: str, **more: object) -> bytes:
    action = pikepdf.Dictionary({"/S": pikepdf.Name("/" + kind)} | {f"/{name}": value for name, value in more.items()})
    return crafted.pdf(root("/OpenAction", action))


def pdf_annotation(kind: str, **more: object) -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        about = {
            "/Type": pikepdf.Name.Annot,
            "/Subtype": pikepdf.Name("/" + kind),
            "/Rect": pikepdf.Array([0, 0, 9, 9]),
        }
        note = pikepdf.Dictionary(about | {f"/{name}": value for name, value in more.items()})
        document.pages[0].Annots = pikepdf.Array([document.make_indirect(note)])

    return crafted.pdf(change)


def pdf_address(address: str | bytes) -> bytes:
    action = pikepdf.Dictionary({"/S": pikepdf.Name.URI, "/URI": pikepdf.String(address)})
    return pdf_annotation("Link", A=action)


def link(key: str, value: object) -> Callable[[pikepdf.Pdf], None]:
    def change(document: pikepdf.Pdf) -> None:
        about = {"/Type": pikepdf.Name.Annot, "/Subtype": pikepdf.Name.Link, "/Rect": pikepdf.Array([0, 0, 9, 9])}
        note = document.make_indirect(pikepdf.Dictionary(about | {key: value}))
        document.pages[0].Annots = pikepdf.Array([note])

    return change


def pdf_streamed(where: Callable[[str, object], Callable[[pikepdf.Pdf], None]], key: str, **about: object) -> bytes:
    """A stream where there should be a dictionary: readers take its own."""

    def change(document: pikepdf.Pdf) -> None:
        where(key, document.make_stream(b"", {f"/{name}": value for name, value in about.items()}))(document)

    return crafted.pdf(change)


def pdf_program(kind: pikepdf.Name) -> bytes:
    """PostScript, which printers run."""

    def change(document: pikepdf.Pdf) -> None:
        program = document.make_stream(b"(alert) run", {"/Type": pikepdf.Name.XObject, "/Subtype": kind})
        document.pages[0].Resources = pikepdf.Dictionary({"/XObject": pikepdf.Dictionary({"/P": program})})

    return crafted.pdf(change)


def pdf_named_script() -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        script = pikepdf.Dictionary({"/S": pikepdf.Name.JavaScript, "/JS": pikepdf.String("app.alert(1)")})
        tree = pikepdf.Dictionary({"/Names": pikepdf.Array([pikepdf.String("a"), document.make_indirect(script)])})
        document.Root.Names = pikepdf.Dictionary({"/JavaScript": tree})

    return crafted.pdf(change)


def pdf_form(*, xfa: bool) -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        form = pikepdf.Dictionary({"/Fields": pikepdf.Array([])})
        if xfa:
            form.XFA = pikepdf.Stream(document, b"<xdp:xdp/>")
        document.Root.AcroForm = form

    return crafted.pdf(change)


def pdf_chained_script() -> bytes:
    """A link to the web that runs a script afterwards."""
    script = pikepdf.Dictionary({"/S": pikepdf.Name.JavaScript, "/JS": pikepdf.String("x")})
    return pdf_action("URI", URI=pikepdf.String("https://www.1177.se/"), Next=pikepdf.Array([script]))


def pdf_linked(kind: str, **more: object) -> bytes:
    """A link that does it, once somebody asks."""
    about = {f"/{name}": value for name, value in more.items()}
    return pdf_annotation("Link", A=pikepdf.Dictionary({"/S": pikepdf.Name("/" + kind)} | about))


def pdf_page_event(kind: str, **more: object) -> bytes:
    """The first page does it when it is shown."""

    def change(document: pikepdf.Pdf) -> None:
        action = {"/S": pikepdf.Name("/" + kind)} | {f"/{name}": value for name, value in more.items()}
        document.pages[0].AA = pikepdf.Dictionary({"/O": document.make_indirect(pikepdf.Dictionary(action))})

    return crafted.pdf(change)


def web(address: str = "https://example.org/?who=1") -> pikepdf.Dictionary:
    return pikepdf.Dictionary({"/S": pikepdf.Name.URI, "/URI": pikepdf.String(address)})


def pdf_picture_of_another_file(key: str) -> bytes:
    """A part of the page whose content is to be fetched from elsewhere."""

    def change(document: pikepdf.Pdf) -> None:
        form = pikepdf.Stream(document, b"")
        form.Type, form.Subtype = pikepdf.Name.XObject, pikepdf.Name.Form
        form.BBox = pikepdf.Array([0, 0, 9, 9])
        form[key] = pikepdf.Dictionary({"/F": pikepdf.String("\\\\host\\a.pdf"), "/Page": 0})
        document.pages[0].Resources = pikepdf.Dictionary({"/XObject": pikepdf.Dictionary({"/X": form})})

    return crafted.pdf(change)


def pdf_outline() -> bytes:
    """Chapters that lead to a page each: one `/Next` to the other."""

    def change(document: pikepdf.Pdf) -> None:
        with document.open_outline() as outline:
            outline.root += [pikepdf.OutlineItem("Ett", 0), pikepdf.OutlineItem("Två", 0)]

    return crafted.pdf(change)


def pdf_base(address: str) -> bytes:
    """All addresses in it begin with this one."""
    return crafted.pdf(root("/URI", pikepdf.Dictionary({"/Base": pikepdf.String(address)})))


def pdf_outside_stream() -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        stream = pikepdf.Stream(document, b"")
        stream.F = pikepdf.String("C:\\hemligt.txt")
        document.Root.Outside = document.make_indirect(stream)

    return crafted.pdf(change)


def pdf_picture(data: bytes, packed: str, *, side: int = 60) -> bytes:
    def change(document: pikepdf.Pdf) -> None:
        picture = pikepdf.Stream(document, data)
        picture.Type, picture.Subtype = pikepdf.Name.XObject, pikepdf.Name.Image
        picture.Width = picture.Height = side
        picture.ColorSpace, picture.BitsPerComponent = pikepdf.Name.DeviceRGB, 8
        picture.Filter = pikepdf.Name("/" + packed)
        page = document.pages[0]
        page.Resources = pikepdf.Dictionary({"/XObject": pikepdf.Dictionary({"/Im": picture})})
        page.Contents = pikepdf.Stream(document, b"100 0 0 100 0 0 cm /Im Do")

    return crafted.pdf(change)


def pdf_nested_bomb() -> bytes:
    """Unpacked twice it is 250 MB."""
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(250)) + packer.flush()

    def change(document: pikepdf.Pdf) -> None:
        bomb = pikepdf.Stream(document, zlib.compress(packed, 9))
        bomb.Filter = pikepdf.Array([pikepdf.Name.FlateDecode, pikepdf.Name.FlateDecode])
        document.Root.Bomb = bomb

    return crafted.pdf(change)


def pdf_with_two_actions() -> bytes:
    """Opening it runs a script for readers that take the first, and turns to a page for those that take the last."""

    def change(document: pikepdf.Pdf) -> None:
        document.Root["/OpenActio_"] = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS=pikepdf.String("app.alert(1)"))
        document.Root["/OpenAction"] = pikepdf.Dictionary(S=pikepdf.Name.GoTo)

    return crafted.pdf(change).replace(b"/OpenActio_", b"/OpenAction")


def pdf_with_an_action_of_two_kinds() -> bytes:
    action = pikepdf.Dictionary(R=pikepdf.Name.Launch, S=pikepdf.Name.GoTo)
    return crafted.pdf(root("/OpenAction", action)).replace(b"/R /Launch", b"/S /Launch")


def pdf_with_two_roots() -> bytes:
    return crafted.pdf().replace(b"trailer <<", b"trailer << /Root 1 0 R")


def pdf_with_broken_table() -> bytes:
    data = crafted.pdf()
    at = data.rindex(b"startxref") + 10
    return data[:at] + b"7" + data[at:]
