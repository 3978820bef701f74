"""Runs: what a source says becomes the copy, its changes are told, and a bad source changes nothing (R-DIR-12).

Proves R-DIR-2, R-DIR-12.
"""

from __future__ import annotations

import json
import random
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from services.directory import clinics, sync
from services.directory.sources import NAMES, Catalogue, SourceError
from services.directory.sources.hsa_file import HsaFile
from services.directory.sources.kiv import Kiv
from shared.contracts.directory import ActivateClinic, GetSyncRun, ListSyncRuns, StartSync
from shared.messaging.errors import Forbidden, Invalid, NotFound, Unavailable
from tests.integration.directory_support import (
    ADMINISTRATOR,
    STAFF,
    FakeSource,
    person,
    unit,
    unit_id,
)

PUBLIC = Path(__file__).parents[3] / "shared" / "testdata" / "kiv"
REAL = [PUBLIC / "care-units.json", PUBLIC / "duty-units.json"]


def activate(directory, number):
    directory.do(clinics.activate, ActivateClinic(request_id=uuid4(), clinic=unit_id(number)), caller=ADMINISTRATOR)


def missing_runs(directory):
    return dict(tuple(row) for row in directory.rows("SELECT hsa_id, missing_runs FROM units"))


def copy(directory):
    units = "SELECT hsa_id, version, xmin::text FROM units UNION ALL SELECT hsa_id, version, xmin::text FROM staff"
    return sorted(tuple(row) for row in directory.rows(units))


def test_a_first_run_takes_everything_in(directory):
    source = FakeSource([unit(1), unit(2)], [person(1), person(2), person(3)])
    run = directory.run(source)
    assert (run.state, run.reason) == ("done", None)
    assert (run.units_read, run.units_added, run.units_changed) == (2, 2, 0)
    assert (run.staff_read, run.staff_added, run.staff_changed) == (3, 3, 0)
    assert run.seconds is not None
    assert directory.told() == []


@pytest.mark.parametrize("unchanged_by", ["source", "content"])
def test_a_second_run_changes_nothing_and_tells_nothing(directory, unchanged_by):
    source = FakeSource([unit(1, mail="-"), unit(2)], [person(1)])
    first = directory.run(source)
    before = copy(directory)
    if unchanged_by == "content":
        source.unit_records = [unit(2), unit(1, mail="-")]
    second = directory.run(source)
    assert copy(directory) == before
    assert (second.state, second.units_read, second.units_added, second.units_changed) == ("done", 2, 0, 0)
    assert directory.told() == []
    # What is not usable is still so, and is listed again.
    assert [(one.object, one.reason) for one in second.refused] == [(one.object, one.reason) for one in first.refused]
    assert second.refused_count == 1


def test_a_clinic_takes_over_its_new_name_r_dir_2(directory):
    source = FakeSource([unit(1, "Vårdcentralen Ek"), unit(2, "Vårdcentralen Al")])
    directory.run(source)
    activate(directory, 1)
    directory.told()
    source.unit_records = [unit(1, "Vårdcentralen Lind"), unit(2, "Vårdcentralen Gran")]
    run = directory.run(source)
    assert run.units_changed == 2
    # Only what is a clinic is told of.
    assert directory.told() == [("clinic_renamed", {"clinic": unit_id(1), "version": 2})]


def test_a_unit_is_gone_after_two_complete_runs_r_dir_12(directory):
    source = FakeSource([unit(1), unit(2), unit(3)])
    directory.run(source)
    source.unit_records = [unit(1), unit(2)]
    first = directory.run(source)
    assert (first.units_missing, first.units_removed) == (1, 0)
    assert missing_runs(directory)[unit_id(3)] == 1
    second = directory.run(source)  # the source says "not modified": one more complete run without it
    assert (second.units_missing, second.units_removed) == (0, 1)
    third = directory.run(source)
    assert (third.units_missing, third.units_removed) == (0, 0)
    assert missing_runs(directory)[unit_id(3)] == 2


def test_a_run_that_failed_in_between_does_not_count_r_dir_12(directory):
    source = FakeSource([unit(1), unit(2), unit(3)])
    directory.run(source)
    source.unit_records = [unit(1), unit(2)]
    directory.run(source)
    source.broken = "timeout"
    assert directory.run(source).state == "failed"
    assert missing_runs(directory)[unit_id(3)] == 1


