"""Whether an entry answers, when certificates run out, and how old the backups are (deploy/monitoring/watch.py)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from deploy.monitoring import watch
from deploy.monitoring.watch import Entry, Figures
from deploy.secrets import certificates

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    return certificates.authority()


@pytest.fixture
def secrets(authority, tmp_path):
    (tmp_path / "ca.crt").write_text(authority[0])
    (tmp_path / "outside-client.crt").write_text(certificates.server(*authority, ["client"], days=30)[0])
    return tmp_path


@pytest.fixture
def served(authority, tmp_path):
    """An entry whose certificate runs out in ten days; it says `hello`, asked for TLS in the open or not."""
    for suffix, text in zip(("crt", "key"), certificates.server(*authority, ["entry"], days=10), strict=True):
        (tmp_path / f"entry.{suffix}").write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "entry.crt", tmp_path / "entry.key")
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                bare, _ = listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), bare:
                if bare.recv(8, socket.MSG_PEEK) == watch._TLS_FOR_POSTGRESQL:
                    bare.recv(8)
                    bare.sendall(b"S")
                with context.wrap_socket(bare, server_side=True) as tls:
                    tls.recv(100)
                    tls.sendall(b"hello")

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def seen(entries, secrets, backups):
    registry = CollectorRegistry()
    Figures(registry).look(entries, secrets, backups)
    return registry.get_sample_value


def test_an_entry_is_there_if_it_answers_as_it_should(served, secrets):
    entries = {
        "one": Entry("127.0.0.1", served, (b"?", b"hel")),
        "postgresql": Entry("127.0.0.1", served, asks_for_tls=watch._TLS_FOR_POSTGRESQL),
        "wrong": Entry("127.0.0.1", served, (b"?", b"HTTP")),
        "nobody": Entry("127.0.0.1", 9),
    }
    value = seen(entries, secrets, secrets)
    there = {name: value("vardarende_entry_there", {"entry": name}) for name in entries}
    assert there == {"one": 1, "postgresql": 1, "wrong": 0, "nobody": 0}


def test_the_certificate_that_is_shown_counts_and_those_in_files(served, secrets):
    value = seen({"one": Entry("127.0.0.1", served)}, secrets, secrets)
    left = {
        name: value("vardarende_certificate_ends_seconds", {"certificate": name}) - time.time()
        for name in ("one", "outside-client.crt", "ca.crt")
    }
    for name, days in (("one", 10), ("outside-client.crt", 30), ("ca.crt", certificates.AUTHORITY_DAYS)):
        assert left[name] == pytest.approx((days * DAY).total_seconds(), abs=60), name


def test_the_newest_whole_backup_counts(tmp_path):
    for name in (
        "databases-20260101T000000Z.tar.gz", "databases-20260102T030405Z.tar.gz", "other-20260104T000000Z.tar.gz",
        "databases-20260103T000000Z.tar.gz.part", "databases-20269999T000000Z.tar.gz",
    ):  # fmt: skip
        (tmp_path / name).touch()
    made = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert watch.newest_backups(tmp_path) == {"databases": made, "store": 0, "archive": 0}


def test_the_archive_is_as_new_as_what_was_written_to_it_last(tmp_path):
    for number, name in enumerate(("wal-1/000000010000000000000001", "wal-1/000000010000000000000002.partial")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - number, 1000 - number))
    assert watch.newest_backups(tmp_path)["archive"] == 999


def test_a_folder_that_can_not_be_seen_has_no_backup(tmp_path):
    assert watch.newest_backups(tmp_path / "none") == {"databases": 0, "store": 0, "archive": 0}
