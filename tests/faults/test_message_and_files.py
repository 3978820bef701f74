"""A message and its files appear together or not at all, whatever dies in between (docs/decisions/0005, R-ATT-7).

Each test stops the sending at one of its steps, by a lock that the step has to wait for, and kills a process there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import requests

from deploy.local.people import cast
from shared.contracts import attachments, cases
from shared.contracts.attachments import State
from shared.messaging.errors import DeadlineExceeded, NotFound, Refused, Unavailable
from shared.messaging.relay import _TURN
from tests.stack.system import System
from tests.unit.attachments import crafted

FORM = [
    cases.Component(id="fraga", kind="text", label="Vad gäller det?", required=True),
    cases.Component(id="filer", kind="attachments", label="Bifoga filer"),
]
PICTURE = crafted.png()


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    ends = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < ends, what
        time.sleep(0.05)
    return found


class Desk:
    """A clinic of the test's own, with a case that its handler has, and a file that the handler is about to send."""

    def __init__(self, system: System) -> None:
        self.system = system
        clinic = system.clinic().hsa_id
        self.handler = system.staff_token(cast.HANDLER)
        self.resident = system.resident_token(cast.RESIDENT)
        activate = cases.ActivateCaseType(request_id=uuid4(), clinic=clinic, name="Visa", components=FORM)
        case_type = system.call(cases.ACTIVATE_CASE_TYPE, activate, system.staff_token(cast.LOCAL_ADMIN)).case_type
        answers = [cases.Answer(component="fraga", values=["Ett födelsemärke"])]
        start = cases.StartCase(request_id=uuid4(), clinic=clinic, case_type=case_type, answers=answers)
        self.case = system.call(cases.START_CASE, start, self.resident).case
        assign = cases.AssignCase(request_id=uuid4(), case=self.case, version=1, handler=cast.HANDLER)
        system.call(cases.ASSIGN_CASE, assign, system.staff_token(cast.RECEIVER))
        self.file = self._checked_file()
        self.reply = cases.WriteReply(
            request_id=uuid4(), case=self.case, version=2, kind="answer", text="Se bilden.", attachments=[self.file]
        )

    def _checked_file(self) -> UUID:
        digest = hashlib.sha256(PICTURE).hexdigest()
        about = {"name": "knä.png", "size": len(PICTURE), "content_type": "image/png", "sha256": digest}
        ask = attachments.AskUpload(request_id=uuid4(), **about)  # type: ignore[arg-type]
        asked = self.system.call(attachments.ASK_UPLOAD, ask, self.handler)
        to = asked.upload
        requests.request(to.method, to.url, headers=to.headers, data=PICTURE, timeout=10).raise_for_status()
        get = attachments.GetAttachment(attachment=asked.attachment)
        wait_until(
            lambda: self.system.call(attachments.GET_ATTACHMENT, get, self.handler).state is State.USABLE, "checked"
        )
        found: UUID = asked.attachment
        return found

    def send(self, timeout: float = 4.0) -> Any:
        return self.system.call(cases.REPLY, self.reply, self.handler, timeout=timeout)

    def send_until_answered(self) -> Any:
        """As a good caller does: the same request id until there is an answer."""
        ends = time.monotonic() + 60
        while True:
            try:
                return self.send()
            except (Unavailable, DeadlineExceeded):
                assert time.monotonic() < ends, "no answer although the trouble is over"
                time.sleep(0.1)

    # --- what there is

    def messages(self) -> int:
        [(count,)] = self.system.rows("cases", "SELECT count(*) FROM messages WHERE case_id = %s", self.case)
        return int(count)

    def row(self) -> tuple[UUID | None, bool]:
        """The message that the file is bound to, and whether it is sent."""
        told = "SELECT message, sent_at IS NOT NULL FROM attachments WHERE attachment = %s"
        [(message, sent)] = self.system.rows("attachments", told, self.file)
        return message, sent

    def together(self) -> None:
        """The message is there once, its file is there, opens for the resident, and can be removed by nobody."""
        assert self.messages() == 2
        shown = self.system.call(cases.GET_CASE, cases.GetCase(case=self.case), self.resident)
        assert [one.attachment for one in shown.messages[-1].attachments] == [self.file]
        opening = cases.OpenAttachment(case=self.case, attachment=self.file)
        link = wait_until(lambda: self._opened(opening), "the file opens")
        assert requests.get(link.url, timeout=10).content == PICTURE
        wait_until(lambda: self.row() == (shown.messages[-1].message, True), "the file is marked as sent")
        remove = attachments.RemoveAttachment(request_id=uuid4(), attachment=self.file)
        with pytest.raises(Refused):
            self.system.call(attachments.REMOVE_ATTACHMENT, remove, self.handler)

    def _opened(self, opening: cases.OpenAttachment) -> Any:
        with suppress(Unavailable, DeadlineExceeded):
            return self.system.call(cases.OPEN_ATTACHMENT, opening, self.resident)
        return None


