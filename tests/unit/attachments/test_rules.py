"""What may be attached, and how names are cleaned."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attachments import rules
from shared.contracts.attachments import State
from shared.messaging.errors import Invalid, LimitExceeded

MOST = 52_428_800


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("bild.png", "bild.png"),
        ("/home/anna/bilder/bild.png", "bild.png"),
        ("C:\\fakepath\\Läkarintyg.pdf", "Läkarintyg.pdf"),
        ("../../etc/passwd.png", "passwd.png"),
        ("La\u0308karintyg.pdf", "Läkarintyg.pdf"),
        ("bild\x00.png", "bild.png"),
        ("gnp.exe\u202egnp.png", "gnp.exegnp.png"),
        ("  min \t\n bild.PNG  ", "min bild.PNG"),
        ("bild.png. . .", "bild.png"),
        ("arkiv.tar.pdf", "arkiv.tar.pdf"),
        ("familj 👩\u200d👧.jpg", "familj 👩\u200d👧.jpg"),
        ("👍.gif", "👍.gif"),
        ("a" * 400 + ".jpeg", "a" * 195 + ".jpeg"),
        ("utan ändelse", "utan ändelse"),
    ],
)
def test_names_are_cleaned_r_att_1(raw: str, kept: str) -> None:
    assert rules.clean_name(raw) == kept


@pytest.mark.parametrize("raw", [".png", "...", "   .pdf", "\x00\u200b.png", "mapp/", "\u202e.gif"])
def test_a_name_with_nothing_to_see_is_refused_r_att_1(raw: str) -> None:
    with pytest.raises(Invalid) as refused:
        rules.clean_name(raw)
    assert refused.value.reason == "name_empty"


@given(st.text(min_size=1, max_size=500, alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_cleaned_name_is_safe_and_stays_as_it_is_r_att_1(raw: str) -> None:
    try:
        name = rules.clean_name(raw)
    except Invalid:
        return
    assert len(name) > 0
    assert not set(name) & {"/", "\\", "\x00", "\n", "\r", "\t"}
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
    assert rules.clean_name(name) == name


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/jpg", "image/jpeg"),
        ("application/pdf; charset=binary", "application/pdf"),
    ],
)
def test_types_in_one_spelling_r_att_1(raw: str, kept: str) -> None:
    assert rules.clean_type(raw) == kept


@pytest.mark.parametrize("raw", ["", "image/svg+xml", "text/html", "image/webp", "application/zip", "png"])
def test_other_types_are_refused_r_att_1(raw: str) -> None:
    with pytest.raises(Invalid) as refused:
        rules.clean_type(raw)
    assert refused.value.reason == "type_not_allowed"


@pytest.mark.parametrize("name", ["a.PDF", "a.b.pdf", "å.Pdf"])
def test_the_ending_may_be_in_any_case_r_att_1(name: str) -> None:
    rules.require_agreement(name, "application/pdf")


@pytest.mark.parametrize("name", ["a.png", "a.pdf.exe", "pdf", "apdf", "a.pdf "])
def test_the_ending_must_agree_r_att_1(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        rules.require_agreement(name, "application/pdf")
    assert refused.value.reason == "name_type_mismatch"


def test_sizes_at_the_boundary_r_att_2() -> None:
    rules.require_size(1, MOST)
    rules.require_size(MOST, MOST)
    with pytest.raises(Invalid) as empty:
        rules.require_size(0, MOST)
    assert empty.value.reason == "file_empty"
    with pytest.raises(LimitExceeded) as large:
        rules.require_size(MOST + 1, MOST)
    assert large.value.reason == "file_too_large"
    assert "50 MB" in large.value.message


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.WAITING, "attachment_not_checked"),
        (State.CHECKING, "attachment_not_checked"),
        (State.REFUSED, "attachment_refused"),
        (State.USABLE, None),
    ],
)
def test_only_a_checked_file_can_be_sent_r_att_7(state: State, reason: str | None) -> None:
    hindrance = rules.why_not_claimable(state, taken=False, sent=False)
    assert (hindrance.reason if hindrance else None) == reason


def test_a_file_belongs_to_one_message_r_att_5() -> None:
    for taken, sent in ((True, False), (True, True)):
        hindrance = rules.why_not_claimable(State.USABLE, taken=taken, sent=sent)
        assert hindrance is not None
        assert hindrance.reason == "attachment_already_used"


def test_every_refusal_has_words_for_the_owner_r_att_7() -> None:
    words = {value for name, value in vars(rules.Refusal).items() if not name.startswith("_")}
    assert words == set(rules.REFUSALS_SV)


def test_pauses_grow_and_end_growing() -> None:
    pauses = [rules.pause_before_look(looks).total_seconds() for looks in (0, 1, 2, 3, 4, 6, 7, 50, 10_000)]
    assert pauses == [1, 1, 2, 4, 8, 30, 30, 30, 30]
