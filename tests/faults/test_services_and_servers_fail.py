"""Processes and servers that fail while cases are written:

nothing acknowledged is lost, nothing happens twice (R-SYS-5).
"""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest

from deploy.local.people import cast
from shared.contracts import cases, identity, logging_in, notifications
from shared.contracts.base import Role
from shared.messaging.errors import DeadlineExceeded, Refused, Unavailable
from shared.messaging.relay import _TURN
from tests.stack.system import Clinic

WRITERS = 4
HELLO = [cases.Answer(component="t", values=["Hej"])]
ONLY_CALLS = '"missing": ["calls"]'
_GIVE_UP_SECONDS = 120.0


@dataclass
class Room:
    """A clinic of the test's own, where residents write."""

    clinic: str
    case_type: UUID
    address: str


@pytest.fixture
def room(system):
    clinic = system.clinic()
    admin = system.staff_token(cast.LOCAL_ADMIN)
    activate = cases.ActivateCaseType(
        request_id=uuid4(),
        clinic=clinic.hsa_id,
        name="Kontakta mig",
        components=[cases.Component(id="t", kind="text", label="Vad gäller det?", required=True)],
    )
    address = f"ny-{uuid4().hex[:8]}@vgregion.example"
    settings = notifications.SetClinicSettings(request_id=uuid4(), clinic=clinic.hsa_id, new_case_addresses=[address])
    system.call(notifications.SET_CLINIC_SETTINGS, settings, admin)
    return Room(clinic.hsa_id, system.call(cases.ACTIVATE_CASE_TYPE, activate, admin).case_type, address)


def start_until_answered(system, room, token):
    """As a good caller does: the same request id until there is an answer. Each try ends within its deadline."""
    start = cases.StartCase(
        request_id=uuid4(),
        clinic=room.clinic,
        case_type=room.case_type,
        answers=HELLO,
    )
    gives_up = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        began = time.monotonic()
        try:
            return system.call(cases.START_CASE, start, token, timeout=4.0).case
        except (Unavailable, DeadlineExceeded):
            assert time.monotonic() - began < 5.5, "an answer or a typed error within the deadline"
            assert time.monotonic() < gives_up, "no answer although the trouble is over"
            time.sleep(0.05)


@contextmanager
def residents_writing(system, room):
    """Residents start cases, one after the other, for as long as the block runs; the ids of those acknowledged."""
    token = system.resident_token(cast.RESIDENT)
    over = threading.Event()
    acknowledged: list[UUID] = []

    def write():
        while not over.is_set():
            acknowledged.append(start_until_answered(system, room, token))
            time.sleep(0.02)

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write) for _ in range(WRITERS)]
        try:
            yield acknowledged
        finally:
            over.set()
        for writer in writers:
            writer.result()


