"""Runs the syncs that are asked for: a plain process, any number of them, one active.

python -m services.directory.worker
"""

from __future__ import annotations

import time
from contextlib import closing

from services.directory import sync
from services.directory.settings import DirectoryWorkerSettings
from shared.contracts.directory import directory
from shared.database.engine import is_lost
from shared.messaging.errors import Refused
from shared.operations.logs import log
from shared.operations.process import Process

_FIRST_LOAD_AGAIN_SECONDS = 60


def work(process: Process) -> None:
    """Takes turns with other workers until told to stop."""
    while not process.stopping.is_set():
        try:
            with closing(sync.Turn(process.settings.database_url)) as turn:
                _while_ours(process, turn)
        except Exception as error:
            if not (isinstance(error, Refused) or is_lost(error)):
                raise
            log.warning("sync_waits", problem="no_database", exc_info=error)
        process.stopping.wait(process.settings.poll_seconds)


def _while_ours(process: Process, turn: sync.Turn) -> None:
    settings = process.settings
    sources = settings.sources()
    look_at_first_load = 0.0
    while not process.stopping.is_set():
        if not turn.taken():
            process.stopping.wait(settings.poll_seconds)
            continue
        if time.monotonic() >= look_at_first_load:
            look_at_first_load = time.monotonic() + _FIRST_LOAD_AGAIN_SECONDS
            with process.transaction() as tx:
                if sync.first_load_wanted(tx, sources):
                    sync.request_by_itself(tx)
        if not sync.run_next(process.transaction, sources, settings.max_removed_share):
            process.stopping.wait(settings.poll_seconds)


if __name__ == "__main__":
    Process("directory", "worker", DirectoryWorkerSettings, contract=directory).run(work)
