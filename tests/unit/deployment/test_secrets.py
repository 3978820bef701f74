"""A secret that is missing, weak, or not what it should be is named before anything starts (deploy/secrets)."""

from __future__ import annotations

import base64
import json

import pytest

from deploy.secrets import __main__ as command
from deploy.secrets import certificates, wanted

ZEROS = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def folder(tmp_path):
    """All secrets as they are made, and what others give."""
    authority, key = certificates.authority()
    client, client_key = certificates.server(authority, key, ["client"])
    given = {
        "outside-client.crt": client,
        "outside-client.key": client_key,
        "outside-ca.crt": authority,
        "siths-ca.crt": authority,
    }
    for name in wanted.GIVEN:
        command.write(tmp_path / name, given.get(name) or wanted.password())
    command.make(tmp_path, [], demo=False)
    assert command.faults(tmp_path) == []
    return tmp_path


def by_another_authority(*names):
    return certificates.server(*certificates.authority(), names)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("amqp-cases.password", "hemligt", "weak"),
        ("notification-addresses.key", ZEROS, "not 32 random bytes"),
        ("cases.ring.json", json.dumps({"current": "a", "keys": {"a": ZEROS}}), "32 random bytes"),
        ("s3-encryption.key", "0" * 64, "not 64 random hex digits"),
        ("outside-client.crt", "x", "no certificate in PEM"),
        ("outside-client.key", by_another_authority("a")[1], "does not belong to outside-client.key"),
        ("outside-ca.crt", "x", "holds no certificates"),
        ("siths-ca.crt", "x", "holds no certificates"),
    ],
)
def test_what_is_weak_or_something_else_is_named(folder, name, text, told):
    command.write(folder / name, text)
    [fault] = command.faults(folder)
    assert told in fault
    assert fault.split()[0].partition(".")[0] == name.partition(".")[0]


def test_two_secrets_that_are_the_same_are_named(folder):
    command.write(folder / "amqp-cases.password", (folder / "amqp-booking.password").read_text())
    command.derive(folder)
    [fault] = command.faults(folder)
    assert "is the same as" in fault


def test_a_secret_that_others_may_read_is_named(folder):
    (folder / "amqp-cases.password").chmod(0o644)
    assert command.faults(folder) == ["amqp-cases.password may be read by others: chmod 600"]


def _nothing(file):
    file.unlink()


def _no_text(file):
    file.write_bytes(bytes([0xFF, 0xFE] * 40))


def _a_folder(file):
    file.unlink()
    file.mkdir()  # as the engine makes it where a file is not there


@pytest.mark.parametrize("spoil", [_nothing, _no_text, _a_folder])
def test_whatever_has_become_of_a_secret_its_name_is_told(folder, spoil):
    for name in sorted(one.name for one in folder.iterdir() if one.name not in ("compose.env", "offline-ca.key")):
        file, text = folder / name, (folder / name).read_text()
        spoil(file)
        assert name in {fault.split()[0] for fault in command.faults(folder)}
        if file.is_dir():
            file.rmdir()
        command.write(file, text)


@pytest.mark.parametrize("name", ["cases.signing.pem", "cases.ring.json", "amqp-cases.password", "s3-secret.key"])
def test_from_what_is_damaged_nothing_is_made_anew_and_its_name_is_told(folder, name):
    derived = {one: (folder / one).read_text() for one in wanted.DERIVED}
    _no_text(folder / name)
    command.make(folder, [], demo=False)
    assert command.faults(folder) == [f"{name} can't be read"]
    assert {one: (folder / one).read_text() for one in wanted.DERIVED} == derived


def test_the_folders_that_an_engine_made_for_missing_files_become_files(folder):
    for name in ("amqp-cases.password", "s3.json"):
        _a_folder(folder / name)
    command.make(folder, [], demo=False)
    assert command.faults(folder) == []


def test_a_folder_that_no_missing_file_left_stays_though_it_is_empty(folder):
    """The demo's containers have its clock's folder in hand, which is empty until somebody moves the clock."""
    (folder / "demo-clock").mkdir()
    before = (folder / "demo-clock").stat().st_ino
    command.make(folder, [], demo=False)
    assert (folder / "demo-clock").stat().st_ino == before


