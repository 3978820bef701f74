"""One database per service: the engine, transactions, the kernel's own tables, migrations.

Importing this package imports psycopg, and sees to it that it waits the way eventlet needs: in its default way a single
query stops every green thread of the process until it is answered.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

_SETTING = "PSYCOPG_WAIT_FUNC"


def eventlet_is_in_charge() -> bool:
    """Whether sockets of this process belong to eventlet."""
    if "eventlet" not in sys.modules:
        return False
    from eventlet.patcher import is_monkey_patched

    return bool(is_monkey_patched("socket"))


def _import_psycopg() -> None:
    """psycopg reads the setting once, at import. It is taken back after, so that child processes do not inherit it."""
    ours = eventlet_is_in_charge() and _SETTING not in os.environ
    if ours:
        os.environ[_SETTING] = "wait_selector"
    try:
        import_module("psycopg")
    finally:
        if ours:
            del os.environ[_SETTING]


_import_psycopg()
