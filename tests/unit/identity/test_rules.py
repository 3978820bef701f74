"""The decisions of identity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.identity import rules
from shared.contracts.base import Role

BEGAN = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)

RECEIVER, HANDLER = Role.CASE_RECEIVER, Role.CASE_HANDLER
LOCAL, RIGHTS, REVIEWER = Role.LOCAL_ADMIN, Role.RIGHTS_ADMIN, Role.LOG_REVIEWER
MANAGER, ASSISTANT, REGIONAL = Role.OPERATIONS_MANAGER, Role.OPERATIONS_ASSISTANT, Role.REGIONAL_ADMIN

GIVES = {
    RECEIVER: set(),
    HANDLER: set(),
    REVIEWER: set(),
    RIGHTS: {RECEIVER, HANDLER},
    LOCAL: {RECEIVER, HANDLER, LOCAL, RIGHTS},
    ASSISTANT: {RECEIVER, HANDLER, LOCAL, RIGHTS},
    MANAGER: {RECEIVER, HANDLER, LOCAL, RIGHTS, ASSISTANT},
    REGIONAL: {LOCAL, MANAGER, REVIEWER},
}


@pytest.mark.parametrize("giver", list(Role))
@pytest.mark.parametrize("role", list(Role))
def test_r_id_6_who_may_give_and_take_which_role(giver: Role, role: Role) -> None:
    """R-ID-6"""
    assert rules.may_give([giver], role) is (role in GIVES[giver])
    may_take = role in GIVES[giver] or (giver is REGIONAL and role is ASSISTANT)
    assert rules.may_take([giver], role) is may_take


def test_r_id_6_roles_add_up_and_no_role_gives_nothing() -> None:
    """R-ID-6: nobody gives rights where they administer nothing."""
    assert rules.may_give([HANDLER, RIGHTS], RECEIVER)
    for role in Role:
        assert not rules.may_give([], role)
        assert not rules.may_take([], role)
    assert not rules.administers([RECEIVER, HANDLER, REVIEWER])
    assert all(rules.administers([one]) for one in (RIGHTS, LOCAL, ASSISTANT, MANAGER, REGIONAL))


def test_r_id_6_nobody_gives_the_regional_role_at_a_clinic() -> None:
    """R-ID-6"""
    assert not any(rules.may_give([giver], REGIONAL) or rules.may_take([giver], REGIONAL) for giver in Role)


@pytest.mark.parametrize(
    ("role", "others", "regional", "lost"),
    [(LOCAL, 0, False, True), (LOCAL, 0, True, False), (LOCAL, 1, False, False), (HANDLER, 0, False, False)],
)
def test_r_id_6_last_administrator(role: Role, others: int, regional: bool, lost: bool) -> None:
    """R-ID-6: a clinic never loses its last administrator silently."""
    assert rules.loses_last_administrator(role, others, regional) is lost


def test_r_id_21_a_session_idles_for_thirty_minutes_and_lasts_twelve_hours() -> None:
    """R-ID-21"""
    ends = rules.session_end(BEGAN)
    assert ends == BEGAN + timedelta(hours=12)
    second = timedelta(seconds=1)

    def lives(at: datetime, renewed: datetime) -> bool:
        return rules.session_lives(at, renewed, ends, None)

    assert lives(BEGAN + timedelta(minutes=30) - second, BEGAN)
    assert not lives(BEGAN + timedelta(minutes=30), BEGAN)
    assert lives(ends - second, ends - timedelta(minutes=5))
    assert not lives(ends, ends - timedelta(minutes=5))
    assert not rules.session_lives(BEGAN + second, BEGAN, ends, BEGAN)


def test_r_id_21_access_tokens_live_five_minutes_and_never_past_the_session() -> None:
    """R-ID-21"""
    ends = rules.session_end(BEGAN)
    assert rules.access_end(BEGAN, ends) == BEGAN + timedelta(minutes=5)
    assert rules.access_end(ends - timedelta(minutes=2), ends) == ends
    assert rules.remember_ended_until(BEGAN) > rules.access_end(BEGAN, ends)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("AV", "inactivates"),
        ("UV", "nothing"),
        (None, "nothing"),
        ("GN", "nothing"),
        ("OB", "nothing"),
        ("ZZ", "unknown"),
    ],
)
def test_r_id_17_r_id_18_what_register_codes_do(code: str | None, meaning: str) -> None:
    """R-ID-17, R-ID-18"""
    assert rules.register_code(code) == meaning


@pytest.mark.parametrize(
    ("code", "before", "after"),
    [
        (None, True, True),
        (None, False, True),
        ("AV", True, False),
        ("AV", False, False),
        *((code, before, before) for code in ("UV", "GN", "ZZ", "") for before in (True, False)),
    ],
)
def test_r_id_17_r_id_18_only_a_death_or_no_deregistration_changes_an_account(
    code: str | None, before: bool, after: bool
) -> None:
    """R-ID-17, R-ID-18"""
    assert rules.active_after(code, before) is after


@pytest.mark.parametrize(
    ("chosen", "own", "wished", "used"),
    [
        ({"A"}, {"A"}, None, "A"),
        ({"A"}, {"A", "B"}, None, "A"),
        ({"A"}, {"A", "B"}, "B", "B"),
        (set(), {"A"}, None, "A"),
        (set(), {"A", "B"}, None, None),
        ({"A", "B"}, {"A", "B"}, None, None),
        ({"A"}, {"A"}, "C", None),
    ],
)
def test_r_id_1_which_of_several_hsa_ids(chosen: set[str], own: set[str], wished: str | None, used: str | None) -> None:
    """R-ID-1"""
    assert rules.hsa_id_to_use(chosen, own, wished) == used
