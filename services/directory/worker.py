"""Runs the syncs that are asked for: a plain process, any number of them, one active for each kind of run.

python -m services.directory.worker
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from services.directory import locks, refreshing, sync
from services.directory.hsa_queue import HsaQueue
from services.directory.settings import DirectoryWorkerSettings
from services.directory.sources import HSA, believed_before
from shared.contracts.directory import directory
from shared.database.engine import is_lost
from shared.messaging.errors import Refused
from shared.operations.logs import log
from shared.operations.process import Process

_FIRST_LOAD_AGAIN_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0


def catalogues(process: Process) -> None:
    """Runs with catalogues, in turn with other workers, until told to stop."""
    settings = process.settings
    sources = settings.sources()
    look_at_first_load, pause = 0.0, _FIRST_LOAD_AGAIN_SECONDS

    def run_next() -> bool:
        nonlocal look_at_first_load, pause
        if time.monotonic() >= look_at_first_load:
            look_at_first_load = time.monotonic() + pause
            with process.transaction() as tx:
                if sync.request_first_load(tx, sources):
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return sync.run_next(process.transaction, sources, settings.max_removed_share, settings.order())

    _in_turn(process, locks.SYNC, run_next)


def questions(process: Process) -> None:
    """Runs with HSA, likewise; they take hours, and stand in nobody's way."""
    settings = process.settings
    hsa, asking, richer = settings.hsa(), None, []
    if hsa is not None:
        asking = refreshing.Asking(hsa, HsaQueue(settings.database_url), process.stopping)
        with_units = {one.name for one in settings.sources() if one.has_units}
        richer = [name for name in believed_before(HSA, settings.order()) if name in with_units]
    _in_turn(
        process,
        locks.HSA_REFRESH,
        lambda: refreshing.run_next(process.transaction, asking, settings.max_removed_share, richer),
    )


def _in_turn(process: Process, lock: int, run_next: Callable[[], bool]) -> None:
    while not process.stopping.is_set():
        try:
            with closing(sync.Turn(process.settings.database_url, lock)) as turn:
                while not process.stopping.is_set():
                    if not turn.taken() or not run_next():
                        process.stopping.wait(process.settings.poll_seconds)
        except Exception as error:
            if not (isinstance(error, Refused) or is_lost(error)):
                raise
            log.warning("sync_waits", problem="no_database", exc_info=error)
        process.stopping.wait(process.settings.poll_seconds)


if __name__ == "__main__":
    Process("directory", "worker", DirectoryWorkerSettings, contract=directory).run(catalogues, questions)
