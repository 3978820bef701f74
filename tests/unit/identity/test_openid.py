"""What an ID token has to be before anyone is let in (R-ID-1, R-ID-3)."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from services.identity import openid
from services.identity.openid import IdentityProviders
from shared.messaging.errors import NotAuthenticated, Unavailable
from tests.unit.identity.providers import (
    ACR,
    CLIENT,
    EC_KEY,
    NONCE,
    NOW,
    OTHER_RSA_KEY,
    RSA_KEY,
    TestProvider,
    public_jwk,
    running_provider,
)


@pytest.fixture(scope="module")
def running() -> Iterator[TestProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: TestProvider) -> TestProvider:
    """The provider as it was at the start."""
    running.__init__(running.issuer)  # type: ignore[misc]
    return running


@pytest.fixture
def providers() -> IdentityProviders:
    return IdentityProviders(timeout_seconds=2)


def verify(providers: IdentityProviders, provider: TestProvider, token: str, **changes: Any) -> dict[str, Any]:
    expected = {"issuer": provider.issuer, "client_id": CLIENT, "nonce": NONCE, "acr": frozenset([ACR]), "now": NOW}
    return providers.verify(token, **(expected | changes))


def reason(providers: IdentityProviders, provider: TestProvider, token: str, **changes: Any) -> str | None:
    with pytest.raises(NotAuthenticated) as caught:
        verify(providers, provider, token, **changes)
    return caught.value.reason


def test_r_id_1_a_token_that_holds(providers: IdentityProviders, provider: TestProvider) -> None:
    """R-ID-1"""
    assert verify(providers, provider, provider.token())["employeeHsaId"] == "SE2321000131-P000000000001"
    assert verify(providers, provider, provider.token(key=EC_KEY, algorithm="ES256", kid="ec"))["sub"] == "someone"
    assert verify(providers, provider, provider.token(aud=[CLIENT, "another"], azp=CLIENT))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "another"}, "id_token_audience"),
        ({"aud": [CLIENT, "another"]}, "id_token_audience"),
        ({"azp": "another"}, "id_token_audience"),
        ({"iss": "https://elsewhere.example"}, "id_token_issuer"),
        ({"nonce": "another"}, "id_token_nonce"),
        ({"nonce": 7}, "id_token_nonce"),
        ({"nonce": "\ud800"}, "id_token_nonce"),
        ({"nonce": None}, "id_token_invalid"),
        ({"exp": None}, "id_token_invalid"),
        ({"iat": None}, "id_token_invalid"),
        ({"sub": None}, "id_token_invalid"),
        ({"exp": "soon"}, "id_token_invalid"),
        ({"exp": 1e300}, "id_token_invalid"),
        ({"exp": NOW - timedelta(minutes=2)}, "id_token_expired"),
        ({"iat": NOW + timedelta(minutes=2)}, "id_token_from_the_future"),
        ({"nbf": NOW + timedelta(minutes=2)}, "id_token_from_the_future"),
        ({"acr": "http://id.sambi.se/loa/loa2"}, "level_of_assurance"),
        ({"acr": None}, "level_of_assurance"),
        ({"acr": [ACR]}, "level_of_assurance"),
    ],
)
def test_r_id_1_every_claim_is_looked_at(
    providers: IdentityProviders, provider: TestProvider, changes: dict[str, Any], why: str
) -> None:
    """R-ID-1"""
    assert reason(providers, provider, provider.token(**changes)) == why


def test_r_id_1_only_the_providers_own_signatures(providers: IdentityProviders, provider: TestProvider) -> None:
    """R-ID-1: no signature, another's, a symmetric one, one made with the public key as secret, one of a wrong kind."""
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    confused = _signed_by_hand({"alg": "HS256", "kid": "rsa"}, provider.claims(), public)
    none = jwt.encode(provider.claims(), None, "none", headers={"kid": "rsa"})
    assert reason(providers, provider, provider.token(key=OTHER_RSA_KEY)) == "id_token_invalid"
    assert reason(providers, provider, confused) == "id_token_algorithm"
    assert reason(providers, provider, none) == "id_token_algorithm"
    assert reason(providers, provider, provider.token(key="k" * 64, algorithm="HS512")) == "id_token_algorithm"
    assert reason(providers, provider, provider.token(algorithm="RS512")) == "id_token_algorithm"
    assert reason(providers, provider, provider.token(algorithm="PS256")) == "id_token_algorithm"
    assert reason(providers, provider, provider.token(kid="ec")) == "id_token_algorithm"
    assert reason(providers, provider, provider.token(kid=None)) == "id_token_algorithm"