def test_a_unit_that_comes_back_is_back(directory):
    source = FakeSource([unit(1), unit(2), unit(3)])
    directory.run(source)
    source.unit_records = [unit(1), unit(2)]
    directory.run(source)
    directory.run(source)
    source.unit_records = [unit(1), unit(2), unit(3)]
    run = directory.run(source)
    assert run.units_returned == 1
    assert missing_runs(directory)[unit_id(3)] == 0


def test_a_run_that_would_remove_too_much_stops_r_dir_12(directory):
    source = FakeSource([unit(n) for n in range(10)])
    directory.run(source)
    before = copy(directory)
    source.unit_records = [unit(n, "Nytt namn") for n in range(4)]
    run = directory.run(source)
    assert (run.state, run.reason, run.units_missing) == ("stopped", "too_many_missing", 6)
    assert (copy(directory), directory.told()) == (before, [])
    # An administrator who knows that it is so may say so.
    accepted = directory.run(source, accept_removals=True)
    assert (accepted.state, accepted.units_missing) == ("done", 6)


def test_staff_are_guarded_likewise_and_units_stay_loaded(directory):
    source = FakeSource([unit(1)], [person(n) for n in range(10)])
    directory.run(source)
    source.unit_records, source.staff_records = [unit(1), unit(2)], [person(1)]
    run = directory.run(source)
    assert (run.state, run.reason) == ("stopped", "too_many_missing")
    assert (run.units_added, run.staff_missing) == (1, 9)
    assert directory.one("SELECT count(*) FROM staff WHERE found AND missing_runs = 0") == 10


def test_an_empty_catalogue_changes_nothing_even_if_accepted_r_dir_12(directory):
    source = FakeSource([unit(1)])
    directory.run(source)
    source.unit_records = []
    run = directory.run(source, accept_removals=True)
    assert (run.state, run.reason) == ("stopped", "empty_catalogue")
    assert missing_runs(directory) == {unit_id(1): 0}


def test_a_source_that_breaks_in_the_middle_changes_nothing_r_dir_12(directory):
    source = FakeSource([unit(1), unit(2)])
    directory.run(source)
    before = copy(directory)
    source.unit_records = [unit(1, "Nytt namn"), unit(2), unit(3), SourceError("truncated")]
    run = directory.run(source)
    assert (run.state, run.reason, run.units_added) == ("failed", "truncated", 0)
    assert (copy(directory), directory.told()) == (before, [])


def test_a_fault_of_our_own_fails_the_run_and_changes_nothing(directory):
    source = FakeSource([unit(1), ZeroDivisionError()])
    run = directory.run(source)
    assert (run.state, run.reason) == ("failed", "internal")
    assert copy(directory) == []


# --- several sources --------------------------------------------------------------------------------------------------


def run_all(directory, *configured, order=NAMES):
    """With HSA among those that are configured, unless the order says otherwise."""
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx)
    there = {one.name for one in configured} | {"hsa"}
    order = [name for name in order if name in there]
    assert sync.run_next(directory.transaction, configured, 0.5, order)
    return directory.do(sync.get_run, GetSyncRun(run=run))


def names_and_sources(directory):
    return {row.hsa_id: (row.name, row.source) for row in directory.rows("SELECT hsa_id, name, source FROM units")}


def test_of_two_sources_the_first_is_believed(directory):
    kiv = FakeSource([unit(1, "Ek"), unit(2, "Al"), unit(9)])
    other = FakeSource([unit(2, "ANNAT"), unit(3, "Gran"), unit(9)], name="hsa_file")
    for _ in range(2):  # whichever is read first
        run_all(directory, other, kiv)
    assert names_and_sources(directory) == {
        unit_id(1): ("Ek", "kiv"),
        unit_id(2): ("Al", "kiv"),
        unit_id(3): ("Gran", "hsa_file"),
        unit_id(9): ("Vårdcentralen 9", "kiv"),
    }
    before = copy(directory)
    other.unit_records = other.unit_records[::-1]
    run = run_all(directory, other, kiv)
    assert (copy(directory), run.units_changed, directory.told()) == (before, 0, [])


