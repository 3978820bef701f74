"""When a copy of the rights may answer (R-ID-10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.base import Role
from shared.security.caller import Rights
from shared.security.rights import TRUSTED_FOR_SECONDS, Freshness, rights_from

EVERY = 0.25


def heard(freshness, number=7, times=4, start=100.0, shift=0.0, late=0.0):
    """Announcements every 250 ms from a sender whose clock differs by `shift`; the last arrives `late`."""
    for turn in range(times):
        sent = start + turn * EVERY
        freshness.hear(number, "a", sent + shift, sent + 0.001 + (late if turn == times - 1 else 0))
    return start + (times - 1) * EVERY


def test_nothing_heard_is_not_fresh_R_ID_10():
    assert not Freshness().covers(10**9, 100.0)


def test_a_copy_answers_for_less_than_a_second_after_the_last_announcement_R_ID_10():
    freshness = Freshness()
    last = heard(freshness)
    assert freshness.covers(7, last + TRUSTED_FOR_SECONDS - 0.01)
    assert not freshness.covers(7, last + TRUSTED_FOR_SECONDS + 0.01)
    assert TRUSTED_FOR_SECONDS + EVERY <= 1.0


def test_a_copy_that_is_behind_does_not_answer_R_ID_10():
    freshness = Freshness()
    last = heard(freshness)
    assert not freshness.covers(6, last)
    freshness.hear(8, "a", last + EVERY, last + EVERY + 0.001)
    assert not freshness.covers(7, last + EVERY)
    assert freshness.covers(8, last + EVERY)


@given(st.floats(-1e6, 1e6), st.floats(0, 30))
def test_a_late_announcement_does_not_make_an_old_copy_fresh_whatever_the_clocks_say_R_ID_10(shift, late):
    freshness = Freshness()
    last_sent = heard(freshness, shift=shift, late=late)
    arrived = last_sent + 0.001 + late
    assert (
        freshness.covers(7, arrived) == (arrived - last_sent <= TRUSTED_FOR_SECONDS + 0.001)
        or abs(late - TRUSTED_FOR_SECONDS) < 0.01
    )


@pytest.mark.parametrize("drift", [-5e-4, -5e-5, 5e-5, 5e-4])
def test_clocks_that_drift_apart_make_no_old_copy_fresh_R_ID_10(drift):
    """An hour of one connection; a bare clock drifts about as the second, one that is being set at most as the first.
    Where the sender's clock goes too slow the copy ends up asking identity, which is safe."""
    freshness, last = Freshness(), 3600.0
    for turn in range(int(last / EVERY) + 1):
        freshness.hear(7, "a", turn * EVERY * (1 + drift), turn * EVERY + 0.001)
    assert not freshness.covers(7, last + TRUSTED_FOR_SECONDS + 0.01)
    assert freshness.covers(7, last + 0.01) == (drift > -1e-4)
    for late in (0.8, 3.0):  # a stall: what comes at its end was made that long ago
        freshness.hear(8, "a", (last + EVERY) * (1 + drift), last + EVERY + late)
        assert not freshness.covers(8, last + EVERY + late)


def test_after_a_lost_connection_trust_begins_anew_R_ID_10():
    freshness = Freshness()
    last = heard(freshness)
    freshness.forget()
    assert not freshness.covers(7, last)
    freshness.hear(7, "a", last + EVERY, last + EVERY)
    assert not freshness.covers(7, last + EVERY)


def test_several_identity_processes_may_announce():
    freshness = Freshness()
    heard(freshness, shift=5000.0)
    for turn in range(4):
        freshness.hear(9, "b", -40.0 + turn * EVERY, 101.0 + turn * EVERY)
    assert not freshness.covers(8, 101.8)
    assert freshness.covers(9, 101.8)


def test_rights_are_told_by_clinic_R_ID_5():
    rights = rights_from(
        [{"clinic": "SE1", "role": "case_handler"}, {"clinic": "SE1", "role": "local_admin"},
         {"clinic": "SE2", "role": "case_receiver"}],
        False,
    )  # fmt: skip
    assert rights.roles_at("SE1") == {Role.CASE_HANDLER, Role.LOCAL_ADMIN}
    assert rights.roles_at("SE3") == frozenset()
    assert rights.clinics_with(Role.CASE_RECEIVER, Role.CASE_HANDLER) == ["SE1", "SE2"]
    assert Rights().clinics_with(Role.CASE_HANDLER) == []
