"""Settings of the directory's processes."""

from __future__ import annotations

import pytest

from deploy.local import keys
from services.directory.settings import DirectorySettings, DirectoryWorkerSettings
from shared.operations.settings import SettingsError, read


@pytest.fixture
def environment(tmp_path, monkeypatch):
    made = keys.make(tmp_path / "keys", ("directory",))
    monkeypatch.setenv("SIGNING_KEY_FILE", str(made.signing_key("directory")))
    monkeypatch.setenv("TRUSTED_KEYS_FILE", str(made.trusted))
    monkeypatch.setenv("DATA_KEYS_FILE", str(made.data_keys("directory")))
    monkeypatch.setenv("AMQP_URL", "amqp://broker")
    monkeypatch.setenv("DATABASE_URL", "postgresql://database/directory")
    monkeypatch.setenv("DEFAULT_CARE_PROVIDER", " se2321000131-e000000000001")
    monkeypatch.setenv("DEFAULT_CARE_PROVIDER_NAME", "Regionen")
    return monkeypatch


def test_without_hsa_and_kiv(environment):
    settings = read(DirectorySettings)
    assert settings.hsa() is None
    assert settings.default_care_provider == "SE2321000131-E000000000001"
    assert read(DirectoryWorkerSettings).sources() == []


def test_several_places_of_kiv(environment):
    environment.setenv("KIV_UNITS", "/data/units.json, https://kiv.example/roles")
    [source] = read(DirectoryWorkerSettings).sources()
    assert source.has_units
    assert not source.has_staff


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (DirectorySettings, "HSA_URL", "http://hsa.example"),
        (DirectorySettings, "DEFAULT_CARE_PROVIDER", "Regionen"),
        (DirectoryWorkerSettings, "KIV_UNITS", "http://kiv.example/units"),
        (DirectoryWorkerSettings, "KIV_CLIENT_CERT_FILE", __file__),
        (DirectoryWorkerSettings, "MAX_REMOVED_SHARE", "1"),
    ],
)
def test_settings_that_are_wrong(environment, kind, name, value):
    environment.setenv(name, value)
    with pytest.raises(SettingsError):
        read(kind)