def test_which_source_is_believed_first_is_the_settings_to_say_r_dir_1(directory):
    """Also when they say something else than they did before."""
    kiv = FakeSource([unit(1, "Ek"), unit(2, "Al"), unit(9)])
    other = FakeSource([unit(1, "Ek"), unit(2, "Al i HSA"), unit(3, "Gran")], name="hsa_file")
    run_all(directory, kiv, other)
    activate(directory, 2)
    directory.told()
    for _ in range(2):
        run_all(directory, kiv, other, order=("hsa_file", "hsa", "kiv"))
        assert names_and_sources(directory) == {
            unit_id(1): ("Ek", "hsa_file"),
            unit_id(2): ("Al i HSA", "hsa_file"),
            unit_id(3): ("Gran", "hsa_file"),
            unit_id(9): ("Vårdcentralen 9", "kiv"),
        }
    assert set(missing_runs(directory).values()) == {0}
    assert [kind for kind, _ in directory.told()] == ["clinic_renamed"]
    run_all(directory, kiv, other)
    assert names_and_sources(directory)[unit_id(2)] == ("Al", "kiv")


def test_what_the_first_source_has_lost_the_second_may_have(directory):
    kiv = FakeSource([unit(1, "Ek"), unit(2, "Al"), unit(9)])
    other = FakeSource([unit(2, "Al i HSA"), unit(8)], name="hsa_file")
    run_all(directory, kiv, other)
    activate(directory, 2)
    directory.told()
    kiv.unit_records = [unit(1, "Ek"), unit(9)]
    run_all(directory, kiv, other)
    assert names_and_sources(directory)[unit_id(2)] == ("Al", "kiv")
    # Gone from the first; the second holds what it has held all along, and nobody is warned of a clinic that is there.
    run_all(directory, kiv, other)
    assert names_and_sources(directory)[unit_id(2)] == ("Al i HSA", "hsa_file")
    assert missing_runs(directory)[unit_id(2)] == 0
    assert [kind for kind, _ in directory.told()] == ["clinic_renamed"]
    # And the first takes it back when it has it again.
    kiv.unit_records = [unit(1, "Ek"), unit(2, "Al"), unit(9)]
    run_all(directory, kiv, other)
    assert names_and_sources(directory)[unit_id(2)] == ("Al", "kiv")


def test_what_the_first_source_has_had_for_a_while_goes_back_to_the_second(directory):
    """Though the second has said all along that nothing has changed in it."""
    kiv = FakeSource([unit(1), unit(9)])
    other = FakeSource([unit(2, "Al i HSA"), unit(8)], name="hsa_file")
    run_all(directory, kiv, other)
    kiv.unit_records = [unit(1), unit(9), unit(2, "Al")]
    run_all(directory, kiv, other)
    assert names_and_sources(directory)[unit_id(2)] == ("Al", "kiv")
    kiv.unit_records = [unit(1), unit(9)]
    for _ in range(2):
        run_all(directory, kiv, other)
    assert names_and_sources(directory)[unit_id(2)] == ("Al i HSA", "hsa_file")


def test_what_only_a_source_had_that_is_no_longer_configured_goes_after_two_runs_r_dir_12(directory):
    """It comes back with the source, though that says that nothing has changed in it."""
    kiv = FakeSource([unit(n) for n in range(1, 7)], [person(1), person(2)])
    other = FakeSource([unit(2), unit(8), unit(9)], [person(3)], name="file")
    run_all(directory, kiv, other)
    for number in (2, 8):
        activate(directory, number)
    directory.told()
    run = run_all(directory, kiv)
    assert (run.state, run.units_missing, run.staff_missing, directory.told()) == ("done", 2, 1, [])
    other.broken = "file_unreadable"  # it is configured all the same, and nobody knows what it has: nothing goes
    assert run_all(directory, kiv, other).reason == "file_unreadable"
    assert missing_runs(directory)[unit_id(8)] == 1
    run = run_all(directory, kiv)
    assert (run.state, run.units_removed, run.staff_removed) == ("done", 2, 1)
    assert sorted(kind for kind, _ in directory.told()) == ["clinic_missing", "staff_changed"]
    assert missing_runs(directory) == {**{unit_id(n): 0 for n in range(1, 7)}, unit_id(8): 2, unit_id(9): 2}
    run_all(directory, kiv)
    assert directory.rows("SELECT source FROM source_states WHERE source = 'file'") == []
    other.broken = None
    run = run_all(directory, kiv, other)
    assert (run.units_returned, run.staff_returned) == (2, 1)
    assert set(missing_runs(directory).values()) == {0}
    assert sorted(kind for kind, _ in directory.told()) == ["clinic_back", "staff_changed"]


