"""Logins by card, locking, one's own sessions and changed numbers over real RPC, with everything outside running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
import requests

from deploy.local import login, siths_ca
from deploy.local.people import cast
from deploy.local.people.residents import named
from shared.contracts import cases, directory, identity, logging_in
from shared.messaging import operator
from shared.messaging.errors import Conflict, Forbidden, NotAuthenticated, NotFound, Refused, Unavailable
from shared.operations import clock


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value


def pki(system: Any) -> Path:
    found: Path = system.stack.system.trust.parent
    return found


def sessions_of(system: Any, subject: str) -> int:
    [(count,)] = system.rows("identity", "SELECT count(*) FROM sessions WHERE subject = %s", subject)
    return int(count)


def resident_of(system: Any, number: str) -> UUID | None:
    question = identity.FindResident(identity_number=number)
    found = system.call(identity.FIND_RESIDENT, question, system.service_token("cases"))
    resident: UUID | None = found.resident
    return resident


def card_of(system: Any, resident: UUID | None) -> identity.ResidentCard:
    assert resident is not None
    question = identity.ResidentCards(residents=[resident])
    [card] = system.call(identity.RESIDENT_CARDS, question, system.service_token("cases")).cards
    found: identity.ResidentCard = card
    return found


def until_refused(ask: Callable[[], Any], within: float = 1.0) -> None:
    """Returns when the call is not authenticated any more; fails if it still is after the time."""
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            ask()
        except NotAuthenticated:
            return
        assert asked - began < within


# --- by card --------------------------------------------------------------------------------------------------------


def test_r_id_1_staff_log_in_by_their_card_alone(system: Any) -> None:
    """R-ID-1: found in HSA, or refused with that reason."""
    opened = system.login_by_card(cast.HANDLER)
    said = jwt.decode(opened.access_token, options={"verify_signature": False})
    assert (said["sub"], said["kind"]) == (cast.HANDLER, "staff")
    for person in (cast.HIDDEN_STAFF, cast.ENDED_STAFF, cast.UNKNOWN_STAFF):
        refused = refusal(lambda who=person: system.login_by_card(who))
        assert isinstance(refused, Forbidden)
        assert refused.reason == "staff_missing_in_directory"
        assert sessions_of(system, person) == 0


def test_r_id_16_staff_with_protected_identity_log_in_both_ways(system: Any) -> None:
    """R-ID-16"""
    for session in (system.login_staff(cast.PROTECTED_STAFF), system.login_by_card(cast.PROTECTED_STAFF)):
        accepted = system.accept_terms(session)
        read = system.call(logging_in.READ_TERMS, logging_in.ReadTerms(), accepted.access_token)
        assert read.accepted_at is not None


def test_r_id_1_a_card_that_was_taken_back_or_belongs_to_another_opens_nothing(system: Any) -> None:
    """R-ID-1: revoked; a server's certificate; another's key under one's own certificate."""
    person = "SE2321000131-P000009000016"
    before = sessions_of(system, person)
    card = siths_ca.issue_person(pki(system), person, "Yasmin", "Karimi", again=True)
    assert system.login_by_card(person, card).access_token
    siths_ca.revoke(pki(system), card.certificate)
    assert refusal(lambda: system.login_by_card(person, card)).reason == "certificate_revoked"
    server = siths_ca.issue_function(pki(system), "someone", hsa_id=person)
    assert refusal(lambda: system.login_by_card(person, server)).reason == "certificate_not_trusted"
    mixed = siths_ca.Credentials(login.card_of(cast.RECEIVER, pki(system)).certificate, card.key)
    assert refusal(lambda: system.login_by_card(person, mixed)).reason == "proof_invalid"
    assert sessions_of(system, person) == before + 1


