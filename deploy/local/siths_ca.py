"""A certificate authority in the shape of SITHS: a root, an issuer for persons' cards, an issuer for functions.

    python -m deploy.local.siths_ca --data DIR init
    python -m deploy.local.siths_ca --data DIR person HSA-ID --given-name Anna --surname Ek
    python -m deploy.local.siths_ca --data DIR function NAME --hsa-id HSA-ID [--host HOST ...]
    python -m deploy.local.siths_ca --data DIR revoke FILE
    python -m deploy.local.siths_ca --data DIR --port N            (serves CA certificates, CRLs and OCSP)

For the local stack and tests only: the private keys of the authorities lie in the folder, in the clear.
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

ROOT = "Test SITHS e-id Root CA v2"
PERSON_ISSUER = "Test SITHS e-id Person HSA-id 3 CA v1"
FUNCTION_ISSUER = "Test SITHS e-id Function CA v1"
ISSUERS = {"person": PERSON_ISSUER, "function": FUNCTION_ISSUER}
SYSTEM_HSA_ID = "SE2321000131-E000009999001"

# TLS compares with the real time, whatever the stack's clock says: certificates outlive every move of that clock.
AUTHORITY_YEARS = 30
CERTIFICATE_DAYS = 3650
SLACK = timedelta(days=2)

Valid = tuple[datetime, datetime]


@dataclass(frozen=True)
class Credentials:
    """Files of a certificate (its issuer's certificate follows it) and its private key."""

    certificate: Path
    key: Path

    @property
    def pair(self) -> tuple[str, str]:
        """As `requests` wants it in `cert=`."""
        return str(self.certificate), str(self.key)


def trust_file(data: Path) -> Path:
    """The root and both issuers: what a server or client trusts (`verify=`, `load_verify_locations`)."""
    return data / "trust.pem"


def cards_file(data: Path) -> Path:
    """The root and the issuer of persons' cards: whom a login by card is trusted from."""
    return data / "cards.pem"


def ensure(data: Path) -> Path:
    """Makes the authorities, unless they are there. Returns the trust file."""
    with _locked(data):
        if not trust_file(data).exists():
            _make_authorities(data)
        if not cards_file(data).exists():
            files = [data / "authorities" / f"{kind}.pem" for kind in ("root", "person")]
            _write(cards_file(data), b"".join(file.read_bytes() for file in files))
    return trust_file(data)


def issue_person(
    data: Path,
    hsa_id: str,
    given_name: str,
    surname: str,
    *,
    title: str | None = None,
    valid: Valid | None = None,
    again: bool = False,
) -> Credentials:
    """A person's card: subject serialNumber is the HSA-id. The one already issued, unless `again`."""
    attributes = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "SE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Västra Götalandsregionen"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{given_name} {surname}".strip()[:64] or hsa_id),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, hsa_id),
    ]
    for oid, value in ((NameOID.GIVEN_NAME, given_name), (NameOID.SURNAME, surname), (NameOID.TITLE, title)):
        if value:
            attributes.append(x509.NameAttribute(oid, value[:64]))
    return _issue(data, "person", hsa_id, x509.Name(attributes), (), [ExtendedKeyUsageOID.CLIENT_AUTH], valid, again)


def issue_function(
    data: Path,
    name: str,
    *,
    hsa_id: str = SYSTEM_HSA_ID,
    hosts: Sequence[str] = (),
    valid: Valid | None = None,
    again: bool = False,
) -> Credentials:
    """A function certificate: for a client, with `hosts` for a server too. The one already issued, unless `again`."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "SE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Västra Götalandsregionen"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, hsa_id),
        ]
    )
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
    return _issue(data, "function", name, subject, hosts, usages, valid, again)


def server_credentials(data: Path, name: str) -> Credentials:
    """A server certificate for 127.0.0.1 and localhost; makes the authorities too if they are not there."""
    return issue_function(data, name, hosts=("127.0.0.1", "localhost"))


def revoke(data: Path, certificate: Path) -> None:
    """Takes a certificate back: from now on it is in the issuer's CRL."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    with _locked(data):
        revoked = _revoked(data)
        revoked.setdefault(_issuer_of(found), {}).setdefault(str(found.serial_number), datetime.now(UTC).isoformat())
        _write(data / "revoked.json", json.dumps(revoked, indent=1).encode())
        for issuer in ISSUERS:
            _write_crl(data, issuer)


def revoked_at(data: Path, issuer: str, serial_number: int) -> datetime | None:
    """When the certificate was taken back; None: it was not."""
    when = _revoked(data).get(issuer, {}).get(str(serial_number))
    return datetime.fromisoformat(when) if when else None


def is_revoked(data: Path, certificate: x509.Certificate) -> bool:
    """Whether the certificate has been taken back."""
    return revoked_at(data, _issuer_of(certificate), certificate.serial_number) is not None


def issued_by(certificate: x509.Certificate, issuer: str) -> bool:
    """Whether one of ISSUERS ("person", "function") issued it. The signature is the TLS handshake's to check."""
    return _issuer_of(certificate) == issuer


def hsa_id_of(certificate: x509.Certificate) -> str | None:
    """The HSA-id in the subject's serialNumber."""
    found = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    return str(found[0].value) if found else None