def test_a_source_that_was_left_out_by_mistake_takes_nothing_with_it_r_dir_12(directory):
    kiv, other = FakeSource([unit(n) for n in range(1, 7)]), FakeSource([unit(8)], name="file")
    run_all(directory, kiv, other)
    for _ in range(2):
        run = run_all(directory, other)
        assert (run.state, run.reason, run.failed_part, run.units_missing) == (
            *("stopped", "too_many_missing", "kiv units", 6),
        )
    assert set(missing_runs(directory).values()) == {0}


def test_a_run_that_is_killed_lets_nothing_go_twice_r_dir_12(directory):
    """Before it could be kept that the run has ended."""
    kiv, other = FakeSource([unit(1), unit(2)]), FakeSource([unit(9)], name="file")
    run_all(directory, kiv, other)
    with directory.transaction() as tx:
        sync.request_by_itself(tx)

    @contextmanager
    def dying():
        with directory.transaction() as tx:
            if 1 in missing_runs(directory).values():
                raise SystemExit
            yield tx

    with pytest.raises(SystemExit):
        sync.run_next(dying, [kiv], 0.5, NAMES)
    assert missing_runs(directory)[unit_id(9)] == 1
    assert sync.run_next(directory.transaction, [kiv], 0.5, NAMES)
    assert missing_runs(directory)[unit_id(9)] == 1


def test_hsas_unit_file_as_it_should_not_be_changes_nothing_r_dir_12(directory, tmp_path):
    place = tmp_path / "units.xml"

    def units(*numbers, head="", dn="<DN>ou=E</DN>"):
        each = "".join(
            f"<hsaUnit><hsaIdentity>{unit_id(n)}</hsaIdentity>{dn}<name>Enhet {n}</name></hsaUnit>" for n in numbers
        )
        return (
            f'{head}<FileGetHsaUnitsResponse xmlns="urn:riv:hsa:HsaWsResponder:3"><hsaUnits>{each}</hsaUnits>'
            "</FileGetHsaUnitsResponse>"
        )

    source = HsaFile((str(place),))
    place.write_text(units(1, 2, 3, 4))
    assert directory.run(source).units_added == 4
    before = copy(directory)
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    for text_, state, reason in (
        (units(1, 2, 3, 4)[:-60], "failed", "not_xml"),
        (units(1, 2, 3, 4, head=bomb), "failed", "document_type"),
        (units(), "failed", "no_records"),
        ("", "failed", "empty"),
        (units(1), "stopped", "too_many_missing"),
    ):
        place.write_text(text_)
        run = directory.run(source)
        assert (run.state, run.reason) == (state, reason)
        assert (copy(directory), directory.told()) == (before, [])
    # Single units that can't be taken are listed, and stay as they are.
    place.write_text(units(1, 2, 3, 4, 4, dn=""))
    run = directory.run(source)
    assert (run.state, {one.reason for one in run.refused}) == ("done", {"no_dn", "duplicate"})
    assert [one.object for one in run.refused][:2] == [unit_id(1), unit_id(2)]
    assert copy(directory) == before


def test_what_can_not_be_taken_is_listed_with_the_reason(directory):
    source = FakeSource([unit(1, mail="-"), None, unit(2), unit(2), unit(3, hsaidentity="x"), unit(4, hsaidentity=[])])
    run = directory.run(source)
    assert (run.state, run.units_read, run.units_added, run.refused_count) == ("done", 6, 2, 5)
    assert [(one.number, one.object, one.field, one.reason) for one in run.refused] == [
        (1, "#2", "", "not_a_record"),
        (2, unit_id(2), "hsaidentity", "duplicate"),
        (3, "ou=Vårdcentralen 3,ou=Org,o=VGR", "hsaidentity", "not_an_hsa_id"),
        (4, "ou=Vårdcentralen 4,ou=Org,o=VGR", "hsaidentity", "no_hsa_id"),
        (5, unit_id(1), "mail", "not_an_email_address"),
    ]
    page = directory.do(sync.get_run, GetSyncRun(run=run.run, refused_after=2, refused_limit=2))
    assert [one.number for one in page.refused] == [3, 4]
    # Kept as it came, beside the unit.
    assert directory.one("SELECT attributes ->> 'mail' FROM units WHERE hsa_id = :id", id=unit_id(1)) == "-"


