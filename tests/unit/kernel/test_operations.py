"""Settings, logs, clock and sealing."""

import json
import logging
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.operations import clock, logs
from shared.operations.settings import ServiceSettings, SettingsError, read
from shared.security.sealing import KeyMissing, SealBroken, Sealer


@pytest.fixture(autouse=True)
def own_logging():
    """What a test sets up for logs ends with it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def test_all_faults_of_the_settings_are_told_at_once_and_without_values(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name in {field.upper() for field in ServiceSettings.model_fields}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AMQP_URL", "http://user:s3cret@host")
    monkeypatch.setenv("MAX_WORKERS", "many")
    monkeypatch.setenv("SIGNING_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError) as raised:
        read(ServiceSettings)
    text = str(raised.value)
    for name in ("AMQP_URL", "DATABASE_URL", "MAX_WORKERS", "SIGNING_KEY_FILE", "TRUSTED_KEYS_FILE", "DATA_KEYS_FILE"):
        assert name in text
    assert "s3cret" not in text
    assert "many" not in text


def test_a_log_line_keeps_only_what_is_allowed_R_SYS_3(capsys):
    logs.configure("cases")
    try:
        raise ValueError("patienten 191212121212 Tolvan Tolvansson")
    except ValueError:
        logs.log.error("call_failed", method="start_case", name="Tolvan", exc_info=True)
    line = json.loads(capsys.readouterr().out)
    assert line["method"] == "start_case"
    assert line["error_type"] == "ValueError"
    assert line["name"] == "[withheld]"
    assert "Tolvan" not in json.dumps(line)
    assert "191212121212" not in json.dumps(line)


def test_lines_of_libraries_lose_their_text_R_SYS_3(capsys):
    logs.configure("cases")
    logging.getLogger("some.library").error("failed for %s", "191212121212")
    line = capsys.readouterr().out
    assert "some.library" in line
    assert "191212121212" not in line


def test_the_clock_can_be_moved_and_moves_back(tmp_path: Path):
    file = tmp_path / "clock.json"
    moved = clock.Clock(str(file))
    real = clock.Clock()
    assert abs(moved.now() - real.now()) < timedelta(seconds=1)
    file.write_text('{"offset_seconds": 2678400}')
    time.sleep(0.06)
    assert abs(moved.now() - real.now() - timedelta(days=31)) < timedelta(seconds=1)
    file.unlink()
    time.sleep(0.06)
    assert abs(moved.now() - real.now()) < timedelta(seconds=1)


def ring(*names):
    return {name: AESGCM.generate_key(256) for name in names}


def test_what_is_sealed_opens_again_only_where_it_belongs_R_SYS_2():
    sealer = Sealer("a", ring("a"))
    sealed = sealer.seal(b"Ont i halsen", b"case 1 message 1")
    assert b"halsen" not in sealed
    assert sealer.open(sealed, b"case 1 message 1").decode() == "Ont i halsen"
    for value, context in (
        (sealed, b"case 2 message 1"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"case 1 message 1"),
        (b"", b""),
        (sealed[:9], b""),
    ):
        with pytest.raises(SealBroken):
            sealer.open(value, context)


def test_keys_are_changed_without_losing_what_was_sealed_before_R_SYS_2():
    keys = ring("old", "new")
    sealed = Sealer("old", keys).seal(b"text", b"context")
    after = Sealer("new", keys)
    assert after.open(sealed, b"context") == b"text"
    assert not after.sealed_with_current(sealed)
    assert not sealed.startswith(after.prefix)
    assert after.sealed_with_current(after.seal(b"text", b"context"))
    with pytest.raises(SealBroken):
        Sealer("new", {"new": keys["new"]}).open(sealed, b"context")


def test_a_mark_knows_its_value_and_tells_it_to_nobody_without_the_keys_R_SYS_2():
    keys = ring("old", "new")
    mark = Sealer("old", keys).mark(b"191212121212", b"request 1")
    after = Sealer("new", keys)
    assert after.marks(mark, b"191212121212", b"request 1")
    assert not after.marks(mark, b"191212121213", b"request 1")
    assert not after.marks(mark, b"191212121212", b"request 2")
    assert not after.marks(mark[:-1] + bytes([mark[-1] ^ 1]), b"191212121212", b"request 1")
    assert after.mark(b"191212121212", b"request 1") != mark, "made with the current key"
    assert Sealer("old", ring("old")).mark(b"191212121212", b"request 1") != mark, "not to be made without the key"
    with pytest.raises(KeyMissing):
        Sealer("new", {"new": keys["new"]}).marks(mark, b"191212121212", b"request 1")


def test_a_weak_or_missing_key_is_refused(tmp_path):
    file = tmp_path / "ring.json"
    for content in ("", "{}", '{"current": "a", "keys": {}}', '{"current": "a", "keys": {"a": "c2hvcnQ="}}', "[]"):
        file.write_text(content)
        with pytest.raises(ValueError):
            Sealer.from_file(file)
