"""Identity's calls over real RPC, with identity provider, directory, HSA and population register running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local import login
from deploy.local.contact import choose_contact
from deploy.local.people import cast
from shared.contracts import cases, identity, logging_in, notifications
from shared.contracts.base import Role, RunJob
from shared.messaging.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotAuthenticated,
    Refused,
    TermsNotAccepted,
    Unavailable,
)


def as_service(system: Any, name: str) -> str:
    """The token of a service."""
    return str(system.service_token(name))


def begin(system: Any, kind: identity.PersonKind) -> logging_in.LoginBegun:
    begun: logging_in.LoginBegun = system.call(
        logging_in.BEGIN_LOGIN, logging_in.BeginLogin(request_id=uuid4(), kind=kind)
    )
    return begun


def id_token(system: Any, nonce: str, who: str) -> str:
    """What the identity provider gives a member of staff (by HSA-id) or a resident (by number)."""
    take = login.staff_id_token if who.startswith("SE") else login.resident_id_token
    return take(system.stack.system.at.idp, who, nonce, pki=system.stack.system.trust.parent)


def complete(system: Any, request: logging_in.CompleteLogin) -> logging_in.SessionOpened:
    opened: logging_in.SessionOpened = system.call(logging_in.COMPLETE_LOGIN, request)
    return opened


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value


def resident_of(system: Any, number: str) -> UUID:
    found = system.call(
        identity.FIND_RESIDENT, identity.FindResident(identity_number=number), as_service(system, "cases")
    )
    assert found.resident is not None
    resident: UUID = found.resident
    return resident


def card_of(system: Any, resident: UUID) -> identity.ResidentCard:
    request = identity.ResidentCards(residents=[resident])
    [card] = system.call(identity.RESIDENT_CARDS, request, as_service(system, "cases")).cards
    found: identity.ResidentCard = card
    return found


def listed_once_known(system: Any, listing: cases.ListClinicCases, token: str) -> Any:
    """The clinic's cases, as soon as the cases service has heard of the right: a new one may take a second."""
    until = time.monotonic() + 5.0
    while True:
        try:
            return system.call(cases.LIST_CLINIC_CASES, listing, token).cases
        except Forbidden:
            assert time.monotonic() < until
            time.sleep(0.05)


# --- logging in -----------------------------------------------------------------------------------------------------


def test_r_id_1_staff_log_in_with_siths_and_stand_in_hsa(system: Any) -> None:
    """R-ID-1: hidden in HSA, past the end date or not there at all: refused with that reason."""
    assert system.login_staff(cast.HANDLER).access_token
    assert system.login_staff(cast.ONLY_IN_HSA).access_token
    for person in (cast.HIDDEN_STAFF, cast.ENDED_STAFF, cast.UNKNOWN_STAFF):
        refused = refusal(lambda who=person: system.login_staff(who))
        assert isinstance(refused, Forbidden)
        assert refused.reason == "staff_missing_in_directory"
        assert "HSA" in refused.message


def test_r_id_1_one_of_several_hsa_ids_may_be_chosen(system: Any) -> None:
    """R-ID-1"""
    first, second = cast.TWO_EMPLOYMENTS
    begun = begin(system, "staff")
    token = id_token(system, begun.nonce, first)
    stolen = logging_in.CompleteLogin(
        request_id=uuid4(), login=begun.login, id_token=token, employee_hsa_id=cast.HANDLER
    )
    assert refusal(lambda: complete(system, stolen)).reason == "hsa_id_of_someone_else"
    begun = begin(system, "staff")
    token = id_token(system, begun.nonce, first)
    chosen = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token, employee_hsa_id=second)
    assert complete(system, chosen).access_token


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("wrong_audience", "id_token_audience"),
        ("wrong_issuer", "id_token_issuer"),
        ("wrong_nonce", "id_token_nonce"),
        ("no_nonce", "id_token_invalid"),
        ("alg_none", "id_token_algorithm"),
        ("alg_hs256", "id_token_algorithm"),
        ("expired", "id_token_expired"),
        ("unknown_key", "id_token_key_unknown"),
        ("wrong_key", "id_token_invalid"),
        ("no_kid", "id_token_algorithm"),
        ("low_assurance", "level_of_assurance"),
        ("no_identity", "personal_identity_number_missing"),
    ],
)
def test_r_id_3_a_token_that_does_not_hold_opens_nothing(system: Any, mode: str, reason: str) -> None:
    """R-ID-3: no session, nothing half done; the right token works after it."""
    system.counterpart_behaves("idp", mode=mode, only=cast.SECOND_RESIDENT)
    refused = refusal(lambda: system.login_resident(cast.SECOND_RESIDENT))
    assert isinstance(refused, NotAuthenticated)
    assert refused.reason == reason
    system.counterparts_behave_well()
    assert system.login_resident(cast.SECOND_RESIDENT).access_token


