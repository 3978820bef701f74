"""Sessions and terms: how long they last, how they end, what comes twice (R-ID-2, R-ID-3, R-ID-21)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest

from services.identity import logins, revocations, sessions, terms, unreachable
from shared.contracts import identity, logging_in, notifications
from shared.messaging.errors import Conflict, NotAuthenticated, NotFound
from shared.security.caller import Caller
from tests.integration.identity_support import Identity, new_person


def claims(opened: logging_in.SessionOpened) -> dict[str, Any]:
    said: dict[str, Any] = jwt.decode(opened.access_token, options={"verify_signature": False})
    return said


def reason(one: Identity, token: str) -> str | None:
    with pytest.raises(NotAuthenticated) as caught:
        one.renew(token)
    return caught.value.reason


def live(one: Identity, subject: str, session: str) -> bool:
    question = identity.CurrentRights(subject=subject, session=UUID(session))
    return one.run(lambda tx: revocations.current_rights(tx, question)).session_live


def test_r_id_21_a_session_goes_on_while_it_is_renewed(one: Identity) -> None:
    """R-ID-21: at most twelve hours, however busy."""
    person = new_person()
    opened = began = one.opened("staff", person)
    said = claims(opened)
    assert (said["iss"], said["sub"], said["kind"], said["terms"]) == ("identity", person, "staff", False)
    assert said["exp"] - said["iat"] == 300
    for _ in range(28):
        one.moved += timedelta(minutes=25)
        opened = one.renew(opened.renewal_token)
        assert opened.session_expires_at == began.session_expires_at
        assert opened.access_expires_at <= opened.session_expires_at
        assert claims(opened)["sid"] == said["sid"]
    one.moved += timedelta(minutes=25)
    assert reason(one, opened.renewal_token) == "session_ended"


def test_r_id_21_a_session_ends_after_thirty_idle_minutes(one: Identity) -> None:
    """R-ID-21"""
    opened = one.opened("staff", new_person())
    one.moved += timedelta(minutes=29)
    opened = one.renew(opened.renewal_token)
    one.moved += timedelta(minutes=31)
    assert reason(one, opened.renewal_token) == "session_ended"


def test_r_id_21_a_renewal_token_that_comes_twice_ends_the_session(one: Identity) -> None:
    """R-ID-21: the one who has the newer token can't go on either, and everyone is told."""
    person = new_person()
    opened = one.opened("staff", person)
    session = claims(opened)["sid"]
    newer = one.renew(opened.renewal_token)
    assert reason(one, opened.renewal_token) == "renewal_token_spent"
    assert reason(one, newer.renewal_token) == "session_ended"
    assert not live(one, person, session)
    told = [body for body in one.told("rights_changed") if body["subject"] == person]
    assert [ended["session"] for body in told for ended in body["ended_sessions"]] == [session]
    assert reason(one, "made up") == "renewal_token_unknown"


def test_r_id_21_a_repeated_request_gets_the_same_tokens(one: Identity) -> None:
    """R-ID-21, R-CASE-17: an answer that was lost on the way does not cost the session."""
    opened = one.opened("staff", new_person())
    request = logging_in.RenewSession(request_id=uuid4(), renewal_token=opened.renewal_token)

    def renew() -> logging_in.SessionOpened:
        return one.database.write_once(
            request.request_id,
            Caller("anyone"),
            "renew_session",
            b"same",
            lambda tx: sessions.renew(tx, request, one.desk),
            dump=lambda reply: reply.model_dump_json().encode(),
            load=logging_in.SessionOpened.model_validate_json,
        )

    assert renew() == renew()
    assert one.renew(renew().renewal_token)


def test_r_id_21_logging_out_ends_the_session_once_and_is_told(one: Identity) -> None:
    """R-ID-21"""
    person = new_person()
    opened, other = one.opened("staff", person), one.opened("staff", person)
    session = claims(opened)["sid"]
    caller = Caller("staff", person, UUID(session))
    for _ in range(2):
        one.run(lambda tx: sessions.log_out(tx, logging_in.LogOut(request_id=uuid4())), caller)
    told = [body for body in one.told("rights_changed") if body["subject"] == person]
    assert [[ended["session"] for ended in body["ended_sessions"]] for body in told] == [[session]]
    assert told[0]["ended_sessions"][0]["until"] > str(opened.access_expires_at.isoformat())[:19]
    assert reason(one, opened.renewal_token) == "session_ended"
    assert live(one, person, claims(other)["sid"])
    assert one.renew(other.renewal_token)