def authority(data: Path, issuer: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """An authority's certificate and key ("root", "person", "function")."""
    folder = data / "authorities"
    key = load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate((folder / f"{issuer}.pem").read_bytes()), key


def _issuer_of(certificate: x509.Certificate) -> str:
    name = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return next((issuer for issuer, cn in ISSUERS.items() if name and name[0].value == cn), "")


def _revoked(data: Path) -> dict[str, dict[str, str]]:
    try:
        found: dict[str, dict[str, str]] = json.loads((data / "revoked.json").read_text())
        return found
    except FileNotFoundError:
        return {}


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Several servers start at once and share the folder."""
    data.mkdir(parents=True, exist_ok=True)
    with open(data / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all: readers take no lock."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(file)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in names for name in every})


def _make_authorities(data: Path) -> None:
    made: dict[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]] = {}
    for kind, name in (("root", ROOT), *ISSUERS.items()):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "SE"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Inera AB"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        issuer, signer = (made["root"][0].subject, made["root"][1]) if made else (subject, key)
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - SLACK)
            .not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None if kind == "root" else 0), critical=True)
            .add_extension(_usage("digital_signature", "key_cert_sign", "crl_sign"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        made[kind] = certificate, key
        _write(data / "authorities" / f"{kind}.key", _pem(key))
        _write(data / "authorities" / f"{kind}.pem", certificate.public_bytes(Encoding.PEM))
    for kind in ISSUERS:
        _write_crl(data, kind)
    # last: its presence says that all the others are there
    _write(trust_file(data), b"".join(certificate.public_bytes(Encoding.PEM) for certificate, _ in made.values()))


def _write_crl(data: Path, issuer: str) -> None:
    certificate, key = authority(data, issuer)
    now = datetime.now(UTC)
    crl = x509.CertificateRevocationListBuilder(certificate.subject).last_update(now - SLACK)
    crl = crl.next_update(now + timedelta(days=CERTIFICATE_DAYS))
    for serial, when in _revoked(data).get(issuer, {}).items():
        entry = x509.RevokedCertificateBuilder(int(serial), datetime.fromisoformat(when)).build()
        crl = crl.add_revoked_certificate(entry)
    crl = crl.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    _write(data / "crl" / f"{issuer}.crl", crl.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


def _issue(
    data: Path,
    issuer: str,
    name: str,
    subject: x509.Name,
    hosts: Sequence[str],
    usages: list[x509.ObjectIdentifier],
    valid: Valid | None,
    again: bool,
) -> Credentials:
    ensure(data)
    file = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    issued = Credentials(data / f"{issuer}s" / f"{file}.pem", data / f"{issuer}s" / f"{file}.key")
    with _locked(data):
        if issued.certificate.exists() and not again:
            return issued
        authority_certificate, signer = authority(data, issuer)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        begins, ends = valid or (now - SLACK, now + timedelta(days=CERTIFICATE_DAYS))
        builder = (
            x509.CertificateBuilder(
                authority_certificate.subject, subject, key.public_key(), x509.random_serial_number(), begins, ends
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        for extension in _where_to_ask(data, issuer):
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        _write(issued.key, _pem(key))
        chain = certificate.public_bytes(Encoding.PEM) + authority_certificate.public_bytes(Encoding.PEM)
        _write(issued.certificate, chain)
    return issued


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _where_to_ask(data: Path, issuer: str) -> list[x509.ExtensionType]:
    """Where the CRL and the OCSP responder are, if the authority has been served before."""
    try:
        url = (data / "url").read_text().strip()
    except FileNotFoundError:
        return []
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(f"{url}/crl/{issuer}.crl")], None, None, None)
    ocsp = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(f"{url}/ocsp"))
    return [x509.CRLDistributionPoints([crl]), x509.AuthorityInformationAccess([ocsp])]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.siths_ca", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the authority")
    parser.add_argument("--port", type=int, help="serve CA certificates, CRLs and OCSP on this port of 127.0.0.1")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("init", help="make the authorities, unless they are there")
    person = commands.add_parser("person", help="issue a person's card")
    person.add_argument("hsa_id")
    person.add_argument("--given-name", required=True)
    person.add_argument("--surname", required=True)
    person.add_argument("--title")
    person.add_argument("--again", action="store_true", help="even if there is one")
    function = commands.add_parser("function", help="issue a function certificate")
    function.add_argument("name")
    function.add_argument("--hsa-id", default=SYSTEM_HSA_ID)
    function.add_argument("--host", action="append", default=[], help="a server's name or address")
    function.add_argument("--again", action="store_true", help="even if there is one")
    commands.add_parser("revoke", help="take a certificate back").add_argument("file", type=Path)
    given = parser.parse_args(argv)
    ensure(given.data)
    match given.command:
        case "person":
            issued = issue_person(
                given.data, given.hsa_id, given.given_name, given.surname, title=given.title, again=given.again
            )
            print(issued.certificate, issued.key)
        case "function":
            issued = issue_function(given.data, given.name, hsa_id=given.hsa_id, hosts=given.host, again=given.again)
            print(issued.certificate, issued.key)
        case "revoke":
            revoke(given.data, given.file)
        case None if given.port is not None:
            from deploy.local import revocation  # pulls in the HTTP server, which the other commands do without

            return revocation.serve(given.data, given.port)
        case None:
            parser.error("a command, or --port")
    return 0


if __name__ == "__main__":
    sys.exit(main())
