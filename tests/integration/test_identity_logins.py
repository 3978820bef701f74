"""Locking, one's own sessions, the keys of tokens and terms, on a real database."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from services.identity import logins, residents, sessions, signing_keys, terms
from services.identity.tables import signing_keys as table
from shared.contracts import identity, logging_in
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotAuthenticated, NotFound
from shared.operations import clock
from shared.security import endorsed_keys
from shared.security.caller import Caller
from shared.security.sealing import SealBroken
from shared.security.tokens import Signer, Verifier
from tests.integration.identity_support import (
    NUMBER_KEY,
    Identity,
    card,
    lock,
    new_number,
    new_person,
    registered,
    statuses,
    take_in,
    unlock,
)
from tests.unit.kernel.test_tokens import write_keys

# --- locking (R-ID-4) -----------------------------------------------------------------------------------------------


def test_r_id_4_locking_ends_every_session_and_refuses_new_ones_until_unlocked(one: Identity) -> None:
    """R-ID-4, R-ID-21"""
    number = new_number()
    resident = take_in(one, registered(number))
    opened = [one.opened("resident", str(resident)) for _ in range(2)]
    for _ in range(2):
        lock(one, resident)
    for each in opened:
        with pytest.raises(NotAuthenticated):
            one.renew(each.renewal_token)
    ended = [body for body in one.told("rights_changed") if body["subject"] == str(resident)]
    assert len(ended[0]["ended_sessions"]) == 2
    with pytest.raises(Forbidden) as caught:
        take_in(one, registered(number))
    assert caught.value.reason == "login_locked"
    assert card(one, resident).locked
    unlock(one, registered(number))
    assert take_in(one, registered(number)) == resident
    assert not card(one, resident).locked
    assert statuses(one, resident) == [(True, True, 2), (True, False, 3)]
    unlock(one, registered(number))
    assert len(statuses(one, resident)) == 2


def test_r_id_4_unlocking_opens_no_session_and_works_once(one: Identity) -> None:
    """R-ID-4: a login begun for it does nothing else, and one begun for a session does not unlock."""
    number = new_number()
    resident = take_in(one, registered(number))
    lock(one, resident)
    login = unlock(one, registered(number))
    assert one.rows("SELECT 1 FROM sessions WHERE subject = %s", str(resident)) == []
    session = logging_in.CompleteLogin(request_id=uuid4(), login=login, id_token="t")
    with pytest.raises(NotAuthenticated) as caught:
        one.begun(session)
    assert caught.value.reason == "login_for_something_else"
    again = logging_in.UnlockLogin(request_id=uuid4(), login=login, id_token="t")
    with pytest.raises(NotAuthenticated) as caught:
        one.run(lambda tx: logins.complete_unlocking(tx, again, registered(number), NUMBER_KEY))
    assert caught.value.reason == "login_used"
    ordinary = logging_in.BeginLogin(request_id=uuid4(), kind="resident")
    begun = one.begin_login(ordinary)
    crossed = logging_in.UnlockLogin(request_id=uuid4(), login=begun.login, id_token="t")
    with pytest.raises(NotAuthenticated):
        one.begun(crossed, "unlock")
    staff = logging_in.BeginLogin(request_id=uuid4(), kind="staff", purpose="unlock")
    with pytest.raises(Invalid):
        one.begin_login(staff)


def test_r_id_4_only_an_e_id_shown_afresh_unlocks(one: Identity) -> None:
    """R-ID-4: not one that was shown before the login began."""

    class Begun:
        begun_at = datetime.fromisoformat("2026-11-23T10:00:00+00:00")

    shown = int(Begun.begun_at.timestamp())
    logins.require_fresh({"auth_time": shown + 5}, Begun)  # type: ignore[arg-type]
    for claims in ({"auth_time": shown - 300}, {"auth_time": "x"}, {"auth_time": 1e300}, {}):
        with pytest.raises(NotAuthenticated) as caught:
            logins.require_fresh(claims, Begun)  # type: ignore[arg-type]
        assert caught.value.reason == "login_not_fresh"


def test_r_id_17_unlocking_makes_no_inactive_account_active(one: Identity) -> None:
    """R-ID-4, R-ID-17"""
    number = new_number()
    resident = take_in(one, registered(number))
    lock(one, resident)
    one.run(lambda tx: residents.bring_up_to_date(tx, None, registered(number, code="AV"), NUMBER_KEY))
    with pytest.raises(Forbidden):
        unlock(one, registered(number, code="UV"))
    assert card(one, resident).locked
    assert not card(one, resident).active


# --- one's own sessions (R-ID-21) -----------------------------------------------------------------------------------


def own(one: Identity, caller: Caller) -> list[logging_in.Session]:
    return one.run(lambda tx: sessions.list_own(tx, logging_in.ListSessions()), caller).sessions


def test_r_id_21_people_see_and_end_their_own_sessions(one: Identity) -> None:
    """R-ID-21: live ones alone, and nobody else's."""
    person, other = new_person(), new_person()
    old = one.open("staff", person)
    one.moved += timedelta(minutes=31)
    first = one.open("staff", person)
    one.moved += timedelta(minutes=1)
    second = one.open("staff", person)
    stranger = one.open("staff", other)
    caller = Caller("staff", person, second)
    found = own(one, caller)
    assert [each.session for each in found] == [second, first]
    assert [each.this_one for each in found] == [True, False]
    for unknown in (stranger, uuid4()):
        with pytest.raises(NotFound):
            one.run(
                lambda tx, which=unknown: sessions.end_own(
                    tx, logging_in.EndSession(request_id=uuid4(), session=which)
                ),
                caller,
            )
    for _ in range(2):
        one.run(lambda tx: sessions.end_own(tx, logging_in.EndSession(request_id=uuid4(), session=first)), caller)
    assert [each.session for each in own(one, caller)] == [second]
    told = [body for body in one.told("rights_changed") if body["subject"] == person and body["ended_sessions"]]
    assert [body["ended_sessions"][0]["session"] for body in told] == [str(first)]
    assert [each.session for each in own(one, Caller("staff", other, stranger))] == [stranger]
    assert old not in {each.session for each in own(one, caller)}


