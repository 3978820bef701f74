"""Staff: the copy, direct questions, and who is told when something changes.

Proves R-DIR-12, R-ID-8, R-ID-9, R-ID-14, R-ID-16.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from services.directory import records, staff
from shared.contracts.directory import FindStaff, GetStaff
from shared.messaging.errors import Unavailable
from tests.integration.directory_support import FakeSource, person, person_id


def get(directory, number):
    [facts] = directory.do(staff.get_staff, GetStaff(people=[person_id(number)])).staff
    return facts


def answer(directory, number, *people):
    """What the service does when HSA has answered with these persons."""
    made = [records.person(one) for one in people]
    return directory.do(staff.take_answer, FindStaff(person=person_id(number)), made)


def fall_back(directory, number, *, copy_is_all=False):
    """What the service does when HSA is down, or not configured."""
    return directory.do(staff.from_copy, FindStaff(person=person_id(number)), copy_is_all=copy_is_all)


def load(directory, *people):
    source = FakeSource(None, list(people))
    directory.run(source)
    return source


# --- the copy -------------------------------------------------------------------------------------------------------


def test_facts_from_the_copy_in_the_order_asked_for(directory):
    load(directory, person(1, mobile="070-174 06 05", mail="k@vgregion.example"), person(2))
    asked = GetStaff(people=[person_id(2), person_id(9), person_id(1)])
    second, unknown, first = directory.do(staff.get_staff, asked).staff
    assert (first.given_name, first.surname, first.title) == ("Karin", "Lind1", "Läkare")
    assert (first.mobile, first.email, first.status) == ("+46701740605", "k@vgregion.example", "fine")
    assert second.status == "fine"
    assert (unknown.person, unknown.status, unknown.surname) == (person_id(9), "missing", None)


@pytest.mark.parametrize("attributes", [{"hsaenddate": "20261123115959Z"}, {"objectclass": ["person", "hiddenObject"]}])
def test_hidden_or_ended_is_missing_r_id_9(directory, attributes):
    load(directory, person(1, **attributes))
    assert get(directory, 1).status == "missing"


def test_the_protected_mark_comes_with_name_and_title_r_id_16(directory):
    load(directory, person(1, objectclass=["hsaConfidentialPerson"]))
    facts = get(directory, 1)
    assert (facts.protected, facts.surname, facts.title, facts.status) == (True, "Lind1", "Läkare", "fine")


def test_changes_of_those_known_before_are_told(directory):
    source = load(directory, person(1), person(2), person(3))
    source.staff_records = [person(1, title="Överläkare"), person(2, vgrao3kod="602"), person(3), person(4)]
    run = directory.run(source)
    assert (run.staff_added, run.staff_changed) == (1, 2)
    # The second one's change is nothing that is shown; the fourth was not known.
    assert directory.told() == [("staff_changed", {"person": person_id(1), "status": "fine", "version": 2})]


def test_who_is_absent_from_two_runs_is_missing_and_who_comes_back_is_fine(directory):
    source = load(directory, person(1), person(2))
    source.staff_records = [person(1)]
    directory.run(source)
    assert get(directory, 2).status == "fine"
    directory.run(source)
    assert get(directory, 2).status == "missing"
    assert [body["status"] for _, body in directory.told()] == ["missing"]
    source.staff_records = [person(1), person(2)]
    assert directory.run(source).staff_returned == 1
    assert get(directory, 2).status == "fine"
    assert [body["status"] for _, body in directory.told()] == ["fine"]


def test_an_end_date_that_passes_between_runs_counts_at_once_and_is_told_once_r_id_9(directory):
    load(directory, person(1, hsaenddate="20261123130000Z"), person(2))
    assert get(directory, 1).status == "fine"
    directory.move(hours=1)
    assert get(directory, 1).status == "missing"
    for expected in (1, 0):
        with directory.transaction() as tx:
            assert staff.tell_of_ended(tx) == expected
    assert directory.told() == [("staff_changed", {"person": person_id(1), "status": "missing", "version": 2})]


# --- direct questions -----------------------------------------------------------------------------------------------


def test_a_person_that_only_hsa_has_is_kept_and_not_told_of_r_id_8(directory):
    facts = answer(directory, 1, person(1))
    assert (facts.status, facts.surname, facts.as_of) == ("fine", "Lind1", directory.now)
    assert get(directory, 1) == facts
    assert directory.told() == []


def test_nobody_is_missing_at_once_r_dir_12(directory):
    load(directory, person(1))
    assert answer(directory, 1).status == "missing"
    assert get(directory, 1).status == "missing"
    assert directory.told() == [("staff_changed", {"person": person_id(1), "status": "missing", "version": 2})]
    # One whom nobody has ever heard of leaves nothing behind.
    assert answer(directory, 2).status == "missing"
    assert directory.one("SELECT count(*) FROM staff") == 1


def test_a_run_with_the_same_record_does_not_overrule_hsa(directory):
    source = load(directory, person(1), person(2))
    answer(directory, 1)
    source.staff_records = [person(2), person(1)]
    directory.run(source)
    assert get(directory, 1).status == "missing"
    # A record that says something new does.
    source.staff_records = [person(2), person(1, title="Överläkare")]
    directory.run(source)
    assert get(directory, 1).status == "fine"


def test_an_answer_that_differs_is_taken_over_and_told(directory):
    load(directory, person(1))
    assert answer(directory, 1, person(1)).status == "fine"
    assert directory.told() == []
    assert answer(directory, 1, person(1, title="Överläkare")).title == "Överläkare"
    assert directory.told() == [("staff_changed", {"person": person_id(1), "status": "fine", "version": 2})]


def test_a_run_lists_what_is_refused_after_an_answer_without_anything_of_the_kind(directory):
    source = load(directory, person(1, mobile="-"), person(2, mail="-"))
    answer(directory, 1, person(1))
    source.staff_records = [person(2, mail="-"), person(1, mobile="-")]
    assert [(one.object, one.field) for one in directory.run(source).refused] == [(person_id(2), "mail")]


def test_of_several_person_objects_a_valid_one_is_taken(directory):
    ended = person(1, hsaenddate="20200101000000Z", title="Gammal")
    assert answer(directory, 1, ended, person(1, title="Ny")).title == "Ny"
    assert answer(directory, 1, ended).status == "missing"


def test_who_has_left_the_source_but_not_hsa_stays_fine(directory):
    source = load(directory, person(1), person(2))
    source.staff_records = [person(2)]
    directory.run(source)
    directory.run(source)
    assert get(directory, 1).status == "missing"
    assert answer(directory, 1, person(1)).status == "fine"
    directory.run(source)
    directory.run(source)
    assert get(directory, 1).status == "fine"


# --- a catalogue and HSA differ -------------------------------------------------------------------------------------


def test_whom_hsa_confirms_no_catalogue_calls_missing_by_lacking_them_r_id_9_r_dir_12(directory):
    source = load(directory, *(person(n) for n in range(1, 5)))
    assert answer(directory, 1, person(1)).status == "fine"
    source.staff_records = [person(3), person(4)]
    for _ in range(3):
        directory.run(source)
    assert [get(directory, number).status for number in (1, 2)] == ["fine", "missing"]
    assert directory.told() == [("staff_changed", {"person": person_id(2), "status": "missing", "version": 2})]
    # Until HSA is asked again.
    assert answer(directory, 1).status == "missing"


def test_a_run_counts_as_removed_only_those_who_are_missing_by_it_r_dir_12(directory):
    source = load(directory, *(person(n) for n in range(1, 5)))
    answer(directory, 1, person(1))
    source.staff_records = [person(3), person(4)]
    directory.run(source)
    assert directory.run(source).staff_removed == 1


def test_hsas_missing_that_a_newer_record_overruled_keeps_nobody_when_the_catalogue_loses_them_r_id_9(directory):
    source = load(directory, person(1), person(2))
    assert answer(directory, 1).status == "missing"
    source.staff_records = [person(1, title="Överläkare"), person(2)]
    directory.move(hours=6)
    directory.run(source)
    assert get(directory, 1).status == "fine"
    source.staff_records = [person(2)]
    for _ in range(2):
        directory.run(source)
    assert get(directory, 1).status == "missing"


def test_whom_hsa_confirms_while_a_run_counts_them_as_lost_is_not_missing_r_id_9(directory):
    source = load(directory, person(1), person(2))
    source.staff_records = [person(2)]
    directory.run(source)
    source.staff_records = [person(2, vgrao3kod="602")]
    source.meanwhile = lambda: answer(directory, 1, person(1))
    directory.run(source)
    source.meanwhile = None
    directory.run(source)
    assert get(directory, 1).status == "fine"
    assert directory.told() == []


def test_what_a_run_had_read_before_hsa_answered_does_not_overrule_the_answer_r_id_9(directory):
    source = load(directory, person(1), person(2))
    source.staff_records = [person(1, title="Undersköterska"), person(2)]
    hidden = person(1, title="Överläkare", objectclass=["person", "hiddenObject"])
    source.meanwhile = lambda: (directory.move(seconds=1), answer(directory, 1, hidden))
    directory.run(source)
    assert (get(directory, 1).title, get(directory, 1).status) == ("Överläkare", "missing")
    # It is read again the next time, also where the source says that it is the same; then it is the later word.
    source.meanwhile = None
    directory.move(hours=6)
    directory.run(source)
    assert (get(directory, 1).title, get(directory, 1).status) == ("Undersköterska", "fine")


def test_an_answer_about_somebody_whom_a_run_is_taking_in_is_kept_r_id_14(directory):
    """Neither knows of the other's row until the run has ended."""
    with ThreadPoolExecutor() as threads, directory.transaction() as run:
        run.execute(
            text(
                "INSERT INTO staff (hsa_id, protected, hidden, source, status, content, changed_at)"
                " VALUES (:person, false, false, 'kiv', 'fine', 'x', now())"
            ),
            {"person": person_id(1)},
        )
        asked = threads.submit(answer, directory, 1, person(1, protectedPerson=["true"]))
        while not directory.one("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not asked.done()
        run.connection.commit()
        facts = asked.result()
    assert (facts.protected, facts.as_of) == (True, directory.now)
    assert get(directory, 1) == facts


# --- HSA is down (R-DIR-12) -----------------------------------------------------------------------------------------


def test_a_copy_under_24_hours_will_do_while_hsa_is_down_r_dir_12(directory):
    answer(directory, 1, person(1))
    directory.move(hours=23, minutes=59)
    assert fall_back(directory, 1).status == "fine"
    directory.move(minutes=1)
    with pytest.raises(Unavailable) as refused:
        fall_back(directory, 1)
    assert refused.value.reason == "hsa_down"


def test_a_run_that_finds_nothing_new_makes_the_copy_fresh_r_dir_12(directory):
    source = load(directory, person(1), person(2))
    directory.move(hours=25)
    with pytest.raises(Unavailable):
        fall_back(directory, 1)
    directory.run(source)
    assert fall_back(directory, 1).status == "fine"
    # But not for one whom that run did not see.
    source.staff_records = [person(2)]
    directory.run(source)
    directory.move(hours=1)
    with pytest.raises(Unavailable):
        fall_back(directory, 1)


def test_a_copy_that_does_not_know_the_person_is_no_answer_unless_it_is_all_there_is(directory):
    load(directory, person(1))
    with pytest.raises(Unavailable):
        fall_back(directory, 2)
    assert fall_back(directory, 2, copy_is_all=True).status == "missing"
    directory.move(hours=24)
    with pytest.raises(Unavailable):
        fall_back(directory, 2, copy_is_all=True)


def test_a_catalogue_takes_no_protected_mark_away_that_hsa_has_given_r_id_14_r_id_16(directory):
    source = load(directory, person(1), person(2))
    assert answer(directory, 1, person(1, protectedPerson=["true"])).protected
    directory.told()
    source.staff_records = [person(1, title="Överläkare"), person(2)]
    directory.run(source)
    assert (get(directory, 1).protected, get(directory, 1).title) == (True, "Överläkare")
    # HSA does.
    assert not answer(directory, 1, person(1)).protected


def test_a_catalogue_that_nobody_stands_behind_takes_its_own_mark_away(directory):
    source = load(directory, person(1, protectedPerson=["true"]), person(2))
    assert get(directory, 1).protected
    source.staff_records = [person(1), person(2)]
    directory.run(source)
    assert not get(directory, 1).protected


def test_a_record_that_says_what_it_said_does_not_overrule_hsa_r_id_9(directory):
    source = load(directory, person(1), person(2))
    answer(directory, 1)
    assert get(directory, 1).status == "missing"
    source.staff_records = [person(2)]
    directory.run(source)
    source.staff_records = [person(2), person(1)]
    directory.run(source)
    assert get(directory, 1).status == "missing"