def test_tokens_are_not_in_the_database(one: Identity) -> None:
    opened = one.opened("staff", new_person())
    [(stored,)] = one.rows("SELECT string_agg(encode(hash, 'escape'), ' ') FROM renewal_tokens")
    assert opened.renewal_token not in stored


def test_old_sessions_are_forgotten(one: Identity) -> None:
    opened = one.opened("staff", new_person())
    session = claims(opened)["sid"]
    assert one.run(lambda tx: sessions.forget_old(tx, one.now)) == 0
    one.moved += timedelta(days=1)
    assert one.run(lambda tx: sessions.forget_old(tx, one.now)) >= 1
    assert one.rows("SELECT 1 FROM sessions WHERE session = %s", session) == []
    assert one.rows("SELECT 1 FROM renewal_tokens WHERE session = %s", session) == []


@pytest.mark.parametrize("kind", ["staff", "resident"])
def test_r_id_2_r_id_3_terms_are_accepted_once_and_can_be_read_again(one: Identity, kind: identity.PersonKind) -> None:
    """R-ID-2, R-ID-3: the text, its version and the time."""
    subject = new_person() if kind == "staff" else str(uuid4())
    opened = one.opened(kind, subject)
    assert opened.terms_version_to_accept == "1"
    caller = Caller(kind, subject, UUID(claims(opened)["sid"]), terms_accepted=False)

    def read() -> logging_in.Terms:
        return one.run(lambda tx: terms.read_terms(tx, logging_in.ReadTerms(), one.desk.terms), caller)

    def accept(version: str) -> logging_in.SessionOpened:
        request = logging_in.AcceptTerms(request_id=uuid4(), version=version)
        return one.run(lambda tx: sessions.accept_terms(tx, request, one.desk), caller)

    assert read().accepted_at is None
    assert "villkor" in read().text.lower()
    with pytest.raises(Conflict) as caught:
        accept("0")
    assert caught.value.reason == "terms_version_not_in_force"
    going_on = accept("1")
    assert going_on.terms_version_to_accept is None
    assert claims(going_on)["terms"] is True
    accepted_at = read().accepted_at
    assert accepted_at is not None
    one.moved += timedelta(minutes=10)
    assert claims(accept("1"))["terms"] is True, "by a token that is older than that"
    caller = replace(caller, terms_accepted=True)
    with pytest.raises(Conflict) as caught:
        accept("1")
    assert caught.value.reason == "terms_already_accepted", "an access token buys no renewal token"
    assert read().accepted_at == accepted_at
    assert one.opened(kind, subject).terms_version_to_accept is None
    assert reason(one, opened.renewal_token) == "renewal_token_spent"


def test_r_id_2_a_new_version_asks_again_and_the_old_one_can_still_be_read(one: Identity, tmp_path: Path) -> None:
    """R-ID-2: and what is no version is not there, whatever it holds."""
    for kind in ("staff", "resident"):
        (tmp_path / kind).mkdir()
        for version in ("1", "2", "10"):
            (tmp_path / kind / f"{version}.md").write_text(f"Villkor {version}")
    shelf = terms.TermsShelf.from_folder(tmp_path)
    assert shelf.in_force("staff") == "10"
    caller = Caller("staff", new_person(), uuid4())
    one.rows("INSERT INTO accepted_terms VALUES ('staff', %s, '2', now())", caller.subject)

    def read(version: str | None = None) -> logging_in.Terms:
        return one.run(lambda tx: terms.read_terms(tx, logging_in.ReadTerms(version=version), shelf), caller)

    assert (read().version, read().accepted_at) == ("10", None)
    assert read("2").text == "Villkor 2"
    for version in ("1", "3", "../1", "\x00", "²"):
        with pytest.raises(NotFound):
            read(version)


def test_terms_that_are_missing_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="staff"):
        terms.TermsShelf.from_folder(tmp_path)


# --- addresses that failed ------------------------------------------------------------------------------------------


def bounced(one: Identity, person: str, **facts: Any) -> None:
    event = notifications.AddressBounced(
        **{"kind": "resident", "person": person, "channel": "email", "contact_version": 3, **facts}
    )
    one.run(lambda tx: unreachable.note(tx, event))


