"""Identity's database alone is put back from a copy: its numbers go back, and others know of later ones (R-ID-10)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy.local.databases import drop_database
from deploy.local.people import cast
from deploy.local.servers.postgres import binaries
from shared.contracts import logging_in
from shared.messaging.errors import NotAuthenticated
from tests.faults.test_revocation_everywhere import (
    LIMIT_SECONDS,
    OTHERS,
    Person,
    code,
    let_in,
    revoked,
    role_to_take,
)

CHANGES = 4


@pytest.fixture
def clinic(system: Any) -> str:
    found: str = system.clinic().hsa_id
    return found


@pytest.fixture
def session(system: Any) -> logging_in.SessionOpened:
    """One that the copy has."""
    opened: logging_in.SessionOpened = system.accept_terms(system.login_staff(cast.LOCAL_ADMIN))
    return opened


@pytest.fixture
def put_back(system: Any, session: logging_in.SessionOpened, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Copies identity's database, and puts the copy in its place when called, as docs/operations.md says."""
    tools, postgres, copy = binaries(), system.stack.postgres, tmp_path / "identity.dump"
    assert tools is not None
    subprocess.run([tools / "pg_dump", "-Fc", "-f", copy, "-d", postgres.admin_url("identity")], check=True)

    def put() -> None:
        system.process("identity").stop()
        drop_database(postgres.admin_url(), "identity")
        subprocess.run([tools / "pg_restore", "--create", "-d", postgres.admin_url(), copy], check=True)
        program = system.stack.processes["identity"].program
        begin_anew = [sys.executable, "-m", "services.identity.restored"]
        subprocess.run(begin_anew, env=dict(program.env), cwd=program.cwd, check=True)
        system.process("identity").start()
        system.forget_tokens()

    yield put
    for service in OTHERS:  # what `mend_rights` would do ten minutes from now
        system.rows(service, "UPDATE rights_state SET applied = %s", number(system))
    system.forget_tokens()


def number(system: Any) -> int:
    [(found,)] = system.rows("identity", "SELECT number FROM rights_clock")
    return int(found)


def wait_until_all_have(system: Any, latest: int) -> None:
    ends = time.monotonic() + 20
    for service in OTHERS:
        while system.rows(service, "SELECT applied FROM rights_state")[0][0] < latest:
            assert time.monotonic() < ends, f"{service} does not hear"
            time.sleep(0.05)


def test_r_id_10_a_right_taken_after_identity_alone_was_restored_works_nowhere(
    system: Any, clinic: str, put_back: Callable[[], None]
) -> None:
    """R-ID-10: the copies had changes of higher numbers than the restored identity gives next."""
    before = number(system)
    for _ in range(CHANGES):
        with role_to_take(system, clinic) as take:
            take()
    assert number(system) >= before + 2 * CHANGES
    wait_until_all_have(system, number(system))
    put_back()
    looks = Person(system, clinic).looks_by_role()
    for look in looks.values():
        let_in(look)
    with role_to_take(system, clinic) as take:
        assert max(revoked(looks, take).values()) < LIMIT_SECONDS
        ends = time.monotonic() + 1
        while time.monotonic() < ends:
            assert {code(look) for look in looks.values()} == {"forbidden"}


def test_r_id_21_a_session_that_had_ended_does_not_live_again_with_a_restored_identity(
    system: Any, clinic: str, session: logging_in.SessionOpened, put_back: Callable[[], None]
) -> None:
    """R-ID-10, R-ID-21: begun before the copy was made, logged out after it; by neither of its tokens."""
    person = Person(system, clinic)
    person.token = session.access_token
    person.log_out()
    put_back()
    for name, look in person.looks().items():
        assert code(look) == "not_authenticated", name
    renew = logging_in.RenewSession(request_id=uuid4(), renewal_token=session.renewal_token)
    with pytest.raises(NotAuthenticated):
        system.call(logging_in.RENEW_SESSION, renew)
