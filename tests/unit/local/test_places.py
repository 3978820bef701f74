"""Ports, keys and folders of a stack: its own, kept, and for its owner alone."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from deploy.local import folder, keys, ports
from deploy.local.problems import Problem
from shared.messaging.errors import NotAuthenticated
from shared.security.sealing import Sealer
from shared.security.tokens import Signer, Verifier


@pytest.fixture(autouse=True)
def without_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VARDARENDE_PORTS", raising=False)


def test_ports_fit_in_their_block_below_the_systems_own() -> None:
    assert len(set(ports.NAMES)) == len(ports.NAMES) <= ports.BLOCK
    chosen = ports.choose()
    assert max(chosen.values()) < 32768
    assert len(set(chosen.values())) == len(ports.NAMES)


def test_ports_are_kept_and_new_names_get_theirs(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = ports.kept(file)
    old = {name: port for name, port in first.items() if name != ports.NAMES[-1]}
    file.write_text(json.dumps(old))
    assert ports.kept(file) == first


def test_a_block_with_a_taken_port_is_passed_over() -> None:
    chosen = ports.choose()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", chosen["kiv"]))
        taker.listen()
        assert not set(ports.choose().values()) & set(chosen.values())


def test_a_taken_port_is_told_with_who_has_it() -> None:
    chosen = ports.choose()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", chosen["amqp"]))
        taker.listen()
        with pytest.raises(Problem, match=f"port {chosen['amqp']}, which RabbitMQ needs, is taken.*VARDARENDE_PORTS"):
            ports.require_free(chosen, ["amqp"], "RabbitMQ")


def test_the_block_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = min(ports.choose(anywhere=True).values())
    monkeypatch.setenv("VARDARENDE_PORTS", str(start))
    file = tmp_path / "ports.json"
    assert min(ports.kept(file).values()) == start
    with socket.socket() as ours:  # once it runs, its own ports are taken, by itself
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # free, though a connection of before lingers there
        ours.bind(("127.0.0.1", start))
        ours.listen()
        assert min(ports.kept(file).values()) == start
    monkeypatch.setenv("VARDARENDE_PORTS", "many")
    with pytest.raises(Problem, match="must be a number"):
        ports.kept(file)


def test_keys_are_made_once_and_fit_together(tmp_path: Path) -> None:
    made = keys.make(tmp_path / "keys", ["cases", "identity"])
    before = made.signing_key("cases").read_bytes(), made.data_keys("cases").read_bytes(), made.password("x")
    again = keys.make(tmp_path / "keys", ["cases", "identity"])
    assert before == (
        again.signing_key("cases").read_bytes(),
        again.data_keys("cases").read_bytes(),
        again.password("x"),
    )
    for file in made.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    verifier = Verifier(made.trusted)
    token = Signer.from_file(made.signing_key("cases"), "service:cases").own_token()
    assert verifier.verify(token).subject == "cases"
    with pytest.raises(NotAuthenticated):
        verifier.verify(Signer.from_file(made.signing_key("cases"), "service:identity").own_token())
    sealer = Sealer.from_file(made.data_keys("cases"))
    assert sealer.open(sealer.seal(b"x", b"y"), b"y") == b"x"


def test_the_data_folder_is_the_checkouts_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VARDARENDE_DATA", raising=False)
    assert folder.data_folder().name == folder.checkout_hash()
    assert folder.CHECKOUT not in folder.data_folder().parents
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert folder.data_folder() == tmp_path / "vardarende" / folder.checkout_hash()


def test_a_private_file_is_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    folder.write_private(file, "old")

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.write_private(file, "new")
    assert file.read_text() == "old"
    folder.write_private(file, "old")  # nothing to write, so a full disk is no hindrance
