"""What happens when several do something to a case at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection, connect
from sqlalchemy import select

from services.cases import seals
from services.cases.tables import case_types
from shared.contracts import case_desk as desk
from shared.contracts import case_types as offer
from shared.contracts import cases
from shared.contracts.base import Role
from shared.messaging.errors import Conflict, NotFound, Refused, Unavailable
from shared.security.caller import Caller, Rights
from tests.integration.cases_support import FORM, World, shared_database
from tests.integration.test_cases_contacting import contact as contact_with
from tests.integration.test_cases_contacting import number_of
from tests.integration.test_cases_contacting import template as new_template
from tests.stack.rooms import Rooms

ROUNDS = 10


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Runs them at the same time; the answers or refusals, in order."""
    found: list[Any] = [None] * len(actions)
    gate = threading.Barrier(len(actions))

    def run(place: int) -> None:
        gate.wait()
        try:
            found[place] = actions[place]()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_r_case_17_of_two_who_write_at_once_one_is_told_a_hundred_times(world: World) -> None:
    """R-CASE-17: the handler twice, or the handler and a receiver who reassigns with a partial reply."""
    case = world.start().case
    world.assign(case)
    for turn in range(100):
        version = world.version(case)
        first = partial(world.reply, case, version=version)
        second = partial(world.assign, case, version=version, partial_reply="Vi återkommer.") if turn % 2 else first
        sent, told = sorted(at_once(first, second), key=lambda one: isinstance(one, Refused))
        assert not isinstance(sent, Exception)
        assert isinstance(told, Conflict)
        assert told.reason == "case_changed"
        assert world.version(case) == version + 1
    assert len(world.get(case, world.receiver).messages) == 101
    assert [kind for kind, _ in world.events(case)].count("message_sent") == 101


def test_r_case_17_of_two_who_answer_at_once_one_is_told(world: World) -> None:
    """R-CASE-17: nothing is sent twice, a hundred times."""
    for _ in range(100):
        _two_answer_at_once(world)


def _two_answer_at_once(world: World) -> None:
    case = world.start().case
    world.assign(case)
    version = world.version(case)
    answers = at_once(*[lambda: world.reply(case, "answer", version=version)] * 2)
    [told] = [one for one in answers if isinstance(one, Refused)]
    assert isinstance(told, Conflict)
    assert told.reason == "case_changed"
    assert [one.kind for one in world.get(case, world.receiver).messages] == ["start", "answer"]
    assert [kind for kind, _ in world.events(case)].count("case_closed") == 1


def test_r_case_17_the_same_request_five_times_at_once_is_one_case(world: World) -> None:
    """R-CASE-17"""
    request_id, file = uuid4(), world.file(world.resident)
    answers = at_once(*[lambda: world.start(request_id=request_id, attachments=[file])] * 5)
    assert len({one.case for one in answers}) == 1
    assert len(world.call(cases.LIST_INBOX, cases.ListInbox(), world.resident).cases) == 1
    assert [kind for kind, _ in world.events(answers[0].case)] == ["case_started", "message_sent"]


def test_r_case_7_the_resident_and_the_system_are_not_both_right(world: World) -> None:
    """R-CASE-7: what the resident wrote in time is not followed by a closing, and a closed case takes no message."""
    for _ in range(ROUNDS):
        _resident_writes_as_time_runs_out(world)


def _resident_writes_as_time_runs_out(world: World) -> None:
    case = world.waiting_case()
    world.move(timedelta(days=32))
    wrote, _closed = at_once(lambda: world.write(case), world.expire)
    shown = world.get(case, world.receiver)
    if isinstance(wrote, Conflict):
        assert wrote.reason == "case_closed"
        assert (shown.state, shown.closed_reason) == ("closed", "counter_question_expired")
        assert len(shown.messages) == 2
    else:
        assert shown.state == "assigned"
        assert len(shown.messages) == 3


def test_r_case_3_no_case_is_left_with_someone_who_lost_the_right(world: World) -> None:
    """R-CASE-3: whichever comes first, the assignment or the loss, the case ends with nobody."""
    for _ in range(ROUNDS):
        _right_is_lost_as_a_case_is_assigned(world)


