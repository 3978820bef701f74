"""What earlier runs of the tests left behind, because they were killed: their processes and folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

from deploy.local.processes import start_time


def sweep(home: Path) -> None:
    """Ends processes and removes folders of runs whose own process is gone."""
    for folder in home.glob("[0-9]*"):
        if start_time(int(folder.name)) is None:
            for record in (folder / "run").glob("*.json"):
                _kill(record)
            _remove_containers(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _remove_containers(folder: Path) -> None:
    description = folder / "stack.json"
    if description.exists() and json.loads(description.read_text())["kind"] == "containers":
        from deploy.local.servers import containers

        if containers.engine_answers():
            containers.sweep(folder)


def _kill(record: Path) -> None:
    try:
        known = json.loads(record.read_text())
        if start_time(known["pid"]) == known["start_time"]:
            os.killpg(known["pid"], signal.SIGKILL)
    except (OSError, ValueError, KeyError):
        return
