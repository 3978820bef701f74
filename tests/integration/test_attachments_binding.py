"""Binding files to a message: all or none, the owner's own and checked ones only, once (R-ATT-3, R-ATT-5, R-ATT-7)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.attachments import binding, rules
from shared.contracts.attachments import Release
from shared.messaging.errors import Conflict, Invalid, LimitExceeded, NotFound, Refused
from shared.security.caller import Caller
from tests.integration.attachments_support import PNG, World
from tests.unit.attachments import crafted


def usable(world: World, caller: Caller, count: int) -> list[UUID]:
    """So many checked files. The check itself is proved elsewhere."""
    made = [world.ask(caller, b"x", PNG).attachment for _ in range(count)]
    world.rows(
        "UPDATE attachments SET state = 'usable', look_at = NULL, clean_key = 'k', clean_version = 'v'"
        " WHERE attachment = ANY(%s)",
        made,
    )
    return made


def bound(world: World) -> set[UUID]:
    return {one for (one,) in world.rows("SELECT attachment FROM attachments WHERE message IS NOT NULL")}


def settle(world: World, existing: list[UUID]) -> int:
    with world.database.transaction() as tx:
        return binding.settle(tx, binding.doubtful_messages(tx), existing)


def test_all_are_bound_in_the_order_asked_for_and_again_with_the_same_answer_r_att_3(world: World) -> None:
    caller, message, case = world.staff(), uuid4(), uuid4()
    files = usable(world, caller, 3)[::-1]
    for _ in range(2):
        assert world.claim(caller, *files, message=message, case=case) == files
    world.sent(message, case, *files)
    assert world.claim(caller, *files, message=message, case=case) == files
    assert bound(world) == set(files)


def test_one_that_is_not_the_owners_makes_all_not_found_r_att_5(world: World) -> None:
    caller = world.resident()
    mine, others, gone = usable(world, caller, 2), usable(world, world.resident(), 1), usable(world, caller, 1)
    world.remove(caller, gone[0])
    staff_of_same_name = Caller("staff", caller.subject)
    for one in (others[0], gone[0], uuid4(), usable(world, staff_of_same_name, 1)[0]):
        with pytest.raises(NotFound):
            world.claim(caller, *mine, one)
    assert bound(world) == set()


def test_unchecked_and_refused_files_can_not_be_sent_r_att_7(world: World) -> None:
    caller = world.resident()
    fine = usable(world, caller, 1)[0]
    unchecked = world.put(caller, crafted.cut(crafted.png()), PNG)
    with pytest.raises(Conflict) as refused:
        world.claim(caller, fine, unchecked)
    assert refused.value.reason == "attachment_not_checked"
    world.check()
    with pytest.raises(Conflict) as refused:
        world.claim(caller, fine, unchecked)
    assert refused.value.reason == "attachment_refused"
    assert bound(world) == set()


@pytest.mark.parametrize(("kind", "most"), [("resident", 5), ("staff", 20)])
def test_counts_at_the_boundary_r_att_3(world: World, kind: str, most: int) -> None:
    caller = world.resident() if kind == "resident" else world.staff()
    files = usable(world, caller, most + 1)
    with pytest.raises(LimitExceeded) as refused:
        world.claim(caller, *files, at_most=100)
    assert refused.value.reason == "too_many_attachments"
    assert world.claim(caller, *files[:most], at_most=100) == files[:most]


def test_cases_may_allow_fewer_r_att_4(world: World) -> None:
    caller = world.resident()
    files = usable(world, caller, 2)
    for at_most in (0, 1):
        with pytest.raises(LimitExceeded):
            world.claim(caller, *files, at_most=at_most)


def test_a_file_named_twice_is_refused(world: World) -> None:
    caller = world.resident()
    file = usable(world, caller, 1)[0]
    with pytest.raises(Invalid):
        world.claim(caller, file, file)


def test_a_file_goes_with_one_message_r_att_5(world: World) -> None:
    caller = world.resident()
    file, other = usable(world, caller, 2)
    message = uuid4()
    world.claim(caller, file, message=message)
    with pytest.raises(Conflict) as refused:
        world.claim(caller, file)
    assert refused.value.reason == "attachment_already_used"
    with pytest.raises(Conflict) as refused:
        world.claim(caller, file, other, message=message)
    assert refused.value.reason == "message_has_other_attachments"


def test_claims_of_one_message_at_once_bind_the_files_of_one_r_att_3(world: World) -> None:
    """Fifty times two senders of the same message, each with files of their own choice."""
    caller = world.resident()
    for _ in range(50):
        message, choices = uuid4(), [usable(world, caller, 5), usable(world, caller, 5)]
        together = threading.Barrier(2)

        def send(files: list[UUID], message: UUID = message, together: threading.Barrier = together) -> bool:
            together.wait()
            try:
                world.claim(caller, *files, message=message, at_most=5)
            except Conflict as refused:
                assert refused.reason == "message_has_other_attachments"
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(send, choices)) == [False, True]
        assert bound(world) in map(set, choices)
        world.rows("TRUNCATE attachments")


def test_messages_at_once_never_share_a_file_fifty_times_r_att_5(world: World) -> None:
    caller = world.resident()
    [file] = usable(world, caller, 1)
    together = threading.Barrier(50)

    def send(_: int) -> bool:
        together.wait()
        try:
            world.claim(caller, file)
        except Conflict as refused:
            assert refused.reason == "attachment_already_used"
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(send, range(50))) == 1


def test_two_messages_at_once_never_share_a_file_r_att_5(world: World) -> None:
    caller = world.resident()
    files = usable(world, caller, 5)
    outcomes: list[str] = []

    def send(order: list[UUID]) -> None:
        try:
            world.claim(caller, *order)
            outcomes.append("bound")
        except Refused as refused:
            outcomes.append(str(refused.reason))

    threads = [threading.Thread(target=send, args=(order,)) for order in (files, files[::-1], files[2:]) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["attachment_already_used"] * 8 + ["bound"]


def test_a_sent_file_can_not_be_removed_and_is_seen_through_its_case_r_att_5_r_att_6(world: World) -> None:
    caller, message, case = world.resident(), uuid4(), uuid4()
    file = usable(world, caller, 1)[0]
    world.claim(caller, file, message=message, case=case)
    with pytest.raises(Conflict):
        world.remove(caller, file)
    world.sent(message, case, file)
    with pytest.raises(Conflict) as refused:
        world.remove(caller, file)
    assert refused.value.reason == "attachment_already_used"
    for action in (world.show, world.preview):
        with pytest.raises(NotFound):
            action(caller, file)


def test_a_released_claim_frees_the_files_but_sent_ones_stay(world: World) -> None:
    caller, message, case = world.resident(), uuid4(), uuid4()
    files = usable(world, caller, 2)
    release = Release(request_id=uuid4(), message=message)
    world.claim(caller, *files, message=message, case=case)
    world.database.write(lambda tx: binding.release(tx, release))
    assert bound(world) == set()
    world.claim(caller, *files, message=message, case=case)
    world.sent(message, case, *files)
    world.database.write(lambda tx: binding.release(tx, release))
    assert bound(world) == set(files)


def test_old_claims_are_settled_by_what_cases_says_r_att_8(world: World) -> None:
    caller, exists, never = world.resident(), uuid4(), uuid4()
    kept, freed, young = usable(world, caller, 3)
    world.claim(caller, kept, message=exists)
    world.claim(caller, freed, message=never)
    assert settle(world, []) == 0, "too young to ask about"
    world.move_clock(rules.CLAIM_GRACE + timedelta(seconds=1))
    world.claim(caller, young)
    assert settle(world, [exists]) == 1
    assert bound(world) == {kept, young}
    assert world.row(kept, "sent_at IS NOT NULL") == (True,)
    world.claim(caller, freed)


def test_a_claim_renewed_while_cases_was_asked_is_kept_r_att_5(world: World) -> None:
    """R-ATT-5, R-SYS-5: the sender repeats the request between the question of its message and what follows on it."""
    caller, message, case = world.staff(), uuid4(), uuid4()
    renewed, given_back = usable(world, caller, 2)
    world.claim(caller, renewed, message=message, case=case)
    world.claim(caller, given_back)
    world.move_clock(rules.CLAIM_GRACE + timedelta(seconds=1))
    with world.database.transaction() as tx:
        doubtful = binding.doubtful_messages(tx)
    world.claim(caller, renewed, message=message, case=case)
    with world.database.transaction() as tx:
        assert binding.settle(tx, doubtful, []) == 1
    assert bound(world) == {renewed}
    with pytest.raises(Conflict):
        world.remove(caller, renewed)
    world.sent(message, case, renewed)
    assert world.row(renewed, "message, sent_at IS NOT NULL") == (message, True)


def test_a_renewed_claim_is_not_doubted_before_its_time_r_sys_5(world: World) -> None:
    caller, message, case = world.staff(), uuid4(), uuid4()
    file = usable(world, caller, 1)[0]
    world.claim(caller, file, message=message, case=case)
    world.move_clock(rules.CLAIM_GRACE + timedelta(seconds=1))
    world.claim(caller, file, message=message, case=case)
    assert settle(world, []) == 0
    world.move_clock(rules.CLAIM_GRACE + timedelta(seconds=1))
    assert settle(world, []) == 1


def test_the_event_counts_even_if_the_claim_was_given_back_r_sys_5(world: World) -> None:
    caller, message, case = world.resident(), uuid4(), uuid4()
    file = usable(world, caller, 1)[0]
    world.claim(caller, file, message=message, case=case)
    world.database.write(lambda tx: binding.release(tx, Release(request_id=uuid4(), message=message)))
    world.sent(message, case, file)
    assert world.row(file, "message, sent_at IS NOT NULL") == (message, True)