def _right_is_lost_as_a_case_is_assigned(world: World) -> None:
    case = world.start().case
    person = world.handler.subject
    world.give(person, Role.CASE_HANDLER)
    assigned, lost = at_once(lambda: world.assign(case), lambda: world.give(person))
    assert not isinstance(lost, Exception)
    shown = world.get(case, world.receiver)
    assert (shown.state, shown.handler) == ("new", None)
    assert not isinstance(assigned, Exception) or assigned.reason == "not_a_handler"  # type: ignore[attr-defined]


def test_reassigning_while_others_do_never_ends_with_two(world: World) -> None:
    case = world.start().case
    handlers = [world.person(Role.CASE_HANDLER) for _ in range(4)]
    version = world.version(case)
    answers = at_once(*[lambda one=one: world.assign(case, one, version=version) for one in handlers])  # type: ignore[misc]
    assert sum(isinstance(one, cases.CaseAssigned) for one in answers) == 1
    assert world.version(case) == version + 1
    holder = world.get(case, world.receiver).handler
    for one in handlers:
        if one.subject == holder:
            assert world.get(case, one).handler == holder
        else:
            with pytest.raises(NotFound):
                world.get(case, one)


def test_readers_and_the_sealing_do_not_disturb_each_other(world: World) -> None:
    """R-CASE-18: rows are written while seals are made, by two at once, and the chain fits."""
    case = world.start().case
    reading = [lambda: [world.get(case, world.receiver) for _ in range(10)]] * 4
    sealing = [lambda: [world.seal() for _ in range(10)]] * 2
    assert not [one for one in at_once(*reading, *sealing) if isinstance(one, Exception)]
    world.seal()
    assert seals.check_all(world.database) == []
    log = world.call(cases.ACCESS_LOG, cases.ReadAccessLog(clinic=world.clinic), world.reviewer)
    assert [one.sealed for one in log.entries] == [True] * 40


def central(world: World, by: Caller, name: str, **more: Any) -> offer.CentralCaseTypeWritten:
    values = {"request_id": uuid4(), "level": "regional", "purpose": "resident", "name": name, "components": FORM}
    request = offer.WriteCentralCaseType(**(values | more))
    written: offer.CentralCaseTypeWritten = world.call(offer.WRITE_CENTRAL_CASE_TYPE, request, by)
    return written


def test_r_case_1_a_central_case_type_that_is_changed_while_clinics_take_it_up(world: World) -> None:
    """R-CASE-1: all of them follow it, whoever came first; a clinic has it once, and each in a place of its own."""
    regional = Caller("staff", world.admin.subject, session=uuid4(), rights=Rights({}, is_regional_admin=True))
    for turn in range(ROUNDS):
        first, second = central(world, regional, f"Ett {turn}"), central(world, regional, f"Två {turn}")

        def take_up(which: offer.CentralCaseTypeWritten) -> UUID:
            request = offer.TakeUpCentralCaseType(request_id=uuid4(), clinic=world.clinic, central=which.central)
            taken: UUID = world.call(offer.TAKE_UP_CENTRAL_CASE_TYPE, request, world.admin).case_type
            return taken

        change = partial(central, world, regional, f"Nytt {turn}", central=first.central, version=1)
        taken = at_once(partial(take_up, first), change, partial(take_up, first), partial(take_up, second))
        assert not [one for one in taken if isinstance(one, Exception)], taken
        assert taken[0] == taken[2], "once"
        offered = world.call(cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=world.clinic), world.admin).case_types
        assert {one.name for one in offered if one.central == first.central} == {f"Nytt {turn}"}
    with world.database.transaction() as tx:
        places = select(case_types.c.position).where(case_types.c.clinic == world.clinic)
        found = tx.execute(places).scalars().all()
    assert len(set(found)) == len(found) == 1 + 2 * ROUNDS


