"""The directory in the running system: its calls over RPC, its worker, and HSA behind it.

Proves R-DIR-1, R-DIR-3, R-DIR-8, R-DIR-10, R-DIR-12, R-DIR-13, R-ID-1, R-ID-8, R-ID-13, R-ID-15, R-ID-22,
R-SYS-1.
"""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import requests

from deploy.local.people import cast
from deploy.local.people.residents import named
from shared.contracts import access, cases, directory, identity
from shared.messaging.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    Unavailable,
)

SOON = 30.0


def start_sync(system, token, **request):
    return system.call(directory.START_SYNC, directory.StartSync(request_id=uuid4(), **request), token)


def activate(system, clinic, token):
    return system.call(
        directory.ACTIVATE_CLINIC, directory.ActivateClinic(request_id=uuid4(), clinic=clinic.hsa_id), token
    )


def inactivate(system, clinic, token):
    return system.call(
        directory.INACTIVATE_CLINIC, directory.InactivateClinic(request_id=uuid4(), clinic=clinic.hsa_id), token
    )


def facts(system, clinic, token):
    [found] = system.call(directory.GET_CLINICS, directory.GetClinics(clinics=[clinic.hsa_id]), token).clinics
    return found


def put_unit(system, clinic, **attributes):
    control = system.stack.counterparts["kiv"].control_url
    record = {"attributes": {"hsaIdentity": [clinic.hsa_id], **attributes}}
    requests.post(f"{control}/feeds/units", json=record, timeout=10).raise_for_status()


def as_service(system, name):
    return system.service_token(name)


def log_in(system, person):
    """A login asks HSA directly, through identity."""
    return system.login_staff(person)


def test_every_call_says_who_may_make_it_r_sys_1(system):
    resident = system.resident_token(cast.RESIDENT)
    staff = system.staff_token(cast.OUTSIDER)
    for token, error in ((None, NotAuthenticated), (resident, Forbidden), (staff, Forbidden)):
        with pytest.raises(error):
            start_sync(system, token)
        with pytest.raises(error):
            activate(system, system.unit(), token)
    with pytest.raises(NotAuthenticated):
        facts(system, system.unit(), None)
    for call, request in (
        (directory.GET_STAFF, directory.GetStaff(people=[cast.HANDLER])),
        (directory.FIND_STAFF, directory.FindStaff(person=cast.HANDLER)),
    ):
        others = [as_service(system, name) for name in ("attachments", "notifications")]
        for token in (resident, staff, system.operator_token, *others):
            with pytest.raises(Forbidden):
                system.call(call, request, token)


def test_a_sync_that_is_asked_for_is_run_and_can_be_read_r_dir_1(system):
    clinic, regional = system.clinic(), system.staff_token(cast.REGIONAL_ADMIN)
    put_unit(system, clinic, ou=[f"{clinic.name} med nytt namn"])
    request = directory.StartSync(request_id=uuid4(), source="kiv")
    run = system.call(directory.START_SYNC, request, regional).run
    assert system.call(directory.START_SYNC, request, regional).run == run  # the same wish, the same run (R-CASE-17)
    end = time.monotonic() + SOON
    while (shown := system.call(directory.GET_SYNC_RUN, directory.GetSyncRun(run=run), regional)).state != "done":
        assert shown.state in ("requested", "running"), shown.reason
        assert time.monotonic() < end
        time.sleep(0.1)
    assert shown.units_changed >= 1
    assert shown.refused_count >= len(shown.refused)
    # R-DIR-2: the clinic has taken it over by itself.
    assert facts(system, clinic, regional).name == f"{clinic.name} med nytt namn"


def test_unknown_sources_and_runs(system):
    with pytest.raises(Invalid):
        start_sync(system, system.operator_token, source="ldap")
    with pytest.raises(NotFound):
        system.call(directory.GET_SYNC_RUN, directory.GetSyncRun(run=uuid4()), system.operator_token)


def test_a_bad_source_changes_nothing_and_the_run_says_why_r_dir_12(system):
    clinic = system.clinic()
    put_unit(system, clinic, ou=[f"{clinic.name} ändrad"])
    system.counterpart_behaves("kiv", mode="truncated", only="units")
    with pytest.raises(AssertionError, match="failed: truncated"):
        system.sync_directory()
    assert facts(system, clinic, system.operator_token).name == clinic.name
    system.counterparts_behave_well()
    system.sync_directory()
    assert facts(system, clinic, system.operator_token).name == f"{clinic.name} ändrad"


