"""From what is told to the words of it. The words themselves are in texts/."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from string import Template

from shared.contracts.notifications import Channel, DeliveryKind

_TEXTS = Path(__file__).parent / "texts"
_LONGEST_NAME = 120
_PLAIN_IN_SMS = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'",
                               "\u201c": '"', "\u201d": '"', "\u00b4": "'", "\u2026": "..."})  # fmt: skip


@dataclass(frozen=True)
class Words:
    """What is sent. An SMS has no subject and no HTML."""

    text: str
    subject: str = ""
    html: str = ""


@lru_cache(maxsize=256)
def words(kind: DeliveryKind, channel: Channel, clinic_name: str) -> Words:
    """The words of a notification. Residents' have no clinic in them (R-NOT-3), whatever name is given here."""
    name = one_line(clinic_name)
    if channel is Channel.SMS:
        return Words(text=_fill(f"{kind}.sms.txt", clinic=name.translate(_PLAIN_IN_SMS)))
    return _mail(_fill(f"{kind}.mail.txt", clinic=name))


def code_words(channel: Channel, code: str) -> Words:
    """The words that a verification code comes in."""
    if channel is Channel.SMS:
        return Words(text=_fill("code.sms.txt", code=code))
    return _mail(_fill("code.mail.txt", code=code))


def _mail(filled: str) -> Words:
    subject, text = filled.split("\n\n", 1)
    paragraphs = "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in text.split("\n\n"))
    page = _fill("mail.html", subject=html.escape(subject), paragraphs=paragraphs)
    return Words(text=text, subject=subject, html=page)


def one_line(name: str) -> str:
    """A name from the directory, fit for a header: no line ends or control characters, and not too long."""
    visible = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in name)
    return re.sub(r" +", " ", visible).strip()[:_LONGEST_NAME]


def _fill(file: str, **values: str) -> str:
    return _template(file).substitute(values).rstrip("\n")


@cache
def _template(file: str) -> Template:
    return Template((_TEXTS / file).read_text(encoding="utf-8"))