def test_r_id_1_while_nobody_says_whether_a_card_was_taken_back_nobody_gets_in(system: Any) -> None:
    """R-ID-1: a typed error, no session; and in again when the authority answers."""
    authority = system.stack.counterparts["siths_ca"]
    before = sessions_of(system, cast.SECOND_RECEIVER)
    login.card_of(cast.SECOND_RECEIVER, pki(system))
    authority.stop()
    try:
        refused = refusal(lambda: system.login_by_card(cast.SECOND_RECEIVER))
    finally:
        authority.start()
        authority.wait()
    assert isinstance(refused, Unavailable)
    assert refused.reason == "certificate_status_unknown"
    assert sessions_of(system, cast.SECOND_RECEIVER) == before
    assert system.login_by_card(cast.SECOND_RECEIVER).access_token


def test_r_id_1_a_proof_works_once_and_for_its_own_login(system: Any) -> None:
    """R-ID-1, R-CASE-17: a repeated request gets the same answer, a replay nothing."""
    begun = system.call(logging_in.BEGIN_CARD_LOGIN, logging_in.BeginCardLogin(request_id=uuid4()))
    card = login.card_of(cast.HANDLER, pki(system))
    proof = login.card_proof(card, begun.nonce, begun.audience, begun.proof_type)

    def complete(**changes: Any) -> logging_in.SessionOpened:
        fields = {"request_id": uuid4(), "login": begun.login, "proof": proof} | changes
        opened: logging_in.SessionOpened = system.call(
            logging_in.COMPLETE_CARD_LOGIN, logging_in.CompleteCardLogin(**fields)
        )
        return opened

    same = uuid4()
    assert complete(request_id=same) == complete(request_id=same)
    assert refusal(complete).reason == "login_used"
    other = system.call(logging_in.BEGIN_CARD_LOGIN, logging_in.BeginCardLogin(request_id=uuid4()))
    assert refusal(lambda: complete(login=other.login)).reason == "proof_nonce"
    ordinary = system.call(logging_in.BEGIN_LOGIN, logging_in.BeginLogin(request_id=uuid4(), kind="staff"))
    crossed = login.card_proof(card, ordinary.nonce, begun.audience, begun.proof_type)
    refused = refusal(lambda: complete(login=ordinary.login, proof=crossed))
    assert refused.reason == "login_for_something_else"


def test_r_id_1_a_challenge_to_a_card_is_answered_once(system: Any) -> None:
    """R-ID-1: a proof that was refused is not followed by another."""
    begun = system.call(logging_in.BEGIN_CARD_LOGIN, logging_in.BeginCardLogin(request_id=uuid4()))
    card = login.card_of(cast.HANDLER, pki(system))
    for audience, reason in (("someone-else", "proof_audience"), (begun.audience, "login_used")):
        proof = login.card_proof(card, begun.nonce, audience, begun.proof_type)
        request = logging_in.CompleteCardLogin(request_id=uuid4(), login=begun.login, proof=proof)
        assert refusal(lambda asked=request: system.call(logging_in.COMPLETE_CARD_LOGIN, asked)).reason == reason


# --- locking --------------------------------------------------------------------------------------------------------


def test_r_id_4_locking_and_unlocking(system: Any) -> None:
    """R-ID-4, R-ID-21: every session ends, in other services too, within a second; only a fresh e-ID login begun for it
    unlocks, and opens nothing."""
    number = named("hanna").number
    opened = [system.accept_terms(system.login_resident(number)) for _ in range(2)]
    mine = cases.ListInbox()
    for one in opened:
        system.call(cases.LIST_INBOX, mine, one.access_token)
    system.call(logging_in.LOCK_LOGIN, logging_in.LockLogin(request_id=uuid4()), opened[0].access_token)
    search = directory.SearchClinics(text="vardcentralen", limit=1)
    for one in opened:
        until_refused(lambda token=one.access_token: system.call(cases.LIST_INBOX, mine, token))
        until_refused(lambda token=one.access_token: system.call(directory.SEARCH_CLINICS, search, token))
        with pytest.raises(NotAuthenticated):
            renewal = logging_in.RenewSession(request_id=uuid4(), renewal_token=one.renewal_token)
            system.call(logging_in.RENEW_SESSION, renewal)
    refused = refusal(lambda: system.login_resident(number))
    assert isinstance(refused, Forbidden)
    assert refused.reason == "login_locked"
    resident = resident_of(system, number)
    assert card_of(system, resident).locked
    before = sessions_of(system, str(resident))
    system.unlock_login(number)
    assert sessions_of(system, str(resident)) == before
    assert not card_of(system, resident).locked
    assert system.login_resident(number).access_token
    with pytest.raises(Forbidden):
        system.call(logging_in.LOCK_LOGIN, logging_in.LockLogin(request_id=uuid4()), system.staff_token(cast.HANDLER))


