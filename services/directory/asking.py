"""Direct questions to HSA about one person, in their turn."""

from __future__ import annotations

from functools import cache

from services.directory.hsa_queue import HsaQueue
from services.directory.records import Person
from services.directory.settings import DirectorySettings
from services.directory.sources import SourceError
from shared.operations.logs import log

# Left of the caller's time for what comes after HSA's answer, or instead of it.
_KEPT_BACK_SECONDS = 0.5


def about(settings: DirectorySettings, person: str, remaining: float) -> list[Person] | None:
    """HSA's person objects with this HSA-id; none in the list: missing or hidden there.

    None instead of a list: HSA is not configured, is down, or its turn did not come in the seconds that remain.
    """
    hsa = settings.hsa()
    if hsa is None:
        return None
    try:
        with _queue(settings.database_url).turn(remaining - _KEPT_BACK_SECONDS - hsa.timeout_seconds):
            return hsa.persons(person)
    except SourceError as error:
        log.warning("hsa_did_not_answer", reason=error.reason)
        return None


@cache
def _queue(database_url: str) -> HsaQueue:
    """One for the process."""
    return HsaQueue(database_url)
