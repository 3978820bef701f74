"""From the return of the call that ends a right or a session to the refusal in every other service (R-ID-10)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from deploy.local.people import cast
from shared.contracts import attachments, cases, directory, identity, logging_in, notifications
from shared.contracts.base import Role
from shared.messaging.errors import Refused
from shared.messaging.relay import _TURN

OTHERS = ("cases", "directory", "attachments", "notifications")
REFUSED = {"not_authenticated", "forbidden", "unavailable", "deadline_exceeded"}
LIMIT_SECONDS = 1.0
ROUNDS = 12


class Person:
    """A member of staff with a session of their own, seen by every service."""

    def __init__(self, system: Any, clinic: str) -> None:
        self.system, self.clinic = system, clinic
        self.token = system.accept_terms(system.login_staff(cast.LOCAL_ADMIN)).access_token

    def looks(self) -> dict[str, Callable[[], Any]]:
        """A harmless call of each service that needs the session, and of two of them the role."""

        def make(call: Any, request: Any) -> Callable[[], Any]:
            return lambda: self.system.call(call, request, self.token, timeout=4.0)

        return {
            "cases": make(cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=self.clinic)),
            "directory": make(directory.GET_CLINICS, directory.GetClinics(clinics=[self.clinic])),
            "attachments": make(attachments.LIMITS, attachments.GetLimits()),
            "notifications": make(
                notifications.GET_CLINIC_SETTINGS, notifications.GetClinicSettings(clinic=self.clinic)
            ),
        }

    def looks_by_role(self) -> dict[str, Callable[[], Any]]:
        """Calls that only the role lets in."""
        same_id = [cases.Component(id="a", kind="text", label="x")] * 2
        request = cases.ActivateCaseType(request_id=uuid4(), clinic=self.clinic, name="x", components=same_id)

        def refused_as_malformed() -> None:
            """By those whom the role lets in."""
            try:
                self.system.call(cases.ACTIVATE_CASE_TYPE, request, self.token, timeout=4.0)
            except Refused as refused:
                if refused.code != "invalid":
                    raise

        return {"notifications": self.looks()["notifications"], "cases": refused_as_malformed}

    def log_out(self) -> None:
        self.system.call(logging_in.LOG_OUT, logging_in.LogOut(request_id=uuid4()), self.token)


class Resident:
    """A resident with a session of their own, seen by every service that answers residents."""

    def __init__(self, system: Any, number: str) -> None:
        self.system = system
        self.token = system.accept_terms(system.login_resident(number)).access_token

    def looks(self, clinic: str) -> dict[str, Callable[[], Any]]:
        """A harmless call of each."""

        def make(call: Any, request: Any) -> Callable[[], Any]:
            return lambda: self.system.call(call, request, self.token, timeout=4.0)

        return {
            "cases": make(cases.LIST_INBOX, cases.ListInbox()),
            "directory": make(directory.GET_CLINICS, directory.GetClinics(clinics=[clinic])),
            "attachments": make(attachments.LIMITS, attachments.GetLimits()),
        }


def code(look: Callable[[], Any]) -> str | None:
    try:
        look()
    except Refused as refused:
        return refused.code
    return None


def let_in(look: Callable[[], Any], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while code(look) is not None:
        assert time.monotonic() < ends, "never let in"
        time.sleep(0.05)


def seconds_to_refusal(look: Callable[[], Any], returned: threading.Event, at: list[float]) -> float:
    """From the return of the call to the start of the first look that is refused, minus nothing: as a caller sees it.

    It looks on from before the call, so that the service has all reason to answer from what it knows.
    """
    last_answered = 0.0
    while True:
        asked = time.monotonic()
        refused = code(look)
        if refused is not None:
            assert refused in REFUSED
            return max(0.0, last_answered - at[0]) if returned.is_set() else 0.0
        last_answered = asked
        assert not (returned.is_set() and asked - at[0] > LIMIT_SECONDS), "answered more than a second after"


@pytest.fixture
def clinic(system: Any) -> str:
    found: str = system.clinic().hsa_id
    return found


@contextmanager
def role_to_take(system: Any, clinic: str) -> Iterator[Callable[[], Any]]:
    """What takes the person's role, which they are given back afterwards."""
    regional = system.staff_token(cast.REGIONAL_ADMIN)
    this: dict[str, Any] = {"clinic": clinic, "person": cast.LOCAL_ADMIN, "role": Role.LOCAL_ADMIN}
    take = identity.TakeRole(request_id=uuid4(), **this)
    yield lambda: system.call(identity.TAKE_ROLE, take, regional)
    system.call(identity.GIVE_ROLE, identity.GiveRole(request_id=uuid4(), **this), regional)


@contextmanager
def login_to_lock(system: Any, number: str) -> Iterator[Callable[[], Any]]:
    """What locks the resident's login, from another session of theirs; it is unlocked afterwards."""
    other = Resident(system, number)
    yield lambda: system.call(logging_in.LOCK_LOGIN, logging_in.LockLogin(request_id=uuid4()), other.token)
    system.unlock_login(number)
    system.forget_tokens()


def revoked(looks: dict[str, Callable[[], Any]], revoke: Callable[[], Any]) -> dict[str, float]:
    """Seconds from the return of `revoke` to the start of the last look that was answered, by service."""
    returned, at = threading.Event(), [0.0]
    with ThreadPoolExecutor(len(looks)) as pool:
        running = {name: pool.submit(seconds_to_refusal, look, returned, at) for name, look in looks.items()}
        time.sleep(0.1)
        revoke()
        at[0] = time.monotonic()
        returned.set()
        return {name: one.result() for name, one in running.items()}