def test_a_replayed_token_opens_nothing_and_a_repeated_request_gets_the_same_answer(system: Any) -> None:
    """R-ID-3, R-CASE-17"""
    begun = begin(system, "resident")
    token = id_token(system, begun.nonce, cast.RESIDENT)
    request = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token)
    assert complete(system, request) == complete(system, request)
    again = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token)
    assert refusal(lambda: complete(system, again)).reason == "login_used"
    elsewhere = logging_in.CompleteLogin(request_id=uuid4(), login=begin(system, "resident").login, id_token=token)
    assert refusal(lambda: complete(system, elsewhere)).reason == "id_token_nonce"
    crossed = logging_in.CompleteLogin(request_id=uuid4(), login=begin(system, "staff").login, id_token=token)
    assert isinstance(refusal(lambda: complete(system, crossed)), NotAuthenticated)


def test_r_id_3_a_login_that_was_refused_is_not_tried_again(system: Any) -> None:
    """R-ID-3, R-ID-21: neither with another token nor with the same, when what stood in its way has gone."""
    begun = begin(system, "resident")
    token = id_token(system, begun.nonce, cast.RESIDENT)
    foreign = id_token(system, begin(system, "resident").nonce, cast.RESIDENT)
    wrong = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=foreign)
    assert refusal(lambda: complete(system, wrong)).reason == "id_token_nonce"
    right = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token)
    assert refusal(lambda: complete(system, right)).reason == "login_used"


def test_r_id_24_the_same_resident_at_every_login(system: Any) -> None:
    """R-ID-24: an opaque id, and the number nowhere in the database."""
    system.login_resident(cast.RESIDENT)
    resident = resident_of(system, cast.RESIDENT)
    system.login_resident(cast.RESIDENT)
    short = f"{cast.RESIDENT[2:8]}-{cast.RESIDENT[8:]}"
    assert resident_of(system, short) == resident
    assert card_of(system, resident).identity_number == cast.RESIDENT
    rows = system.rows("identity", "SELECT n::text, r::text FROM identity_numbers n JOIN residents r USING (resident)")
    assert rows
    assert not any(cast.RESIDENT in text or cast.RESIDENT.encode().hex() in text for row in rows for text in row)


def test_r_id_14_the_protected_mark_and_nothing_of_the_place(system: Any) -> None:
    """R-ID-14: also when the register breaks its contract and gives the address."""
    for number in (cast.PROTECTED_RESIDENT, cast.PROTECTED_RECORD):
        system.counterpart_behaves("pu", mode="leaky", only=number)
        system.login_resident(number)
        assert card_of(system, resident_of(system, number)).protected


def test_r_id_17_the_dead_cannot_log_in(system: Any) -> None:
    """R-ID-17"""
    refused = refusal(lambda: system.login_resident(cast.DECEASED))
    assert isinstance(refused, Forbidden)
    assert refused.reason == "account_inactive"
    assert "avliden" not in refused.message.lower()


def test_r_id_18_the_emigrated_can(system: Any) -> None:
    """R-ID-18"""
    assert system.login_resident(cast.EMIGRATED).access_token


