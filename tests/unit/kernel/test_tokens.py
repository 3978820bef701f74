"""Tokens: who may say what, and what is refused (R-SYS-1)."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.messaging.errors import NotAuthenticated
from shared.operations import clock
from shared.security.tokens import Claims, Signer, Verifier, key_id


def public_bytes(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def write_keys(path: Path, keys: dict[str, Ed25519PrivateKey]) -> None:
    entries = [
        {"kty": "OKP", "crv": "Ed25519", "iss": issuer,
         "x": base64.urlsafe_b64encode(public_bytes(key)).rstrip(b"=").decode()}
        for issuer, key in keys.items()
    ]  # fmt: skip
    path.write_text(json.dumps({"keys": entries}))


@pytest.fixture
def keys():
    return {issuer: Ed25519PrivateKey.generate() for issuer in ("identity", "service:cases", "operator")}


@pytest.fixture
def verifier(keys, tmp_path):
    write_keys(tmp_path / "keys.json", keys)
    return Verifier(tmp_path / "keys.json")


def resident(now, **changes):
    claims = Claims("identity", str(uuid4()), "resident", now, now + timedelta(minutes=5), session=uuid4())
    return replace(claims, **changes)


def test_a_token_says_what_was_put_into_it(keys, verifier):
    now = clock.now().replace(microsecond=0)
    for claims in (
        resident(now),
        resident(now, terms_accepted=False),
        resident(now, acting_for=uuid4()),
        replace(resident(now), kind="staff", subject="SE2321000131-P1"),
    ):
        assert verifier.verify(Signer(keys["identity"], "identity").mint(claims)) == claims


def test_a_service_and_the_operator_speak_for_themselves(keys, verifier):
    assert verifier.verify(Signer(keys["service:cases"], "service:cases").own_token()).subject == "cases"
    assert verifier.verify(Signer(keys["operator"], "operator").own_token()).kind == "operator"


def test_a_service_can_not_speak_for_a_person_or_for_another_service_R_SYS_1(keys, verifier):
    now = clock.now()
    stranger = Signer(keys["service:cases"], "service:cases")
    pretending = Signer(keys["service:cases"], "identity")
    life = now + timedelta(minutes=5)
    for signer, claims in (
        (stranger, resident(now)),
        (pretending, resident(now)),
        (stranger, Claims("", "identity", "service", now, life)),
        (stranger, Claims("", "operator", "operator", now, life)),
    ):
        with pytest.raises(NotAuthenticated) as raised:
            verifier.verify(signer.mint(claims))
        assert raised.value.reason == "token_forged"


def test_an_expired_token_is_refused_also_when_it_has_been_verified_before(keys, verifier, monkeypatch):
    now = clock.now()
    token = Signer(keys["identity"], "identity").mint(resident(now))
    verifier.verify(token)
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(minutes=5, seconds=1))
    with pytest.raises(NotAuthenticated) as raised:
        verifier.verify(token)
    assert raised.value.reason == "token_expired"


def test_a_token_from_the_future_or_with_a_long_life_is_refused(keys, verifier):
    now = clock.now()
    signer = Signer(keys["identity"], "identity")
    later = now + timedelta(hours=1)
    for claims in (
        resident(later, expires_at=later + timedelta(minutes=5)),
        resident(now, expires_at=now + timedelta(days=1)),
    ):
        with pytest.raises(NotAuthenticated):
            verifier.verify(signer.mint(claims))


def test_none_hmac_and_strange_keys_are_refused(keys, verifier):
    now = clock.now()
    payload = {"iss": "identity", "sub": str(uuid4()), "kind": "resident", "sid": str(uuid4()), "terms": True,
               "iat": int(now.timestamp()), "exp": int(now.timestamp()) + 300}  # fmt: skip
    kid = key_id(keys["identity"].public_key())
    unsigned = jwt.encode(payload, None, algorithm="none", headers={"kid": kid})
    confused = jwt.encode(payload, public_bytes(keys["identity"]), algorithm="HS256", headers={"kid": kid})
    strange = Signer(Ed25519PrivateKey.generate(), "identity").mint(resident(now))
    for token in (unsigned, confused, strange, None, "", 7, "a.b.c" * 10, "x" * 5000, "\ud800" * 30):
        with pytest.raises(NotAuthenticated):
            verifier.verify(token)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10_000), character=st.characters(), known=st.booleans())
def test_a_token_with_any_other_character_is_refused(keys, verifier, place, character, known):
    """Also when tokens with the same header were taken before."""
    signer = Signer(keys["identity"], "identity")
    verifier._forget()
    if known:
        verifier.verify(signer.mint(resident(clock.now())))
    token = signer.mint(resident(clock.now()))
    place %= len(token) - 1  # the last character of a signature has bits that no decoder looks at
    changed = token[:place] + character + token[place + 1 :]
    if changed != token:
        with pytest.raises(NotAuthenticated):
            verifier.verify(changed)


def test_a_known_header_is_no_word_for_what_follows_it_R_SYS_1(keys, verifier):
    signer, stranger = (Signer(key, "identity") for key in (keys["identity"], keys["service:cases"]))
    now = clock.now()
    own, others = signer.mint(resident(now)), signer.mint(resident(now))
    verifier.verify(own)
    header, payload, signature = others.split(".")
    _, foreign, by_stranger = stranger.mint(resident(now)).split(".")
    for forged in (
        f"{header}.{foreign}.{by_stranger}",
        f"{header}.{foreign}.{signature}",
        f"{header}.{payload}.{by_stranger}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}..{signature}",
        f"{header}.{payload}.{signature}.{signature}",
        f"{header}.{payload}.{signature[:-4]}",
    ):
        with pytest.raises(NotAuthenticated) as raised:
            verifier.verify(forged)
        assert raised.value.reason == "token_forged"
    assert verifier.verify(others).kind == "resident"


def test_keys_can_be_changed_while_the_process_runs(keys, verifier, tmp_path):
    new = Ed25519PrivateKey.generate()
    token = Signer(new, "identity").mint(resident(clock.now()))
    old = Signer(keys["identity"], "identity").mint(resident(clock.now()))
    with pytest.raises(NotAuthenticated):
        verifier.verify(token)
    verifier.verify(old)
    write_keys(tmp_path / "keys.json", {**keys, "identity": new})
    verifier._looked = 0.0
    assert verifier.verify(token).kind == "resident"
    with pytest.raises(NotAuthenticated):
        verifier.verify(old)