def test_r_id_4_a_login_that_was_refused_for_the_lock_opens_nothing_after_it(system: Any) -> None:
    """R-ID-4: whoever has the ID token of it; nor does a refused unlocking unlock when it is tried again."""
    number = named("hanna").number
    opened = system.accept_terms(system.login_resident(number))
    kept = begun_by(system, number)
    system.call(logging_in.LOCK_LOGIN, logging_in.LockLogin(request_id=uuid4()), opened.access_token)
    assert refusal(lambda: system.call(logging_in.COMPLETE_LOGIN, kept)).reason == "login_locked"
    begin = logging_in.BeginLogin(request_id=uuid4(), kind="resident", purpose="unlock")
    begun = system.call(logging_in.BEGIN_LOGIN, begin)
    token = login.resident_id_token(system.stack.system.at.idp, number, begun.nonce, pki=pki(system))
    for given, reason in (("no token", "id_token_invalid"), (token, "login_used")):
        request = logging_in.UnlockLogin(request_id=uuid4(), login=begun.login, id_token=given)
        assert refusal(lambda asked=request: system.call(logging_in.UNLOCK_LOGIN, asked)).reason == reason
    system.unlock_login(number)
    again = kept.model_copy(update={"request_id": uuid4()})
    assert refusal(lambda: system.call(logging_in.COMPLETE_LOGIN, again)).reason == "login_used"


def test_r_id_14_what_a_refused_login_learns_stays(system: Any) -> None:
    """R-ID-4, R-ID-14: a protected mark, of someone who has locked their login."""
    number = named("sofia").number
    opened = system.accept_terms(system.login_resident(number))
    system.call(logging_in.LOCK_LOGIN, logging_in.LockLogin(request_id=uuid4()), opened.access_token)
    control = system.stack.counterparts["pu"].control_url
    [person] = [one for one in requests.get(f"{control}/people", timeout=5).json()["people"] if one["number"] == number]
    try:
        requests.post(f"{control}/people", json=person | {"protected": "person"}, timeout=5).raise_for_status()
        assert refusal(lambda: system.login_resident(number)).reason == "login_locked"
        assert card_of(system, resident_of(system, number)).protected
    finally:
        requests.post(f"{control}/people", json=person, timeout=5).raise_for_status()
    system.unlock_login(number)
    assert not card_of(system, resident_of(system, number)).protected


def test_r_id_4_the_dead_unlock_nothing(system: Any) -> None:
    """R-ID-4, R-ID-17"""
    assert refusal(lambda: system.unlock_login(cast.DECEASED)).reason == "account_inactive"
    assert refusal(lambda: system.unlock_login(cast.UNKNOWN_TO_REGISTER)).reason == "not_in_population_register"


# --- sessions -------------------------------------------------------------------------------------------------------


def test_r_id_21_people_see_their_sessions_and_end_them_everywhere(system: Any) -> None:
    """R-ID-21"""
    number = named("david").number
    first, second = (system.accept_terms(system.login_resident(number)) for _ in range(2))
    found = system.call(logging_in.LIST_SESSIONS, logging_in.ListSessions(), second.access_token).sessions
    assert [one.this_one for one in found].count(True) == 1
    ids = {name: UUID(jwt.decode(one.access_token, options={"verify_signature": False})["sid"])
           for name, one in (("first", first), ("second", second))}  # fmt: skip
    assert set(ids.values()) <= {one.session for one in found}
    system.call(cases.LIST_INBOX, cases.ListInbox(), first.access_token)
    end = logging_in.EndSession(request_id=uuid4(), session=ids["first"])
    with pytest.raises(NotFound):
        system.call(logging_in.END_SESSION, end, system.resident_token(cast.RESIDENT))
    system.call(logging_in.END_SESSION, end, second.access_token)
    until_refused(lambda: system.call(cases.LIST_INBOX, cases.ListInbox(), first.access_token))
    system.call(cases.LIST_INBOX, cases.ListInbox(), second.access_token)
    left = system.call(logging_in.LIST_SESSIONS, logging_in.ListSessions(), second.access_token).sessions
    assert ids["first"] not in {one.session for one in left}


