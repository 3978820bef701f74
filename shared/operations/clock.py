"""The time, for everything that the rules speak of.

Tests and the local stack may move it (CLOCK_FILE); deadlines, pauses and freshness use `time.monotonic` instead.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

SWEDEN = ZoneInfo("Europe/Stockholm")
_LOOK_AGAIN_SECONDS = 0.05


class Clock:
    """The real time, moved by what the file says, if there is one: `{"offset_seconds": 86400}`."""

    def __init__(self, file: str | None = None) -> None:
        self._file = Path(file) if file else None
        self._offset = timedelta()
        self._looked = 0.0
        self._stamp: tuple[int, int] | None = None

    def now(self) -> datetime:
        """This moment, in UTC."""
        if self._file is not None and time.monotonic() - self._looked >= _LOOK_AGAIN_SECONDS:
            self._look()
        return datetime.now(UTC) + self._offset

    def _look(self) -> None:
        assert self._file is not None
        self._looked = time.monotonic()
        try:
            status = os.stat(self._file)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._offset = timedelta(seconds=float(json.loads(self._file.read_text())["offset_seconds"]))
                self._stamp = stamp
        except FileNotFoundError:
            self._offset, self._stamp = timedelta(), None


_clock = Clock(os.environ.get("CLOCK_FILE"))


def now() -> datetime:
    """This moment, in UTC."""
    return _clock.now()


def today() -> date:
    """The date in Sweden."""
    return now().astimezone(SWEDEN).date()


def use(file: str | None) -> None:
    """Takes the time from this file's offset from now on; None: the real time."""
    global _clock
    _clock = Clock(file)
