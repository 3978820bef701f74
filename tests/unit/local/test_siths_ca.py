"""The certificate authority: who is who on a card, and that nothing is made twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from deploy.local import siths_ca

HSA_ID = "SE2321000131-P000009000004"


def read(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def value(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    [attribute] = name.get_attributes_for_oid(oid)
    return str(attribute.value)


def test_a_card_says_who_it_is(tmp_path: Path) -> None:
    """R-ID-1"""
    card = siths_ca.issue_person(tmp_path, HSA_ID, "Åsa", "Öhrn", title="Läkare")
    certificate = read(card.certificate)
    assert siths_ca.hsa_id_of(certificate) == HSA_ID
    for oid, expected in (
        (NameOID.GIVEN_NAME, "Åsa"),
        (NameOID.SURNAME, "Öhrn"),
        (NameOID.COMMON_NAME, "Åsa Öhrn"),
        (NameOID.TITLE, "Läkare"),
    ):
        assert value(certificate.subject, oid) == expected
    assert value(certificate.issuer, NameOID.COMMON_NAME) == siths_ca.PERSON_ISSUER
    assert siths_ca.issued_by(certificate, "person")
    assert not siths_ca.issued_by(certificate, "function")
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_one_without_a_given_name_gets_a_card(tmp_path: Path) -> None:
    certificate = read(siths_ca.issue_person(tmp_path, HSA_ID, "", "Sukarno").certificate)
    assert value(certificate.subject, NameOID.COMMON_NAME) == "Sukarno"
    assert certificate.subject.get_attributes_for_oid(NameOID.GIVEN_NAME) == []


def test_a_server_certificate_is_trusted_for_this_machine(tmp_path: Path) -> None:
    served = siths_ca.server_credentials(tmp_path, "hsa")
    leaf, issuer = x509.load_pem_x509_certificates(served.certificate.read_bytes())
    root = x509.load_pem_x509_certificates(siths_ca.trust_file(tmp_path).read_bytes())[0]
    verifier = PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName("localhost"))
    assert verifier.verify(leaf, [issuer])[-1] == root
    other = PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName("example.com"))
    with pytest.raises(VerificationError):
        other.verify(leaf, [issuer])


def test_nothing_is_made_twice_however_many_start_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(
            threads.map(lambda _: siths_ca.server_credentials(tmp_path, "idp").certificate.read_bytes(), range(8))
        )
    assert len(set(made)) == 1
    before = siths_ca.trust_file(tmp_path).read_bytes()
    assert siths_ca.ensure(tmp_path).read_bytes() == before
    again = siths_ca.issue_function(tmp_path, "idp", hosts=("127.0.0.1",), again=True)
    assert again.certificate.read_bytes() != made[0]


def test_private_keys_are_private(tmp_path: Path) -> None:
    siths_ca.issue_person(tmp_path, HSA_ID, "Åsa", "Öhrn")
    keys = list(tmp_path.rglob("*.key"))
    assert len(keys) == 4
    assert {file.stat().st_mode & 0o077 for file in keys} == {0}


def test_names_of_files_stay_in_their_folder(tmp_path: Path) -> None:
    card = siths_ca.issue_person(tmp_path, "../../x", "A", "B")
    assert card.certificate.parent == tmp_path / "persons"


def test_revoking(tmp_path: Path) -> None:
    card = siths_ca.issue_person(tmp_path, HSA_ID, "Åsa", "Öhrn")
    certificate = read(card.certificate)
    assert not siths_ca.is_revoked(tmp_path, certificate)
    siths_ca.revoke(tmp_path, card.certificate)
    when = siths_ca.revoked_at(tmp_path, "person", certificate.serial_number)
    siths_ca.revoke(tmp_path, card.certificate)
    assert siths_ca.is_revoked(tmp_path, certificate)
    assert siths_ca.revoked_at(tmp_path, "person", certificate.serial_number) == when
    crl = x509.load_der_x509_crl((tmp_path / "crl" / "person.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    assert crl.is_signature_valid(siths_ca.authority(tmp_path, "person")[0].public_key())  # type: ignore[arg-type]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*argv: str) -> str:
        assert siths_ca.main(["--data", str(tmp_path), *argv]) == 0
        return capsys.readouterr().out

    assert run("init") == ""
    file = Path(run("person", HSA_ID, "--given-name", "Åsa", "--surname", "Öhrn").split()[0])
    assert siths_ca.hsa_id_of(read(file)) == HSA_ID
    run("revoke", str(file))
    assert siths_ca.is_revoked(tmp_path, read(file))
    named = read(Path(run("function", "server", "--host", "db.example").split()[0]))
    names = named.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db.example"]
    with pytest.raises(SystemExit):
        siths_ca.main(["--data", str(tmp_path)])