def test_a_worker_that_is_killed_leaves_nothing_undone(system):
    clinic = system.clinic()
    put_unit(system, clinic, ou=[f"{clinic.name} efter krasch"])
    system.counterpart_behaves("kiv", mode="delay", seconds=2, only="units", times=1)
    run = start_sync(system, system.operator_token).run
    shown = directory.GetSyncRun(run=run)
    while system.call(directory.GET_SYNC_RUN, shown, system.operator_token).state == "requested":
        time.sleep(0.05)
    system.process("directory_worker").restart(kill=True)
    end = time.monotonic() + SOON
    while (state := system.call(directory.GET_SYNC_RUN, shown, system.operator_token).state) == "running":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert state == "done"
    assert facts(system, clinic, system.operator_token).name == f"{clinic.name} efter krasch"


def test_a_clinic_with_active_case_types_is_not_inactivated_r_dir_3(system):
    clinic, regional = system.clinic(), system.staff_token(cast.REGIONAL_ADMIN)
    made = system.call(
        cases.ACTIVATE_CASE_TYPE,
        cases.ActivateCaseType(
            request_id=uuid4(),
            clinic=clinic.hsa_id,
            name="Kontakta mig",
            components=[cases.Component(id="fraga", kind="text", label="Fråga")],
        ),
        system.staff_token(cast.LOCAL_ADMIN),
    )
    with pytest.raises(Conflict) as refused:
        inactivate(system, clinic, regional)
    assert refused.value.reason == "case_types_active"
    system.call(
        cases.DEACTIVATE_CASE_TYPE,
        cases.DeactivateCaseType(request_id=uuid4(), case_type=made.case_type),
        system.staff_token(cast.LOCAL_ADMIN),
    )
    inactivate(system, clinic, regional)
    assert not facts(system, clinic, regional).active
    # A write that began before the inactivation, and ended after.
    with psycopg.connect(system.stack.database_url("cases"), autocommit=True) as connection:
        connection.execute("UPDATE case_types SET active = true WHERE id = %s", (made.case_type,))
    again = directory.directory.run_job.request(request_id=uuid4(), job="take_back_inactivations")
    system.call(directory.directory.run_job, again, system.operator_token)
    assert facts(system, clinic, regional).active


def test_residents_find_a_clinic_once_it_is_active_r_dir_13(system):
    clinic = system.unit()
    search = directory.SearchClinics(text=clinic.hsa_id.lower())
    resident, staff = system.resident_token(cast.RESIDENT), system.staff_token(cast.OUTSIDER)
    assert system.call(directory.SEARCH_CLINICS, search, resident).clinics == []
    assert [one.clinic for one in system.call(directory.SEARCH_CLINICS, search, staff).clinics] == [clinic.hsa_id]
    activate(system, clinic, system.staff_token(cast.REGIONAL_ADMIN))
    assert [one.clinic for one in system.call(directory.SEARCH_CLINICS, search, resident).clinics] == [clinic.hsa_id]


def found_by(system, number, clinic):
    """Whether the resident with this identity number finds the clinic."""
    search = directory.SearchClinics(text=clinic.hsa_id)
    return system.call(directory.SEARCH_CLINICS, search, system.resident_token(number)).clinics != []


def approve(system, number, clinic):
    asked = access.ApproveResident(request_id=uuid4(), clinic=clinic.hsa_id, identity_number=number)
    return system.call(access.APPROVE_RESIDENT, asked, system.staff_token(cast.LOCAL_ADMIN)).approval


def list_at(system, number, clinic):
    line = access.Listing(identity_number=number, clinic=clinic, as_of=system.now() - timedelta(seconds=1))
    asked = access.ImportListings(request_id=uuid4(), listings=[line])
    system.call(access.IMPORT_LISTINGS, asked, system.system_token("listings"))