@pytest.mark.parametrize("spoil", [_nothing, _no_text, _a_folder])
def test_no_other_authority_takes_the_place_of_one_that_is_damaged(folder, spoil):
    key = (folder / "offline-ca.key").read_text()
    spoil(folder / "ca.crt")
    (folder / "s3.crt").unlink()
    with pytest.raises(SystemExit) as raised:
        command.make(folder, [], demo=False)
    assert "ca.crt" in str(raised.value)
    assert (folder / "offline-ca.key").read_text() == key


@pytest.mark.parametrize("name", ["trusted.json", "rabbitmq-definitions.json"])
@pytest.mark.parametrize("text", ["x", "{}", "[1]"])
def test_what_was_derived_and_is_not_what_it_should_be_is_named(folder, name, text):
    command.write(folder / name, text)
    [fault] = command.faults(folder)
    assert fault.startswith(name) and fault.endswith("run make again")


@pytest.mark.parametrize("name", ["outside-client.key", "smtp.password", "postgres.key", "s3.json"])
def test_what_is_given_or_derived_is_to_be_read_by_nobody_else_either(folder, name):
    (folder / name).chmod(0o644)
    assert command.faults(folder) == [f"{name} may be read by others: chmod 600"]
    command.make(folder, [], demo=False)
    assert command.faults(folder) == []


def test_a_signing_key_to_come_that_is_none_is_named(folder):
    command.write(folder / "cases.signing.next.pem", by_another_authority("a")[1])
    assert command.faults(folder) == ["cases.signing.next.pem is no Ed25519 key"]


@pytest.mark.parametrize(
    ("server", "told"), [("postgres", "by an authority of ca.crt"), ("db.example", "name postgres")]
)
def test_a_certificate_that_our_processes_would_not_take_is_named(folder, server, told):
    for suffix, text in zip(("crt", "key"), by_another_authority(server), strict=True):
        command.write(folder / f"postgres.{suffix}", text)
    [fault] = command.faults(folder)
    assert fault.startswith("postgres.crt ")
    assert told in fault


def test_what_is_made_is_not_found_weak_by_chance():
    [key] = [secret for secret in wanted.all_random() if secret.name == "s3-access.key"]
    assert {key.fault(key.make()) for _ in range(20_000)} == {None}


def test_a_certificate_by_our_authority_for_our_name_is_taken(folder):
    authority, key = (folder / "ca.crt").read_text(), (folder / "offline-ca.key").read_text()
    for suffix, text in zip(("crt", "key"), certificates.server(authority, key, ["postgres", "a"]), strict=True):
        command.write(folder / f"postgres.{suffix}", text)
    assert command.faults(folder) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda broker: broker["permissions"][0].update(write=".*"),
        lambda broker: broker["topic_permissions"].pop(),
        lambda broker: broker["users"].append(broker["users"][0] | {"name": "ghost", "tags": ["administrator"]}),
        lambda broker: broker["exchanges"].pop(),
    ],
)
def test_definitions_with_other_rights_than_the_contracts_give_are_named(folder, change):
    file = folder / "rabbitmq-definitions.json"
    broker = json.loads(file.read_text())
    change(broker)
    command.write(file, json.dumps(broker))
    assert command.faults(folder) == ["rabbitmq-definitions.json is another version's: run make again"]


def test_new_certificates_leave_those_alone_that_others_gave(folder, monkeypatch):
    """The one by which those outside report delivery is by an authority that they trust."""
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "OURS", "A CA that everybody trusts")
        brought = dict(zip(("reports.crt", "reports.key"), by_another_authority("reports.example.se"), strict=True))
    for name, text in brought.items():
        command.write(folder / name, text)
    ours = (folder / "postgres.crt").read_text()
    command.make_certificates(folder, ["arenden.example.se"], again=True)
    assert {name: (folder / name).read_text() for name in brought} == brought
    assert (folder / "postgres.crt").read_text() != ours
    assert command.faults(folder) == []
