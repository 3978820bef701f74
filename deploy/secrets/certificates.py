"""The authority and certificates of the inner servers: broker, databases, store. Production may bring its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

OURS = "vardarende inner CA"
AUTHORITY_DAYS, SERVER_DAYS, SOON_DAYS = 3650, 397, 14
_SLACK = timedelta(hours=1)


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def authority() -> tuple[str, str]:
    """A new authority: certificate and key, PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    made = (
        x509.CertificateBuilder(_name(OURS), _name(OURS), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), _pem(key)


def server(ca_certificate: str, ca_key: str, names: Iterable[str], days: int = SERVER_DAYS) -> tuple[str, str]:
    """A new server's certificate (with its authority's after it) and key, PEM, for these names and addresses."""
    issuer = x509.load_pem_x509_certificate(ca_certificate.encode())
    signer = serialization.load_pem_private_key(ca_key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    names = list(names)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    made = (
        x509.CertificateBuilder(issuer.subject, _name(names[0]), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode() + ca_certificate, _pem(key)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def is_ours(certificate: Path) -> bool:
    """Whether an authority of ours, this one or an earlier one, has issued it."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).issuer == _name(OURS)


def fault(certificate: Path, key: Path) -> str | None:
    """What is wrong with the pair: unreadable, not fitting, run out or about to."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError):
        return "is no certificate in PEM, or its key is none"
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if found.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        return f"does not belong to {key.name}"
    return run_out(found)


def not_of(certificate: Path, authorities: Path, name: str) -> str | None:
    """What keeps those who trust these authorities from taking the certificate for the server's of this name."""
    own, *between = x509.load_pem_x509_certificates(certificate.read_bytes())
    try:
        trusted = x509.load_pem_x509_certificates(authorities.read_bytes())
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except ValueError:
        return f"can't be looked at: {authorities.name} holds no certificates in PEM"
    except x509.ExtensionNotFound:
        return f"does not name {name}"
    if name not in names.get_values_for_type(x509.DNSName):
        return f"does not name {name}"
    step, above = own, [*between, *trusted]
    for _ in above:
        issuer = next((one for one in above if _issued(step, one)), None)
        if issuer is None:
            break
        if issuer in trusted:
            return None
        step = issuer
    return f"is not by an authority of {authorities.name}"


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def are_some(file: Path) -> bool:
    """Whether there are certificates in the file."""
    try:
        return bool(x509.load_pem_x509_certificates(file.read_bytes()))
    except ValueError:
        return False


def run_out(found: x509.Certificate) -> str | None:
    """Whether the certificate has run out, or will soon."""
    left = found.not_valid_after_utc - datetime.now(UTC)
    if left < timedelta(0):
        return "has run out"
    return None


def days_left(certificate: Path) -> int:
    """Days until it runs out."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return (found.not_valid_after_utc - datetime.now(UTC)).days
