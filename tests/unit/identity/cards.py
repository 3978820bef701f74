"""Cards of every kind for the tests: a certificate authority like SITHS, and certificates that are wrong in one way."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from deploy.local import revocation, siths_ca
from services.identity.cards import CardIssuers
from shared.contracts.logging_in import CARD_PROOF_TYPE

HSA_ID = "SE2321000131-P000009000004"
NONCE = "n" * 43
AUDIENCE = "1177-personal"
Key = ec.EllipticCurvePrivateKey


class Authority:
    """The local SITHS, and what it answers over HTTP. `misbehave` replaces the answer to a path."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        siths_ca.ensure(folder)
        (folder / "url").write_text(url)
        self.misbehave: dict[str, Any] = {}
        self.asked: list[str] = []

    @property
    def issuers(self) -> CardIssuers:
        return CardIssuers.from_file(siths_ca.cards_file(self.folder))

    @property
    def person(self) -> tuple[x509.Certificate, Key]:
        return siths_ca.authority(self.folder, "person")

    def card(self, hsa_id: str = HSA_ID, **more: Any) -> tuple[x509.Certificate, Key]:
        """A right card, as the authority issues it."""
        files = siths_ca.issue_person(self.folder, hsa_id, "Sara", "Nyberg", again=True, **more)
        key = load_pem_private_key(files.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(files.certificate.read_bytes()), key

    def revoke(self, card: x509.Certificate) -> None:
        file = self.folder / "taken.pem"
        file.write_bytes(card.public_bytes(Encoding.PEM))
        siths_ca.revoke(self.folder, file)

    def made(
        self,
        *,
        serial_numbers: tuple[str, ...] = (HSA_ID,),
        issuer: str = "person",
        signer: Key | None = None,
        usage: tuple[str, ...] = ("digital_signature",),
        extended: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        ca: bool = False,
        days: tuple[int, int] = (-1, 30),
        urls: bool = True,
    ) -> tuple[x509.Certificate, Key]:
        """A card that differs from a right one as told."""
        authority, own = siths_ca.authority(self.folder, issuer)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        names = [x509.NameAttribute(NameOID.COMMON_NAME, "Sara Nyberg")]
        names += [x509.NameAttribute(NameOID.SERIAL_NUMBER, one) for one in serial_numbers]
        begins, ends = (now + timedelta(days=one) for one in days)
        builder = (
            x509.CertificateBuilder(
                authority.subject, x509.Name(names), key.public_key(), x509.random_serial_number(), begins, ends
            )
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(siths_ca._usage(*usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([extended]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )
        if urls:
            for extension in siths_ca._where_to_ask(self.folder, "person"):
                builder = builder.add_extension(extension, critical=False)
        return builder.sign(signer or own, hashes.SHA256()), key

    def self_signed(self) -> tuple[x509.Certificate, Key]:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, HSA_ID)])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return builder.add_extension(usage, critical=False).sign(key, hashes.SHA256()), key


def proof(
    card: x509.Certificate, key: Any, *, algorithm: str = "ES256", typ: str = CARD_PROOF_TYPE, **changes: Any
) -> str:
    """The card's proof; a claim that is None is left out."""
    claims = {"nonce": NONCE, "aud": AUDIENCE} | changes
    chain = [base64.b64encode(card.public_bytes(Encoding.DER)).decode()]
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"typ": typ, "x5c": chain})


@contextmanager
def running_authority(folder: Path) -> Iterator[Authority]:
    """An authority that is served. A path in `misbehave`: bytes are answered, a function changes the right answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply((folder / self.path.removeprefix("/")).read_bytes())

        def do_POST(self) -> None:
            self._reply(revocation.answer(folder, self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: bytes) -> None:
            made.asked.append(self.path)
            wrong = made.misbehave.get(self.path.split("/")[1])
            body = body if wrong is None else wrong if isinstance(wrong, bytes) else wrong(body)
            self.send_response(503 if body == b"down" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Authority(folder, f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        server.shutdown()


__all__ = ["AUDIENCE", "HSA_ID", "NONCE", "Authority", "AuthorityInformationAccessOID", "proof", "running_authority"]
