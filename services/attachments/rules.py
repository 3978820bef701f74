"""What may be attached, how names are cleaned, and what each state allows (R-ATT-1 to R-ATT-8). No I/O."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta

from shared.contracts.attachments import State
from shared.messaging.errors import Conflict, Invalid, LimitExceeded, Refused

PDF = "application/pdf"
PREVIEW_TYPE = "image/png"
ENDINGS: dict[str, tuple[str, ...]] = {
    PDF: (".pdf",),
    "image/gif": (".gif",),
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
}
"""The types that may be attached, and how the names of each may end (R-ATT-1)."""

ALLOWED_TYPES_SV = "PDF, GIF, JPEG eller PNG"
MAX_NAME = 200
_SPELLINGS = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}

UPLOAD_GRACE = timedelta(minutes=15)
"""An upload that began before its place expired is taken by the store even if it ends later: at 0.5 Mbit/s the largest
file needs 14 minutes."""
CHECK_GRACE = timedelta(minutes=15)
"""How long after a file was removed a checker that had it may still put something into the store."""
CLAIM_GRACE = timedelta(minutes=3)
"""How old a claim is before cases is asked whether its message exists: longer than any call's deadline."""
MAX_SUSPICIONS = 10
"""How many checks may end without a verdict, with nothing but the file to blame, before it is refused: its sender is to
know. They take two and a half minutes at least, so that a machine short of memory for a moment refuses nothing."""
LONGEST_PAUSE = timedelta(seconds=30)


class Refusal:
    """Why a file was refused: the stable words that programs read."""

    UPLOAD_EXPIRED = "upload_expired"
    WRONG_SIZE = "wrong_size"
    WRONG_CHECKSUM = "wrong_checksum"
    WRONG_TYPE = "wrong_type"
    DAMAGED = "damaged"
    TOO_LARGE_PICTURE = "too_large_picture"
    TOO_COMPLEX = "too_complex"
    TOO_MANY_PAGES = "too_many_pages"
    LOCKED = "locked"
    ACTIVE_CONTENT = "active_content"
    POLYGLOT = "polyglot"
    INFECTED = "infected"
    CHECK_FAILED = "check_failed"


REFUSALS_SV: dict[str, str] = {
    Refusal.UPLOAD_EXPIRED: "Filen laddades inte upp i tid. Försök igen.",
    Refusal.WRONG_SIZE: "Den uppladdade filen har en annan storlek än den som angavs.",
    Refusal.WRONG_CHECKSUM: "Den uppladdade filen har ett annat innehåll än det som angavs.",
    Refusal.WRONG_TYPE: "Filens innehåll stämmer inte med dess typ. Du kan bifoga " + ALLOWED_TYPES_SV + ".",
    Refusal.DAMAGED: "Filen är skadad och går inte att öppna.",
    Refusal.TOO_LARGE_PICTURE: "Bilden har för många bildpunkter.",
    Refusal.TOO_COMPLEX: "Filen är för komplicerad för att kunna kontrolleras.",
    Refusal.TOO_MANY_PAGES: "Dokumentet har för många sidor.",
    Refusal.LOCKED: "Dokumentet är skyddat med lösenord.",
    Refusal.ACTIVE_CONTENT: "Dokumentet innehåller skript, inbäddade filer eller annat aktivt innehåll.",
    Refusal.POLYGLOT: "Filen innehåller en annan sorts fil, gömd i sig.",
    Refusal.INFECTED: "Filen innehåller skadlig kod.",
    Refusal.CHECK_FAILED: "Filen gick inte att kontrollera.",
}
"""What the one who attached the file is told (R-ATT-7)."""


