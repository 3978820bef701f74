"""Residents and contact data: accounts, sealed numbers, status, addresses (R-ID-4, R-ID-14 to R-ID-24)."""

from __future__ import annotations

import threading
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.identity import contacts, logins, personal_settings, residents, sessions, verification
from services.identity.identity_numbers import luhn
from services.identity.population_register import RegisteredPerson
from shared.contracts import directory, identity, logging_in, personal
from shared.contracts.base import Role
from shared.messaging.errors import Conflict, Forbidden, Invalid, LimitExceeded, NotAuthenticated, Refused
from shared.operations.clock import SWEDEN
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, Identity, new_number, new_person, registered


def take_in(one: Identity, person: RegisteredPerson) -> UUID:
    return one.take_in(person)


def card(one: Identity, resident: UUID) -> identity.ResidentCard:
    request = identity.ResidentCards(residents=[resident])
    [found] = one.run(lambda tx: residents.resident_cards(tx, request)).cards
    return found


def find(one: Identity, number: str) -> UUID | None:
    request = identity.FindResident(identity_number=number)
    return one.run(lambda tx: residents.find_resident(tx, request, NUMBER_KEY)).resident


def test_r_id_24_one_account_for_one_number_however_many_log_in_at_once(one: Identity) -> None:
    """R-ID-24: with an opaque id."""
    number = new_number()
    made: list[UUID] = []
    threads = [threading.Thread(target=lambda: made.append(take_in(one, registered(number)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert len(set(made)) == 1
    assert find(one, number) == made[0]
    assert find(one, f" {number[2:8]}-{number[8:]}") == made[0]
    assert find(one, new_number()) is None
    with pytest.raises(Invalid):
        find(one, "Eva Ek")
    many = identity.FindResidents(identity_numbers=[number, "Eva Ek", new_number(), f"{number[:8]}-{number[8:]}"])
    found = one.run(lambda tx: residents.find_residents(tx, many, NUMBER_KEY)).found
    assert [(each.resident, each.is_number) for each in found] == [
        (made[0], True),
        (None, False),
        (None, True),
        (made[0], True),
    ]


def test_r_id_24_number_and_name_stand_nowhere_in_clear(one: Identity) -> None:
    """R-ID-24, R-SYS-2: no column of any table holds them."""
    number = new_number()
    resident = take_in(one, registered(number, given_name="Undine", surname="Qvickström"))
    caller = Caller("resident", str(resident))
    setting = identity.SetContact(
        request_id=uuid4(), email="undine@example.org", mobile="0701740605", notify_by=["sms", "email"]
    )
    one.run(lambda tx: verification.set_contact(tx, setting, NUMBER_KEY), caller)
    tables = one.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    for (table,) in tables:
        for (row,) in one.rows(f'SELECT t::text FROM "{table}" AS t'):
            everything = row.lower()
            for text in (number, number[2:], "undine", "qvick", "701740605"):
                assert text not in everything
                assert text.encode().hex() not in everything


def test_r_id_14_cards_never_show_where_someone_lives(one: Identity) -> None:
    """R-ID-14: the mark, the name and the number are shown; of a protected person nothing else is even kept."""
    number = new_number()
    resident = take_in(one, registered(number))
    assert card(one, resident) == identity.ResidentCard(
        resident=resident, name="Eva Ek", identity_number=number, active=True, locked=False, protected=False
    )
    take_in(one, registered(number, protected=True))
    assert card(one, resident).protected
    kept = residents.Particulars.of(registered(number, protected=True))
    assert kept == residents.Particulars("Eva", "Ek")


def test_cards_come_in_the_order_asked_for(one: Identity) -> None:
    first, second = take_in(one, registered(new_number())), take_in(one, registered(new_number()))
    request = identity.ResidentCards(residents=[second, uuid4(), first])
    cards = one.run(lambda tx: residents.resident_cards(tx, request)).cards
    assert [each.resident for each in cards] == [second, first]


def test_r_id_17_death_makes_the_account_inactive_and_ends_its_sessions(one: Identity) -> None:
    """R-ID-17: nothing is removed, the cards say active or not."""
    number = new_number()
    resident = take_in(one, registered(number))
    opened = one.opened("resident", str(resident))
    dead = registered(number, code="AV")
    assert logins.has_died(dead)
    for _ in range(2):
        one.run(lambda tx: residents.bring_up_to_date(tx, None, dead, NUMBER_KEY))
    assert not card(one, resident).active
    assert card(one, resident).name == "Eva Ek"
    told = [body for body in one.told("resident_status_changed") if body["resident"] == str(resident)]
    assert told == [{"resident": str(resident), "active": False, "locked": False, "version": 2}]
    with pytest.raises(NotAuthenticated):
        one.renew(opened.renewal_token)
    assert any(body["subject"] == str(resident) and body["ended_sessions"] for body in one.told("rights_changed"))
    assert residents.account_inactive().reason == "account_inactive"


def test_r_id_17_a_death_of_someone_without_account_changes_nothing(one: Identity) -> None:
    """R-ID-17"""
    number = new_number()
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(number, code="AV"), NUMBER_KEY))
    assert find(one, number) is None


@pytest.mark.parametrize("code", ["UV", "GN", "ZZ"])
def test_r_id_18_other_codes_change_nothing(one: Identity, code: str) -> None:
    """R-ID-18"""
    number = new_number()
    resident = take_in(one, registered(number))
    assert take_in(one, registered(number, code=code)) == resident
    assert card(one, resident).active


@pytest.mark.parametrize("code", ["UV", "GN", "ZZ", ""])
def test_r_id_18_other_codes_make_no_inactive_account_active(one: Identity, code: str) -> None:
    """R-ID-17, R-ID-18: it stays inactive and its login refused, until the register has the person again."""
    number = new_number()
    resident = take_in(one, registered(number))
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(number, code="AV"), NUMBER_KEY))
    with pytest.raises(Forbidden) as caught:
        take_in(one, registered(number, code=code))
    assert caught.value.reason == "account_inactive"
    assert not card(one, resident).active
    take_in(one, registered(number))
    assert card(one, resident).active
    told = [body for body in one.told("resident_status_changed") if body["resident"] == str(resident)]
    assert [(body["active"], body["version"]) for body in told] == [(False, 2), (True, 3)]