def test_a_protected_person_finds_clinics_of_the_own_county_and_where_approved_r_dir_13_r_id_15(system):
    clinic, other = system.clinic(), system.clinic()
    list_at(system, cast.PROTECTED_RESIDENT, None)
    assert not found_by(system, cast.PROTECTED_RESIDENT, clinic)
    approval = approve(system, cast.PROTECTED_RESIDENT, clinic)
    assert found_by(system, cast.PROTECTED_RESIDENT, clinic)
    assert not found_by(system, cast.PROTECTED_RESIDENT, other)
    withdraw = access.WithdrawApprovals(request_id=uuid4(), clinic=clinic.hsa_id, approvals=[approval])
    system.call(access.WITHDRAW_APPROVALS, withdraw, system.staff_token(cast.LOCAL_ADMIN))
    assert not found_by(system, cast.PROTECTED_RESIDENT, clinic)
    list_at(system, cast.PROTECTED_RESIDENT, cast.SJOPORTEN)  # whose county is that of all clinics here
    assert found_by(system, cast.PROTECTED_RESIDENT, other)


def test_a_clinic_with_a_catchment_is_found_by_those_within_and_those_let_in_r_dir_13_r_id_22(system):
    clinic = system.clinic()
    assert found_by(system, cast.RESIDENT, clinic)
    limit = access.SetCatchment(request_id=uuid4(), clinic=clinic.hsa_id, counties=["25"])
    system.call(access.SET_CATCHMENT, limit, system.staff_token(cast.LOCAL_ADMIN))
    assert not found_by(system, cast.RESIDENT, clinic)
    assert not found_by(system, cast.SECOND_RESIDENT, clinic)
    approve(system, cast.RESIDENT, clinic)
    assert found_by(system, cast.RESIDENT, clinic)
    assert not found_by(system, cast.SECOND_RESIDENT, clinic)


def test_a_guardian_finds_for_the_child_what_has_not_blocked_them_r_dir_13_r_id_13(system):
    clinic = system.clinic()
    guardian = system.accept_terms(system.login_resident(cast.GUARDIAN)).access_token
    children = system.call(access.MY_CHILDREN, access.MyChildren(), guardian).children
    [child] = [one.child for one in children if one.name.startswith(named("elsa").given_name)]
    asked = access.ActForChild(request_id=uuid4(), child=child)
    acting = system.call(access.ACT_FOR_CHILD, asked, guardian).access_token
    search = directory.SearchClinics(text=clinic.hsa_id)
    assert system.call(directory.SEARCH_CLINICS, search, acting).clinics
    block = access.BlockGuardian(
        request_id=uuid4(), clinic=clinic.hsa_id, guardian_number=cast.GUARDIAN, child_number=cast.CHILD_OF_12
    )
    system.call(access.BLOCK_GUARDIAN, block, system.staff_token(cast.LOCAL_ADMIN))
    assert system.call(directory.SEARCH_CLINICS, search, acting).clinics == []
    assert system.call(directory.SEARCH_CLINICS, search, guardian).clinics


def test_residents_find_nothing_while_nobody_can_say_what_is_open_to_them_r_dir_13(system):
    clinic = system.clinic()
    search, resident = directory.SearchClinics(text=clinic.hsa_id), system.resident_token(cast.RESIDENT)
    assert system.call(directory.SEARCH_CLINICS, search, resident).clinics
    system.process("identity").stop()
    with pytest.raises((Unavailable, DeadlineExceeded)):
        system.call(directory.SEARCH_CLINICS, search, resident)


@pytest.mark.parametrize("mode", ["unavailable", "fault", "garbage", "drop"])
def test_login_falls_back_on_a_fresh_copy_while_hsa_is_down_r_dir_12(system, mode):
    system.sync_directory()
    system.counterpart_behaves("hsa", mode=mode)
    assert log_in(system, cast.HANDLER)
    # Whom the copy does not know may be in HSA all the same: nobody can say.
    with pytest.raises(Unavailable):
        log_in(system, "SE2321000131-P000009000070")  # nobody whom another test asks for


@pytest.mark.parametrize("person", [cast.HIDDEN_STAFF, cast.ENDED_STAFF, cast.UNKNOWN_STAFF])
def test_who_is_missing_in_hsa_does_not_log_in_r_id_1(system, person):
    with pytest.raises(Forbidden):
        log_in(system, person)