def test_r_case_1_withdrawn_while_a_clinic_takes_it_into_use_again(world: World) -> None:
    """R-CASE-1: what is withdrawn is in use nowhere, whoever came first."""
    regional = Caller("staff", world.admin.subject, session=uuid4(), rights=Rights({}, is_regional_admin=True))
    for turn in range(ROUNDS):
        which = central(world, regional, f"Drag {turn}").central
        take_up = offer.TakeUpCentralCaseType(request_id=uuid4(), clinic=world.clinic, central=which)
        taken = world.call(offer.TAKE_UP_CENTRAL_CASE_TYPE, take_up, world.admin).case_type
        off = cases.DeactivateCaseType(request_id=uuid4(), case_type=taken)
        world.call(cases.DEACTIVATE_CASE_TYPE, off, world.admin)
        on = offer.ReactivateCaseType(request_id=uuid4(), case_type=taken)
        gone = offer.WithdrawCentralCaseType(request_id=uuid4(), central=which)
        told, withdrawn = at_once(
            partial(world.call, offer.REACTIVATE_CASE_TYPE, on, world.admin),
            partial(world.call, offer.WITHDRAW_CENTRAL_CASE_TYPE, gone, regional),
        )
        assert not isinstance(withdrawn, Exception)
        assert not isinstance(told, Exception) or told.reason == "case_type_withdrawn"  # type: ignore[attr-defined]
        offered = world.call(cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=world.clinic), world.resident).case_types
        assert taken not in {one.case_type for one in offered}


def while_its_form_is_changed(world: World, case_type: UUID, action: Callable[[], Any]) -> Any:
    """The answer or refusal of what waits at its write for a second version of the case type's form, or a further one,
    to be committed."""
    found: list[Any] = []
    address = world.database.engine.url.set(drivername="postgresql").render_as_string(False)
    with connect(address) as changing:
        changing.execute("UPDATE case_types SET form_version = form_version + 1 WHERE id = %s", (case_type,))
        changing.execute(
            "INSERT INTO case_type_forms (case_type, version, components, information, text)"
            " SELECT case_type, version + 1, components, information, text FROM case_type_forms"
            " WHERE case_type = %s ORDER BY version DESC LIMIT 1",
            (case_type,),
        )
        waiting = threading.Thread(target=lambda: found.extend(at_once(action)))
        waiting.start()
        who_waits_for(changing)
        changing.commit()
    waiting.join()
    return found[0]


def test_r_case_1_a_case_is_started_while_its_form_is_changed(world: World) -> None:
    """R-CASE-1, R-CASE-2: with the form as it is now; a resident who has read the one before is told so, and can use
    the file at once in the next try."""
    started = while_its_form_is_changed(world, world.case_type, world.start)
    assert isinstance(started, cases.CaseStarted), started
    file = world.file(world.resident)
    refused = while_its_form_is_changed(
        world, world.case_type, partial(world.start, form_version=2, attachments=[file])
    )
    assert isinstance(refused, Conflict), refused
    assert refused.reason == "form_changed"
    world.start(form_version=3, attachments=[file])


def test_r_case_14_a_resident_is_written_to_while_the_template_is_changed(world: World) -> None:
    """R-CASE-14: who has read the template as it was is told that it has changed, not that there is none."""
    number, template = number_of(), new_template(world)
    world.numbered(number)
    contact = partial(contact_with, world, template, number, form_version=1)
    refused = while_its_form_is_changed(world, template, contact)
    assert isinstance(refused, Conflict), refused
    assert refused.reason == "form_changed"


def test_r_case_1_a_case_type_is_changed_or_taken_into_use_while_it_is_changed(world: World) -> None:
    """R-CASE-1: the second administrator is told that it has changed; taking it into use needs no version."""
    change = offer.UpdateCaseType(request_id=uuid4(), case_type=world.case_type, form_version=1, name="Annat namn")
    refused = while_its_form_is_changed(
        world, world.case_type, partial(world.call, offer.UPDATE_CASE_TYPE, change, world.admin)
    )
    assert isinstance(refused, Conflict), refused
    assert refused.reason == "case_type_changed"
    use = offer.ReactivateCaseType(request_id=uuid4(), case_type=world.case_type)
    used = while_its_form_is_changed(
        world, world.case_type, partial(world.call, offer.REACTIVATE_CASE_TYPE, use, world.admin)
    )
    assert isinstance(used, cases.CaseTypeActivated), used