def test_r_id_4_who_has_locked_the_login_is_refused(one: Identity) -> None:
    """R-ID-4"""
    number = new_number()
    resident = take_in(one, registered(number))
    one.rows("UPDATE residents SET locked_at = now() WHERE resident = %s", resident)
    with pytest.raises(Forbidden) as caught:
        take_in(one, registered(number))
    assert caught.value.reason == "login_locked"
    assert card(one, resident).locked


# --- logins ---------------------------------------------------------------------------------------------------------


def begin(one: Identity, kind: identity.PersonKind) -> logging_in.LoginBegun:
    request = logging_in.BeginLogin(request_id=uuid4(), kind=kind)
    return one.begin_login(request)


def complete(one: Identity, login: UUID, person: RegisteredPerson) -> logging_in.SessionOpened:
    request = logging_in.CompleteLogin(request_id=uuid4(), login=login, id_token="verified before")
    one.begun(request)
    asked = [(request, person)]
    [opened] = one.run(lambda tx: logins.complete_for_residents(tx, asked, NUMBER_KEY, one.desk))
    return opened


def test_r_id_3_a_login_works_once_within_ten_minutes(one: Identity) -> None:
    """R-ID-3: an ID token that comes again is a replay."""
    begun, late = begin(one, "resident"), begin(one, "resident")
    assert len(begun.nonce) >= 40
    assert begun.nonce != late.nonce
    assert complete(one, begun.login, registered(new_number())).terms_version_to_accept == "1"
    for login, why in ((begun.login, "login_used"), (uuid4(), "login_unknown")):
        with pytest.raises(NotAuthenticated) as caught:
            complete(one, login, registered(new_number()))
        assert caught.value.reason == why
    one.moved += timedelta(minutes=11)
    with pytest.raises(NotAuthenticated) as caught:
        complete(one, late.login, registered(new_number()))
    assert caught.value.reason == "login_expired"


def test_a_refused_login_leaves_nothing_behind(one: Identity) -> None:
    begun = begin(one, "resident")
    number, other = new_number(), new_number()
    complete(one, begun.login, registered(number))
    with pytest.raises(NotAuthenticated):
        complete(one, begun.login, registered(other))
    assert find(one, other) is None