def test_who_is_only_in_hsa_can_be_given_a_role_r_id_8(system):
    clinic = system.clinic()
    system.give(clinic, cast.ONLY_IN_HSA, identity.Role.CASE_HANDLER, by=cast.LOCAL_ADMIN)
    people = system.call(
        identity.LIST_RIGHTS, identity.ListRights(clinic=clinic.hsa_id), system.staff_token(cast.LOCAL_ADMIN)
    ).people
    [one] = [one for one in people if one.person == cast.ONLY_IN_HSA]
    assert one.directory_status == "fine"
    assert one.surname


def public_card(system, clinic):
    """Without any login."""
    return system.call(directory.GET_PUBLIC_CARDS, directory.GetPublicCards(clinics=[clinic.hsa_id]))


def contact_card(system, clinic, token):
    return system.call(directory.GET_CONTACT_CARD, directory.GetContactCard(clinic=clinic.hsa_id), token)


def test_case_types_show_at_once_when_logged_in_and_publicly_at_the_next_publication_r_dir_8_r_dir_10(system):
    clinic, resident = system.clinic(), system.resident_token(cast.RESIDENT)
    put_unit(system, clinic, hsaDestinationIndicator=["03"], hsaCountyCode=["14"], vgrCareType=["01"])
    system.sync_directory()
    asked = cases.ActivateCaseType(
        request_id=uuid4(),
        clinic=clinic.hsa_id,
        name="Förnya recept",
        components=[cases.Component(id="fraga", kind="text", label="Fråga")],
    )
    system.call(cases.ACTIVATE_CASE_TYPE, asked, system.staff_token(cast.LOCAL_ADMIN))
    assert [one.name for one in contact_card(system, clinic, resident).case_types] == ["Förnya recept"]
    assert [one.reason for one in public_card(system, clinic).not_shown] == ["not_yet_published"]
    # The system is down when it is time: the card is published late (no publication is more than 13 hours away).
    service = system.process("directory")
    service.stop()
    system.move_clock(timedelta(hours=13))
    service.start()
    end = time.monotonic() + SOON
    while not (shown := public_card(system, clinic)).cards:
        assert time.monotonic() < end, shown.not_shown
        time.sleep(0.1)
    [card] = shown.cards
    assert [one.name for one in card.case_types] == ["Förnya recept"]
    assert card.position is not None


def test_the_logged_in_card_says_so_when_cases_does_not_answer(system):
    clinic, regional = system.clinic(), system.staff_token(cast.REGIONAL_ADMIN)
    system.process("cases").stop()
    shown = contact_card(system, clinic, regional)
    assert (shown.name, shown.case_types_known) == (clinic.name, False)


def test_a_clinic_is_applied_for_and_approved_r_dir_3(system):
    unit, regional = system.unit(), system.staff_token(cast.REGIONAL_ADMIN)
    asked = directory.ApplyForClinic(request_id=uuid4(), clinic=unit.hsa_id)
    application = system.call(directory.APPLY_FOR_CLINIC, asked, system.staff_token(cast.OUTSIDER)).application
    decision = directory.DecideApplication(request_id=uuid4(), application=application, approved=True)
    assert system.call(directory.DECIDE_APPLICATION, decision, regional).state == "approved"
    assert facts(system, unit, regional).active


def test_staff_refresh_their_own_facts_from_hsa_r_dir_1(system):
    token = system.staff_token(cast.HANDLER)
    shown = system.call(directory.REFRESH_MY_FACTS, directory.RefreshMyFacts(), token)
    assert (shown.person, shown.status) == (cast.HANDLER, "fine")
    system.counterpart_behaves("hsa", mode="unavailable", only=cast.HANDLER)
    with pytest.raises(Unavailable):
        system.call(directory.REFRESH_MY_FACTS, directory.RefreshMyFacts(), token)


def test_the_worker_asks_hsa_about_all_staff_in_bulk_r_dir_1(system):
    run = start_sync(system, system.operator_token, source="hsa").run
    asked, end = directory.GetSyncRun(run=run), time.monotonic() + SOON
    while (shown := system.call(directory.GET_SYNC_RUN, asked, system.operator_token)).finished_at is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (shown.state, shown.reason) == ("done", None)
    assert system.rows("directory", "SELECT count(*) FROM staff WHERE asked_at IS NULL") == [(0,)]