def test_who_the_register_does_not_know_is_refused(system: Any) -> None:
    refused = refusal(lambda: system.login_resident(cast.UNKNOWN_TO_REGISTER))
    assert refused.reason == "not_in_population_register"


@pytest.mark.parametrize("mode", ["unavailable", "garbage", "fault", "truncated", "invalid", "forbidden", "drop"])
def test_a_register_that_fails_lets_nobody_in(system: Any, mode: str) -> None:
    """A typed error, no session; the same login works once the register is well."""
    begun = begin(system, "resident")
    token = id_token(system, begun.nonce, cast.SECOND_RESIDENT)
    request = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token)
    system.counterpart_behaves("pu", mode=mode, only=cast.SECOND_RESIDENT)
    refused = refusal(lambda: complete(system, request))
    assert isinstance(refused, Unavailable)
    assert refused.reason == "population_register_unavailable"
    system.counterparts_behave_well()
    assert complete(system, request).access_token


# --- terms and sessions ---------------------------------------------------------------------------------------------


def test_r_id_2_before_the_terms_a_session_may_do_nothing_else(system: Any) -> None:
    """R-ID-2, R-ID-3"""
    opened = system.login_before_terms(cast.GUARDIAN)
    assert opened.terms_version_to_accept is not None
    contact = identity.SetContact(request_id=uuid4())
    with pytest.raises(TermsNotAccepted):
        system.call(identity.SET_CONTACT, contact, opened.access_token)
    assert system.call(logging_in.READ_TERMS, logging_in.ReadTerms(), opened.access_token).accepted_at is None
    opened = system.accept_terms(opened)
    system.call(identity.SET_CONTACT, contact, opened.access_token)
    read = system.call(logging_in.READ_TERMS, logging_in.ReadTerms(), opened.access_token)
    assert read.accepted_at is not None
    assert read.text


def test_r_id_21_logging_out_holds_everywhere_within_a_second(system: Any) -> None:
    """R-ID-21, R-ID-10"""
    opened = system.accept_terms(system.login_staff(cast.SECOND_RECEIVER))
    mine = cases.ListMyCases()
    refused = refusal(lambda: system.call(cases.LIST_MY_CASES, mine, "no token"))
    assert isinstance(refused, NotAuthenticated)
    clinic = system.clinic({cast.SECOND_RECEIVER: [Role.CASE_RECEIVER]})
    listing = cases.ListClinicCases(clinic=clinic.hsa_id)
    assert listed_once_known(system, listing, opened.access_token) == []
    system.call(logging_in.LOG_OUT, logging_in.LogOut(request_id=uuid4()), opened.access_token)
    returned = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            system.call(cases.LIST_CLINIC_CASES, listing, opened.access_token)
        except NotAuthenticated:
            break
        assert asked - returned < 1.0
    with pytest.raises(NotAuthenticated):
        system.call(logging_in.READ_TERMS, logging_in.ReadTerms(), opened.access_token)
    renewal = logging_in.RenewSession(request_id=uuid4(), renewal_token=opened.renewal_token)
    with pytest.raises(NotAuthenticated):
        system.call(logging_in.RENEW_SESSION, renewal)


def test_r_id_21_renewal_and_the_thief(system: Any) -> None:
    """R-ID-21: a spent renewal token ends the session; a repeated request does not."""
    opened = system.accept_terms(system.login_staff(cast.SECOND_HANDLER))
    request = logging_in.RenewSession(request_id=uuid4(), renewal_token=opened.renewal_token)
    newer = system.call(logging_in.RENEW_SESSION, request)
    assert system.call(logging_in.RENEW_SESSION, request) == newer
    thief = logging_in.RenewSession(request_id=uuid4(), renewal_token=opened.renewal_token)
    assert refusal(lambda: system.call(logging_in.RENEW_SESSION, thief)).reason == "renewal_token_spent"
    own = logging_in.RenewSession(request_id=uuid4(), renewal_token=newer.renewal_token)
    assert refusal(lambda: system.call(logging_in.RENEW_SESSION, own)).reason == "session_ended"
    with pytest.raises(NotAuthenticated):
        system.call(logging_in.READ_TERMS, logging_in.ReadTerms(), newer.access_token)


