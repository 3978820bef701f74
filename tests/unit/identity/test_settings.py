"""What identity is told by its environment, checked at start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.local import keys
from services.identity.settings import IdentitySettings
from shared.operations.settings import SettingsError, read


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(certificate)
    (folder / f"{name}.key").write_bytes(private)
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    made = keys.make(tmp_path / "keys", ("identity",))
    (tmp_path / "numbers").write_text("ab" * 32 + "\n")
    certificate, key = make_certificate(tmp_path, "own")
    set_to = {
        "AMQP_URL": "amqp://u:p@127.0.0.1:1/v",
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
        "SIGNING_KEY_FILE": str(made.signing_key("identity")),
        "TRUSTED_KEYS_FILE": str(made.trusted),
        "DATA_KEYS_FILE": str(made.data_keys("identity")),
        "IDENTITY_NUMBER_KEY_FILE": str(tmp_path / "numbers"),
        "STAFF_OIDC_ISSUER": "https://idp.example",
        "STAFF_OIDC_CLIENT_ID": "staff",
        "RESIDENT_OIDC_ISSUER": "https://idp.example",
        "RESIDENT_OIDC_CLIENT_ID": "residents",
        "PU_URL": "https://pu.example",
        "PU_CERTIFICATE_FILE": certificate,
        "PU_KEY_FILE": key,
        "PU_CA_FILE": certificate,
    }
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    return set_to


def test_settings_with_their_standard_values(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(IdentitySettings)
    assert "http://id.sambi.se/loa/loa3" in settings.staff_acr_values
    assert not settings.accept_test_persons
    assert {settings} == {read(IdentitySettings)}
    monkeypatch.setenv("STAFF_ACR_VALUES", "one  two")
    assert read(IdentitySettings).staff_acr_values == {"one", "two"}


def test_every_fault_is_told_at_once_and_without_values(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numbers").write_text("ab" * 31)
    _, other_key = make_certificate(tmp_path, "other")
    monkeypatch.setenv("PU_KEY_FILE", other_key)
    monkeypatch.setenv("STAFF_OIDC_ISSUER", "idp.example")
    monkeypatch.setenv("RESIDENT_OIDC_ISSUER", "http://idp.example")
    monkeypatch.setenv("PU_URL", "http://pu.example")
    monkeypatch.setenv("RESIDENT_ACR_VALUES", " ")
    monkeypatch.setenv("TERMS_FOLDER", str(tmp_path))
    monkeypatch.delenv("STAFF_OIDC_CLIENT_ID")
    with pytest.raises(SettingsError) as caught:
        read(IdentitySettings)
    for name in (
        "IDENTITY_NUMBER_KEY_FILE",
        "PU_KEY_FILE",
        "STAFF_OIDC_ISSUER",
        "RESIDENT_OIDC_ISSUER",
        "PU_URL",
        "RESIDENT_ACR_VALUES",
        "TERMS_FOLDER",
        "STAFF_OIDC_CLIENT_ID",
    ):
        assert f"  {name} " in str(caught.value)
    assert "abab" not in str(caught.value)
