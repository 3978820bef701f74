"""Programs of a benchmark: each a process, told what to do by a line of JSON and answering by one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.local.folder import CHECKOUT
from deploy.local.keys import Keys
from deploy.local.own_processes import NAMEKO_CONFIG
from deploy.local.problems import Problem
from deploy.local.processes import INHERITED

_START_SECONDS = 40.0
_ANSWER_SECONDS = 60.0
_STOP_SECONDS = 10.0


def settings_of(service: str, keys: Keys, broker_url: str, database_url: str) -> dict[str, str]:
    """The environment of a service's process."""
    return {
        "AMQP_URL": broker_url,
        "DATABASE_URL": database_url,
        "SIGNING_KEY_FILE": str(keys.signing_key(service)),
        "TRUSTED_KEYS_FILE": str(keys.trusted),
        "DATA_KEYS_FILE": str(keys.data_keys(service)),
        "OPERATOR_KEY_FILE": str(keys.signing_key("operator")),
    }


class Program:
    """A module `bench.parts.<role>`: run by Python, or by `nameko run` and then it is told nothing."""

    def __init__(
        self, role: str, arguments: list[str], settings: Mapping[str, str], folder: Path, *, nameko: bool = False
    ) -> None:
        self.role = role
        module = f"bench.parts.{role}"
        command = ["-m", module, *arguments]
        if nameko:
            command = ["-m", "nameko", "run", "--config", str(CHECKOUT / NAMEKO_CONFIG), module]
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(settings)
        self._log = folder / f"{role}.log"
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-W", "ignore", *command],
                cwd=CHECKOUT,
                env=environment | {"PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.PIPE,
                stdout=log if nameko else subprocess.PIPE,
                stderr=log,
                text=True,
            )
        if not nameko:
            self._answer("to start", _START_SECONDS)

    def ask(self, **order: Any) -> Any:
        """Tells it what to do, and returns what it answers."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return self._answer("to answer", _ANSWER_SECONDS)

    def _answer(self, what: str, seconds: float) -> Any:
        assert self._child.stdout is not None
        watch = threading.Timer(seconds, self._child.kill)
        watch.start()
        try:
            while line := self._child.stdout.readline():
                if line.startswith("="):  # all else is the kernel's log
                    return json.loads(line[1:])
        finally:
            watch.cancel()
        raise Problem(f"the benchmark's {self.role} failed {what}:\n{self._log.read_text()[-3000:]}")

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))

    def stop(self) -> None:
        """Ends it in its orderly way, at last by force."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def serve(orders: Mapping[str, Callable[..., Any]]) -> None:
    """In the program: says that it is ready, then runs each order and answers, until there are no more."""
    _tell(None)
    while True:
        select.select([sys.stdin], [], [])  # `readline` would stop the green threads
        line = sys.stdin.readline()
        if not line:
            break
        order = json.loads(line)
        _tell(orders[order.pop("order")](**order))


def _tell(answer: Any) -> None:
    print("=" + json.dumps(answer), flush=True)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = _START_SECONDS) -> None:
    """Returns when it holds. Raises `Problem` if it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise Problem(f"{what} took too long")
        time.sleep(0.05)