def contact_of(one: Identity, kind: str, person: str, version: int) -> None:
    one.rows(
        "INSERT INTO contacts VALUES (%s, %s, '', '{}', '{}', %s, now())"
        " ON CONFLICT (kind, person) DO UPDATE SET version = excluded.version",
        kind,
        person,
        version,
    )


def test_at_the_next_login_someone_learns_that_their_address_failed_until_they_set_another(one: Identity) -> None:
    """R-NOT-7: a bounce of an earlier address says nothing of the one that they have now."""
    person, other = str(uuid4()), str(uuid4())
    contact_of(one, "resident", person, 3)
    bounced(one, person, contact_version=2)
    assert one.opened("resident", person).unreachable == []
    for _ in range(2):  # events come twice
        bounced(one, person)
    bounced(one, person, channel="sms")
    bounced(one, person, contact_version=1)
    assert one.opened("resident", person).unreachable == ["email", "sms"]
    assert one.opened("resident", other).unreachable == []
    contact_of(one, "resident", person, 4)
    assert one.opened("resident", person).unreachable == []


def test_a_guardians_address_for_a_child_is_told_where_they_act_for_that_child(one: Identity) -> None:
    guardian, child = str(uuid4()), uuid4()
    contact_of(one, "guardian", f"{guardian} {child}", 3)
    bounced(one, guardian, child=child)
    assert one.opened("resident", guardian).unreachable == []
    assert one.run(lambda tx: unreachable.channels(tx, "resident", [guardian], child)) == {guardian: ["email"]}
    assert one.run(lambda tx: unreachable.channels(tx, "resident", [guardian], uuid4())) == {}


def test_logins_that_anyone_may_begin_are_kept_for_no_longer_than_they_are_good_for(one: Identity) -> None:
    """R-ID-1: as many as somebody likes to begin, they do not fill the database."""
    one.moved = timedelta()
    begun = [one.begin_login(logging_in.BeginLogin(request_id=uuid4(), kind="staff")).login for _ in range(3)]
    one.run(lambda tx: logins.forget_old(tx, one.now - timedelta(minutes=10)))
    kept = one.rows("SELECT 1 FROM logins WHERE login = ANY(%s)", begun)
    assert len(kept) == 3
    later = one.now + timedelta(seconds=1)
    while one.run(lambda tx: logins.forget_old(tx, later, at_most=2)):
        pass
    assert one.rows("SELECT 1 FROM logins") == []


def waiting_for_locks(one: Identity, most: int) -> None:
    """Returns when so many wait for somebody's lock in this database."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ends = time.monotonic() + 10
    while one.rows(asked)[0][0] < most:
        assert time.monotonic() < ends, "nobody waits"
        time.sleep(0.02)


def test_r_id_21_renewing_and_accepting_the_terms_at_once_wait_for_each_other_in_one_order(one: Identity) -> None:
    """R-ID-2, R-ID-21: of one session; neither is undone because each had locked what the other needed."""
    person = new_person()
    opened = one.opened("staff", person)
    caller = Caller("staff", person, UUID(claims(opened)["sid"]))
    accept = logging_in.AcceptTerms(request_id=uuid4(), version=str(opened.terms_version_to_accept))
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(one.url) as holder:
            holder.execute("SELECT FROM renewal_tokens WHERE session = %s FOR UPDATE", (caller.session,))
            renewing = pool.submit(one.renew, opened.renewal_token)
            waiting_for_locks(one, 1)
            accepting = pool.submit(one.run, lambda tx: sessions.accept_terms(tx, accept, one.desk), caller)
            waiting_for_locks(one, 2)
        renewed, accepted = renewing.result(), accepting.result()
    assert claims(accepted)["terms"] and not claims(renewed)["terms"]
    assert reason(one, renewed.renewal_token) == "renewal_token_spent", "accepting gave the session its newest"


def test_r_id_21_of_two_who_renew_by_one_token_at_once_one_is_refused(one: Identity) -> None:
    """R-ID-21: though both found it unspent."""
    opened = one.opened("staff", new_person())
    session = UUID(claims(opened)["sid"])
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(one.url) as holder:
            holder.execute("SELECT FROM sessions WHERE session = %s FOR UPDATE", (session,))
            both = [pool.submit(one.renew, opened.renewal_token) for _ in range(2)]
            waiting_for_locks(one, 2)
        failed = [found.exception() for found in both]
    assert sorted(type(one).__name__ for one in failed) == ["NoneType", "RenewalTokenReused"], failed
