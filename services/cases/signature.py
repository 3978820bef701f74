"""The signature under a reply: made of what the directory says of the sender (R-CASE-11)."""

from __future__ import annotations


def name_and_signature(given_name: str | None, surname: str | None, title: str | None) -> tuple[str, str]:
    """`("Karin Ek", "Karin Ek, läkare")`; parts that the directory lacks are left out."""
    name = " ".join(part.strip() for part in (given_name, surname) if part and part.strip())
    signature = ", ".join(part for part in (name, (title or "").strip()) if part)
    return name, signature