@pytest.fixture
def desk(system: System) -> Desk:
    return Desk(system)


@contextmanager
def held(system: System, service: str, statement: str, *values: Any) -> Iterator[None]:
    """Holds the statement's lock in the service's database for the time of the block."""
    with psycopg.connect(system.stack.postgres.admin_url(service)) as holder:
        holder.execute(statement.encode(), values)
        yield


@contextmanager
def sending(desk: Desk, service: str, timeout: float = 4.0) -> Iterator[Future[Any]]:
    """The reply is on its way, and somebody in the service's database waits for a lock; ended by the block."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(desk.send, timeout)
        wait_until(lambda: desk.system.rows(service, waits), "the step is reached", 10)
        yield answer


OF_FILE = "SELECT 1 FROM attachments WHERE attachment = %s FOR UPDATE"
OF_CASE = "SELECT 1 FROM cases WHERE id = %s FOR UPDATE"


def no_answer(answer: Future[Any]) -> None:
    with pytest.raises((Unavailable, DeadlineExceeded)):
        answer.result()


def test_r_att_7_cases_dies_while_the_files_are_claimed(system: System, desk: Desk) -> None:
    with held(system, "attachments", OF_FILE, desk.file), sending(desk, "attachments") as answer:
        system.process("cases").kill()
        assert desk.messages() == 1
    with suppress(Refused):
        answer.result()
    system.process("cases").start()
    desk.send_until_answered()
    desk.together()


def test_r_att_7_attachments_dies_while_the_files_are_claimed(system: System, desk: Desk) -> None:
    with held(system, "attachments", OF_FILE, desk.file), sending(desk, "attachments") as answer:
        system.process("attachments").kill()
        no_answer(answer)
        assert desk.messages() == 1, "no message without its file"
    system.process("attachments").start()
    desk.send_until_answered()
    desk.together()


def test_r_att_7_cases_dies_before_it_commits_and_nobody_asks_again(system: System, desk: Desk) -> None:
    """No message; and its file is its owner's again, to be sent with another."""
    with held(system, "cases", OF_CASE, desk.case), sending(desk, "cases", timeout=1.5) as answer:
        message, sent = desk.row()
        assert message is not None
        assert not sent
        system.process("cases").kill()
        no_answer(answer)
    system.process("cases").start()
    assert desk.messages() == 1
    system.move_clock(timedelta(minutes=4))
    settle = attachments.attachments.run_job

    def given_back() -> bool:
        with suppress(Refused):  # the clock may run it at the same time
            system.call(settle, settle.request(request_id=uuid4(), job="settle_claims"), system.operator_token)
        return desk.row() == (None, False)

    wait_until(given_back, "the file is given back", 60)
    desk.handler, desk.resident = system.staff_token(cast.HANDLER), system.resident_token(cast.RESIDENT)
    desk.reply = desk.reply.model_copy(update={"request_id": uuid4()})
    desk.send_until_answered()
    desk.together()


def test_r_att_7_cases_dies_before_it_commits_and_is_asked_again(system: System, desk: Desk) -> None:
    """The claim of the first attempt holds for the second: it is the same message."""
    with held(system, "cases", OF_CASE, desk.case), sending(desk, "cases"):
        claimed_for, _ = desk.row()
        system.process("cases").kill()
    system.process("cases").start()
    assert desk.send_until_answered().message == claimed_for
    desk.together()


def test_r_att_7_cases_dies_before_it_has_told_of_the_message(system: System, desk: Desk) -> None:
    """Committed and acknowledged: the file is readable at once, and is marked as sent when the event has come."""
    with held(system, "cases", f"SELECT pg_advisory_lock({_TURN})"):
        desk.send()
        assert desk.row()[1] is False
        system.process("cases").kill()
    system.process("cases").start()
    desk.together()


def test_r_att_7_attachments_dies_before_it_hears_of_the_message(system: System, desk: Desk) -> None:
    with held(system, "cases", f"SELECT pg_advisory_lock({_TURN})"):
        desk.send()
        system.process("attachments").kill()
    wait_until(lambda: system.rows("cases", "SELECT count(*) FROM outbox") == [(0,)], "told")
    with pytest.raises(Refused) as refused:
        system.call(
            cases.OPEN_ATTACHMENT,
            cases.OpenAttachment(case=desk.case, attachment=desk.file),
            desk.resident,
            timeout=2.0,
        )
    assert not isinstance(refused.value, NotFound), "it is there, only not to be had just now"
    system.process("attachments").start()
    desk.together()
