"""Files of other systems: read whole as they were at one moment, or not at all.

Proves R-DIR-12.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from services.directory.sources import SourceError, places
from services.directory.sources.kiv import Kiv


def feed(*numbers: int) -> str:
    each = [{"dn": f"ou={n}", "attributes": {"hsaIdentity": [f"SE2321000131-E{n}"]}} for n in numbers]
    return json.dumps({"units": each})


def folder(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


def read(catalogue) -> list[str]:
    return [record.dn for record in catalogue.records()]


def test_a_file_that_is_replaced_after_it_was_read_r_dir_12(tmp_path):
    place = tmp_path / "units.json"
    place.write_text(feed(1, 2))
    kiv = Kiv((str(place),), ())
    first = kiv.units(folder(tmp_path, "first"), None)
    (tmp_path / "new.json").write_text(feed(3))
    (tmp_path / "new.json").rename(place)
    assert (read(first), read(first)) == (["ou=1", "ou=2"], ["ou=1", "ou=2"])
    second = kiv.units(folder(tmp_path, "second"), first.state)
    assert read(second) == ["ou=3"]
    assert kiv.units(folder(tmp_path, "third"), second.state) is None


def test_of_several_files_those_that_are_unchanged_are_read_with_the_others(tmp_path):
    one, other = tmp_path / "units.json", tmp_path / "roles.json"
    one.write_text(feed(1))
    other.write_text(feed(2))
    kiv = Kiv((str(one), str(other)), ())
    first = kiv.units(folder(tmp_path, "first"), None)
    other.write_text(feed(3))
    assert read(kiv.units(folder(tmp_path, "second"), first.state)) == ["ou=1", "ou=3"]


def test_a_file_that_is_written_to_while_it_is_read_r_dir_12(tmp_path):
    place, done = tmp_path / "units.json", threading.Event()
    place.write_bytes(b" " * (32 << 20))

    def write():
        moment = 1
        while not done.is_set():
            moment += 1
            os.utime(place, ns=(moment, moment))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(SourceError) as refused:
            places.read_all([str(place)], places.PLAIN, tmp_path, None)
    finally:
        done.set()
        writer.join()
    assert refused.value.reason == "file_changing"


def test_a_file_that_is_too_large_or_not_there(tmp_path):
    place = tmp_path / "units.json"
    place.write_text(feed(1))
    for where, access, reason in (
        (place, places.Access(max_bytes=10), "too_large"),
        (tmp_path / "none", places.PLAIN, "file_unreadable"),
        (tmp_path, places.PLAIN, "file_unreadable"),
    ):
        with pytest.raises(SourceError) as refused:
            places.read_all([str(where)], access, folder(tmp_path, f"to {reason} {where.name}"), None)
        assert refused.value.reason == reason
