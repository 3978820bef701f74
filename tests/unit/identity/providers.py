"""A small identity provider in the test's own process: whatever it answers, the test decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CLIENT, NONCE, ACR = "our-client", "the-nonce", "http://id.sambi.se/loa/loa3"
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


class TestProvider:
    """Serves discovery document and keys, counts how often it was asked, and signs tokens."""

    __test__ = False

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys = [public_jwk(RSA_KEY, "rsa"), public_jwk(EC_KEY, "ec")]
        self.asked: list[str] = []
        self.answer: Callable[[str], tuple[int, bytes]] = self._answer

    def _answer(self, path: str) -> tuple[int, bytes]:
        if path == "/.well-known/openid-configuration":
            document: dict[str, Any] = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "jwks_uri": f"{self.issuer}/keys",
            }
        else:
            document = {"keys": self.keys}
        return 200, json.dumps(document).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "iss": self.issuer,
            "sub": "someone",
            "aud": CLIENT,
            "iat": NOW,
            "exp": NOW + timedelta(minutes=5),
            "nonce": NONCE,
            "acr": ACR,
            "employeeHsaId": "SE2321000131-P000000000001",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, *, key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
        return jwt.encode(self.claims(**changes), key, algorithm, headers={"kid": kid} if kid else {})


@contextmanager
def running_provider() -> Iterator[TestProvider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            status, body = provider.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = TestProvider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
