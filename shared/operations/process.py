"""A plain program of a service (no nameko, no eventlet): for work in C, for slow outside services, for long runs.

process = Process("attachments", "worker", WorkerSettings, contract=attachments)
process.run(check_files)          # check_files(process) returns when process.stopping is set

`DatabaseProcess` is the same for one that is to have neither the broker nor any key of its service.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

from shared.contracts.base import Call, Contract
from shared.database.transaction import Transaction
from shared.messaging.client import STANDARD_TIMEOUT_SECONDS
from shared.operations.core import Answer, Core, DatabaseCore
from shared.operations.logs import log
from shared.operations.settings import ProcessSettings, ServiceSettings, read_or_exit

_CONNECTIONS = 10


class DatabaseProcess:
    """One that uses its service's database alone; `settings` are read, and the process ended with status 78 if they are
    wrong, at once."""

    core: DatabaseCore

    def __init__(self, service: str, process: str, settings: type[ProcessSettings]) -> None:
        self.settings: Any = read_or_exit(settings)
        self.core = self._core(service, process)
        self.stopping = threading.Event()
        """Set when the program has been told to stop; loops finish what they have begun, and return."""

    def _core(self, service: str, process: str) -> DatabaseCore:
        return DatabaseCore(self.settings, service, process, sealer=None, connections=_CONNECTIONS)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """One transaction, committed at the end of the block."""
        return self.core.database.transaction()

    def run(self, *loops: Callable[[Self], None]) -> None:
        """Runs each loop on a thread of its own until told to stop (SIGTERM, SIGINT). One that fails ends them all."""

        def told(number: int, _frame: object) -> None:
            log.info("told_to_stop", signal=number)
            self.stopping.set()

        signal.signal(signal.SIGTERM, told)
        signal.signal(signal.SIGINT, told)
        failed: list[BaseException] = []

        def guarded(loop: Callable[[Self], None]) -> None:
            try:
                loop(self)
            except Exception as error:
                failed.append(error)
                log.error("process_failed", exc_info=error)
            finally:
                self.stopping.set()

        self.core.start()
        threads = [threading.Thread(target=guarded, args=(loop,), name=loop.__name__) for loop in loops]
        for thread in threads:
            thread.start()
        while not self.stopping.wait(1.0):  # waits in turns, so that the signal's handler gets its turn on this thread
            pass
        for thread in threads:
            thread.join()
        self.core.stop()
        if failed:
            raise SystemExit(1)


class Process(DatabaseProcess):
    """One that also calls other services, and whose events are told by itself."""

    core: Core

    def __init__(self, service: str, process: str, settings: type[ServiceSettings], *, contract: Contract) -> None:
        if contract.name != service:
            raise ValueError("the contract is another service's")
        self._contract = contract
        super().__init__(service, process, settings)

    def _core(self, service: str, process: str) -> Core:
        return Core(self.settings, self._contract, process, connections=_CONNECTIONS)

    def ask(self, call: Call[Any, Answer], request: Any, timeout: float = STANDARD_TIMEOUT_SECONDS) -> Answer:
        """Asks another service, as this one. Raises the errors of `RpcClient.ask`."""
        return self.core.ask(call, request, timeout)
