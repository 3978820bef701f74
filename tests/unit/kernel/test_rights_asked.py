"""R-ID-10: a service whose copy of the rights can't be sure asks identity, and again where no answer came in time."""

from __future__ import annotations

from uuid import uuid4

import pytest

from shared.contracts import identity
from shared.messaging.errors import DeadlineExceeded, NotAuthenticated, Refused, Unavailable
from shared.security.caller import Caller
from shared.security.rights import RightsCopy

STAFF = Caller(kind="staff", subject="SE2321000131-P000000012345", session=uuid4())


def copy(*answers: Refused | identity.RightsNow) -> tuple[RightsCopy, list[Refused | identity.RightsNow]]:
    """A copy whose identity answers so, one after the other, and what it has not answered yet."""
    left = list(answers)

    def ask(_question: identity.CurrentRights) -> identity.RightsNow:
        answer = left.pop(0)
        if isinstance(answer, Refused):
            raise answer
        return answer

    return RightsCopy(ask), left


LIVE = identity.RightsNow(session_live=True, roles=[], regional=True, number=1)


@pytest.mark.parametrize(
    "late", [DeadlineExceeded(), Unavailable(reason="no_process"), Unavailable(reason="no_broker")]
)
def test_an_answer_that_comes_at_the_third_time_counts(late):
    rights, left = copy(late, late, LIVE)
    assert rights.asked(STAFF).is_regional_admin
    assert left == []


def test_after_three_times_it_is_not_known():
    rights, left = copy(*[DeadlineExceeded()] * 4)
    with pytest.raises(Unavailable) as told:
        rights.asked(STAFF)
    assert told.value.reason == "rights_not_known"
    assert len(left) == 1


@pytest.mark.parametrize("told", [Unavailable(reason="database"), Refused(), Unavailable(reason="stopping")])
def test_what_identity_answered_is_not_asked_again(told):
    rights, left = copy(told, LIVE)
    with pytest.raises(Unavailable):
        rights.asked(STAFF)
    assert left == [LIVE]


def test_a_session_that_has_ended_is_no_matter_of_asking_again():
    rights, left = copy(identity.RightsNow(session_live=False, roles=[], regional=False, number=1), LIVE)
    with pytest.raises(NotAuthenticated):
        rights.asked(STAFF)
    assert left == [LIVE]
