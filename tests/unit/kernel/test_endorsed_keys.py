"""A service takes up new keys of identity's without a restart, and believes nobody else of them (R-ID-21, R-SYS-1)."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.messaging.errors import NotAuthenticated, Unavailable
from shared.operations import clock
from shared.security import endorsed_keys
from shared.security.tokens import Claims, Signer, Verifier
from tests.unit.kernel.test_tokens import resident, write_keys

HOUR = timedelta(hours=1)


class Identity:
    """Identity with its own key in everybody's file, and the keys that it has told of."""

    def __init__(self, folder: Path) -> None:
        self.own = Ed25519PrivateKey.generate()
        self.stranger = Ed25519PrivateKey.generate()
        write_keys(folder / "keys.json", {"identity": self.own, "service:cases": self.stranger})
        self.told: list[str] = []
        self.down = False
        self.asked = 0
        self.verifier = Verifier(folder / "keys.json", self._tell)

    def _tell(self) -> list[str]:
        self.asked += 1
        if self.down:
            raise Unavailable
        return self.told

    def new_key(self, by: Signer | None = None, lives: timedelta = HOUR) -> Signer:
        key = Ed25519PrivateKey.generate()
        signer = by or Signer(self.own, "identity")
        self.told.insert(0, signer.endorse(key.public_key(), clock.now() + lives))
        return Signer(key, "identity")

    def knows(self, signer: Signer) -> bool:
        return self.verifier.verify(signer.mint(resident(clock.now()))).kind == "resident"

    def reason(self, token: Any) -> str | None:
        with pytest.raises(NotAuthenticated) as caught:
            self.verifier.verify(token)
        return caught.value.reason


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    monkeypatch.setattr(endorsed_keys, "_ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(endorsed_keys, "_REFRESH_SECONDS", 3600.0)
    made = Identity(tmp_path)
    made.verifier._learned._tried = time.monotonic()  # type: ignore[union-attr]
    return made


def test_r_id_21_a_new_key_is_taken_up_at_the_first_token_and_the_old_ones_stay(one: Identity) -> None:
    """R-ID-21: one question, however many tokens."""
    first = one.new_key()
    before = one.asked
    assert all(one.knows(first) for _ in range(3))
    assert one.asked == before + 1
    second = one.new_key()
    assert one.knows(second)
    assert one.knows(first)
    assert one.knows(Signer(one.own, "identity"))


def test_r_sys_1_nobody_but_identity_brings_in_a_key(one: Identity) -> None:
    """R-SYS-1: not another service's key, not one that is not in the file, not a key that was brought in itself."""
    learned = one.new_key()
    assert one.knows(learned)
    for by in (
        Signer(one.stranger, "service:cases"),
        Signer(one.stranger, "identity"),
        Signer(Ed25519PrivateKey.generate(), "identity"),
        learned,
    ):
        assert one.reason(one.new_key(by).mint(resident(clock.now()))) == "token_of_unknown_key"
    service = Signer(one.stranger, "service:cases")
    assert one.verifier.verify(service.own_token()).subject == "cases"
    endorsement = one.told[-1]
    assert one.reason(endorsement) == "token_forged"
    token = Signer(one.own, "identity").mint(resident(clock.now()))
    with pytest.raises(ValueError, match="no endorsement"):
        endorsed_keys.endorsed(token, one.verifier._keys)


def test_a_key_that_was_withdrawn_verifies_nothing_any_more(one: Identity) -> None:
    """R-ID-21: nor what was verified by it before."""
    key = one.new_key()
    token = key.mint(resident(clock.now()))
    one.verifier.verify(token)
    one.told.clear()
    one.verifier._learned._learn()  # type: ignore[union-attr]
    assert one.reason(token) == "token_of_unknown_key"


def test_r_id_21_a_new_key_counts_at_its_first_token_also_when_another_has_gone_meanwhile(one: Identity) -> None:
    assert one.knows(one.new_key())
    one.told.clear()
    assert one.knows(one.new_key())


def test_r_sys_1_an_endorsed_key_speaks_for_people_alone(one: Identity) -> None:
    """R-SYS-1: services sign with their own keys, identity too; one that was stolen is nobody's way to them."""
    key = one.new_key()
    assert one.knows(key)
    now = clock.now()
    as_service = Claims("identity", "identity", "service", now, now + timedelta(minutes=5))
    assert one.reason(key.mint(as_service)) == "token_forged"
    assert one.verifier.verify(Signer(one.own, "identity").mint(as_service)).subject == "identity"


def test_a_key_whose_endorser_is_trusted_no_more_verifies_nothing(one: Identity) -> None:
    """Also while nobody can be asked."""
    key = one.new_key()
    assert one.knows(key)
    one.down = True
    one.verifier._keys = {}
    with pytest.raises(Unavailable):
        one.knows(key)


def test_keys_are_not_believed_for_ever_while_nobody_can_be_asked(one: Identity) -> None:
    """One of them may have been withdrawn since."""
    key = one.new_key()
    assert one.knows(key)
    one.down = True
    one.verifier._learned._learned_at -= 301  # type: ignore[union-attr]
    with pytest.raises(Unavailable):
        one.knows(key)


def test_a_key_past_its_time_verifies_nothing(one: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    key = one.new_key(lives=timedelta(minutes=1))
    assert one.knows(key)
    later = clock.now() + timedelta(minutes=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert one.reason(key.mint(resident(later))) == "token_of_unknown_key"


def test_while_identity_is_away_known_keys_hold_and_unknown_ones_are_unavailable(one: Identity) -> None:
    """R-ID-10: what can't be known is not answered from guessing."""
    known = one.new_key()
    assert one.knows(known)
    one.down = True
    new = one.new_key()
    assert one.knows(known)
    with pytest.raises(Unavailable) as caught:
        one.knows(new)
    assert caught.value.reason == "signing_keys_not_known"
    one.down = False
    assert one.knows(new)


def test_forged_tokens_do_not_make_it_ask_again_and_again(one: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endorsed_keys, "_ASK_AGAIN_SECONDS", 10.0)
    one.verifier._learned._tried -= 100  # type: ignore[union-attr]
    forged = Signer(Ed25519PrivateKey.generate(), "identity")
    one.reason(forged.mint(resident(clock.now())))
    before = one.asked
    for _ in range(20):
        assert one.reason(forged.mint(resident(clock.now()))) == "token_of_unknown_key"
    assert one.asked == before


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_text_is_no_endorsement(one: Identity, data: st.DataObject) -> None:
    one.told.clear()
    one.new_key()
    real = one.told[0]
    place = data.draw(st.integers(0, len(real) - 2))
    text = data.draw(
        st.one_of(st.text(max_size=40), st.characters().map(lambda one: real[:place] + one + real[place + 1 :]))
    )
    if text != real:
        with pytest.raises(ValueError, match="no endorsement"):
            endorsed_keys.endorsed(text, one.verifier._keys)
