"""How progress is told to the person who waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import click


def progress() -> Callable[[str], None]:
    """Tells on standard error, with the seconds since it began; from any thread."""
    began, lock = time.monotonic(), threading.Lock()

    def say(text: str) -> None:
        with lock:
            click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)

    return say