# --- at the same moment ---------------------------------------------------------------------------------------------


def begun_by(system: Any, number: str) -> logging_in.CompleteLogin:
    """A login that only has to be completed."""
    begun = system.call(logging_in.BEGIN_LOGIN, logging_in.BeginLogin(request_id=uuid4(), kind="resident"))
    token = login.resident_id_token(system.stack.system.at.idp, number, begun.nonce, pki=pki(system))
    return logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token)


def completed_at_once(
    system: Any, first: logging_in.CompleteLogin, others: Sequence[logging_in.CompleteLogin]
) -> list[logging_in.SessionOpened | Refused]:
    """What each gets; the register is slow about the first, so that the others wait for the same turn."""

    def complete(request: logging_in.CompleteLogin) -> logging_in.SessionOpened | Refused:
        try:
            opened: logging_in.SessionOpened = system.call(logging_in.COMPLETE_LOGIN, request)
            return opened
        except Refused as refused:
            return refused

    system.counterpart_behaves("pu", mode="delay", seconds=0.5, times=1)
    with ThreadPoolExecutor(1 + len(others)) as pool:
        begun = pool.submit(complete, first)
        time.sleep(0.2)
        found = list(pool.map(complete, others))
        return [begun.result(), *found]


def test_r_id_24_logins_of_one_moment_share_a_question_and_each_opens_its_own_session(system: Any) -> None:
    """R-ID-24, R-ID-21"""
    control = system.stack.counterparts["pu"].control_url
    numbers = [named(key).number for key in ("hanna", "david", "fatima", "kim", "aleksander", "mateo")]
    first, *others = (begun_by(system, number) for number in [cast.RESIDENT, *numbers])
    requests.delete(f"{control}/calls", timeout=10).raise_for_status()
    found = completed_at_once(system, first, others)
    asked = requests.get(f"{control}/calls", timeout=10).json()["calls"]["GetPersonsForProfile"]
    assert asked < len(found), "they asked together"
    for number, opened in zip([cast.RESIDENT, *numbers], found, strict=True):
        assert isinstance(opened, logging_in.SessionOpened)
        said = jwt.decode(opened.access_token, options={"verify_signature": False})
        assert said["sub"] == str(resident_of(system, number))
        renewal = logging_in.RenewSession(request_id=uuid4(), renewal_token=opened.renewal_token)
        assert system.call(logging_in.RENEW_SESSION, renewal).access_token
    again = [system.call(logging_in.COMPLETE_LOGIN, request) for request in (first, *others)]
    assert again == found, "a repeated request gets its answer (R-CASE-17)"


