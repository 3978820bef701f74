"""The PDF of a document: its text can be read back out of it, whatever it is, with the font embedded (R-CASE-16)."""

from __future__ import annotations

import re
from io import BytesIO

import pikepdf
import pytest

from services.cases import pdf


def text_of(made: bytes) -> list[str]:
    """The lines of each page, read by the font's own table of what its glyphs stand for."""
    pages = []
    with pikepdf.open(BytesIO(made)) as opened:
        for page in opened.pages:
            maps = {name: _characters(font) for name, font in page.Resources.Font.items()}
            lines, font = [], ""
            for operands, operator in pikepdf.parse_content_stream(page):
                if str(operator) == "Tf":
                    font = str(operands[0])
                elif str(operator) == "Tj":
                    lines.append("".join(maps[font][code] for code in bytes(operands[0])))
            pages.append("\n".join(lines))
    return pages


def _characters(font: pikepdf.Object) -> dict[int, str]:
    table = font.ToUnicode.read_bytes().decode() if "/ToUnicode" in font else ""
    single = re.findall(r"^<([0-9A-F]{2})> <([0-9A-F]{4,})>$", table, re.M)
    return {int(code, 16): bytes.fromhex(value).decode("utf-16-be") for code, value in single}


def block(text: str, kind: str = "text") -> dict[str, str]:
    return {"kind": kind, "text": text}


def test_r_case_16_swedish_letters_come_out_as_they_went_in() -> None:
    """R-CASE-16"""
    text = "Åsa Öberg frågade: räcker två? ÅÄÖ åäö é ü – ”citat” €\nRad två"
    made = pdf.render("Ärende 2026-0000042", [block("Ärende", "title"), block(text)])
    [page] = text_of(made)
    for line in ("Ärende", *text.split("\n"), "Ärende 2026-0000042", "Sida 1 av 1"):
        assert line in page.split("\n")


def test_r_case_16_the_font_is_in_the_file() -> None:
    """R-CASE-16: it looks the same everywhere."""
    with pikepdf.open(BytesIO(pdf.render("x", [block("å")]))) as opened:
        fonts = list(opened.pages[0].Resources.Font.values())
        assert fonts
        assert all("/FontFile2" in font.FontDescriptor for font in fonts)
        assert opened.Root.Lang == "sv-SE"


def test_long_texts_and_words_fill_pages_and_lose_nothing() -> None:
    words = " ".join(f"ord{number}" for number in range(5000))
    long = "å" * 700
    pages = text_of(pdf.render("x", [block(words), block(long), block("")]))
    assert len(pages) > 3
    body = " ".join("\n".join(page.split("\n")[:-2]) for page in pages)
    assert re.findall(r"ord\d+", body) == words.split(" ")
    assert body.count("å") == 700
    assert pages[-1].endswith(f"Sida {len(pages)} av {len(pages)}")


@pytest.mark.parametrize(
    ("written", "shown"),
    [("\U0001fae0", "[U+1FAE0]"), ("ö", "ö"), ("a\U000e0041b", "ab"), ("漢", "[U+6F22]"), ("ж", "ж"), ("\t|", "    |")],
)
def test_what_the_font_lacks_is_told_by_its_number(written: str, shown: str) -> None:
    assert shown in text_of(pdf.render("x", [block(written)]))[0].split("\n")


def test_it_is_made_in_a_process_that_can_not_run_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pdf.made("Ärende", [block("å", "line")]).startswith(b"%PDF")
    with pytest.raises(pdf.NotMade):
        pdf.made("x", [{"kind": "nothing", "text": ""}])
    monkeypatch.setattr(pdf, "SECONDS", 0.01)
    with pytest.raises(pdf.NotMade):
        pdf.made("x", [block("x")])


def test_only_so_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "WAIT_SECONDS", 0.01)
    for _ in range(pdf.AT_ONCE):
        assert pdf._turns.acquire(blocking=False)
    try:
        with pytest.raises(pdf.Busy):
            pdf.made("x", [block("x")])
    finally:
        for _ in range(pdf.AT_ONCE):
            pdf._turns.release()
    assert pdf.made("x", [block("x")]).startswith(b"%PDF")