# --- the keys of tokens (R-ID-21) -----------------------------------------------------------------------------------


def kid_of(opened: logging_in.SessionOpened) -> str:
    return str(jwt.get_unverified_header(opened.access_token)["kid"])


def test_r_id_21_keys_change_by_the_clock_and_at_once_and_every_token_stays_good(
    made: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-21: a key is used a minute after it was made; those before are trusted until their last token is dead."""
    monkeypatch.setattr(signing_keys, "_LOOK_AGAIN_SECONDS", -1.0)
    monkeypatch.setattr(clock, "now", lambda: made.now)
    own = made.desk.keys.own
    write_keys(tmp_path / "keys.json", {"identity": own._key})

    def told() -> list[str]:
        return made.run(lambda tx: signing_keys.public_keys(tx, identity.PublicKeys())).keys

    verifier = Verifier(tmp_path / "keys.json", told)
    monkeypatch.setattr(endorsed_keys, "_ASK_AGAIN_SECONDS", 0.0)
    person = new_person()
    first = made.opened("staff", person)
    assert verifier.verify(first.access_token).subject == person
    assert made.run(lambda tx: signing_keys.rotate(tx, own))
    assert kid_of(made.opened("staff", person)) == kid_of(first)
    made.moved += timedelta(minutes=2)
    second = made.opened("staff", person)
    assert kid_of(second) != kid_of(first)
    assert verifier.verify(second.access_token).subject == person
    assert not made.run(lambda tx: signing_keys.rotate(tx, own))

    change = identity.ChangeSigningKey(request_id=uuid4())
    made.run(lambda tx: signing_keys.change(tx, change, own))
    assert kid_of(made.opened("staff", person)) == kid_of(second)
    made.moved += timedelta(minutes=2)
    third = made.opened("staff", person)
    assert kid_of(third) not in (kid_of(first), kid_of(second))
    for token in (second, third):
        assert verifier.verify(token.access_token).subject == person
    made.moved += timedelta(minutes=20)
    assert made.run(lambda tx: signing_keys.rotate(tx, own)) is False
    assert len(told()) == 1

    withdrawn = made.opened("staff", person)
    made.run(lambda tx: signing_keys.change(tx, identity.ChangeSigningKey(request_id=uuid4(), withdraw=True), own))
    renewed = made.renew(withdrawn.renewal_token)
    assert kid_of(renewed) == kid_of(first)
    assert verifier.verify(renewed.access_token).subject == person
    verifier._learned._learn()  # type: ignore[union-attr]
    with pytest.raises(NotAuthenticated):
        verifier.verify(withdrawn.access_token)
    made.moved += timedelta(days=31)
    assert made.run(lambda tx: signing_keys.rotate(tx, own))
    made.moved += timedelta(days=61)
    assert kid_of(made.opened("staff", person)) == kid_of(first)


def test_keys_are_endorsed_anew_when_identitys_own_key_is_changed(made: Identity) -> None:
    """R-ID-21: else a change of that key would end what everybody trusts."""
    made.run(lambda tx: signing_keys.change(tx, identity.ChangeSigningKey(request_id=uuid4()), made.desk.keys.own))
    newer = Signer(Ed25519PrivateKey.generate(), "identity")
    made.run(lambda tx: signing_keys.rotate(tx, newer))
    told = made.run(lambda tx: signing_keys.public_keys(tx, identity.PublicKeys())).keys
    assert told
    assert all(newer.endorsed(one) for one in told)


def test_private_keys_stand_sealed_and_bound_to_their_names(made: Identity) -> None:
    """R-SYS-2"""
    for _ in range(2):
        made.run(lambda tx: signing_keys.change(tx, identity.ChangeSigningKey(request_id=uuid4()), made.desk.keys.own))
    first, second = made.rows("SELECT kid, sealed FROM signing_keys LIMIT 2")
    made.rows("UPDATE signing_keys SET sealed = %s WHERE kid = %s", first[1], second[0])
    with pytest.raises(SealBroken):
        made.run(lambda tx: signing_keys._opened(tx, tx.execute(select(table).where(table.c.kid == second[0])).one()))


# --- terms (R-ID-2, R-ID-3) -----------------------------------------------------------------------------------------


def test_r_id_2_what_was_accepted_is_read_again_word_for_word(made: Identity, tmp_path: Path) -> None:
    """R-ID-2, R-ID-3: whatever has become of the file since; and a new version asks again."""
    for kind in ("staff", "resident"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.md").write_text("Villkor, som de var")
    caller = Caller("staff", new_person(), uuid4())

    def shelf() -> terms.TermsShelf:
        return terms.TermsShelf.from_folder(tmp_path)

    def accept(version: str) -> None:
        request = logging_in.AcceptTerms(request_id=uuid4(), version=version)
        made.run(lambda tx: terms.accept(tx, request, shelf()), caller)

    def read(version: str | None = None) -> logging_in.Terms:
        return made.run(lambda tx: terms.read_terms(tx, logging_in.ReadTerms(version=version), shelf()), caller)

    accept("1")
    (tmp_path / "staff" / "1.md").write_text("Andra villkor under samma nummer")
    assert read().text == read("1").text == "Villkor, som de var"
    (tmp_path / "staff" / "2.md").write_text("Nya villkor")
    (tmp_path / "staff" / "1.md").unlink()
    assert (read().version, read().text, read().accepted_at) == ("2", "Nya villkor", None)
    assert read("1").text == "Villkor, som de var"
    accept("2")
    assert [one.version for one in read().accepted] == ["1", "2"]
    with pytest.raises(Conflict):
        accept("1")