def test_r_id_1_staff_who_are_missing_in_hsa_are_refused(one: Identity) -> None:
    """R-ID-1"""
    with pytest.raises(Forbidden) as caught:
        logins.require_in_directory(directory.StaffFacts(person=new_person(), status="missing"))
    assert caught.value.reason == "staff_missing_in_directory"
    assert "HSA" in caught.value.message
    begun = begin(one, "staff")
    request = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token="verified before")
    person = new_person()
    opened = one.run(lambda tx: logins.complete_for_staff(tx, request, person, one.desk))
    assert opened.terms_version_to_accept == "1"
    assert one.rows("SELECT 1 FROM staff WHERE person = %s AND last_login_at IS NOT NULL", person)


@pytest.mark.parametrize(
    ("claims", "wished", "outcome"),
    [
        ({"employeeHsaId": " se2321000131-p1"}, None, "SE2321000131-P1"),
        (
            {"employeeHsaId": "SE2321000131-P1", "allEmployeeHsaIds": ["SE2321000131-P2"]},
            "SE2321000131-P2",
            "SE2321000131-P2",
        ),
        ({"employeeHsaId": ["SE2321000131-P1", "SE2321000131-P2"]}, None, "several_hsa_ids"),
        ({"employeeHsaId": "SE2321000131-P1"}, "SE2321000131-P2", "hsa_id_of_someone_else"),
        ({"employeeHsaId": "189001019802"}, None, "employee_hsa_id_malformed"),
        ({"employeeHsaId": 7}, None, "employee_hsa_id_malformed"),
        ({}, None, "employee_hsa_id_missing"),
    ],
)
def test_r_id_1_which_hsa_id_a_token_gives(claims: dict[str, Any], wished: str | None, outcome: str) -> None:
    """R-ID-1, R-ID-7"""
    try:
        found: str | None = logins.hsa_id_of(claims, wished)
    except Refused as refused:
        found = refused.reason
    assert found == outcome


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("189001019802", "189001019802"),
        ("18900101-9802", "189001019802"),
        ("9001019802", "personal_identity_number_malformed"),
        ("900101+9802", "personal_identity_number_malformed"),
        ("189001019803", "personal_identity_number_malformed"),
        ("", "personal_identity_number_malformed"),
        (189001019802, "personal_identity_number_missing"),
        (["189001019802"], "personal_identity_number_missing"),
        (None, "personal_identity_number_missing"),
    ],
)
def test_r_id_24_which_number_a_token_gives(value: object, outcome: str) -> None:
    """R-ID-3, R-ID-24: the century is never guessed at a login."""
    try:
        found = logins.number_of({"personalIdentityNumber": value}, date(2026, 11, 27)).number
    except NotAuthenticated as refused:
        found = str(refused.reason)
    assert found == outcome


# --- contact data ---------------------------------------------------------------------------------------------------


def settle(one: Identity, caller: Caller, *, verified: bool = True, **choices: Any) -> None:
    request = identity.SetContact(request_id=uuid4(), **choices)
    contact = one.run(lambda tx: verification.set_contact(tx, request, NUMBER_KEY), caller)
    for channel in contact.to_verify if verified else ():
        verify(one, caller, channel, sent(one, caller, request, channel).code)


def sent(one: Identity, caller: Caller, request: Any, channel: identity.Channel) -> verification.ToSend:
    found = one.run(lambda tx: verification.to_send(tx, request, channel, NUMBER_KEY), caller)
    assert found is not None
    return found


def new_code(one: Identity, caller: Caller, channel: identity.Channel) -> verification.ToSend:
    request = personal.SendVerificationCode(request_id=uuid4(), channel=channel)
    one.run(lambda tx: verification.send_another(tx, request, NUMBER_KEY), caller)
    assert sent(one, caller, request, channel) == sent(one, caller, request, channel), "repeated, it is the same"
    return sent(one, caller, request, channel)


def verify(one: Identity, caller: Caller, channel: identity.Channel, code: str) -> None:
    """As the service does it: the attempt is counted first."""
    request = personal.VerifyAddress.model_construct(request_id=uuid4(), channel=channel, code=code)
    tried = one.run(lambda tx: verification.count_attempt(tx, request), caller)
    one.run(lambda tx: verification.verify(tx, request, NUMBER_KEY, tried), caller)