def test_r_id_17_what_is_wrong_with_one_login_of_a_moment_is_nobody_elses_affair(system: Any) -> None:
    """R-ID-3, R-ID-4, R-ID-14, R-ID-17, R-CASE-17: each is answered as if it had come alone."""
    locked, wrong = named("fatima").number, named("rune").number
    opened = system.accept_terms(system.login_resident(locked))
    system.call(logging_in.LOCK_LOGIN, logging_in.LockLogin(request_id=uuid4()), opened.access_token)
    used = begun_by(system, named("hanna").number)
    assert system.call(logging_in.COMPLETE_LOGIN, used).access_token
    kept = {number: begun_by(system, number) for number in (cast.RESIDENT, named("kim").number)}
    twice = begun_by(system, named("david").number)
    others: dict[str, logging_in.CompleteLogin] = {
        "locked": begun_by(system, locked),
        "another": begun_by(system, wrong),
        "unknown": begun_by(system, cast.UNKNOWN_TO_REGISTER),
        "dead": begun_by(system, cast.DECEASED),
        "replayed": used.model_copy(update={"request_id": uuid4()}),
        "good": kept[cast.RESIDENT],
        "once": twice,
        "same request": twice,
        "same person": begun_by(system, named("david").number),
        "other": kept[named("kim").number],
    }
    system.counterpart_behaves("pu", mode="another", only=wrong)
    before = {number: resident_of(system, number) for number in (locked, wrong)}
    sessions_before = sessions_of(system, str(before[locked]))
    first = begun_by(system, named("aleksander").number)
    try:
        found = dict(zip(["first", *others], completed_at_once(system, first, list(others.values())), strict=True))
    finally:
        system.counterparts_behave_well()
        system.unlock_login(locked)
    reasons = {name: one.reason for name, one in found.items() if isinstance(one, Refused)}
    assert reasons == {
        "locked": "login_locked",
        "another": "population_register_unavailable",
        "unknown": "not_in_population_register",
        "dead": "account_inactive",
        "replayed": "login_used",
    }
    assert found["once"] == found["same request"]
    assert found["once"] != found["same person"]
    assert resident_of(system, wrong) == before[wrong]
    assert sessions_of(system, str(before[locked])) == sessions_before


# --- the register ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("kim_before", "kim"), ("fatima_before", "fatima")])
def test_r_id_24_a_changed_number_is_the_same_resident(system: Any, before: str, after: str) -> None:
    """R-ID-24: GN and GS, whichever of the numbers the e-ID still has."""
    old, new = named(before).number, named(after).number
    assert system.login_resident(old).access_token
    resident = resident_of(system, old)
    assert system.login_resident(new).access_token
    assert resident_of(system, new) == resident
    assert card_of(system, resident).identity_number == new


def test_r_sys_1_r_id_24_the_operator_takes_a_number_out_of_an_account(system: Any) -> None:
    """R-SYS-1, R-ID-24: nobody else does; sessions end everywhere. What the register still tells to be one is joined
    again."""
    old, new = named("kim_before").number, named("kim").number
    system.login_resident(old)
    opened = system.accept_terms(system.login_resident(new))
    resident = resident_of(system, new)
    request = identity.TakeApart(request_id=uuid4(), resident=resident, identity_number=old)
    assert isinstance(refusal(lambda: system.call(identity.TAKE_APART, request, opened.access_token)), Forbidden)
    request = request.model_copy(update={"request_id": uuid4()})
    for _ in range(2):
        assert system.call(identity.TAKE_APART, request, system.operator_token).residents == [resident]
    until_refused(lambda: system.call(cases.LIST_INBOX, cases.ListInbox(), opened.access_token))
    assert (resident_of(system, old), resident_of(system, new)) == (None, resident)
    assert system.login_resident(old).access_token
    assert resident_of(system, old) == resident


def test_r_id_17_a_samordningsnummer_tells_a_death_in_its_own_way(system: Any) -> None:
    """R-ID-17"""
    assert refusal(lambda: system.login_resident(named("olena").number)).reason == "account_inactive"
    for key in ("aleksander", "mateo"):
        assert system.login_resident(named(key).number).access_token


def test_r_id_24_a_reserve_number_logs_in_and_is_asked_for_in_its_own_series(system: Any) -> None:
    """R-ID-24"""
    number = named("okand").number
    assert system.login_resident(number).access_token
    assert (
        card_of(system, resident_of(system, f" {number[:8].lower()}-{number[8:].lower()} ")).identity_number == number
    )


def test_a_register_that_answers_about_another_lets_nobody_in(system: Any) -> None:
    """R-ID-14: nor is anything of that other person's kept."""
    number = named("rune").number
    system.counterpart_behaves("pu", mode="another", only=number)
    refused = refusal(lambda: system.login_resident(number))
    assert isinstance(refused, Unavailable)
    assert refused.reason == "population_register_unavailable"
    assert resident_of(system, number) is None
    system.counterparts_behave_well()
    assert system.login_resident(number).access_token