# --- roles ----------------------------------------------------------------------------------------------------------


def give(system: Any, clinic: Any, person: str, role: Role, by: str) -> identity.RoleGiven:
    request = identity.GiveRole(request_id=uuid4(), clinic=clinic.hsa_id, person=person, role=role)
    given: identity.RoleGiven = system.call(identity.GIVE_ROLE, request, system.staff_token(by))
    return given


def take(system: Any, clinic: Any, person: str, role: Role, by: str) -> identity.RoleTaken:
    request = identity.TakeRole(request_id=uuid4(), clinic=clinic.hsa_id, person=person, role=role)
    taken: identity.RoleTaken = system.call(identity.TAKE_ROLE, request, system.staff_token(by))
    return taken


def test_r_id_6_there_is_a_first_administrator_only_once(system: Any) -> None:
    """R-ID-6"""
    make = identity.MakeFirstAdministrator(request_id=uuid4(), person=cast.OUTSIDER)
    with pytest.raises(Conflict):
        system.call(identity.MAKE_FIRST_ADMINISTRATOR, make, system.operator_token)
    with pytest.raises(Forbidden):
        system.call(identity.MAKE_FIRST_ADMINISTRATOR, make, system.staff_token(cast.OUTSIDER))


def test_r_id_6_the_operator_makes_and_takes_a_second_regional_administrator(system: Any) -> None:
    """R-ID-6: nobody else does, and only someone who stands in HSA."""
    give = identity.GiveRegionalAdmin(request_id=uuid4(), person=cast.OUTSIDER)
    take = identity.TakeRegionalAdmin(request_id=uuid4(), person=cast.OUTSIDER)
    regional = system.staff_token(cast.REGIONAL_ADMIN)
    for call, request in ((identity.GIVE_REGIONAL_ADMIN, give), (identity.TAKE_REGIONAL_ADMIN, take)):
        with pytest.raises(Forbidden):
            system.call(call, request, regional)
    unknown = identity.GiveRegionalAdmin(request_id=uuid4(), person=cast.UNKNOWN_STAFF)
    with pytest.raises(Invalid):
        system.call(identity.GIVE_REGIONAL_ADMIN, unknown, system.operator_token)
    both = sorted([cast.OUTSIDER, cast.REGIONAL_ADMIN])
    assert system.call(identity.GIVE_REGIONAL_ADMIN, give, system.operator_token).people == both
    assert system.call(identity.TAKE_REGIONAL_ADMIN, take, system.operator_token).people == [cast.REGIONAL_ADMIN]


def test_r_id_7_r_id_8_a_pasted_hsa_id_of_someone_who_is_new(system: Any) -> None:
    """R-ID-7, R-ID-8: who is only in HSA so far is added; who is not there, or is no HSA-id, is refused and told so."""
    clinic = system.clinic()
    pasted = f"\u00a0 {cast.ONLY_IN_HSA[:9].lower()} {cast.ONLY_IN_HSA[9:]}\u200b"
    given = give(system, clinic, pasted, Role.CASE_HANDLER, cast.LOCAL_ADMIN)
    assert given == identity.RoleGiven(person=cast.ONLY_IN_HSA, roles=[Role.CASE_HANDLER])
    for person, reason in ((cast.UNKNOWN_STAFF, "staff_missing_in_directory"), ("Eva Ek", "not_an_hsa_id")):
        refused = refusal(lambda who=person: give(system, clinic, who, Role.CASE_HANDLER, cast.LOCAL_ADMIN))
        assert isinstance(refused, Invalid)
        assert refused.reason == reason
        assert [name for name, _ in refused.fields] == ["person"]


