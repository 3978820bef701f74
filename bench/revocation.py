"""How long a right that has been taken, or a session that has ended, is still honoured elsewhere (R-ID-10, R-ID-21).

From the return of the call that ends it to the start of the last look that another service answered, while one looks
at each of them without a pause; 0 where none was answered any more. The whole system runs, as `./dev up` has it.
"""

from __future__ import annotations

from bench.parts.report import Figure
from bench.parts.servers import Servers
from deploy.local.people import cast
from deploy.local.stack import Stack
from tests.faults.test_revocation_everywhere import (
    LIMIT_SECONDS,
    Person,
    Resident,
    let_in,
    login_to_lock,
    revoked,
    role_to_take,
)
from tests.stack.system import System

REVOCATIONS = 100
_MS = 1000


def measure(servers: Servers, revocations: int = REVOCATIONS) -> list[Figure]:
    """The figures of this benchmark."""
    stack = Stack(servers.folder / "whole", passing=True)
    try:
        stack.start_servers()
        stack.start_system()
        with System(stack) as system:
            system.prepare()
            clinic = system.clinic().hsa_id
            return [
                *_told("logging out", _logging_out(system, clinic, revocations)),
                *_told("taking a role", _taking_a_role(system, clinic, revocations)),
                *_told("locking a login", _locking_a_login(system, clinic, revocations)),
            ]
    finally:
        stack.destroy()


def _logging_out(system: System, clinic: str, revocations: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    for _ in range(revocations):
        person = Person(system, clinic)
        looks = person.looks()
        for look in looks.values():
            let_in(look)
        for name, seconds in revoked(looks, person.log_out).items():
            took.setdefault(name, []).append(seconds)
    return took


def _taking_a_role(system: System, clinic: str, revocations: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    for _ in range(revocations):
        looks = Person(system, clinic).looks_by_role()
        for look in looks.values():
            let_in(look)
        with role_to_take(system, clinic) as take:
            for name, seconds in revoked(looks, take).items():
                took.setdefault(name, []).append(seconds)
    return took


def _locking_a_login(system: System, clinic: str, revocations: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    for _ in range(revocations):
        looks = Resident(system, cast.RESIDENT).looks(clinic)
        for look in looks.values():
            let_in(look)
        with login_to_lock(system, cast.RESIDENT) as lock:
            for name, seconds in revoked(looks, lock).items():
                took.setdefault(name, []).append(seconds)
    return took


def _told(what: str, took: dict[str, list[float]]) -> list[Figure]:
    """For each service; the bar is that of each single one, which p99 of a hundred nearly is."""
    return [
        Figure(
            f"{what}, last answer of {name} after its return, {quantile}",
            _MS * sorted(seconds)[min(len(seconds) - 1, len(seconds) * percent // 100)],
            "ms",
            _MS * min(seconds),
            _MS * max(seconds),
            len(seconds),
            _MS * LIMIT_SECONDS if percent == 99 else None,
            at_most=True,
        )
        for name, seconds in took.items()
        for percent, quantile in ((50, "p50"), (99, "p99"))
    ]
