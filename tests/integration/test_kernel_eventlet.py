"""The database under eventlet: one query must not stop the other green threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LONGEST_SECONDS = 380


def run_green(program: str, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "import eventlet; eventlet.monkey_patch()\n" + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
    )


def test_queries_of_green_threads_run_at_the_same_time(kernel_db):
    done = run_green(
        """
        import json, os, sys, time
        from shared.database.transaction import Database
        from shared.security.sealing import Sealer
        import sqlalchemy, eventlet
        database = Database(sys.argv[1], service="cases", sealer=Sealer("k", {"k": b"k" * 32}), pool_size=20)
        sleep = lambda _: database.read(lambda tx: tx.execute(sqlalchemy.text("SELECT pg_sleep(0.5)")).all())
        begun = time.monotonic()
        list(eventlet.GreenPool(20).imap(sleep, range(20)))
        print(json.dumps({"seconds": time.monotonic() - begun, "inherited": os.environ.get("PSYCOPG_WAIT_FUNC")}))
        """,
        kernel_db.url,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["seconds"] < 3, "the queries ran one after the other"
    assert answer["inherited"] is None


def test_a_process_where_queries_would_stop_all_threads_does_not_start(kernel_db):
    done = run_green(
        """
        import sys, psycopg
        from shared.database.engine import create
        create(sys.argv[1], application_name="test")
        """,
        kernel_db.url,
    )
    assert done.returncode == 1
    assert "psycopg would stop all green threads" in done.stderr


@pytest.mark.timeout(_LONGEST_SECONDS + 20)
@pytest.mark.parametrize("module", ["test_kernel_idempotency.py", "test_kernel_relay.py", "test_kernel_events.py"])
def test_the_kernel_behaves_the_same_under_eventlet(module, database_server, kernel_broker):
    done = run_green(
        f"""
        import sys, shared.database, pytest
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:timeout", "-o", "addopts=",
                              "-k", "not thousand", "tests/integration/{module}"]))
        """,
        "",
        KERNEL_TEST_DATABASE=database_server,
        KERNEL_TEST_BROKER=kernel_broker.url,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