def test_r_id_6_roles_only_where_one_administers_and_the_clinic_is_active(system: Any) -> None:
    """R-ID-6"""
    clinic = system.clinic()
    with pytest.raises(Forbidden):
        give(system, clinic, cast.OUTSIDER, Role.CASE_HANDLER, cast.OUTSIDER)
    with pytest.raises(Forbidden):
        give(system, clinic, cast.OUTSIDER, Role.CASE_HANDLER, cast.REGIONAL_ADMIN)
    refused = refusal(lambda: give(system, system.unit(), cast.LOCAL_ADMIN, Role.LOCAL_ADMIN, cast.REGIONAL_ADMIN))
    assert (refused.code, refused.reason) == ("conflict", "clinic_not_active")
    last = refusal(lambda: take(system, clinic, cast.LOCAL_ADMIN, Role.LOCAL_ADMIN, cast.LOCAL_ADMIN))
    assert (last.code, last.reason) == ("conflict", "last_administrator")


def test_r_id_6_an_administrator_who_is_missing_in_hsa_does_not_let_the_last_one_go(system: Any) -> None:
    """R-ID-6: nor are they kept themselves."""
    clinic, gone = system.clinic(), cast.UNKNOWN_STAFF
    system.rows("identity", "INSERT INTO staff VALUES (%s, now()) ON CONFLICT DO NOTHING", gone)
    system.rows("identity", "INSERT INTO roles VALUES (%s, %s, 'local_admin', now(), 'test')", clinic.hsa_id, gone)
    last = refusal(lambda: take(system, clinic, cast.LOCAL_ADMIN, Role.LOCAL_ADMIN, cast.LOCAL_ADMIN))
    assert (last.code, last.reason) == ("conflict", "last_administrator")
    assert take(system, clinic, gone, Role.LOCAL_ADMIN, cast.LOCAL_ADMIN).roles == []


def test_r_id_10_taking_a_right_works_in_other_services_within_a_second(system: Any) -> None:
    """R-ID-10: from the return of the call; and the caller is told which of the clinic's addresses are the person's."""
    clinic = system.clinic()
    mail = cast.mail_of(cast.RECEIVER)
    settings = notifications.SetClinicSettings(
        request_id=uuid4(), clinic=clinic.hsa_id, new_case_addresses=[mail, "mottagning@vgregion.example"]
    )
    system.call(notifications.SET_CLINIC_SETTINGS, settings, system.staff_token(cast.LOCAL_ADMIN))
    token = system.staff_token(cast.RECEIVER)
    listing = cases.ListClinicCases(clinic=clinic.hsa_id)
    assert listed_once_known(system, listing, token) == []
    taken = take(system, clinic, cast.RECEIVER, Role.CASE_RECEIVER, cast.LOCAL_ADMIN)
    returned = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            system.call(cases.LIST_CLINIC_CASES, listing, token)
        except Forbidden:
            break
        assert asked - returned < 1.0
    assert taken.roles == []
    assert [address.lower() for address in taken.overlapping_addresses or []] == [mail.lower()]


def test_r_id_10_taking_a_right_does_not_wait_for_notifications(system: Any) -> None:
    """R-ID-10: which addresses overlap is then not known."""
    clinic = system.clinic()
    token = system.staff_token(cast.LOCAL_ADMIN)
    system.process("notifications").pause()
    request = identity.TakeRole(request_id=uuid4(), clinic=clinic.hsa_id, person=cast.HANDLER, role=Role.CASE_HANDLER)
    taken = system.call(identity.TAKE_ROLE, request, token, timeout=8.0)
    assert (taken.roles, taken.overlapping_addresses) == ([], None)


def clinic_with_second_administrator(system: Any, address: str) -> Any:
    """A clinic with one more administrator, a handler, and this address among its own."""
    clinic = system.clinic()
    give(system, clinic, cast.SECOND_RECEIVER, Role.LOCAL_ADMIN, cast.LOCAL_ADMIN)
    give(system, clinic, cast.HANDLER, Role.CASE_HANDLER, cast.LOCAL_ADMIN)
    settings = notifications.SetClinicSettings(request_id=uuid4(), clinic=clinic.hsa_id, new_case_addresses=[address])
    system.call(notifications.SET_CLINIC_SETTINGS, settings, system.staff_token(cast.LOCAL_ADMIN))
    return clinic


