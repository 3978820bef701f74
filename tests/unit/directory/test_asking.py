"""What is asked of HSA before a clinic is activated.

Proves R-ID-25.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from services.directory import asking
from services.directory.sources import SourceError
from shared.messaging.errors import Unavailable

UNIT, PROVIDER = "SE2321000131-E000000000001", "SE2321000131-E000000000007"


class Turns:
    @contextmanager
    def turn(self, seconds):
        yield


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.setattr(asking, "_queue", lambda url: Turns())
    return lambda hsa: SimpleNamespace(hsa=lambda: hsa, database_url="")


def hsa(care_provider):
    return SimpleNamespace(timeout_seconds=4, care_provider=care_provider)


def test_hsas_word_or_none_r_id_25(settings):
    assert asking.care_provider_of(settings(hsa(lambda unit: PROVIDER)), UNIT, 10) == PROVIDER
    assert asking.care_provider_of(settings(hsa(lambda unit: None)), UNIT, 10) is None
    assert asking.care_provider_of(settings(None), UNIT, 10) is None


def test_the_controller_is_not_guessed_while_hsa_is_down_r_id_25(settings):
    def down(unit):
        raise SourceError("timeout")

    with pytest.raises(Unavailable) as refused:
        asking.care_provider_of(settings(hsa(down)), UNIT, 10)
    assert refused.value.reason == "hsa_down"
