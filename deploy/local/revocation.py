"""Serves the authority's certificates, its CRLs and OCSP over plain HTTP, as the real one does."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from deploy.local import siths_ca
from deploy.local.common.http import App, Reply, Request, Server, answer_text
from deploy.local.common.process import run
from shared.operations import clock

FRESH = timedelta(hours=1)


def app(data: Path) -> App:
    """GET /trust.pem, /crl/<issuer>.crl, /ocsp/<request>; POST /ocsp."""
    served = App()

    @served.route("GET", "/trust.pem")
    def trust(request: Request) -> Reply:
        return Reply(200, siths_ca.trust_file(data).read_bytes(), "application/x-pem-file")

    @served.route("GET", "/crl/*")
    def crl(request: Request) -> Reply:
        issuer = request.path.removeprefix("/crl/").removesuffix(".crl")
        if issuer not in siths_ca.ISSUERS:
            return answer_text("not found", 404)
        return Reply(200, (data / "crl" / f"{issuer}.crl").read_bytes(), "application/pkix-crl")

    @served.route("POST", "/ocsp")
    def ocsp_post(request: Request) -> Reply:
        return _ocsp(data, request.body)

    @served.route("GET", "/ocsp/*")
    def ocsp_get(request: Request) -> Reply:
        return _ocsp(data, base64.b64decode(unquote(request.path.removeprefix("/ocsp/"))))

    return served


def _ocsp(data: Path, der: bytes) -> Reply:
    return Reply(200, answer(data, der), "application/ocsp-response")


def answer(data: Path, der: bytes) -> bytes:
    """The OCSP response to one request, DER both."""
    try:
        asked = ocsp.load_der_ocsp_request(der)
    except ValueError:
        refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        return refusal.public_bytes(Encoding.DER)
    for issuer in siths_ca.ISSUERS:
        certificate, key = siths_ca.authority(data, issuer)
        if _name_hash(certificate.subject, asked.hash_algorithm) != asked.issuer_name_hash:
            continue
        revoked = siths_ca.revoked_at(data, issuer, asked.serial_number)
        now = clock.now()
        response = ocsp.OCSPResponseBuilder().add_response_by_hash(
            asked.issuer_name_hash,
            asked.issuer_key_hash,
            asked.serial_number,
            asked.hash_algorithm,
            ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            now,
            now + FRESH,
            revoked,
            None,
        )
        response = response.responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
        for extension in asked.extensions:
            if isinstance(extension.value, x509.OCSPNonce):
                response = response.add_extension(extension.value, critical=False)
        return response.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    return refusal.public_bytes(Encoding.DER)


def _name_hash(name: x509.Name, algorithm: hashes.HashAlgorithm) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(name.public_bytes())
    return digest.finalize()


def serve(data: Path, port: int) -> int:
    """Serves until told to stop. Certificates issued from now on say where to ask."""

    def make() -> list[Server]:
        server = Server(port, app(data))
        (data / "url").write_text(f"http://127.0.0.1:{server.port}")
        return [server]

    return run("siths_ca", make)