def test_r_id_10_repeating_a_request_tells_nothing_to_who_has_lost_the_right(system: Any) -> None:
    """R-ID-10, R-CASE-17: the right of now decides, not that of the first time."""
    mail = cast.mail_of(cast.HANDLER)
    clinic = clinic_with_second_administrator(system, mail)
    token = system.staff_token(cast.SECOND_RECEIVER)
    request = identity.TakeRole(request_id=uuid4(), clinic=clinic.hsa_id, person=cast.HANDLER, role=Role.CASE_HANDLER)
    first = system.call(identity.TAKE_ROLE, request, token)
    assert [address.lower() for address in first.overlapping_addresses or []] == [mail.lower()]
    assert system.call(identity.TAKE_ROLE, request, token) == first
    take(system, clinic, cast.SECOND_RECEIVER, Role.LOCAL_ADMIN, cast.LOCAL_ADMIN)
    assert isinstance(refusal(lambda: system.call(identity.TAKE_ROLE, request, token)), Forbidden)


def test_r_id_10_who_takes_their_own_right_is_told_no_more_of_the_clinic(system: Any) -> None:
    """R-ID-10, R-CASE-17: but that it was taken, also when the request comes again."""
    clinic = clinic_with_second_administrator(system, cast.mail_of(cast.SECOND_RECEIVER))
    token = system.staff_token(cast.SECOND_RECEIVER)
    own, role = cast.SECOND_RECEIVER, Role.LOCAL_ADMIN
    request = identity.TakeRole(request_id=uuid4(), clinic=clinic.hsa_id, person=own, role=role)
    for _ in range(2):
        taken = system.call(identity.TAKE_ROLE, request, token)
        assert role not in taken.roles
        assert taken.overlapping_addresses is None


def test_r_id_10_who_loses_the_right_while_others_are_asked_is_not_told(system: Any) -> None:
    """R-ID-10: the answer that leaves goes by the right of that moment."""
    clinic = clinic_with_second_administrator(system, cast.mail_of(cast.HANDLER))
    token = system.staff_token(cast.SECOND_RECEIVER)
    request = identity.TakeRole(request_id=uuid4(), clinic=clinic.hsa_id, person=cast.HANDLER, role=Role.CASE_HANDLER)
    answers: list[identity.RoleTaken] = []
    system.process("directory").pause()
    asking = threading.Thread(target=lambda: answers.append(system.call(identity.TAKE_ROLE, request, token)))
    asking.start()
    until = time.monotonic() + 5.0
    while system.rows("identity", "SELECT 1 FROM roles WHERE clinic = %s AND role = 'case_handler'", clinic.hsa_id):
        assert time.monotonic() < until
        time.sleep(0.02)
    system.rows("identity", "DELETE FROM roles WHERE clinic = %s AND person = %s", clinic.hsa_id, cast.SECOND_RECEIVER)
    system.process("directory").resume()
    asking.join()
    assert [(answer.roles, answer.overlapping_addresses) for answer in answers] == [([], None)]


def test_r_id_9_the_list_of_rights_says_who_is_missing(system: Any) -> None:
    """R-ID-9: and shows the protected mark for staff too (R-ID-14)."""
    clinic = system.clinic()
    give(system, clinic, cast.PROTECTED_STAFF, Role.CASE_HANDLER, cast.LOCAL_ADMIN)
    gone = f"SE2321000131-P{uuid4().int % 10**12:012}"
    system.rows("identity", "INSERT INTO staff (person, added_at) VALUES (%s, now())", gone)
    system.rows("identity", "INSERT INTO roles VALUES (%s, %s, 'case_handler', now(), 'test')", clinic.hsa_id, gone)
    listing = identity.ListRights(clinic=clinic.hsa_id)
    listed = system.call(identity.LIST_RIGHTS, listing, system.staff_token(cast.LOCAL_ADMIN)).people
    people = {each.person: each for each in listed}
    assert people[gone].directory_status == "missing"
    assert people[cast.LOCAL_ADMIN].directory_status == "fine"
    assert people[cast.LOCAL_ADMIN].surname
    assert people[cast.PROTECTED_STAFF].protected
    with pytest.raises(Forbidden):
        system.call(identity.LIST_RIGHTS, listing, system.staff_token(cast.HANDLER))


