"""The JSON feed, read record by record: whole, or refused with the reason (R-DIR-12)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.directory.records import Raw
from services.directory.sources import SourceError, feed

KEYS = ("units", "roles")
GOOD = {"meta": {"Version": "1.0", "n": [1, 2.5, "}"]}, "units": [{"dn": "ou=Å", "attributes": {"ou": ["Å"]}}] * 3}


def read(folder, content):
    path = folder / "feed.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(feed.records(path, KEYS))


def reason(folder, content):
    with pytest.raises(SourceError) as refused:
        read(folder, content)
    return refused.value.reason


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_record_comes(tmp_path, indent, mark):
    assert read(tmp_path, mark + json.dumps(GOOD, indent=indent)) == [Raw("ou=Å", {"ou": ["Å"]})] * 3


def test_functions_under_their_own_key_and_keys_in_any_case(tmp_path):
    content = {"Roles": [{"DN": "cn=x", "Attributes": {}}], "units": [], "total": 1}
    assert read(tmp_path, json.dumps(content)) == [Raw("cn=x", {})]


def test_items_that_are_no_records_come_as_none(tmp_path):
    content = {"units": [None, 1, "x", [], {}, {"attributes": []}, {"attributes": {}}]}
    assert read(tmp_path, json.dumps(content)) == [None] * 6 + [Raw("", {})]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
def test_the_window_may_end_anywhere(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(feed, "_PIECE", piece)
    content = {"meta": 12345, "units": [{"dn": "åäö€😀", "attributes": {"n": [1.25e-3, 12345, True]}}]}
    assert read(tmp_path, json.dumps(content, ensure_ascii=False)) == [Raw("åäö€😀", {"n": [1.25e-3, 12345, True]})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<html>503</html>", "not_json"),
        ("[]", "not_json"),
        ('{"units": [] } x', "not_json"),
        ('{"units": [NaN]}', "not_json"),
        ('{"units": [1 2]}', "not_json"),
        ('{"meta": {}}', "no_records"),
        ('{"units": {}}', "no_records"),
        ("{}", "no_records"),
        (json.dumps(GOOD).encode("utf-16"), "not_utf8"),
        (json.dumps(GOOD, ensure_ascii=False).encode("latin-1"), "not_utf8"),
        ('{"units": [' + "[" * 200_000, "nested_too_deep"),
    ],
)
def test_what_is_no_feed(tmp_path, content, expected):
    assert reason(tmp_path, content) == expected


@given(st.data())
def test_a_truncated_feed_never_passes(tmp_path_factory, data):
    content = json.dumps(GOOD, ensure_ascii=False).encode()
    cut = data.draw(st.integers(0, len(content) - 1))
    assert reason(tmp_path_factory.mktemp("feed"), content[:cut]) in ("empty", "truncated", "not_utf8", "not_json")


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_is_raised(tmp_path_factory, content):
    reason(tmp_path_factory.mktemp("feed"), content)
