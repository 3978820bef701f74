"""Structured logs on standard output, without personal data (R-SYS-3).

Only the keys below pass. A value under any other key is replaced, so that a careless line shows itself and leaks
nothing; of an exception only the type and where it was raised are kept, never its text.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

ALLOWED_KEYS = frozenset(
    """event level timestamp service process version call_id origin_call_id method code reason duration_ms event_id
    event_type source attempt attempts delay_seconds job due run state count total added changed removed refused link
    queue error_type where missing setting problem port path pid case message_id attachment delivery clinic_count number
    signal step seconds size replica channel kind batch statement workers outcome retry host database migration
    applied latest age_ms bytes audience object digest table key_id""".split()  # noqa: SIM905 - a list of eighty quoted words is no pleasure to read
)
_WITHHELD = "[withheld]"
_LIBRARIES = "site-packages"


def _only_allowed(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in line:
        if key not in ALLOWED_KEYS and key != "exc_info":
            line[key] = _WITHHELD
    return line


def _exception_without_text(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raised = line.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    if isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        line["error_type"] = type(raised).__name__
        frames = traceback.extract_tb(raised.__traceback__)
        own = [frame for frame in frames[:-1] if _LIBRARIES not in frame.filename][-5:] + frames[-1:]
        line["where"] = [f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.name}" for frame in own]
    return line


class _NeverFails:
    """Standard output, where a line is lost rather than the work that told it: the disk under it may be full."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


class _Foreign(logging.Handler):
    """Lines of libraries: their logger and level only. Their texts may hold arguments and so personal data."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log.log(record.levelno, "library_message", source=record.name, exc_info=error)


def configure(service: str, process: str = "service") -> None:
    """Sets up logging for this process; to be called once, first of all."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_names(service, process),
            _exception_without_text,
            _only_allowed,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_NeverFails()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    logging.root.handlers[:] = [_Foreign(level=logging.WARNING)]
    logging.root.setLevel(logging.WARNING)


def _with_names(service: str, process: str) -> Any:
    def add(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["service"], line["process"] = service, process
        return line

    return add


log: Any = structlog.get_logger()