# --- what other services ask ----------------------------------------------------------------------------------------


def test_only_services_see_cards_and_contacts(system: Any) -> None:
    """R-SYS-1, R-ID-24: and of those only the ones that need to."""
    question = identity.FindResident(identity_number=cast.RESIDENT)
    contacts = identity.Contacts(staff=[cast.HANDLER])
    for token, error in (
        (None, NotAuthenticated),
        (system.staff_token(cast.HANDLER), Forbidden),
        (system.operator_token, Forbidden),
    ):
        with pytest.raises(error):
            system.call(identity.FIND_RESIDENT, question, token)
        with pytest.raises(error):
            system.call(identity.CONTACTS, contacts, token)
    with pytest.raises(Forbidden):
        system.call(identity.CONTACTS, contacts, as_service(system, "cases"))
    for other in ("attachments", "notifications", "directory"):
        with pytest.raises(Forbidden):
            system.call(identity.FIND_RESIDENT, question, as_service(system, other))
        with pytest.raises(Forbidden):
            system.call(identity.RESIDENT_CARDS, identity.ResidentCards(residents=[]), as_service(system, other))


def test_r_not_9_contact_data_as_it_is_now(system: Any) -> None:
    """R-NOT-3, R-NOT-9"""
    resident, staff = system.resident_token(cast.RESIDENT), system.staff_token(cast.HANDLER)
    choose_contact(system, resident, mobile=cast.RESIDENT_MOBILE, notify_by=["sms"])
    choice = identity.SetContact(request_id=uuid4(), notify_by=["email"], tell_me_about=["case_assigned"])
    system.call(identity.SET_CONTACT, choice, staff)
    question = identity.Contacts(residents=[resident_of(system, cast.RESIDENT)], staff=[cast.HANDLER])
    found = system.call(identity.CONTACTS, question, as_service(system, "notifications"))
    assert (found.residents[0].mobile, found.residents[0].notify_by) == (cast.RESIDENT_MOBILE, ["sms"])
    assert (found.staff[0].email, found.staff[0].tell_me_about) == (cast.mail_of(cast.HANDLER), ["case_assigned"])


def test_r_id_10_current_rights_for_a_service_that_is_late(system: Any) -> None:
    """R-ID-10"""
    clinic = system.clinic()
    question = identity.CurrentRights(subject=cast.HANDLER)
    now = system.call(identity.CURRENT_RIGHTS, question, as_service(system, "cases"))
    assert identity.HeldRole(clinic=clinic.hsa_id, role=Role.CASE_HANDLER) in now.roles
    ended = identity.CurrentRights(subject=cast.HANDLER, session=uuid4())
    assert not system.call(identity.CURRENT_RIGHTS, ended, as_service(system, "cases")).session_live


def test_the_operator_may_have_old_sessions_forgotten(system: Any) -> None:
    session, long_ago = uuid4(), system.now() - timedelta(days=40)
    system.rows(
        "identity",
        "INSERT INTO sessions (session, kind, subject, started_at, renewed_at, ends_at)"
        " VALUES (%s, 'staff', %s, %s, %s, %s)",
        *(session, cast.OUTSIDER, long_ago, long_ago, long_ago),
    )
    run = RunJob(request_id=uuid4(), job="forget_old_sessions")
    system.call(identity.identity.run_job, run, system.operator_token)
    until = time.monotonic() + 10.0
    while system.rows("identity", "SELECT 1 FROM sessions WHERE session = %s", session):
        assert time.monotonic() < until
        time.sleep(0.1)