def _signed_by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims, default=str).encode())}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def test_a_changed_token_is_refused(providers: IdentityProviders, provider: TestProvider) -> None:
    head, body, tail = provider.token().split(".")
    other = provider.token(employeeHsaId="SE2321000131-P000000000002").split(".")[1]
    assert reason(providers, provider, f"{head}.{other}.{tail}") == "id_token_invalid"
    assert reason(providers, provider, f"{head}.{body}.") == "id_token_invalid"


def test_keys_may_change_at_any_time(
    providers: IdentityProviders, provider: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of an unknown key makes us ask once, and not for every forged one."""
    monkeypatch.setattr(openid, "_BETWEEN_REFRESHES_SECONDS", 0.0)
    verify(providers, provider, provider.token())
    provider.keys.append(public_jwk(OTHER_RSA_KEY, "next"))
    assert verify(providers, provider, provider.token(key=OTHER_RSA_KEY, kid="next"))
    monkeypatch.setattr(openid, "_BETWEEN_REFRESHES_SECONDS", 10.0)
    asked = len(provider.asked)
    for _ in range(5):
        assert reason(providers, provider, provider.token(kid="made-up")) == "id_token_key_unknown"
    assert len(provider.asked) == asked


def test_keys_are_kept_while_the_provider_is_away(
    providers: IdentityProviders, provider: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(providers, provider, provider.token())
    provider.answer = lambda _path: (503, b"")
    monkeypatch.setattr(openid, "_KEEP_SECONDS", 0.0)
    assert verify(providers, provider, provider.token())
    with pytest.raises(Unavailable):
        verify(IdentityProviders(), provider, provider.token())


@pytest.fixture
def hanging() -> Iterator[TestProvider]:
    """One that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        yield TestProvider(f"http://127.0.0.1:{listening.getsockname()[1]}")


def seconds_of(ask: Callable[[], Any], how_many: int = 6) -> list[tuple[float, str]]:
    """How long each of so many at once waits, and what it gets, the fastest first."""
    outcomes: list[tuple[float, str]] = []

    def one() -> None:
        began = time.monotonic()
        try:
            outcome = type(ask()).__name__
        except (Unavailable, NotAuthenticated) as refused:
            outcome = str(refused.reason)
        outcomes.append((time.monotonic() - began, outcome))

    threads = [threading.Thread(target=one) for _ in range(how_many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def known_before(provider: TestProvider, monkeypatch: pytest.MonkeyPatch, age: float) -> IdentityProviders:
    """Providers who read the issuer's document and keys so many seconds ago; since then it hangs."""
    providers = IdentityProviders(timeout_seconds=1)
    monkeypatch.setattr(
        providers, "_get", lambda url: json.loads(provider.answer(url.removeprefix(provider.issuer))[1])
    )
    monkeypatch.setattr(openid, "time", SimpleNamespace(monotonic=lambda: time.monotonic() - age))
    providers.provider(provider.issuer)
    monkeypatch.undo()
    return providers


def test_r_id_1_logins_do_not_queue_behind_a_provider_that_hangs(
    hanging: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-1, R-ID-3: keys that are over an hour old are used; one login asks for new ones, and the next ten seconds
    none."""
    providers = known_before(hanging, monkeypatch, age=3700)
    waits = seconds_of(lambda: verify(providers, hanging, hanging.token()))
    assert {outcome for _, outcome in waits} == {"dict"}
    assert [wait < 0.7 for wait, _ in waits] == [True] * 5 + [False]
    assert waits[-1][0] < 1.7
    assert all(wait < 0.7 for wait, _ in seconds_of(lambda: providers.provider(hanging.issuer)))


def test_r_id_1_who_needs_what_is_not_known_waits_for_one_attempt(
    hanging: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-1: nothing known, or nothing new enough, or a key that is not: all wait for the same answer."""
    nothing_known = IdentityProviders(timeout_seconds=1)
    too_old = known_before(hanging, monkeypatch, age=25 * 3600)
    for providers in (nothing_known, too_old):
        waits = seconds_of(lambda asked=providers: asked.provider(hanging.issuer))  # type: ignore[misc]
        assert {outcome for _, outcome in waits} == {"identity_provider_unreachable"}
        assert waits[-1][0] < 1.7
    recent = known_before(hanging, monkeypatch, age=60)
    waits = seconds_of(lambda: verify(recent, hanging, hanging.token(key=OTHER_RSA_KEY, kid="next")))
    assert {outcome for _, outcome in waits} == {"id_token_key_unknown"}
    assert waits[-1][0] < 1.7


def test_r_id_1_everyone_with_a_new_key_gets_in_while_one_asks_for_it(
    providers: IdentityProviders, provider: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-1"""
    monkeypatch.setattr(openid, "_BETWEEN_REFRESHES_SECONDS", 0.3)
    verify(providers, provider, provider.token())
    provider.keys.append(public_jwk(OTHER_RSA_KEY, "next"))
    at_once = provider.answer
    provider.answer = lambda path: (time.sleep(0.2), at_once(path))[1]
    time.sleep(0.4)
    asked = len(provider.asked)
    token = provider.token(key=OTHER_RSA_KEY, kid="next")
    assert {outcome for _, outcome in seconds_of(lambda: verify(providers, provider, token))} == {"dict"}
    assert len(provider.asked) == asked + 2


@pytest.mark.parametrize(
    "answer",
    [
        (500, b""),
        (302, b""),
        (200, b"no json"),
        (200, b"[]"),
        (200, b"{}"),
        (
            200,
            b'{"issuer": "https://elsewhere.example", "jwks_uri": "https://x", "authorization_endpoint": "https://x"}',
        ),
        (200, b" " * 400_000),
    ],
)
def test_a_provider_that_answers_garbage_is_unavailable(provider: TestProvider, answer: tuple[int, bytes]) -> None:
    provider.answer = lambda _path: answer
    with pytest.raises(Unavailable) as caught:
        IdentityProviders().provider(provider.issuer)
    assert caught.value.reason == "identity_provider_unreachable"


def test_keys_that_may_not_sign_are_passed_over(providers: IdentityProviders, provider: TestProvider) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    provider.keys = [
        public_jwk(short, "short"),
        public_jwk(OTHER_RSA_KEY, "encrypting", use="enc"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "RSA", "kid": "broken"},
        "nonsense",  # type: ignore[list-item]
        public_jwk(RSA_KEY, "rsa"),
    ]
    assert verify(providers, provider, provider.token())
    for key, kid in ((short, "short"), (OTHER_RSA_KEY, "encrypting")):
        assert reason(providers, provider, provider.token(key=key, kid=kid)) == "id_token_key_unknown"


def test_any_text_is_refused_as_a_token(provider: TestProvider) -> None:
    providers = IdentityProviders()
    real = provider.token()

    @settings(max_examples=150, deadline=None)
    @given(st.one_of(st.text(max_size=60), st.integers(0, len(real) - 1).map(lambda cut: real[:cut])))
    def refused(text: str) -> None:
        assert reason(providers, provider, text)

    refused()