def clean_name(raw: str) -> str:
    """The file's name as it is kept and shown: no folders, no control or reordering marks, at most 200 characters.

    Raises `Invalid` if nothing is left to see before the ending (R-ATT-1).
    """
    name = unicodedata.normalize("NFC", raw).replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(" " if character.isspace() else character for character in name)
    name = "".join(character for character in name if _shows(character))
    name = re.sub(" {2,}", " ", name).strip(" ").rstrip(". ")
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = name, ""
    if not any(unicodedata.category(character)[0] in "LNPS" and character != "." for character in stem):
        raise Invalid("Filen har inget namn.", reason="name_empty", fields=[("name", "måste vara ett filnamn")])
    return stem[: MAX_NAME - len(dot + ending)].rstrip() + dot + ending if len(name) > MAX_NAME else name


def _shows(character: str) -> bool:
    # Cc control, Cs surrogate, Co private use, Cn unassigned; of Cf only the joiner that emoji sequences need
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn") or character == "\u200d"


def preview_name(name: str) -> str:
    """What the preview of a file of this name is called, should somebody save it."""
    return f"{name.rpartition('.')[0]}.png"


def clean_type(raw: str) -> str:
    """The announced type in its one spelling. Raises `Invalid` if it may not be attached (R-ATT-1)."""
    bare = raw.split(";", 1)[0].strip().lower()
    bare = _SPELLINGS.get(bare, bare)
    if bare not in ENDINGS:
        message = f"Filtypen kan inte bifogas. Du kan bifoga {ALLOWED_TYPES_SV}."
        raise Invalid(message, reason="type_not_allowed", fields=[("content_type", "är inte tillåten")])
    return bare


def require_agreement(name: str, content_type: str) -> None:
    """Raises `Invalid` unless the name's ending is one of the type's (R-ATT-1)."""
    if not name.lower().endswith(ENDINGS[content_type]):
        endings = " eller ".join(ENDINGS[content_type])
        raise Invalid(
            "Filens namn stämmer inte med dess typ.",
            reason="name_type_mismatch",
            fields=[("name", f"måste sluta på {endings}")],
        )


def require_size(size: int, most: int) -> None:
    """Raises `Invalid` for an empty file and `LimitExceeded` for one that is too large (R-ATT-2)."""
    if size == 0:
        raise Invalid("Filen är tom.", reason="file_empty", fields=[("size", "måste vara minst 1")])
    if size > most:
        raise LimitExceeded(f"Filen är för stor. Den får vara högst {_megabytes(most)}.", reason="file_too_large")


def _megabytes(size: int) -> str:
    whole, rest = divmod(size, 1024 * 1024)
    return f"{whole} MB" if whole and not rest else f"{size} byte"


def pause_before_look(looks: int) -> timedelta:
    """How long to wait before the store is looked at again, after this many looks: 1, 1, 2, 4 … 30 seconds."""
    return min(timedelta(seconds=2.0 ** min(max(looks - 1, 0), 10)), LONGEST_PAUSE)


def why_not_claimable(state: State, *, taken: bool, sent: bool) -> Refused | None:
    """What stands in the way of sending a file with a message; None if nothing does (R-ATT-5, R-ATT-7)."""
    if sent or taken:
        return Conflict("En av filerna hör redan till ett meddelande.", reason="attachment_already_used")
    if state is State.REFUSED:
        message = "En av filerna godkändes inte vid kontrollen och kan inte skickas."
        return Conflict(message, reason="attachment_refused")
    if state is not State.USABLE:
        message = "En av filerna är inte färdigkontrollerad än. Försök igen om en liten stund."
        return Conflict(message, reason="attachment_not_checked")
    return None


def upload_window_ends(upload_expires_at: datetime) -> datetime:
    """From when on nothing more can come in by this upload request."""
    return upload_expires_at + UPLOAD_GRACE


def nothing_comes_after(upload_expires_at: datetime, removed_at: datetime) -> datetime:
    """From when on nothing more of a removed file gets into the store, by its upload request or by its check."""
    return max(upload_window_ends(upload_expires_at), removed_at + CHECK_GRACE)