def test_ids_with_blanks_and_in_any_case_are_the_same_unit(directory):
    source = FakeSource([unit(1)])
    directory.run(source)
    source.unit_records = [unit(1, hsaidentity=[" se2321000131 -e000000000001"])]
    run = directory.run(source)
    assert (run.units_added, run.units_changed, run.units_missing) == (0, 1, 0)


def test_characters_that_the_database_can_not_keep(directory):
    source = FakeSource([unit(1, "Nils\x00 \ud800", description=["\x00"])])
    assert directory.run(source).state == "done"
    assert directory.one("SELECT name FROM units") == "Nils\ufffd \ufffd"


class Dies(FakeSource):
    """Its worker dies while staff are read, once."""

    alive = False

    def staff(self, folder, state):
        if not self.alive:
            self.alive = True
            raise SystemExit
        return super().staff(folder, state)


def test_a_run_that_is_taken_up_again_counts_no_part_twice_r_dir_12(directory):
    directory.run(FakeSource([unit(1), unit(2), unit(3)], [person(1)]))
    activate(directory, 3)
    directory.told()
    source = Dies([unit(1), unit(2)], [person(1), person(2)])
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx)
    with pytest.raises(SystemExit):
        sync.run_next(directory.transaction, [source], 0.5, NAMES)
    assert sync.run_next(directory.transaction, [source], 0.5, NAMES)
    done = directory.do(sync.get_run, GetSyncRun(run=run))
    assert (done.state, done.units_missing, done.units_removed, done.staff_added) == ("done", 1, 0, 1)
    assert missing_runs(directory)[unit_id(3)] == 1
    assert directory.told() == []


def test_a_source_that_fails_keeps_no_other_from_being_read_r_dir_12(directory):
    kiv = FakeSource([unit(1), unit(2)], [person(1)])
    other = FakeSource([unit(3)], None, name="file")
    run_all(directory, kiv, other)
    kiv.broken, other.unit_records = "unreachable", [unit(3, "Nytt namn")]
    run = run_all(directory, kiv, other)
    assert (run.state, run.reason, run.failed_part) == ("failed", "unreachable", "kiv units")
    assert names_and_sources(directory)[unit_id(3)] == ("Nytt namn", "file")
    # Too many units are absent: staff are taken all the same.
    kiv.broken, kiv.unit_records, kiv.staff_records = None, [], [person(1), person(2)]
    run = run_all(directory, kiv, other)
    assert (run.state, run.reason, run.failed_part, run.staff_added) == ("stopped", "empty_catalogue", "kiv units", 1)


def test_a_fault_of_our_own_in_one_part_keeps_no_other_from_being_read_r_dir_12(directory):
    kiv = FakeSource([unit(1), ZeroDivisionError()], [person(1)])
    other = FakeSource([unit(3)], None, name="file")
    run = run_all(directory, kiv, other)
    assert (run.state, run.reason, run.failed_part) == ("failed", "internal", "kiv units")
    assert (run.staff_added, names_and_sources(directory)) == (1, {unit_id(3): ("Vårdcentralen 3", "file")})


def test_a_database_that_does_not_answer_is_no_part_of_a_source(directory):
    """The run waits as it is, and goes on when the database is there again."""
    kiv = FakeSource([unit(1)], [person(1)])
    kiv.unit_records.append(Unavailable(reason="database_gone"))
    with pytest.raises(Unavailable):
        run_all(directory, kiv)
    assert directory.rows("SELECT state, (SELECT count(*) FROM staff) FROM sync_runs") == [("running", 0)]


def test_a_source_that_was_never_read_is_read_alone(directory):
    kiv, other = FakeSource([unit(1)]), FakeSource([unit(2)], name="file", broken="file_unreadable")
    run_all(directory, kiv, other)
    with directory.transaction() as tx:
        assert sync.request_first_load(tx, [kiv, other])
        assert not sync.request_first_load(tx, [kiv])
    assert directory.rows("SELECT source FROM sync_runs WHERE state = 'requested'") == [("file",)]


