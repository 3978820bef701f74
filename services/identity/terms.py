"""The terms of use, in versions, and who accepted which of them when (R-ID-2, R-ID-3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from services.identity.tables import accepted_terms, terms_texts
from shared.contracts import identity, logging_in
from shared.messaging.errors import Conflict, NotFound
from shared.operations.logs import log

if TYPE_CHECKING:
    from shared.database.transaction import Transaction


_WHO_ACCEPTED = b"SELECT person FROM accepted_terms WHERE kind = %s AND person = ANY(%s) AND version = %s"


class TermsShelf:
    """The texts. A version never changes once people have accepted it: a new text gets the next number."""

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._texts = texts

    @classmethod
    def from_folder(cls, folder: Path) -> TermsShelf:
        """Reads `staff/1.md`, `resident/1.md` and so on. Raises ValueError if one has none, or a name is no number."""
        texts: dict[str, dict[str, str]] = {}
        for kind in get_args(identity.PersonKind):
            files = sorted((folder / kind).glob("*.md"))
            if not files or not all(file.stem.isascii() and file.stem.isdigit() for file in files):
                raise ValueError(f"the terms for {kind} are missing, or not named by numbers")
            texts[kind] = {file.stem: file.read_text(encoding="utf-8") for file in files}
        return cls(texts)

    def in_force(self, kind: identity.PersonKind) -> str:
        """The version that has to be accepted now: the highest number."""
        return max(self._texts[kind], key=int)

    def text(self, kind: identity.PersonKind, version: str) -> str | None:
        """The text of a version, or None if there is no such version."""
        return self._texts[kind].get(version)


def who_accepted(tx: Transaction, kind: identity.PersonKind, people: Sequence[str], version: str) -> set[str]:
    """Those of the people who have accepted this version."""
    found = ask_who_accepted(tx, kind, people, version)
    tx.send()
    return {person for (person,) in found}


def ask_who_accepted(
    tx: Transaction, kind: identity.PersonKind, people: Sequence[str], version: str
) -> list[tuple[Any, ...]]:
    """The same as rows of one person each, which stand in the list after the next statement."""
    return tx.ahead(_WHO_ACCEPTED, (kind, list(people), version))


def read_terms(tx: Transaction, request: logging_in.ReadTerms, shelf: TermsShelf) -> logging_in.Terms:
    """The terms in force, or an earlier version that the caller accepted, with the time of that; the text as it was."""
    kind = _kind(tx)
    in_force = shelf.in_force(kind)
    version = request.version or in_force
    own = (accepted_terms.c.kind == kind) & (accepted_terms.c.person == tx.caller.subject)
    rows = tx.execute(select(accepted_terms).where(own).order_by(accepted_terms.c.accepted_at)).all()
    accepted = {row.version: row.accepted_at for row in rows}
    # Asked of nothing but these two: the database does not take every text.
    text = _text(tx, kind, version, shelf) if version in accepted or version == in_force else None
    if text is None:
        raise NotFound("Villkoren finns inte.")
    return logging_in.Terms(
        version=version,
        text=text,
        accepted_at=accepted.get(version),
        accepted=[logging_in.AcceptedTerms(version=one, accepted_at=at) for one, at in accepted.items()],
    )


def _text(tx: Transaction, kind: identity.PersonKind, version: str, shelf: TermsShelf) -> str | None:
    """The text as people have accepted it, whatever has become of the file; before anyone has, the file's."""
    kept = select(terms_texts.c.text).where(terms_texts.c.kind == kind, terms_texts.c.version == version)
    found: str | None = tx.execute(kept).scalar_one_or_none()
    if found is not None and shelf.text(kind, version) not in (None, found):
        log.error("terms_changed_without_a_new_number", kind=kind, version=version)
    return found if found is not None else shelf.text(kind, version)


def accept(tx: Transaction, request: logging_in.AcceptTerms, shelf: TermsShelf) -> None:
    """Notes that the caller accepts the terms in force.

    Raises `Conflict` with reason `terms_version_not_in_force` for any other version, `terms_already_accepted` where the
    caller's token says that they are. In another session they may have been accepted before: the time of that stays.
    """
    kind = _kind(tx)
    if request.version != shelf.in_force(kind):
        raise Conflict("Villkoren har ändrats. Läs dem igen.", reason="terms_version_not_in_force")
    text = {"kind": kind, "version": request.version, "text": shelf.text(kind, request.version)}
    tx.execute(insert(terms_texts).values(**text, first_accepted_at=tx.now).on_conflict_do_nothing())
    accepted = tx.execute(
        insert(accepted_terms)
        .values(kind=kind, person=tx.caller.subject, version=request.version, accepted_at=tx.now)
        .on_conflict_do_nothing()
        .returning(accepted_terms.c.version)
    ).first()
    if accepted is None and tx.caller.terms_accepted:
        raise Conflict("Villkoren är redan godkända. Förnya sessionen.", reason="terms_already_accepted")


def _kind(tx: Transaction) -> identity.PersonKind:
    return "staff" if tx.caller.kind == "staff" else "resident"