def contacts_of(one: Identity, resident: UUID) -> identity.ResidentContact:
    request = identity.Contacts(residents=[resident, uuid4()])
    [found] = one.run(lambda tx: contacts.contacts(tx, request, [], NUMBER_KEY)).residents
    return found


def test_r_not_3_residents_choose_how_they_are_told(one: Identity) -> None:
    """R-NOT-3, R-NOT-4: as it is when asked, inactive ones included so that nobody writes to them."""
    number = new_number()
    resident = take_in(one, registered(number))
    caller = Caller("resident", str(resident))
    assert contacts_of(one, resident).notify_by == []
    settle(one, caller, mobile="070-174 06 05", notify_by=["sms"])
    settle(one, caller, email=" Eva@EXAMPLE.org", mobile="+46 70 174 06 06", notify_by=["sms", "email"])
    found = contacts_of(one, resident)
    assert (found.active, found.mobile, found.email) == (True, "+46701740606", "Eva@example.org")
    assert set(found.notify_by) == {"sms", "email"}
    told = [body for body in one.told("contact_changed") if body["person"] == str(resident)]
    assert [body["version"] for body in told] == [1, 2, 3, 4, 5]
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(number, code="AV"), NUMBER_KEY))
    assert not contacts_of(one, resident).active


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"notify_by": ["sms"]}, "notify_by"),
        ({"email": "nobody", "notify_by": ["email"]}, "email"),
        # R-NOT-3: one that notifications could never write to.
        ({"email": "åsa@exempel.se", "notify_by": ["email"]}, "email"),
        ({"mobile": "08-123 45 67", "notify_by": ["sms"]}, "mobile"),
        ({"mobile": "112"}, "mobile"),
        ({"tell_me_about": ["new_case"]}, "tell_me_about"),
    ],
)
def test_what_is_no_address_is_refused(one: Identity, choices: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        settle(one, Caller("resident", str(uuid4())), **choices)
    assert [name for name, _ in caught.value.fields] == [field]


def test_r_not_9_staff_are_told_at_the_addresses_of_hsa(one: Identity) -> None:
    """R-NOT-1, R-NOT-9: who is missing in HSA has no address."""
    person, gone = new_person(), new_person()
    settle(one, Caller("staff", person), notify_by=["email"], tell_me_about=["case_assigned", "new_case"])
    facts = [
        directory.StaffFacts(person=person, status="fine", email="eva.ek@vgregion.example", mobile="+46701740605"),
        directory.StaffFacts(person=gone, status="missing", email="bo@vgregion.example"),
    ]
    request = identity.Contacts(staff=[person, gone])
    found = {each.person: each for each in one.run(lambda tx: contacts.contacts(tx, request, facts, NUMBER_KEY)).staff}
    assert found[person].email == "eva.ek@vgregion.example"
    assert set(found[person].tell_me_about) == {"case_assigned", "new_case"}
    assert (found[gone].email, found[gone].notify_by) == (None, [])
    assert found[gone].own_emails == ["bo@vgregion.example"], "for those who look whose an address is (R-ID-10)"
    # Another address of their own is used once it is verified, the other channel stays that of HSA.
    me = Caller("staff", person)
    settle(one, me, email="eva@example.org", notify_by=["email", "sms"], verified=False)

    def now() -> identity.StaffContact:
        return {
            each.person: each for each in one.run(lambda tx: contacts.contacts(tx, request, facts, NUMBER_KEY)).staff
        }[person]

    assert now().email == "eva.ek@vgregion.example"
    verify(one, me, "email", new_code(one, me, "email").code)
    assert (now().email, now().mobile) == ("eva@example.org", "+46701740605")
    assert now().own_emails == ["eva@example.org", "eva.ek@vgregion.example"]


def test_r_not_9_nothing_is_sent_to_an_address_that_is_not_verified(one: Identity) -> None:
    """R-NOT-9: neither before the code has come back, nor after the address was changed; going back is no new one."""
    resident = take_in(one, registered(new_number()))
    me = Caller("resident", str(resident))
    settle(one, me, mobile="070-174 06 05", notify_by=["sms"], verified=False)
    assert contacts_of(one, resident).mobile is None
    code = new_code(one, me, "sms")
    assert code.address == "+46701740605"
    verify(one, me, "sms", f" {code.code[:3]} {code.code[3:]}")
    assert contacts_of(one, resident).mobile == "+46701740605"
    with pytest.raises(Conflict):
        new_code(one, me, "sms")
    settle(one, me, mobile="070-174 06 06", notify_by=["sms"], verified=False)
    assert contacts_of(one, resident).mobile is None
    settle(one, me, mobile="070-174 06 05", notify_by=["sms"], verified=False)
    assert contacts_of(one, resident).mobile == "+46701740605"


def test_r_not_9_codes_can_not_be_guessed_kept_or_used_for_another_address(one: Identity) -> None:
    """R-NOT-9: five attempts, fifteen minutes, five codes an hour; of the one address and the one person."""
    resident, other = (take_in(one, registered(new_number())) for _ in range(2))
    me, them = Caller("resident", str(resident)), Caller("resident", str(other))
    for caller in (me, them):
        settle(one, caller, email="eva@example.org", mobile="070-174 06 05", notify_by=["sms"], verified=False)

    def refused(caller: Caller, channel: identity.Channel, code: str) -> bool:
        with pytest.raises(Invalid) as caught:
            verify(one, caller, channel, code)
        return caught.value.reason == "wrong_code"

    code = new_code(one, me, "sms").code
    wrong = f"{(int(code) + 1) % 10**6:06}"
    assert refused(them, "sms", code)
    assert refused(me, "email", code)
    for guess in (wrong, "", "sex siffror", "x" * 20):
        assert refused(me, "sms", guess)
    later = new_code(one, me, "sms").code
    for _ in range(5):
        assert refused(me, "sms", "nej")
    assert refused(me, "sms", later), "the right one, but the sixth attempt"
    third = new_code(one, me, "sms").code
    one.moved = timedelta(minutes=15)
    assert refused(me, "sms", third)
    one.moved = timedelta()
    fourth = new_code(one, me, "sms").code
    settle(one, me, mobile="070-174 06 06", notify_by=["sms"], verified=False)
    assert refused(me, "sms", fourth), "it was sent to another address"
    with pytest.raises(LimitExceeded):
        new_code(one, me, "sms")
    one.moved = timedelta(hours=1)
    verify(one, me, "sms", new_code(one, me, "sms").code)
    assert contacts_of(one, resident).mobile == "+46701740606"


def test_r_not_9_nobody_has_us_flood_the_mailbox_of_a_stranger(one: Identity) -> None:
    """R-NOT-9: ten codes a day to one mailbox, whoever asks and by whichever tag; another one and the next day count
    anew, and the choice itself is kept."""
    one.rows("DELETE FROM codes_a_day")
    strangers = [Caller("resident", str(take_in(one, registered(new_number())))) for _ in range(12)]

    def ask(caller: Caller, email: str) -> bool:
        request = identity.SetContact(request_id=uuid4(), email=email)
        one.run(lambda tx: verification.set_contact(tx, request, NUMBER_KEY), caller)
        return one.run(lambda tx: verification.to_send(tx, request, "email", NUMBER_KEY), caller) is not None

    asked = [
        ask(caller, f"{name}@example.org") for caller, name in zip(strangers, ["victim", "Victim+1"] * 6, strict=True)
    ]
    assert asked == [True] * 10 + [False] * 2
    with pytest.raises(LimitExceeded) as caught:
        new_code(one, strangers[11], "email")
    assert caught.value.reason == "too_many_codes"
    assert ask(strangers[11], "other@example.org")
    one.moved = timedelta(days=1)
    assert ask(strangers[10], "victim@example.org")
    assert one.run(lambda tx: verification.forget_old(tx, tx.now)) >= 0
    assert len(one.rows("SELECT 1 FROM codes_a_day")) == 1, "only today's is remembered"
    one.moved = timedelta()


def test_r_not_9_an_address_of_a_clinic_is_refused(one: Identity) -> None:
    """R-NOT-9: by what notifications says of it."""
    contacts.require_own([])
    with pytest.raises(Invalid) as caught:
        contacts.require_own(["vc@vgregion.example"])
    assert caught.value.reason == "address_of_a_clinic"


def test_r_not_8_guardians_are_told_for_a_child_by_what_they_chose_for_its_inbox(one: Identity) -> None:
    """R-NOT-8: not by what they chose for their own; an address that they have verified is so for both."""
    born = one.now.astimezone(SWEDEN).date() - timedelta(days=2000)
    ten = f"{born:%y%m%d}123"
    number = f"20{ten}{luhn(ten)}"
    child = take_in(one, registered(number))
    guardian, other = (take_in(one, registered(new_number())) for _ in range(2))
    for each in (guardian, other):
        one.rows(
            "INSERT INTO guardianships (guardian, child, ends_on, confirmed_at) VALUES (%s, %s, %s, now())",
            each,
            child,
            one.now.date() + timedelta(days=100),
        )
    own, acting = Caller("resident", str(guardian)), Caller("resident", str(guardian), acting_for=child)
    settle(one, own, mobile="070-174 06 05", notify_by=["sms"])
    settle(one, acting, mobile="070-174 06 05", email="maria@example.org", notify_by=["sms"], verified=False)
    told = {each.guardian: each for each in contacts_of(one, child).guardians or []}
    assert set(told) == {guardian, other}
    assert (told[guardian].mobile, told[guardian].email) == ("+46701740605", None)
    assert (told[other].mobile, told[other].notify_by) == (None, [])
    assert contacts_of(one, guardian).guardians is None
    one.run(lambda tx: residents.keep(tx, registered(number, protected=True), NUMBER_KEY))
    assert contacts_of(one, child).guardians == []


def test_r_id_2_r_id_14_people_see_their_own_settings(one: Identity) -> None:
    """R-ID-2, R-ID-3, R-ID-14: what they chose, what is verified, what they accepted, what HSA says of staff."""
    resident = take_in(one, registered(new_number(), protected=True, place=None))
    me = Caller("resident", str(resident))
    settle(one, me, email="eva@example.org", notify_by=["email"], verified=False)
    shown = one.run(lambda tx: personal_settings.mine(tx, personal.MySettings(), None, NUMBER_KEY), me)
    assert (shown.name, shown.protected, shown.hsa) == ("Eva Ek", True, None)
    assert [(each.channel, each.address, each.verified) for each in shown.addresses] == [
        ("email", "eva@example.org", False)
    ]
    clinic, admin = one.clinic_with_admin()
    facts = directory.StaffFacts(person=admin.subject, status="fine", given_name="Bo", protected=True)
    hsa = personal_settings.from_hsa(facts)
    shown = one.run(lambda tx: personal_settings.mine(tx, personal.MySettings(), hsa, NUMBER_KEY), admin)
    assert (shown.protected, shown.hsa) == (True, hsa)
    assert [(each.clinic, each.role) for each in shown.roles] == [(clinic, Role.LOCAL_ADMIN)]


def test_r_not_5_contacts_of_staff_tell_what_rights_they_have_now(one: Identity) -> None:
    """R-NOT-5: all that each of them holds, at every clinic, when they are asked for."""
    clinic, admin = one.clinic_with_admin()
    other, other_admin = one.clinic_with_admin()
    person, nobody = new_person(), new_person()
    one.give(admin, clinic, person, Role.CASE_HANDLER)
    one.give(other_admin, other, person, Role.CASE_RECEIVER)
    facts = [directory.StaffFacts(person=each, status="fine") for each in (person, nobody, admin.subject)]
    request = identity.Contacts(staff=[each.person for each in facts])

    def held() -> dict[str, set[tuple[str, Role]]]:
        found = one.run(lambda tx: contacts.contacts(tx, request, facts, NUMBER_KEY)).staff
        return {each.person: {(role.clinic, role.role) for role in each.roles} for each in found}

    assert held() == {
        person: {(clinic, Role.CASE_HANDLER), (other, Role.CASE_RECEIVER)},
        nobody: set(),
        admin.subject: {(clinic, Role.LOCAL_ADMIN)},
    }
    one.take(admin, clinic, person, Role.CASE_HANDLER)
    assert held()[person] == {(other, Role.CASE_RECEIVER)}


def test_sessions_of_residents_are_their_own(one: Identity) -> None:
    resident = take_in(one, registered(new_number()))
    other = take_in(one, registered(new_number()))
    opened = one.opened("resident", str(other))
    one.run(lambda tx: sessions.end_all(tx, str(resident), "test"))
    assert one.renew(opened.renewal_token)
