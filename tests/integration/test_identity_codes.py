"""The codes by which people show that an address is their own (R-NOT-9)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.identity import verification
from shared.contracts import identity, personal
from shared.messaging.errors import Invalid
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, Identity, new_number, registered


@pytest.fixture
def one(rooms: Any) -> Iterator[Identity]:
    database = rooms.database("identity")
    made = Identity(database.url)
    yield made
    made.database.dispose()
    database.drop()


def resident(one: Identity) -> Caller:
    account = one.take_in(registered(new_number()))
    return Caller("resident", str(account), one.open("resident", str(account)))


def code_to(one: Identity, caller: Caller, address: str, request_id: UUID) -> str:
    """What is sent to the address when the caller sets it."""
    request = identity.SetContact(request_id=request_id, email=address, notify_by=["email"])
    one.run(lambda tx: verification.set_contact(tx, request, NUMBER_KEY), caller)
    sent = one.run(lambda tx: verification.to_send(tx, request, "email", NUMBER_KEY), caller)
    assert sent is not None and sent.address == address
    return sent.code


def verify(one: Identity, caller: Caller, code: str) -> None:
    request = personal.VerifyAddress(request_id=uuid4(), channel="email", code=code)
    tried = one.run(lambda tx: verification.count_attempt(tx, request), caller)
    one.run(lambda tx: verification.verify(tx, request, NUMBER_KEY, tried), caller)


def test_r_not_9_nobody_knows_a_code_by_using_a_request_id_again(one: Identity) -> None:
    """R-NOT-9: for another address, or as another person: the caller chooses the id, and read the code at their own."""
    thief, other, request_id = resident(one), resident(one), uuid4()
    own = code_to(one, thief, "egen@example.se", request_id)
    one.moved = timedelta(days=9)  # the request is forgotten
    assert code_to(one, thief, "annans@example.se", request_id) != own
    with pytest.raises(Invalid):
        verify(one, thief, own)
    assert code_to(one, other, "egen@example.se", request_id) != own


def test_r_not_9_an_attempt_that_was_counted_for_one_code_is_none_at_the_next(one: Identity) -> None:
    """R-NOT-9: else a code that is sent meanwhile, whose count begins anew, could be guessed at however often."""
    caller = resident(one)
    code_to(one, caller, "egen@example.se", uuid4())
    counted = personal.VerifyAddress(request_id=uuid4(), channel="email", code="000000")
    tried = one.run(lambda tx: verification.count_attempt(tx, counted), caller)
    code = code_to(one, caller, "annan@example.se", uuid4())
    guess = counted.model_copy(update={"code": code})
    with pytest.raises(Invalid):
        one.run(lambda tx: verification.verify(tx, guess, NUMBER_KEY, tried), caller)
    verify(one, caller, code)


def test_r_not_9_a_wrong_code_is_a_wrong_code_however_often(one: Identity) -> None:
    """R-NOT-9: the count has an end, and the right code does not work beyond it."""
    caller = resident(one)
    code = code_to(one, caller, "egen@example.se", uuid4())
    for _ in range(8):
        with pytest.raises(Invalid):
            verify(one, caller, "000000" if code != "000000" else "111111")
    assert one.rows("SELECT attempts FROM address_codes") == [(6,)]
    with pytest.raises(Invalid):
        verify(one, caller, code)