def test_two_entries_with_one_id_are_read_whole_r_dir_2(directory):
    class Modified(FakeSource):
        """Tells only what was modified, and the ids of all."""

        modified = None

        def _catalogue(self, records, state):
            if self.modified is None or state is None:
                return Catalogue({"read": 1}, lambda: iter(records))
            present = [one.attributes["hsaidentity"][0] for one in records]
            return Catalogue({"read": 1}, lambda: iter(self.modified), present)

    source = Modified([unit(1, "Första"), unit(1, "Andra"), unit(2)])
    directory.run(source)
    source.unit_records[1] = unit(1, "Andra", l="Borås")
    source.modified = [source.unit_records[1]]
    run = directory.run(source)
    assert names_and_sources(directory)[unit_id(1)] == ("Första", "kiv")
    assert [(one.object, one.reason) for one in run.refused] == [(unit_id(1), "duplicate")]


def feed_with(folder, name="B", value='"x"'):
    """A feed of two units, the second with this name and, as JSON, this value in an attribute."""
    good = {"dn": "ou=a,o=VGR", "attributes": {"hsaIdentity": [unit_id(1)], "ou": ["A"]}}
    other = {"dn": "ou=b,o=VGR", "attributes": {"hsaIdentity": [unit_id(2)], "ou": [name], "x": "@"}}
    feed = folder / "units.json"
    feed.write_text(json.dumps({"units": [good, other]}).replace('"@"', value))
    return Kiv((str(feed),), ())


def test_a_number_that_is_none_fails_the_run_with_a_reason_r_dir_12(directory, tmp_path):
    run = directory.run(feed_with(tmp_path, value="1e999"))
    assert (run.state, run.reason) == ("failed", "not_json")


def test_a_record_nested_too_deep_is_refused_alone(directory, tmp_path):
    run = directory.run(feed_with(tmp_path, value="[" * 900 + "]" * 900))
    assert (run.state, run.units_added) == ("done", 1)
    assert (unit_id(2), "nested_too_deep") in [(one.object, one.reason) for one in run.refused]


def test_a_name_longer_than_an_index_takes_is_taken(directory, tmp_path):
    letters = random.Random(1)
    name = "".join(chr(letters.randrange(0x4E00, 0x9FFF)) for _ in range(9000))
    run = directory.run(feed_with(tmp_path, name))
    assert (run.state, run.units_added) == ("done", 2)


def test_a_run_left_by_a_dead_worker_is_started_again(directory):
    source = FakeSource([unit(1)])
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx)
        sync._begin(tx)  # and then it died
    assert sync.run_next(directory.transaction, [source], 0.5, NAMES)
    assert directory.do(sync.get_run, GetSyncRun(run=run)).state == "done"
    assert not sync.run_next(directory.transaction, [source], 0.5, NAMES)


def test_a_worker_that_lost_its_run_changes_nothing(directory):
    class Slow(FakeSource):
        """While it is being read another worker begins the run anew."""

        def units(self, folder, state):
            with directory.transaction() as tx:
                sync._begin(tx)
            return super().units(folder, state)

    with directory.transaction() as tx:
        run = sync.request_by_itself(tx)
    assert sync.run_next(directory.transaction, [Slow([unit(1)])], 0.5, NAMES)
    assert copy(directory) == []
    assert directory.do(sync.get_run, GetSyncRun(run=run)).state == "running"


def test_one_worker_at_a_time(directory):
    with closing(sync.Turn(directory.url)) as first, closing(sync.Turn(directory.url)) as second:
        assert first.taken()
        assert first.taken()
        assert not second.taken()
        first.close()
        ends = threading.Event()
        while not second.taken():
            assert not ends.wait(0.05)


def test_a_run_that_nobody_can_end_is_given_up_r_dir_12(directory):
    """As where a statement takes longer than it may, each time; the next run is done."""
    source = FakeSource([unit(1), Unavailable(reason="database_busy")])
    with directory.transaction() as tx:
        run = sync.request_by_itself(tx)
    for _ in range(sync.MOST_ATTEMPTS):
        with pytest.raises(Unavailable):
            sync.run_next(directory.transaction, [source], 0.5, NAMES)
    assert not sync.run_next(directory.transaction, [source], 0.5, NAMES)
    record = directory.do(sync.get_run, GetSyncRun(run=run))
    assert (record.state, record.reason, record.finished_at) == ("failed", "too_many_attempts", directory.now)
    assert directory.run(FakeSource([unit(1)])).state == "done"


