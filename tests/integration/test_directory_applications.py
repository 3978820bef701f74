"""Applications, the link from a clinic to its former HSA-id, and warnings told when they begin and end.

Proves R-DIR-3, R-DIR-4, R-ID-25.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from services.directory import applications, clinics, inactivating, warnings
from shared.contracts.base import Role
from shared.contracts.cases import ClinicActivity
from shared.contracts.directory import (
    ActivateClinic,
    ApplyForClinic,
    DecideApplication,
    GetClinics,
    InactivateClinic,
    ListApplications,
)
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotFound
from shared.security.caller import Caller, Rights
from tests.integration.directory_support import ADMINISTRATOR, REGION, STAFF, FakeSource, person_id, unit, unit_id

OF_THE_OLD_ONE = Caller("staff", person_id(3), rights=Rights({unit_id(1): frozenset({Role.LOCAL_ADMIN})}))


def activate(directory, number, replaces=None):
    asked = ActivateClinic(
        request_id=uuid4(), clinic=unit_id(number), replaces=None if replaces is None else unit_id(replaces)
    )
    return directory.do(clinics.activate, asked, caller=ADMINISTRATOR)


def apply(directory, number, replaces=None, caller=STAFF):
    old = None if replaces is None else unit_id(replaces)
    asked = ApplyForClinic(request_id=uuid4(), clinic=unit_id(number), replaces=old, note="Nytt HSA-id i KiV")
    return directory.do(applications.apply, asked, caller=caller).application


def decide(directory, application, approved=True, reason="", caller=ADMINISTRATOR, provider=None):
    asked = DecideApplication(request_id=uuid4(), application=application, approved=approved, reason=reason)
    return directory.do(applications.decide, asked, provider, caller=caller)


def listed(directory, caller=ADMINISTRATOR, **options):
    return directory.do(applications.list_of, ListApplications(**options), caller=caller)


def facts(directory, number):
    [one] = directory.do(clinics.get_clinics, GetClinics(clinics=[unit_id(number)])).clinics
    return one


def test_a_unit_with_a_new_id_is_applied_for_approved_and_linked_to_the_old_one_r_dir_3(directory):
    directory.run(FakeSource([unit(1), unit(2)]))
    activate(directory, 1)
    application = apply(directory, 2, replaces=1, caller=OF_THE_OLD_ONE)
    assert not facts(directory, 2).active
    decided = decide(directory, application)
    assert (decided.state, decided.version) == ("approved", 1)
    new, old = facts(directory, 2), facts(directory, 1)
    assert (new.active, new.replaces, new.replaced_by) == (True, unit_id(1), None)
    # The old one stays until it is inactivated.
    assert (old.active, old.replaces, old.replaced_by) == (True, None, unit_id(2))
    quiet = ClinicActivity(active_case_types=0, open_cases=0)
    asked = InactivateClinic(request_id=uuid4(), clinic=unit_id(1))
    directory.do(inactivating.inactivate, asked, 1, quiet, caller=ADMINISTRATOR)
    assert facts(directory, 1).replaced_by == unit_id(2)
    assert [kind for kind, _ in directory.told()] == ["clinic_activated", "clinic_activated", "clinic_inactivated"]


def test_hsas_word_on_the_care_provider_goes_before_the_default_r_id_25(directory):
    own = {"hsaresponsiblehealthcareprovider": unit_id(8)}
    directory.run(FakeSource([unit(1), unit(2), unit(3, **own)]))
    for number, told, provider in ((1, unit_id(7), unit_id(7)), (2, None, REGION), (3, unit_id(7), unit_id(8))):
        decide(directory, apply(directory, number), provider=told)
        assert facts(directory, number).care_provider == provider


def test_a_refusal_has_a_reason_and_changes_nothing_r_dir_3(directory):
    directory.run(FakeSource([unit(1)]))
    application = apply(directory, 1)
    with pytest.raises(Invalid):
        decide(directory, application, approved=False, reason="  ")
    assert decide(directory, application, approved=False, reason="Enheten är inte klar.").version is None
    assert not facts(directory, 1).active
    [shown] = listed(directory, STAFF).applications
    assert (shown.state, shown.reason, shown.clinic) == ("refused", "Enheten är inte klar.", unit_id(1))
    with pytest.raises(Conflict) as again:
        decide(directory, application)
    assert again.value.reason == "application_decided"
    apply(directory, 1)  # and may be applied for again


def test_who_may_apply_and_decide_r_dir_3(directory):
    directory.run(FakeSource([unit(1), unit(2), unit(3)]))
    activate(directory, 1)
    with pytest.raises(Forbidden):
        apply(directory, 2, replaces=1)
    application = apply(directory, 2, replaces=1, caller=ADMINISTRATOR)
    for caller in (STAFF, OF_THE_OLD_ONE):
        with pytest.raises(Forbidden):
            decide(directory, application, caller=caller)
    with pytest.raises(NotFound):
        decide(directory, UUID(int=1))


def test_an_approval_links_a_clinic_that_was_activated_meanwhile_to_the_old_one_r_dir_3(directory):
    """Once linked, it is linked to no other."""
    directory.run(FakeSource([unit(1), unit(2), unit(3)]))
    activate(directory, 1)
    activate(directory, 3)
    application = apply(directory, 2, replaces=1, caller=OF_THE_OLD_ONE)
    activate(directory, 2)
    directory.told()
    assert decide(directory, application).state == "approved"
    assert (facts(directory, 2).replaces, facts(directory, 1).replaced_by) == (unit_id(1), unit_id(2))
    assert directory.told() == []
    with pytest.raises(Conflict) as refused:
        activate(directory, 2, replaces=3)
    assert refused.value.reason == "replaces_another"
    assert activate(directory, 2, replaces=1).version == 1


def test_no_clinic_replaces_one_that_has_come_after_it_r_dir_3(directory):
    """However many there are between them."""
    directory.run(FakeSource([unit(n) for n in range(1, 5)]))
    activate(directory, 1)
    for number in (2, 3, 4):
        activate(directory, number, replaces=number - 1)
    with pytest.raises(Conflict) as refused:
        activate(directory, 1, replaces=4)
    assert refused.value.reason == "replace_each_other"
    assert facts(directory, 1).replaces is None


def test_a_run_and_an_activation_at_once_do_not_wait_for_each_other_r_dir_2_r_dir_3(directory):
    """Whichever has the unit first is waited for; the run then tells of the new name."""
    directory.run(FakeSource([unit(1, "Vårdcentralen Ek")]))
    activate(directory, 1)
    directory.told()
    asked = ActivateClinic(request_id=uuid4(), clinic=unit_id(1))
    with ThreadPoolExecutor(1) as other:
        with directory.transaction(ADMINISTRATOR) as tx:
            clinics.usable_unit(tx, unit_id(1))
            run = other.submit(directory.run, FakeSource([unit(1, "Vårdcentralen Al")]))
            until_one_waits(directory)
            clinics.activate(tx, asked)
        assert run.result().state == "done"
    assert directory.told() == [("clinic_renamed", {"clinic": unit_id(1), "version": 2})]
    assert facts(directory, 1).name == "Vårdcentralen Al"


def test_a_run_that_lacks_a_unit_holds_it_before_the_clinics_that_it_renames_r_dir_2_r_dir_3(directory):
    """The unit that the run lacks is activated at that moment, in place of a clinic that the run renames."""
    directory.max_removed_share = 0.5
    directory.run(FakeSource([unit(1, "Vårdcentralen Ek"), unit(2)]))
    activate(directory, 1)
    directory.told()
    asked = ActivateClinic(request_id=uuid4(), clinic=unit_id(2), replaces=unit_id(1))
    with ThreadPoolExecutor(1) as other:
        with directory.transaction(ADMINISTRATOR) as tx:
            clinics.usable_unit(tx, unit_id(2))
            run = other.submit(directory.run, FakeSource([unit(1, "Vårdcentralen Al")]))
            until_one_waits(directory)
            clinics.activate(tx, asked)
        done = run.result()
    assert (done.state, done.units_changed, done.units_missing) == ("done", 1, 1)
    assert facts(directory, 2).replaces == unit_id(1)
    assert facts(directory, 1).name == "Vårdcentralen Al"


def test_an_application_and_the_decision_on_the_one_before_do_not_wait_for_each_other_r_dir_3(directory):
    """Both are about the same unit: whoever has it first is waited for."""
    directory.run(FakeSource([unit(1)]))
    first = apply(directory, 1)
    with ThreadPoolExecutor(1) as other:
        with directory.transaction(STAFF) as tx:
            clinics.usable_unit(tx, unit_id(1))
            decided = other.submit(decide, directory, first)
            until_one_waits(directory)
            again = ApplyForClinic(request_id=uuid4(), clinic=unit_id(1), note="En gång till")
            with pytest.raises(Conflict) as refused:
                applications.apply(tx, again)
        assert decided.result().state == "approved"
    assert refused.value.reason == "application_waiting"


def until_one_waits(directory):
    end = time.monotonic() + 5
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not directory.one(waiting):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "replaces", "error", "reason"),
    [
        (9, None, NotFound, "unit_not_found"),
        (3, None, Conflict, "unit_ended"),
        (1, None, Conflict, "clinic_active"),
        (2, 2, Invalid, None),
        (2, 4, NotFound, "replaced_clinic_not_found"),
        (5, None, Conflict, "application_waiting"),
        (2, 6, Conflict, "already_replaced"),
        (6, 7, Conflict, "replace_each_other"),
    ],
)
def test_what_can_not_be_applied_for_r_dir_3(directory, number, replaces, error, reason):
    ended = unit(3, hsaenddate="20261101000000Z")
    directory.run(FakeSource([unit(1), unit(2), ended, *(unit(n) for n in (4, 5, 6, 7))]))
    activate(directory, 1)
    activate(directory, 6)
    activate(directory, 7, replaces=6)
    inactivated = InactivateClinic(request_id=uuid4(), clinic=unit_id(6))
    directory.do(
        inactivating.inactivate, inactivated, 1, ClinicActivity(active_case_types=0, open_cases=0), caller=ADMINISTRATOR
    )
    apply(directory, 5)
    with pytest.raises(error) as refused:
        apply(directory, number, replaces, caller=ADMINISTRATOR)
    assert refused.value.reason == reason or reason is None


def test_applications_in_pages_of_ones_own_or_all(directory):
    directory.run(FakeSource([unit(n) for n in range(1, 6)]))
    mine = [apply(directory, number) for number in (1, 2, 3)]
    others = [apply(directory, number, caller=ADMINISTRATOR) for number in (4, 5)]
    first = listed(directory, limit=3)
    rest = listed(directory, limit=3, after=first.after)
    seen = [one.application for one in (*first.applications, *rest.applications)]
    assert (sorted(seen), rest.after) == (sorted(mine + others), None)
    assert {one.application for one in listed(directory, STAFF).applications} == set(mine)
    decide(directory, mine[0])
    assert [one.application for one in listed(directory, state="approved").applications] == [mine[0]]
    with pytest.raises(Invalid):
        listed(directory, after="x")


# --- warnings (R-DIR-4) ---------------------------------------------------------------------------------------------


def tell(directory):
    with directory.transaction() as tx:
        return warnings.tell(tx)


def test_an_end_date_that_passes_between_runs_is_told_once_r_dir_4(directory):
    directory.run(FakeSource([unit(1, hsaenddate="20261123130000Z"), unit(2, hsaenddate="20261123130000Z")]))
    activate(directory, 1)  # the other one is no clinic
    directory.told()
    assert tell(directory) == 0
    directory.move(hours=1)
    assert (tell(directory), tell(directory)) == (1, 0)
    assert directory.told() == [("clinic_ended", {"clinic": unit_id(1), "version": 2})]


def test_a_run_tells_that_a_clinic_is_missing_and_that_it_is_back_r_dir_4(directory):
    everything = [unit(1), unit(2), unit(3)]
    source = FakeSource(everything)
    directory.run(source)
    activate(directory, 1)
    directory.told()
    source.unit_records = everything[1:]
    directory.run(source)
    assert directory.told() == []  # one run without it is none (R-DIR-12)
    directory.run(source)
    assert directory.told() == [("clinic_missing", {"clinic": unit_id(1), "version": 2})]
    directory.run(source)
    assert directory.told() == []
    source.unit_records = everything
    directory.run(source)
    assert directory.told() == [("clinic_back", {"clinic": unit_id(1), "version": 3})]


def test_an_end_date_that_is_moved_on_ends_the_warning_r_dir_4(directory):
    source = FakeSource([unit(1, hsaenddate="20261123130000Z")])
    directory.run(source)
    activate(directory, 1)
    directory.move(hours=2)
    tell(directory)
    directory.told()
    source.unit_records = [unit(1, hsaenddate="20271123130000Z")]
    directory.run(source)
    assert directory.told() == [("clinic_back", {"clinic": unit_id(1), "version": 3})]