def held_draft(world: World, case: UUID) -> Connection[Any]:
    """A lock on the handler's draft in the case: whoever sends a reply waits for it at COMMIT, and nowhere before."""
    draft = desk.SaveDraft(request_id=uuid4(), case=case, version=world.version(case), text="Utkast")
    world.call(desk.SAVE_DRAFT, draft, world.handler)
    holder: Connection[Any] = connect(world.database.engine.url.set(drivername="postgresql").render_as_string(False))
    holder.execute("SELECT 1 FROM drafts WHERE case_id = %s FOR UPDATE", (case,))
    return holder


def who_waits_for(holder: Connection[Any]) -> int:
    """The process of the server that waits for the lock; of a reply that waits for its draft, all that it writes, and
    COMMIT, is under way."""
    with connect(holder.info.dsn, password=holder.info.password, autocommit=True) as watcher:
        for _ in range(300):
            found = watcher.execute(
                "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", (holder.info.backend_pid,)
            ).fetchone()
            if found:
                return int(found[0])
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_r_case_17_a_draft_that_is_saved_while_the_reply_is_sent_is_not_left_behind(world: World) -> None:
    """R-CASE-17: it came to the service before the reply was there, and is written after."""
    case = world.start().case
    world.assign(case)
    version = world.version(case)
    late = desk.SaveDraft(request_id=uuid4(), case=case, version=version, text="Hej, vi h")
    found: list[Any] = []
    with held_draft(world, case) as holder:
        sending = threading.Thread(target=lambda: found.extend(at_once(partial(world.reply, case, "partial_reply"))))
        sending.start()
        who_waits_for(holder)
        saving = threading.Thread(
            target=lambda: found.extend(at_once(partial(world.call, desk.SAVE_DRAFT, late, world.handler)))
        )
        saving.start()
        saving.join(timeout=0.3)
        holder.rollback()
        sending.join(timeout=20)
        saving.join(timeout=20)
    assert [one.reason for one in found if isinstance(one, Refused)] == ["draft_late"]
    assert len(world.get(case, world.receiver).messages) == 2
    assert world.call(desk.GET_DRAFT, desk.GetDraft(case=case), world.handler).draft is None


@pytest.mark.parametrize("end", ["lock timeout", "lost connection"])
def test_r_case_17_a_reply_that_fails_at_commit_is_sent_once_or_not_at_all(world: World, end: str) -> None:
    """R-CASE-17, R-SYS-5: what it writes travels with COMMIT, as text that means nothing but itself."""
    text = "It's \\'); DROP TABLE cases;-- %s %(x)s $1 {} \\x00 åäö \U0001f600"
    signature = "O'Ek\\'; COMMIT; -- %s"
    set_signature = desk.SetSignature(request_id=uuid4(), text=signature)
    world.call(desk.SET_SIGNATURE, set_signature, world.handler)
    case = world.start().case
    world.assign(case)
    request, version = uuid4(), world.version(case)
    send = partial(world.reply, case, "answer", request_id=request, version=version, text=text)
    found: list[Any] = []
    with held_draft(world, case) as holder:
        sending = threading.Thread(target=lambda: found.extend(at_once(send)))
        sending.start()
        waiting = who_waits_for(holder)
        if end == "lost connection":
            holder.execute("SELECT pg_terminate_backend(%s)", (waiting,))
            holder.rollback()
        sending.join(timeout=20)
    if end == "lock timeout":
        assert isinstance(found[0], Unavailable)
        assert (world.version(case), len(world.get(case, world.receiver).messages)) == (version, 1)
        assert [kind for kind, _ in world.events(case)].count("message_sent") == 1
        found = [send()]
    assert found == [send()], "the same answer to each repetition"
    [_, sent] = world.get(case, world.receiver).messages
    assert (sent.text, sent.signature, world.version(case)) == (text, signature, version + 1)
    assert [kind for kind, _ in world.events(case)].count("message_sent") == 2
    assert [kind for kind, _ in world.events(case)].count("case_closed") == 1
