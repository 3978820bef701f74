"""Settings of the directory's processes."""

from __future__ import annotations

import pytest

from deploy.local import keys
from services.directory.settings import DirectorySettings, DirectoryWorkerSettings
from services.directory.sources import NAMES
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


def test_several_sources_in_the_order_in_which_they_are_believed(environment, tmp_path):
    password = tmp_path / "password"
    password.write_text("hemligt\n")
    for name, value in (
        ("FILE_UNITS", "/data/own.json"),
        ("HSA_UNITS_FILE", "https://hsa.example/units.xml"),
        ("KIV_LDAP_URL", "ldaps://kiv.example"),
        ("KIV_LDAP_USER", "cn=vardarende,o=VGR"),
        ("KIV_LDAP_PASSWORD_FILE", str(password)),
        ("KIV_UNITS", "https://kiv.example/units"),
    ):
        environment.setenv(name, value)
    sources = read(DirectoryWorkerSettings).sources()
    assert [one.name for one in sources] == ["kiv", "kiv_ldap", "hsa_file", "file"]
    assert [one.name for one in sources] == [name for name in NAMES if name != "hsa"]
    assert (sources[1].password, sources[1].has_staff) == ("hemligt", True)
    assert [one.has_staff for one in sources] == [False, True, False, False]


def test_the_order_in_which_sources_are_believed_is_chosen(environment):
    environment.setenv("KIV_UNITS", "https://kiv.example/units")
    environment.setenv("FILE_UNITS", "/data/own.json")
    assert read(DirectoryWorkerSettings).order() == ("kiv", "file")
    environment.setenv("SOURCE_ORDER", " file, hsa_file,hsa ,kiv")
    settings = read(DirectoryWorkerSettings)
    assert [one.name for one in settings.sources()] == ["file", "kiv"]
    assert settings.order() == ("file", "kiv")
    environment.setenv("HSA_URL", "https://hsa.example/employee")
    assert read(DirectoryWorkerSettings).order() == ("file", "hsa", "kiv")


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("kiv,hsa,fil", "SOURCE_ORDER names fil, which is no source"),
        ("kiv,hsa,kiv", "SOURCE_ORDER names kiv twice"),
        ("hsa,file", "SOURCE_ORDER does not name kiv, which is configured"),
        ("kiv,file", "SOURCE_ORDER does not name hsa, which is configured"),
        ("", "SOURCE_ORDER does not name"),
    ],
)
def test_an_order_that_is_none_is_refused_at_the_start(environment, order, why):
    environment.setenv("KIV_UNITS", "https://kiv.example/units")
    environment.setenv("HSA_URL", "https://hsa.example/employee")
    environment.setenv("SOURCE_ORDER", order)
    with pytest.raises(SettingsError, match=why):
        read(DirectoryWorkerSettings)


def test_hsas_contracts_may_have_two_addresses(environment):
    environment.setenv("HSA_URL", "https://hsa.example/employee")
    hsa = read(DirectorySettings).hsa()
    assert hsa.employee.url == hsa.organization.url == "https://hsa.example/employee"
    environment.setenv("HSA_ORGANIZATION_URL", "https://hsa.example/organization")
    assert read(DirectorySettings).hsa().organization.url == "https://hsa.example/organization"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (DirectorySettings, "HSA_URL", "http://hsa.example"),
        (DirectorySettings, "DEFAULT_CARE_PROVIDER", "Regionen"),
        (DirectoryWorkerSettings, "KIV_UNITS", "http://kiv.example/units"),
        (DirectoryWorkerSettings, "KIV_CLIENT_CERT_FILE", __file__),
        (DirectoryWorkerSettings, "MAX_REMOVED_SHARE", "1"),
        (DirectorySettings, "HSA_ORGANIZATION_URL", "http://hsa.example"),
        (DirectoryWorkerSettings, "HSA_UNITS_FILE", "http://hsa.example/units.xml"),
        (DirectoryWorkerSettings, "KIV_LDAP_URL", "ldap://kiv.example"),
        (DirectoryWorkerSettings, "KIV_LDAP_URL", "ldaps://192.0.2.7"),
        (DirectoryWorkerSettings, "KIV_LDAP_URL", "ldaps://[2001:db8::7]:636"),
        (DirectoryWorkerSettings, "KIV_LDAP_USER", "cn=vardarende"),
        (DirectoryWorkerSettings, "FILE_UNITS", "https://example/units.json"),
    ],
)
def test_settings_that_are_wrong(environment, kind, name, value):
    environment.setenv(name, value)
    with pytest.raises(SettingsError):
        read(kind)
