"""What verifying a token costs: at first against the bare signature check, from then on against a whole call."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers
from shared.operations import clock
from shared.security.tokens import Claims, Signer, Verifier

FIRST_BAR = 1.5
CACHED_BAR_PERCENT = 2.0
_ROUNDS = 15
_TOKENS = 200
_REPEATED = 5_000


def measure(servers: Servers) -> list[Figure]:
    """The figures of this benchmark."""
    signer = Signer.from_file(servers.keys.signing_key("identity"), "identity")
    now = clock.now()
    life = timedelta(minutes=5)
    tokens = [
        signer.mint(Claims("identity", str(uuid4()), "resident", now, now + life, session=uuid4()))
        for _ in range(_TOKENS)
    ]
    public = load_pem_private_key(servers.keys.signing_key("identity").read_bytes(), None).public_key()
    assert isinstance(public, Ed25519PublicKey)
    signed = [_parts(token) for token in tokens]
    first, bare, cached = [], [], []
    for _ in range(_ROUNDS):
        verifier = Verifier(servers.keys.trusted)
        bare.append(
            _microseconds(lambda: [public.verify(signature, content) for content, signature in signed], _TOKENS)
        )
        first.append(_microseconds(lambda: [verifier.verify(token) for token in tokens], _TOKENS))  # noqa: B023
        again = tokens[0]
        cached.append(
            _microseconds(lambda: [verifier.verify(again) for _ in range(_REPEATED)], _REPEATED)  # noqa: B023
        )
    calls = _microseconds_of_calls(servers)
    share = [100 * one / each for one, each in zip(cached, calls, strict=True)]
    return [
        ratio("first verification of a token, against the bare signature check", first, bare, FIRST_BAR, at_most=True),
        median("first verification of a token", "µs", first),
        median("bare signature check", "µs", bare),
        median("verification again, of a call's time", "%", share, CACHED_BAR_PERCENT, at_most=True),
        median("verification again", "µs", cached),
    ]


def _parts(token: str) -> tuple[bytes, bytes]:
    content, _, signature = token.rpartition(".")
    return content.encode(), base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))


def _microseconds(work: Callable[[], object], times: int) -> float:
    """Processor time of each: what else the machine does is not in it."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / times * 1e6


def _microseconds_of_calls(servers: Servers) -> list[float]:
    """Processor time of the answering process for a call, when the calls come 64 at a time: the least that it takes."""
    with servers.programs() as start:
        service = start("echo_service", "cases", nameko=True)
        servers.wait_for_service("cases")
        client = start("our_client", "notifications", "green")
        client.ask(order="calls", at_once=8, seconds=0.5)
        spent = []
        for _ in range(_ROUNDS):
            before = service.cpu_seconds()
            rate = client.ask(order="calls", at_once=64, seconds=0.6)
            spent.append((service.cpu_seconds() - before) / (rate * 0.6) * 1e6)
    return spent
