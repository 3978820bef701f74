"""How many parts an SMS becomes (3GPP TS 23.038)."""

from __future__ import annotations

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")


def is_gsm7(text: str) -> bool:
    """Whether the text fits the SMS alphabet; one letter outside of it more than halves what a part holds."""
    return all(character in _BASIC or character in _EXTENDED for character in text)


def parts(text: str) -> int:
    """Parts that the text is sent in: 160 septets in one or 153 in each of many, else 70 or 67 UTF-16 units."""
    if is_gsm7(text):
        length, one, each = sum(2 if character in _EXTENDED else 1 for character in text), 160, 153
    else:
        length, one, each = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if length <= one else -(-length // each)