def test_r_id_17_residents_are_looked_up_again_by_the_clock(system: Any) -> None:
    """R-ID-17: a death is learnt without a login."""
    from shared.contracts.base import RunJob

    number = named("sofia").number
    opened = system.accept_terms(system.login_resident(number))
    resident = resident_of(system, number)
    control = system.stack.counterparts["pu"].control_url
    [person] = [one for one in requests.get(f"{control}/people", timeout=5).json()["people"] if one["number"] == number]
    died = person | {"deregistration": {"code": "AV", "date": "2026-11-01"}}
    try:
        requests.post(f"{control}/people", json=died, timeout=5).raise_for_status()
        age = "UPDATE residents SET looked_up_at = looked_up_at - interval '3 days' WHERE resident = %s"
        system.rows("identity", age, resident)
        system.call(
            identity.identity.run_job, RunJob(request_id=uuid4(), job="refresh_residents"), system.operator_token
        )
        assert not card_of(system, resident).active
        until_refused(lambda: system.call(cases.LIST_INBOX, cases.ListInbox(), opened.access_token))
    finally:
        requests.post(f"{control}/people", json=person, timeout=5).raise_for_status()
    assert system.login_resident(number).access_token


def test_a_login_that_was_begun_to_unlock_is_for_residents(system: Any) -> None:
    begin = logging_in.BeginLogin(request_id=uuid4(), kind="staff", purpose="unlock")
    refused = refusal(lambda: system.call(logging_in.BEGIN_LOGIN, begin))
    assert refused.code == "invalid"
    assert not isinstance(refused, Conflict)


# --- the keys of tokens ---------------------------------------------------------------------------------------------


def test_r_id_21_every_service_takes_up_a_new_key_without_a_restart(system: Any) -> None:
    """R-ID-21: tokens of the key before stay good meanwhile."""
    number = named("nils").number
    before = system.accept_terms(system.login_resident(number))
    change = identity.ChangeSigningKey(request_id=uuid4())
    with pytest.raises(Forbidden):
        system.call(identity.CHANGE_SIGNING_KEY, change, before.access_token)
    system.call(identity.CHANGE_SIGNING_KEY, change, system.operator_token)
    try:
        system.move_clock(timedelta(seconds=70))
        kid = jwt.get_unverified_header(before.access_token)["kid"]
        until = time.monotonic() + 10
        after = system.login_resident(number)
        while jwt.get_unverified_header(after.access_token)["kid"] == kid:
            assert time.monotonic() < until
            time.sleep(0.5)
            after = system.login_resident(number)
        for opened in (before, after):
            system.call(logging_in.READ_TERMS, logging_in.ReadTerms(), opened.access_token)
            system.call(cases.LIST_INBOX, cases.ListInbox(), opened.access_token)
        clinics = directory.SearchClinics(text="vardcentralen", limit=1)
        system.call(directory.SEARCH_CLINICS, clinics, after.access_token)
    finally:
        system.move_clock(timedelta(seconds=-70))


def test_r_id_6_the_operator_calls_from_where_the_system_runs(
    system: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-ID-6: the first administrator is made once; the deployment's command says why it is refused after that."""
    monkeypatch.setattr(clock, "_clock", clock.Clock(str(system.stack.system.clock_file)))
    monkeypatch.setenv("AMQP_URL", system.stack.broker_url("operator"))
    monkeypatch.setenv("OPERATOR_KEY_FILE", str(system.stack.keys.signing_key("operator")))
    make = ["identity.make_first_administrator", json.dumps({"person": cast.OUTSIDER})]
    assert operator.main(make) == 1
    assert "conflict: administrator_exists" in capsys.readouterr().err
    assert operator.main(["identity.run_job", json.dumps({"job": "make_signing_keys"})]) == 0
    made = system.rows("identity", "SELECT by FROM role_history WHERE role = 'regional_admin' AND change = 'given'")
    assert {by for (by,) in made} == {"operator:operator"}