def wait_until(condition, what, seconds=60.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, what
        time.sleep(0.1)


def assert_all_there_once(system, room, acknowledged):
    """Every acknowledged case is there once, nothing else is, and each was told to the clinic exactly once."""
    assert len(acknowledged) == len(set(acknowledged)) > 0
    stored = {row[0] for row in system.rows("cases", "SELECT id FROM cases WHERE clinic = %s", room.clinic)}
    assert stored == set(acknowledged)
    wait_until(lambda: system.rows("cases", "SELECT count(*) FROM outbox") == [(0,)], "all events are published")
    wait_until(lambda: len(system.mail(room.address)) >= len(acknowledged), "each case is told")
    time.sleep(0.5)
    assert len(system.mail(room.address)) == len(acknowledged)  # R-NOT-7


def test_a_service_is_killed_at_random_while_residents_write_R_SYS_5(system, room):
    with residents_writing(system, room) as acknowledged:
        for _ in range(4):
            time.sleep(random.uniform(0.1, 1.2))
            system.process("cases").restart(kill=True)
    assert_all_there_once(system, room, acknowledged)


def test_hearers_are_killed_at_random_while_residents_write_R_SYS_5(system, room):
    with residents_writing(system, room) as acknowledged:
        for name in ("notifications", "attachments", "notifications"):
            time.sleep(random.uniform(0.1, 1.0))
            system.process(name).restart(kill=True)
    assert_all_there_once(system, room, acknowledged)


def test_a_service_stops_gracefully_and_loses_nothing_R_SYS_5(system, room):
    with residents_writing(system, room) as acknowledged:
        for _ in range(2):
            time.sleep(0.5)
            system.process("cases").restart()
    assert_all_there_once(system, room, acknowledged)


@pytest.mark.parametrize("service", ["cases", "identity"])
def test_a_rolling_restart_fails_no_call_R_SYS_5(system, room, service):
    """Two processes of the service, one restarted after the other: no caller is told anything but an answer."""
    clinic = Clinic(room.clinic, "")
    system.give(clinic, cast.RECEIVER, Role.CASE_RECEIVER, by=cast.LOCAL_ADMIN)
    receiver, resident = system.staff_token(cast.RECEIVER), system.resident_token(cast.RESIDENT)
    read = cases.ListClinicCases(clinic=room.clinic)
    wait_until(lambda: not refused(lambda: system.call(cases.LIST_CLINIC_CASES, read, receiver)), "let in", 5)
    over, answered = threading.Event(), []

    def call_on():
        while not over.is_set():
            start = cases.StartCase(request_id=uuid4(), clinic=room.clinic, case_type=room.case_type, answers=HELLO)
            answered.append(system.call(cases.START_CASE, start, resident, timeout=4.0).case)
            system.call(cases.LIST_CLINIC_CASES, read, receiver, timeout=4.0)

    with system.replica(service) as replica, ThreadPoolExecutor(WRITERS) as pool:
        callers = [pool.submit(call_on) for _ in range(WRITERS)]
        try:
            for one in (system.process(service), replica):
                one.restart()
        finally:
            over.set()
        for caller in callers:
            caller.result()
    assert_all_there_once(system, room, answered)


def test_a_fresh_process_takes_no_calls_before_it_can_answer_them_R_ID_10(system, room):
    """Its rights clock has not been heard yet: the others go on answering, or the calls wait."""
    system.process("identity").pause()
    with system.replica("cases", wait=False) as replica:
        wait_until(lambda: ONLY_CALLS in replica.missing(), "it has all but the calls", 30)
        looked = time.monotonic()
        while time.monotonic() - looked < 2.0:
            assert ONLY_CALLS in replica.missing()
        system.process("identity").resume()
        replica.wait()


def test_connections_to_the_broker_are_cut_in_the_middle_of_calls_R_SYS_5(system, room):
    with residents_writing(system, room) as acknowledged:
        for _ in range(8):
            time.sleep(random.uniform(0.1, 0.8))
            system.close_broker_connections()
    assert_all_there_once(system, room, acknowledged)


def test_the_broker_is_killed_and_comes_back_R_SYS_5(system, room):
    with residents_writing(system, room) as acknowledged:
        time.sleep(0.5)
        system.server("rabbitmq").restart(kill=True)
        time.sleep(1.0)
    assert_all_there_once(system, room, acknowledged)


def test_the_databases_are_restarted_in_the_middle_of_calls_R_SYS_5(system, room):
    with residents_writing(system, room) as acknowledged:
        for kill in (False, True):
            time.sleep(0.5)
            system.server("postgres").restart(kill=kill)
    assert_all_there_once(system, room, acknowledged)


# --- rights are never older than a second (R-ID-10) ---------------------------------------------------------------


def list_mine(system, clinic, token):
    return system.call(cases.LIST_MY_CASES, cases.ListMyCases(clinic=clinic), token, timeout=4.0)


def take_handler(system, clinic, person):
    take = identity.TakeRole(request_id=uuid4(), clinic=clinic, person=person, role=Role.CASE_HANDLER)
    system.call(identity.TAKE_ROLE, take, system.staff_token(cast.LOCAL_ADMIN))


@pytest.fixture
def handler_there(system):
    """A clinic where the second handler has the role, known to cases."""
    clinic = system.clinic({cast.LOCAL_ADMIN: (Role.LOCAL_ADMIN,), cast.SECOND_HANDLER: (Role.CASE_HANDLER,)})
    token = system.staff_token(cast.SECOND_HANDLER)
    wait_until(lambda: not refused(lambda: list_mine(system, clinic.hsa_id, token)), "the handler is let in", 5)
    return clinic.hsa_id, token


def test_a_right_that_was_taken_works_nowhere_within_a_second_R_ID_10(system, handler_there, progress):
    clinic, token = handler_there
    took = []
    for _ in range(8):
        take_handler(system, clinic, cast.SECOND_HANDLER)
        began = time.monotonic()
        while True:
            try:
                list_mine(system, clinic, token)
            except Refused as error:
                assert error.code in ("forbidden", "unavailable")
                break
            assert time.monotonic() - began < 1.0
        took.append(time.monotonic() - began)
        system.give(Clinic(clinic, ""), cast.SECOND_HANDLER, Role.CASE_HANDLER, by=cast.LOCAL_ADMIN)
        wait_until(lambda: not refused(lambda: list_mine(system, clinic, token)), "the role works again", 5)
    progress(f"refused after {min(took):.3f} to {max(took):.3f} s")


def refused(action):
    try:
        action()
    except Refused as error:
        return error.code
    return None


def test_while_identity_hangs_nobody_is_answered_from_an_old_copy_R_ID_10(system, handler_there):
    clinic, token = handler_there
    system.process("identity").pause()
    paused = time.monotonic()
    while time.monotonic() - paused < 4.0:
        began = time.monotonic()
        code = refused(lambda: list_mine(system, clinic, token))
        if began - paused > 1.0:
            assert code in ("unavailable", "deadline_exceeded")
        else:
            assert code in (None, "unavailable", "deadline_exceeded")
    system.process("identity").resume()
    wait_until(lambda: refused(lambda: list_mine(system, clinic, token)) is None, "the copy is fresh again", 10)


def test_while_identitys_events_are_held_back_identity_is_asked_R_ID_10(system, handler_there):
    clinic, token = handler_there
    with psycopg.connect(system.stack.database_url("identity"), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (_TURN,))  # the relay of identity waits for its turn
        take_handler(system, clinic, cast.SECOND_HANDLER)
        taken = time.monotonic()
        while (code := refused(lambda: list_mine(system, clinic, token))) is None:
            assert time.monotonic() - taken < 1.0
        assert code == "forbidden"
        for _ in range(20):
            assert refused(lambda: list_mine(system, clinic, token)) == "forbidden"
            time.sleep(0.05)


def test_an_ended_session_is_refused_everywhere_within_a_second_R_ID_21(system):
    session = system.accept_terms(system.login_resident(cast.SECOND_RESIDENT))
    token = session.access_token
    system.call(cases.LIST_INBOX, cases.ListInbox(), token)
    system.call(logging_in.LOG_OUT, logging_in.LogOut(request_id=uuid4()), token)
    ended = time.monotonic()
    while (code := refused(lambda: system.call(cases.LIST_INBOX, cases.ListInbox(), token))) is None:
        assert time.monotonic() - ended < 1.0
    assert code == "not_authenticated"


def test_a_right_that_was_taken_while_a_call_waited_for_another_service_does_not_count_R_ID_10(system, room):
    """A call that is under way when the right goes, and waits longer than a second, writes and reads nothing."""
    token = system.resident_token(cast.RESIDENT)
    case = start_until_answered(system, room, token)
    clinic = Clinic(room.clinic, "")
    system.give(clinic, cast.SECOND_RECEIVER, Role.CASE_RECEIVER, by=cast.LOCAL_ADMIN)
    receiver = system.staff_token(cast.SECOND_RECEIVER)
    read = cases.GetCase(case=case)
    wait_until(lambda: not refused(lambda: system.call(cases.GET_CASE, read, receiver)), "the receiver is let in", 5)
    assign = cases.AssignCase(
        request_id=uuid4(), case=case, version=1, handler=cast.HANDLER, partial_reply="Får inte komma fram."
    )
    system.process("directory").pause()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(refused, lambda: system.call(cases.ASSIGN_CASE, assign, receiver, timeout=15.0))
        time.sleep(0.5)
        take = identity.TakeRole(
            request_id=uuid4(), clinic=room.clinic, person=cast.SECOND_RECEIVER, role=Role.CASE_RECEIVER
        )
        system.call(identity.TAKE_ROLE, take, system.staff_token(cast.LOCAL_ADMIN))
        time.sleep(1.5)
        system.process("directory").resume()
        assert under_way.result() in ("not_found", "forbidden")
    shown = system.call(cases.GET_CASE, read, token)
    assert [message.kind for message in shown.messages] == ["start"]