def told(took: dict[str, list[float]], what: str) -> str:
    parts = []
    for name, seconds in took.items():
        ordered = sorted(seconds)
        p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        parts.append(f"{name} p50 {p50 * 1000:.0f} p99 {p99 * 1000:.0f} ms")
    return f"{what}: last answer after its return: " + ", ".join(parts)


def test_r_id_21_logging_out_ends_it_everywhere(system: Any, clinic: str, progress: Any) -> None:
    """R-ID-10, R-ID-21: while the person goes on calling every service."""
    took: dict[str, list[float]] = {name: [] for name in OTHERS}
    for _ in range(ROUNDS):
        person = Person(system, clinic)
        looks = person.looks()
        for look in looks.values():
            let_in(look)
        for name, seconds in revoked(looks, person.log_out).items():
            took[name].append(seconds)
    assert max(max(seconds) for seconds in took.values()) < LIMIT_SECONDS
    progress(told(took, "log_out"))


def test_r_id_4_locking_a_login_ends_its_sessions_everywhere(system: Any, clinic: str, progress: Any) -> None:
    """R-ID-4, R-ID-21: at once, the one that it was not locked from too."""
    took: dict[str, list[float]] = {"cases": [], "directory": [], "attachments": []}
    for _ in range(ROUNDS):
        looks = Resident(system, cast.RESIDENT).looks(clinic)
        for look in looks.values():
            let_in(look)
        with login_to_lock(system, cast.RESIDENT) as lock:
            for name, seconds in revoked(looks, lock).items():
                took[name].append(seconds)
    assert max(max(seconds) for seconds in took.values()) < LIMIT_SECONDS
    progress(told(took, "lock_login"))


def test_r_id_10_taking_a_right_ends_it_everywhere(system: Any, clinic: str, progress: Any) -> None:
    """R-ID-10: where a service decides by the role."""
    took: dict[str, list[float]] = {"notifications": [], "cases": []}
    looks = Person(system, clinic).looks_by_role()
    for _ in range(ROUNDS):
        for look in looks.values():
            let_in(look)
        with role_to_take(system, clinic) as take:
            for name, seconds in revoked(looks, take).items():
                took[name].append(seconds)
    assert max(max(seconds) for seconds in took.values()) < LIMIT_SECONDS
    progress(told(took, "take_role"))


def refused_from_now_on(looks: dict[str, Callable[[], Any]], seconds: float, *codes: str) -> None:
    """No service answers, from the first look on, and each says one of these."""
    ends = time.monotonic() + seconds
    with ThreadPoolExecutor(len(looks)) as pool:
        while time.monotonic() < ends:
            for name, found in zip(looks, pool.map(code, looks.values()), strict=True):
                assert found in codes, f"{name} answered: {found}"


@contextmanager
def events_held_back(system: Any) -> Iterator[None]:
    """Identity's relay does not run."""
    with psycopg.connect(system.stack.database_url("identity"), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (_TURN,))
        yield


def let_in_everywhere(person: Person) -> dict[str, Callable[[], Any]]:
    looks = person.looks()
    for look in looks.values():
        let_in(look)
    return looks


def test_r_id_10_also_when_identitys_relay_is_down(system: Any, clinic: str) -> None:
    """R-ID-10: its events do not leave, so that everybody has to ask it, and hears that the session has ended."""
    person = Person(system, clinic)
    looks = let_in_everywhere(person)
    with events_held_back(system):
        person.log_out()
        time.sleep(LIMIT_SECONDS)
        refused_from_now_on(looks, 1.5, "not_authenticated")


def test_r_id_10_unavailable_while_identity_does_not_answer(system: Any, clinic: str) -> None:
    """R-ID-10: its events did not leave and it gives no reply: the copies have the session as living, and nobody
    answers by them, neither for the one who has logged out nor for anybody else."""
    person, other = Person(system, clinic), Person(system, clinic)
    looks, others = let_in_everywhere(person), let_in_everywhere(other)
    with events_held_back(system):
        person.log_out()
        system.process("identity").kill()
        time.sleep(LIMIT_SECONDS)
        refused_from_now_on(looks, 1.5, "unavailable")
        refused_from_now_on(others, 1.5, "unavailable")
    system.process("identity").start()
    for look in others.values():
        let_in(look)
    refused_from_now_on(looks, 1.0, "not_authenticated")


def test_r_id_10_also_when_the_services_were_down(system: Any, clinic: str) -> None:
    """R-ID-10: killed before, started after, and not told yet: what they know is old, and they know it."""
    person = Person(system, clinic)
    looks = let_in_everywhere(person)
    for name in OTHERS:
        system.process(name).kill()
    with events_held_back(system):
        person.log_out()
        with ThreadPoolExecutor(len(OTHERS)) as pool:
            list(pool.map(lambda name: system.process(name).start(), OTHERS))
        refused_from_now_on(looks, 1.0, "not_authenticated")


def test_r_id_10_also_when_the_broker_was_down(system: Any, clinic: str) -> None:
    """R-ID-10: what identity told while it was down has not arrived; nobody answers by the copy from before, but asks,
    and is `unavailable` for as long as identity is not reached."""
    person = Person(system, clinic)
    looks = let_in_everywhere(person)
    with events_held_back(system):
        person.log_out()
        system.server("rabbitmq").kill()
        system.server("rabbitmq").start()
        refused_from_now_on(looks, 3.0, "unavailable", "not_authenticated")
        system.wait_ready()
        refused_from_now_on(looks, 1.0, "not_authenticated")
