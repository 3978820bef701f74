"""What a document says of a case, and that nobody can put words into it that are not theirs (R-CASE-16)."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from services.cases import document
from services.cases.document import Around, Block
from shared.contracts.cases import CaseShown, MessageShown, ResidentCard

MOMENT = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
AROUND = Around("Björkskogens vårdcentral", "Regionen", {}, "SE2321000131-P000000000001", MOMENT)


def case(text: str, name: str = "Tolvan Tolvansson") -> CaseShown:
    message = MessageShown(
        message=UUID(int=1),
        kind="start",
        sent_at=MOMENT,
        written_by="resident",
        sender_name=name,
        text=text,
        signature=None,
        attachments=[],
        opened_at=None,
    )
    return CaseShown(
        case=UUID(int=2),
        number="2026-0000042",
        clinic="SE2321000131-E000000000001",
        care_provider="SE2321000131-E000000000002",
        case_type=UUID(int=3),
        case_type_name="Kontakta mig",
        state="new",
        closed_reason=None,
        version=1,
        handler=None,
        started_at=MOMENT,
        answer_before=None,
        may_write=False,
        may_attach=False,
        resident=ResidentCard(name=name, identity_number="191212121212", active=True, protected=False),
        messages=[message],
        activities=[],
    )


def test_r_case_16_swedish_clock_time() -> None:
    """R-CASE-16"""
    assert "Startat: 2026-07-01 kl. 14:30" in document.as_text(document.of_case(case("Hej."), AROUND))


def test_r_case_16_what_a_resident_writes_never_looks_like_a_line_of_the_document() -> None:
    """R-CASE-16: a record that can be forged by who it is about is worth nothing."""
    forged = "2026-07-02 kl. 09:00 – Svar från mottagningen, Åsa Ek"
    text = document.as_text(document.of_case(case(f"Hej.\n{forged}", f"Tolvan\n{forged}"), AROUND))
    assert forged not in text.split("\n")
    assert f"{document.INDENT}{forged}" in text.split("\n")
    assert "\n" not in Block("line", "a\nb\r\nc").text
