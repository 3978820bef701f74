"""The bulk refresh with HSA: each member of staff once a month, after all direct questions, never believed whole.

Proves R-DIR-1, R-DIR-12, R-ID-9, R-ID-25.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from services.directory import clinics, records, refreshing, staff, sync
from services.directory.hsa_queue import HsaQueue
from services.directory.records import Raw
from services.directory.sources import NAMES, SourceError
from shared.contracts.directory import ActivateClinic, FindStaff, GetClinics, GetStaff, GetSyncRun
from shared.messaging.errors import Unavailable
from tests.integration.directory_support import (
    ADMINISTRATOR,
    STAFF,
    FakeSource,
    person,
    person_id,
    unit,
    unit_id,
)


@dataclass
class FakeHsa:
    """HSA with what the test puts in: raw records of persons and units by HSA-id."""

    people: dict[str, Raw] = field(default_factory=dict)
    known_units: dict[str, Raw] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: int = 0
    faults_on: set[str] = field(default_factory=set)

    def persons(self, hsa_id):
        self._asked(hsa_id)
        return [records.person(self.people[hsa_id])] if hsa_id in self.people else []

    def unit(self, hsa_id):
        self._asked(hsa_id)
        return self.known_units.get(hsa_id)

    def care_provider(self, hsa_id):
        return unit_id(77)

    def _asked(self, hsa_id):
        if self.broken:
            self.broken -= 1
            raise SourceError("timeout")
        if hsa_id in self.faults_on:
            raise SourceError("soap_fault")
        self.asked.append(hsa_id)


@pytest.fixture
def hsa(monkeypatch):
    monkeypatch.setattr(refreshing, "_PAUSES_SECONDS", (0.0, 0.0))
    return FakeHsa()


def knows(hsa, *people):
    hsa.people |= {one.attributes["hsaidentity"][0]: one for one in people}


def refresh(directory, hsa, share=0.1, richer=("kiv",)):
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx, "hsa")
    queue = HsaQueue(directory.url, pause_seconds=0)
    try:
        asking = refreshing.Asking(hsa, queue, threading.Event())
        assert refreshing.run_next(directory.transaction, asking, share, richer)
    finally:
        queue.close()
    return directory.do(sync.get_run, GetSyncRun(run=run))


def status(directory, number):
    [facts] = directory.do(staff.get_staff, GetStaff(people=[person_id(number)])).staff
    return facts.status


def test_each_member_of_staff_is_asked_about_once_a_month_r_dir_1(directory, hsa):
    directory.run(FakeSource(None, [person(1), person(2)]))
    knows(hsa, person(1), person(2, title="Överläkare"))
    run = refresh(directory, hsa)
    assert (run.state, run.staff_read, run.staff_changed, run.staff_missing) == ("done", 2, 1, 0)
    assert directory.told() == [("staff_changed", {"person": person_id(2), "status": "fine", "version": 2})]
    directory.move(days=29)
    assert refresh(directory, hsa).staff_read == 0
    directory.move(days=2)
    assert refresh(directory, hsa).staff_read == 2
    assert directory.told() == []


def test_who_is_not_returned_is_missing_after_the_run_r_dir_12_r_id_9(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(1, 5)]))
    knows(hsa, person(1), person(2), person(3))
    run = refresh(directory, hsa)
    assert (run.state, run.staff_read, run.staff_missing) == ("done", 4, 1)
    assert [status(directory, n) for n in (1, 4)] == ["fine", "missing"]
    # Whoever comes back is noticed too.
    knows(hsa, person(4))
    directory.move(days=31)
    refresh(directory, hsa)
    assert status(directory, 4) == "fine"


def test_hsa_is_asked_again_about_whom_the_catalogue_has_lost_r_id_9_r_dir_12(directory, hsa):
    source = FakeSource(None, [person(n) for n in range(1, 5)])
    directory.run(source)
    knows(hsa, *(person(n) for n in range(1, 5)))
    refresh(directory, hsa)
    source.staff_records = [person(3), person(4)]
    directory.run(source)
    assert refresh(directory, hsa).staff_read == 0
    directory.run(source)
    assert [status(directory, n) for n in (1, 2)] == ["fine", "fine"]
    del hsa.people[person_id(2)]
    hsa.asked.clear()
    assert refresh(directory, hsa).staff_read == 2
    assert hsa.asked == [person_id(1), person_id(2)]
    assert [status(directory, n) for n in (1, 2)] == ["fine", "missing"]
    # Once: from then on they are HSA's.
    directory.run(source)
    assert refresh(directory, hsa).staff_read == 0


def test_who_logged_in_while_the_run_went_on_is_not_missing_by_its_older_answer_r_dir_12_r_id_9(directory, hsa):
    """HSA is half there when the run asks about the first; it is whole again when that person logs in."""
    directory.run(FakeSource(None, [person(n) for n in range(1, 5)]))
    knows(hsa, *(person(n) for n in range(3, 5)))
    whole = hsa.persons

    def log_in_meanwhile(hsa_id):
        if hsa_id == person_id(4):
            answer = [records.person(person(1))]
            assert directory.do(staff.take_answer, FindStaff(person=person_id(1)), answer).status == "fine"
        return whole(hsa_id)

    hsa.persons = log_in_meanwhile
    directory.told()
    run = refresh(directory, hsa)
    assert (run.state, run.staff_read, run.staff_missing) == ("done", 4, 1)
    assert [status(directory, n) for n in range(1, 5)] == ["fine", "missing", "fine", "fine"]
    assert directory.told() == [("staff_changed", {"person": person_id(2), "status": "missing", "version": 2})]


def test_an_hsa_that_knows_nobody_any_more_is_not_believed_r_dir_12(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(20)]))
    knows(hsa, *(person(n, title="Ny titel") for n in range(10)))
    directory.told()
    run = refresh(directory, hsa)
    assert (run.state, run.reason, run.staff_missing) == ("stopped", "too_many_missing", 10)
    assert {status(directory, n) for n in range(20)} == {"fine"}
    assert all(body["status"] == "fine" for _, body in directory.told())
    # They are asked about again the next time, and those alone.
    hsa.asked.clear()
    knows(hsa, *(person(n) for n in range(10, 20)))
    assert refresh(directory, hsa).staff_read == 10


def test_a_question_without_an_answer_is_asked_again_and_then_the_run_fails(directory, hsa):
    directory.run(FakeSource(None, [person(1)]))
    knows(hsa, person(1))
    hsa.broken = 2
    assert refresh(directory, hsa).state == "done"
    directory.move(days=31)
    hsa.broken = 3
    run = refresh(directory, hsa)
    assert (run.state, run.reason) == ("failed", "timeout")
    assert status(directory, 1) == "fine"


def test_one_person_whom_hsa_always_faults_on_keeps_no_other_from_being_asked_about_r_dir_1(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(1, 7)]))
    knows(hsa, *(person(n) for n in range(1, 7)))
    hsa.faults_on = {person_id(n) for n in (1, 2, 4)}
    run = refresh(directory, hsa)
    assert (run.state, run.staff_read, run.staff_missing) == ("done", 3, 0)
    assert [(one.object, one.reason) for one in run.refused] == [
        (person_id(n), "soap_fault") for n in sorted((1, 2, 4))
    ]
    assert [status(directory, n) for n in range(1, 7)] == ["fine"] * 6
    # They are asked about again the next time.
    hsa.faults_on = {person_id(2)}
    assert refresh(directory, hsa).staff_read == 2


def test_those_whom_hsa_always_faults_on_are_asked_about_last_r_dir_1(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(1, 9)]))
    knows(hsa, *(person(n) for n in range(1, 9)))
    hsa.faults_on = {person_id(n) for n in (1, 3, 5)}
    assert refresh(directory, hsa).state == "done"
    # A month later they are neighbours, for the others who were due came in between only once.
    directory.move(days=31)
    hsa.asked.clear()
    run = refresh(directory, hsa)
    assert sorted(hsa.asked) == sorted(person_id(n) for n in (2, 4, 6, 7, 8))
    assert (run.state, len(run.refused)) == ("done", 3)
    directory.run(FakeSource(None, [person(n) for n in range(1, 10)]))
    knows(hsa, person(9))
    hsa.asked.clear()
    assert refresh(directory, hsa).state == "done"
    assert hsa.asked == [person_id(9)]


def test_several_without_an_answer_in_a_row_are_a_catalogue_that_is_down_r_dir_12(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(1, 7)]))
    knows(hsa, *(person(n) for n in range(1, 7)))
    hsa.faults_on = {person_id(n) for n in (2, 3, 4)}
    run = refresh(directory, hsa)
    assert (run.state, run.reason) == ("failed", "soap_fault")
    assert hsa.asked == [person_id(1)]


def test_a_run_that_was_interrupted_goes_on_where_it_was(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(6)]))
    knows(hsa, *(person(n) for n in range(6)))
    stopping = threading.Event()
    whole = hsa.persons

    def stop_in_the_middle(hsa_id):
        if len(hsa.asked) == 3:
            stopping.set()
        return whole(hsa_id)

    hsa.persons = stop_in_the_middle
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx, "hsa")
    queue = HsaQueue(directory.url, pause_seconds=0)
    assert refreshing.run_next(directory.transaction, refreshing.Asking(hsa, queue, stopping), 0.1, [])
    assert directory.do(sync.get_run, GetSyncRun(run=run)).state == "running"
    done = len(hsa.asked)
    assert refreshing.run_next(directory.transaction, refreshing.Asking(hsa, queue, threading.Event()), 0.1, [])
    queue.close()
    assert directory.do(sync.get_run, GetSyncRun(run=run)).state == "done"
    assert len(hsa.asked) == 6
    assert done == 4


def test_without_hsa_a_run_says_so(directory):
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx, "hsa")
    assert refreshing.run_next(directory.transaction, None, 0.1, [])
    assert directory.do(sync.get_run, GetSyncRun(run=run)).reason == "source_not_configured"


def test_runs_with_hsa_and_with_catalogues_do_not_wait_for_each_other(directory, hsa):
    with directory.transaction() as tx:
        sync.request_by_itself(tx, "hsa")
    assert not sync.run_next(directory.transaction, [FakeSource([unit(1)])], 0.1, NAMES)


# --- clinics that only HSA has ---------------------------------------------------------------------------------------


def test_clinics_of_the_unit_file_get_their_facts_and_care_provider_from_hsa_r_id_25(directory, hsa):
    directory.run(FakeSource([unit(1, "Kattegatts läkarhus"), unit(2)], name="hsa_file"))
    directory.run(FakeSource([unit(3)]))
    for number in (1, 3):
        asked = ActivateClinic(request_id=uuid4(), clinic=unit_id(number))
        directory.do(clinics.activate, asked, caller=ADMINISTRATOR)
    hsa.known_units[unit_id(1)] = unit(1, "Kattegatts läkarhus", hsacountycode="13", l="Halmstad")
    run = refresh(directory, hsa)
    # KiV's own and what is no clinic are not asked about.
    assert (hsa.asked, run.units_read) == ([unit_id(1)], 1)
    [facts] = directory.do(clinics.get_clinics, GetClinics(clinics=[unit_id(1)])).clinics
    assert (facts.place, facts.county_code, facts.care_provider) == ("Halmstad", "13", unit_id(77))
    # A new unit file does not take that back.
    again = FakeSource([unit(1, "Annat namn"), unit(2, "Annat namn")], name="hsa_file")
    assert directory.run(again).units_changed == 1
    [facts] = directory.do(clinics.get_clinics, GetClinics(clinics=[unit_id(1)])).clinics
    assert facts.name == "Kattegatts läkarhus"


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_staff_refresh_their_own_facts_by_hand_r_dir_1(directory):
    me = STAFF.subject
    raw = Raw("", {"hsaidentity": [me], "sn": ["Ek"], "title": ["Överläkare"]})
    facts = directory.do(staff.refresh, None, [records.person(raw)], caller=STAFF)
    assert (facts.person, facts.title, facts.status) == (me, "Överläkare", "fine")
    with pytest.raises(Unavailable) as down:
        directory.do(staff.refresh, None, None, caller=STAFF)
    assert down.value.reason == "hsa_down"
    assert directory.do(staff.refresh, None, [], caller=STAFF).status == "missing"


# --- direct questions go first (R-DIR-12) ----------------------------------------------------------------------------


def test_direct_questions_go_before_the_bulk_refresh_across_replicas_r_dir_12(directory):
    """Two workers ask in bulk without end; three replicas ask directly, some of them two at a time."""
    stopping, log, at_once = threading.Event(), [], []
    asking = threading.Semaphore(1)

    def ask(kind):
        at_once.append(asking.acquire(blocking=False))
        log.append((kind, time.monotonic()))
        time.sleep(0.01)
        asking.release()

    def bulk(queue):
        while not stopping.is_set():
            try:
                with queue.turn_after_others(stopping):
                    ask("bulk")
            except SourceError:
                return

    def direct(queue):
        began = time.monotonic()
        with queue.turn(10):
            log.append(("waited since", began))
            ask("direct")

    bulks = [HsaQueue(directory.url, 0.005) for _ in range(2)]
    replicas = [HsaQueue(directory.url, 0.005) for _ in range(3)]
    with ThreadPoolExecutor(10) as pool:
        working = [pool.submit(bulk, one) for one in bulks]
        time.sleep(0.3)
        # They come all at once: at most the one question that is under way, and one that had just got its turn, are
        # before them.
        list(pool.map(direct, replicas * 2))
        stopping.set()
        for one in working:
            one.result(10)
    for one in (*bulks, *replicas):
        one.close()
    assert all(at_once), "two asked at the same time"
    began = min(moment for kind, moment in log if kind == "waited since")
    last = max(place for place, (kind, _) in enumerate(log) if kind == "direct")
    between = [kind for kind, moment in log[: last + 1] if kind == "bulk" and moment > began]
    assert len(between) <= 2
    assert sum(kind == "bulk" for kind, _ in log) > 3


def test_a_direct_question_that_gave_up_does_not_stop_the_refresh(directory):
    busy, other, bulk = (HsaQueue(directory.url, 0) for _ in range(3))
    with busy.turn(1):
        with pytest.raises(SourceError), other.turn(0.05):
            pass
        with pytest.raises(SourceError), busy.turn(0.05):  # in the same process
            pass
    with bulk.turn_after_others(threading.Event()):
        pass
    for one in (busy, other, bulk):
        one.close()


def have_clinics(directory, hsa, numbers):
    """Clinics that HSA alone describes, and one member of staff."""
    directory.run(FakeSource([unit(n) for n in numbers], name="hsa_file"))
    directory.run(FakeSource(None, [person(1)]))
    for number in numbers:
        asked = ActivateClinic(request_id=uuid4(), clinic=unit_id(number))
        directory.do(clinics.activate, asked, caller=ADMINISTRATOR)
        hsa.known_units[unit_id(number)] = unit(number)
    knows(hsa, person(1))
    refresh(directory, hsa)
    directory.told()


def test_one_clinic_that_hsa_lacks_stops_nothing_and_is_gone_in_the_end_r_dir_4_r_dir_12(directory, hsa):
    have_clinics(directory, hsa, range(1, 6))
    del hsa.known_units[unit_id(3)]
    for _ in range(2):
        directory.move(days=31)
        run = refresh(directory, hsa)
        assert (run.state, run.staff_read) == ("done", 1)
    assert directory.told() == [("clinic_missing", {"clinic": unit_id(3), "version": 2})]


def test_one_contract_that_is_down_ends_the_units_although_another_answers_r_dir_12(directory, hsa):
    have_clinics(directory, hsa, range(1, 7))
    directory.move(days=31)
    hsa.asked.clear()

    def down(_hsa_id):
        raise SourceError("timeout")

    hsa.care_provider = down
    run = refresh(directory, hsa)
    assert (run.state, run.reason, run.failed_part) == ("failed", "timeout", "hsa units")
    assert [one for one in hsa.asked if one != person_id(1)] == [unit_id(n) for n in (1, 2, 3)]
    assert run.staff_read == 1


def test_the_only_clinic_that_hsa_is_asked_about_may_go_away_r_dir_12(directory, hsa):
    have_clinics(directory, hsa, [1])
    hsa.known_units.clear()
    run = refresh(directory, hsa)
    assert (run.state, run.units_missing) == ("done", 1)


def test_too_many_units_missing_keep_no_staff_from_being_asked_about_r_dir_1(directory, hsa):
    have_clinics(directory, hsa, range(1, 11))
    for number in range(1, 6):
        del hsa.known_units[unit_id(number)]
    directory.move(days=31)
    run = refresh(directory, hsa)
    assert (run.state, run.reason, run.failed_part) == ("stopped", "too_many_missing", "hsa units")
    assert run.staff_read == 1


def test_who_was_missing_before_stops_no_run_r_dir_12_r_id_9(directory, hsa):
    directory.run(FakeSource(None, [person(n) for n in range(100)]))
    knows(hsa, *(person(n) for n in range(92)))
    assert refresh(directory, hsa).state == "done"
    directory.move(days=31)
    for number in range(60):  # they log in, so that HSA is asked about them
        answer = [records.person(person(number))]
        directory.do(staff.take_answer, FindStaff(person=person_id(number)), answer)
    del hsa.people[person_id(91)]
    run = refresh(directory, hsa)
    assert (run.state, run.staff_read, run.staff_missing) == ("done", 40, 1)
    assert status(directory, 91) == "missing"


def test_hsa_is_asked_about_a_clinic_that_the_catalogue_has_lost_r_dir_4(directory, hsa):
    kiv = FakeSource([unit(1), unit(2), unit(9)])
    directory.run(kiv)
    asked = ActivateClinic(request_id=uuid4(), clinic=unit_id(2))
    directory.do(clinics.activate, asked, caller=ADMINISTRATOR)
    kiv.unit_records = [unit(1), unit(9)]
    directory.run(kiv)
    directory.run(kiv)
    hsa.known_units[unit_id(2)] = unit(2, "I HSA")
    refresh(directory, hsa)
    assert hsa.asked == [unit_id(2)]
    rows = directory.rows("SELECT source, missing_runs FROM units WHERE hsa_id = :unit", unit=unit_id(2))
    assert rows == [("hsa", 0)]


def test_one_clinic_that_hsa_always_faults_on_stays_and_keeps_no_other_from_being_asked_about_r_dir_12(directory, hsa):
    have_clinics(directory, hsa, [1, 2])
    hsa.faults_on = {unit_id(1)}
    hsa.known_units[unit_id(2)] = unit(2, "Nytt namn")
    for _ in range(3):
        run = refresh(directory, hsa)
        assert (run.state, [(one.object, one.reason) for one in run.refused]) == ("done", [(unit_id(1), "soap_fault")])
    shown = directory.do(clinics.get_clinics, GetClinics(clinics=[unit_id(1), unit_id(2)])).clinics
    assert [one.in_directory for one in shown] == [True, True]
    assert shown[1].name == "Nytt namn"
