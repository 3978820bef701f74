"""Messages of other systems as text: of a small subset of DocBook, what it says and where it links to (R-CASE-21).

Nothing of the markup is kept, so there is nothing that could run. There is no DTD and no entity but HTML's named
characters, which are put in beforehand, each once: nothing refers to anything, inside or out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.entities import html5
from urllib.parse import urlsplit
from xml.parsers import expat

from pydantic import TypeAdapter, ValidationError

from shared.contracts.cases import LinkShown, Message
from shared.messaging.errors import Invalid

BLOCKS = frozenset({"article", "info", "title", "section", "para", "bibliography"}) | {
    "variablelist",
    "varlistentry",
    "term",
    "listitem",
}
LINK = "ulink"
MOST_LINKS = 20
DEEPEST = 30
LONGEST_URL = 2000
_XML_DECLARATION = re.compile(r"\A\s*<\?xml\s[^<>]*\?>")
_NAMED = re.compile(r"&([A-Za-z][A-Za-z0-9]{0,31});")
_OF_XML = frozenset({"amp", "lt", "gt", "quot", "apos"})
_BLANKS = re.compile(r"[ \t\r\n]+")
_MESSAGE: TypeAdapter[str] = TypeAdapter(Message)
_URL_CHARACTERS = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Readable:
    """What a message says, and the links in it."""

    text: str
    links: tuple[LinkShown, ...] = ()


def plain(text: str) -> Readable:
    """A message that is text already. Raises `Invalid` where it is too long for one."""
    try:
        return Readable(_MESSAGE.validate_python(text))
    except ValidationError as error:
        raise _invalid(str(error.errors()[0]["msg"])) from None


def read(markup: str) -> Readable:
    """The text of DocBook's subset, a block a paragraph. Raises `Invalid` for whatever is not of it."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = _refuse_declaration
    parser.ProcessingInstructionHandler = _refuse_declaration
    bare = _XML_DECLARATION.sub("", markup, count=1)
    try:
        parser.Parse(f"<{_ROOT}>{_NAMED.sub(_character, bare)}</{_ROOT}>".encode(), True)
    except expat.ExpatError:
        raise _invalid("är inte välformad") from None
    said = plain("\n\n".join(reader.blocks))
    return Readable(said.text, tuple(reader.links))


_ROOT = "message"


def checked_link(text: str, url: str) -> LinkShown:
    """The link, if it goes to an https address and nothing else. Raises `Invalid`."""
    if len(url) > LONGEST_URL or not _URL_CHARACTERS.fullmatch(url):
        raise _invalid("har en länk som inte är en webbadress", "link")
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and "\\" not in url
        _ = parts.port
    except ValueError:
        fits = False
    if not fits:
        raise _invalid("har en länk som inte börjar med https://", "link")
    return LinkShown(text=text or url, url=url)


class _Reader:
    """Gathers blocks of text as the parser meets them."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.links: list[LinkShown] = []
        self._open: list[str] = []
        self._said: list[str] = []
        self._link: tuple[str, int] | None = None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        name = name.rpartition(":")[2]
        self._open.append(name)
        if len(self._open) > DEEPEST:
            raise _invalid("är för djupt nästlad")
        if name == LINK:
            if self._link is not None or len(self.links) >= MOST_LINKS:
                raise _invalid("har för många länkar")
            self._link = (attributes.get("url", ""), len(self._said))
        elif name in BLOCKS or (name == _ROOT and len(self._open) == 1):
            self._end_block()
        else:
            raise _invalid("har ett element som inte är tillåtet")

    def end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        self._open.pop()
        if name == LINK and self._link is not None:
            (url, began), self._link = self._link, None
            words = _BLANKS.sub(" ", "".join(self._said[began:])).strip()
            self.links.append(checked_link(words, url))
        else:
            self._end_block()

    def characters(self, data: str) -> None:
        self._said.append(data)

    def _end_block(self) -> None:
        if self._link is not None:
            raise _invalid("har ett stycke i en länk")
        block = _BLANKS.sub(" ", "".join(self._said)).strip()
        if block:
            self.blocks.append(block)
        self._said = []


def _character(found: re.Match[str]) -> str:
    name = found[1]
    if name in _OF_XML:
        return found[0]
    character = html5.get(f"{name};")
    if character is None:
        raise _invalid("har ett namngivet tecken som inte finns")
    return "".join(f"&#{ord(one)};" for one in character)


def _refuse_declaration(*_: object) -> None:
    raise _invalid("får inte ha en dokumenttyp eller instruktioner")


def _invalid(problem: str, field: str = "text") -> Invalid:
    return Invalid("Meddelandet kan inte tas emot.", reason="message_not_safe", fields=[(field, problem)])