def test_a_first_load_is_wanted_until_every_part_has_been_read(directory):
    source = FakeSource([unit(1)], [person(1)])

    def wanted():
        with directory.transaction() as tx:
            return sync.request_first_load(tx, [source])

    assert wanted()
    source.broken = "unreachable"
    directory.run(source)
    assert wanted()
    source.broken = None
    directory.run(source)
    assert not wanted()


def test_a_run_of_its_own_is_asked_for_once(directory):
    with directory.transaction() as tx:
        assert sync.request_by_itself(tx)
        assert sync.request_by_itself(tx) is None


def test_who_may_ask_for_runs_and_read_them(directory):
    asked = StartSync(request_id=uuid4())
    with pytest.raises(Forbidden):
        directory.do(sync.request_run, asked, caller=STAFF)
    run = directory.do(sync.request_run, asked, caller=ADMINISTRATOR).run
    with pytest.raises(Forbidden):
        directory.do(sync.get_run, GetSyncRun(run=run), caller=STAFF)
    assert directory.do(sync.get_run, GetSyncRun(run=run), caller=ADMINISTRATOR).state == "requested"
    with pytest.raises(NotFound):
        directory.do(sync.get_run, GetSyncRun(run=uuid4()))
    with pytest.raises(Invalid):
        directory.do(sync.request_run, StartSync(request_id=uuid4(), source="ldap"))


def test_runs_are_listed_newest_first_in_pages(directory):
    source = FakeSource([unit(1, mail="-"), unit(2)])
    runs = []
    for _ in range(3):
        runs.append(directory.run(source).run)
        directory.move(minutes=1)
    first = directory.do(sync.list_runs, ListSyncRuns(limit=2), caller=ADMINISTRATOR).runs
    rest = directory.do(sync.list_runs, ListSyncRuns(limit=2, before=first[-1].run)).runs
    assert [one.run for one in (*first, *rest)] == runs[::-1]
    assert [(one.state, one.units_read, one.refused_count, one.refused) for one in first] == [("done", 2, 1, [])] * 2
    with pytest.raises(Forbidden):
        directory.do(sync.list_runs, ListSyncRuns(), caller=STAFF)


def test_a_source_that_is_not_configured_is_said(directory):
    with directory.transaction() as tx:
        run = sync.request_run(tx, StartSync(request_id=uuid4(), source="kiv")).run
    assert sync.run_next(directory.transaction, [], 0.5, NAMES)
    record = directory.do(sync.get_run, GetSyncRun(run=run))
    assert (record.state, record.reason) == ("failed", "source_not_configured")


def test_old_lists_are_forgotten_and_the_runs_stay(directory):
    run = directory.run(FakeSource([unit(1, mail="-")]))
    directory.move(days=91)
    with directory.transaction() as tx:
        assert sync.forget_old_lists(tx) == 1
    assert directory.do(sync.get_run, GetSyncRun(run=run.run)).refused == []


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public records of KiV are not on this machine")
def test_the_real_records_load_whole_and_twice(directory, tmp_path):
    kiv = Kiv(tuple(map(str, REAL)), ())
    first = directory.run(kiv)
    assert (first.state, first.units_read, first.units_added) == ("done", 231, 230)
    assert first.refused[0].reason == "duplicate"
    before = copy(directory)
    assert directory.run(kiv).state == "done"
    # And where the file differs though no record does.
    copies = tuple(str(tmp_path / file.name) for file in REAL)
    for file, place in zip(REAL, copies, strict=True):
        Path(place).write_bytes(file.read_bytes() + b"\n")
    again = directory.run(Kiv(copies, ()))
    assert (again.units_read, again.units_added, again.units_changed, again.units_missing) == (231, 0, 0, 0)
    assert again.refused == first.refused
    assert (copy(directory), directory.told()) == (before, [])


@pytest.mark.parametrize("content", ["", "{", '{"units": []}', '{"units": [1', "<html>", '{"persons": []}'])
def test_a_file_that_is_no_catalogue_changes_nothing_r_dir_12(directory, tmp_path, content):
    place = tmp_path / "units.json"
    place.write_text('{"units": [{"dn": "ou=Ek", "attributes": {"hsaIdentity": "SE2321000131-E1"}}]}')
    kiv = Kiv((str(place),), ())
    assert directory.run(kiv).units_added == 1
    before = copy(directory)
    place.write_text(content)
    assert directory.run(kiv).state in ("failed", "stopped")
    place.unlink()
    assert directory.run(kiv).reason == "file_unreadable"
    assert copy(directory) == before
