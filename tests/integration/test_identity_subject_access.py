"""Subject access reports, on a database, with services that answer from memory or not at all (R-ID-19)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from services.identity import contacts, report_document, representation, residents, subject_access
from services.identity.population_register import Place
from services.identity.tables import metadata
from shared.contracts import access, identity
from shared.contracts import subject_access as report
from shared.contracts.base import Role
from shared.messaging.errors import Conflict, Forbidden, NotFound, Unavailable
from shared.security.caller import Caller
from tests.integration.identity_support import NUMBER_KEY, Identity, new_clinic, new_number, new_person, registered

PROVIDER, OTHER = "SE2321000131-V1", "SE5599999994-V2"
CASE = uuid4()


class Services:
    """The other services: what they hold, by care provider, and which of them are down."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.held: dict[tuple[str, str | None], list[report.Held]] = {}
        self.asked: list[tuple[str, Any]] = []

    def hold(self, service: str, provider: str | None, *texts: str, files: tuple[UUID, ...] = ()) -> None:
        self.held[service, provider] = [
            report.Held(
                kind="Meddelanden",
                case=CASE,
                values=[report.HeldValue(name="Text", value=text)],
                attachments=list(files),
            )
            for text in texts
        ]

    def ask(self, call: Any, request: Any) -> Any:
        """One thing a page, so that all pages have to be asked for."""
        self.asked.append((call.service, request))
        if call.service in self.down:
            raise Unavailable(reason="no_process")
        if call is report.CARE_PROVIDERS_OF:
            return report.CareProviders(care_providers=sorted({one for _, one in self.held if one}))
        held = self.held.get((call.service, request.care_provider), [])
        at = int(request.after or 0)
        return report.HeldPage(held=held[at : at + 1], after=str(at + 1) if at + 1 < len(held) else None)


class Desk:
    """A resident who asks, and services that hold something."""

    def __init__(self, one: Identity) -> None:
        self.one, self.services = one, Services()
        self.number = new_number()
        self.resident = one.take_in(registered(self.number))
        self.me = Caller("resident", str(self.resident), uuid4())

    def request(self) -> UUID:
        asked = report.RequestReport(request_id=uuid4())
        return self.one.run(lambda tx: subject_access.request(tx, asked), self.me).report

    def gather(self) -> None:
        def transaction() -> Any:
            return self.one.at_its_time()

        subject_access.gather(transaction, self.services.ask, lambda: False)

    def mine(self) -> report.Report:
        [found] = self.one.run(lambda tx: subject_access.mine(tx, report.MyReports()), self.me).reports
        return found

    def states(self) -> dict[str | None, str]:
        return {part.care_provider: part.state for part in self.mine().parts}

    def manager(self) -> tuple[str, Caller]:
        clinic, person = new_clinic(), new_person()
        self.one.give(self.one.regional_admin(), clinic, person, Role.OPERATIONS_MANAGER)
        return clinic, self.one.staff(person)

    def waiting(self, provider: str, clinic: str, manager: Caller) -> list[report.PartToRelease]:
        asked = report.ReportsToRelease(clinic=clinic)
        return self.one.run(lambda tx: subject_access.to_release(tx, asked, provider), manager).parts

    def release(self, provider: str) -> None:
        clinic, manager = self.manager()
        for part in self.waiting(provider, clinic, manager):
            if part.identity_number == self.number:
                asked = report.ReleaseReport(request_id=uuid4(), clinic=clinic, part=part.part)
                self.one.run(lambda tx, asked=asked: subject_access.release(tx, asked, provider), manager)

    def read(self, form: Any = "json") -> str:
        asked = report.ReadReport(report=self.mine().report, format=form)
        whole = self.one.run(lambda tx: subject_access.whole(tx, asked), self.me)
        return report_document.piece(whole, asked).text


@contextmanager
def statements(one: Identity) -> Iterator[list[str]]:
    """Those that are run meanwhile, save for what begins and ends transactions."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(one.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(one.database.engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def whole_identity(rooms: Any) -> Iterator[Identity]:
    database = rooms.database("identity")
    made = Identity(database.url)
    yield made
    made.database.dispose()
    database.drop()


@pytest.fixture
def desk(whole_identity: Identity) -> Desk:
    whole_identity.moved = timedelta()
    whole_identity.rows("DELETE FROM reports")
    return Desk(whole_identity)


def test_r_id_19_each_care_provider_releases_what_it_controls(desk: Desk) -> None:
    """R-ID-19: nothing of a care provider's is even asked for before; then all pages of all services."""
    file = uuid4()
    desk.services.hold("cases", PROVIDER, "Jag har ont i ryggen", "Vila", files=(file,))
    desk.services.hold("cases", OTHER, "Annan vårdgivare")
    desk.services.hold("attachments", PROVIDER, "röntgen.png")
    desk.services.hold("notifications", None, "sms")
    desk.request()
    desk.gather()
    desk.gather()
    assert desk.states() == {None: "ready", PROVIDER: "waiting_for_release", OTHER: "waiting_for_release"}
    assert not [one for service, one in desk.services.asked if getattr(one, "care_provider", None)]
    desk.release(PROVIDER)
    desk.gather()
    assert desk.states() == {None: "ready", PROVIDER: "ready", OTHER: "waiting_for_release"}
    assert not desk.mine().whole
    text = desk.read()
    assert "ont i ryggen" in text
    assert "Vila" in text
    assert "röntgen.png" in text
    assert "Annan vårdgivare" not in text
    [asked] = [one for service, one in desk.services.asked if service == "attachments" and one.care_provider]
    assert (asked.attachments, asked.cases) == ([file], [CASE])
    desk.release(OTHER)
    desk.gather()
    assert desk.mine().whole
    read = json.loads(desk.read())
    assert read["whole"]
    assert [part["care_provider"] for part in read["parts"]] == [None, PROVIDER, OTHER]
    stored = str(desk.one.rows("SELECT p::text FROM report_pages AS p"))
    assert b"ryggen".hex() not in stored


def test_r_id_19_lists_of_reports_take_as_many_statements_however_long_they_are(desk: Desk) -> None:
    """R-ID-19: the resident's own reports with their parts, and what waits for a care provider with whose it is."""
    desk.services.hold("cases", PROVIDER, "Jag har ont i ryggen")
    clinic, manager = desk.manager()

    def counts() -> tuple[int, int]:
        with statements(desk.one) as mine:
            desk.one.run(lambda tx: subject_access.mine(tx, report.MyReports()), desk.me)
        with statements(desk.one) as to_release:
            desk.waiting(PROVIDER, clinic, manager)
        return len(mine), len(to_release)  # two of mine: who asks, and their accounts

    desk.request()
    desk.gather()
    desk.gather()
    assert counts() == (3, 1)
    for number in (new_number(), new_number()):
        other = desk.one.take_in(registered(number, given_name="Olle"))
        desk.one.run(
            lambda tx: subject_access.request(tx, report.RequestReport(request_id=uuid4())),
            Caller("resident", str(other), uuid4()),
        )
    desk.one.moved = subject_access.KEPT + timedelta(hours=1)
    desk.request()
    desk.gather()
    desk.gather()
    assert counts() == (3, 1)
    mine = desk.one.run(lambda tx: subject_access.mine(tx, report.MyReports()), desk.me).reports
    assert [[part.care_provider for part in one.parts] for one in mine] == [[None, PROVIDER]] * 2
    assert mine[0].requested_at > mine[1].requested_at
    waiting = desk.waiting(PROVIDER, clinic, manager)
    assert [one.name for one in waiting] == ["Eva Ek", "Olle Ek", "Olle Ek", "Eva Ek"]
    assert waiting[0].identity_number == waiting[3].identity_number == desk.number


@pytest.mark.parametrize("service", ["cases", "attachments", "notifications"])
def test_r_id_19_a_service_that_is_down_is_waited_for_and_then_named(desk: Desk, service: str) -> None:
    """R-ID-19: complete even so; after a day the report says what is missing, and fills it in when it comes."""
    provider = None if service == "notifications" else PROVIDER
    desk.services.hold("cases", PROVIDER, "Ärendet", files=(uuid4(),))
    desk.services.hold(service, provider, "Ärendet", "Det som fattas", files=(uuid4(),))
    desk.services.down = {service} - {"cases"}
    desk.request()
    desk.gather()
    desk.release(PROVIDER)
    desk.services.down = {service}
    desk.gather()
    assert desk.states()[provider] == "gathering"
    assert "Det som fattas" not in desk.read()
    desk.one.moved = timedelta(hours=24, minutes=1)
    desk.gather()
    [part] = [part for part in desk.mine().parts if part.care_provider == provider]
    assert (part.state, part.missing) == ("incomplete", [service])
    assert "Inte fullständigt: följande tjänster har inte svarat" in desk.read("html")
    assert service == "cases" or provider is None or "Ärendet" in desk.read(), "the rest is there"
    desk.services.down = set()
    desk.gather()
    assert desk.mine().whole
    assert "Det som fattas" in desk.read()


def test_r_id_19_a_part_that_fails_keeps_no_other_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-19: as where what stands sealed about one resident can't be opened any more."""
    monkeypatch.setattr(subject_access, "AT_ONCE", 1)
    desk.request()
    desk.one.rows("UPDATE identity_numbers SET sealed = 'x' WHERE resident = %s", desk.resident)
    other = Desk(desk.one)
    other.request()
    for _ in range(2):
        desk.gather()
    assert other.states() == {None: "ready"}
    assert desk.one.rows("SELECT state FROM report_parts ORDER BY state") == [("gathering",), ("ready",)]


def test_r_id_19_who_controls_something_is_found_when_cases_is_back(desk: Desk) -> None:
    """R-ID-19: a report is never called whole while nobody knows whose parts it has."""
    desk.services.hold("cases", PROVIDER, "Ärendet")
    desk.services.down = {"cases"}
    desk.request()
    desk.gather()
    assert desk.states() == {None: "gathering"}
    desk.one.moved = timedelta(hours=25)
    desk.gather()
    assert desk.states() == {None: "incomplete"}
    assert not desk.mine().whole
    desk.services.down = set()
    desk.gather()
    assert desk.states() == {None: "ready", PROVIDER: "waiting_for_release"}


def test_r_id_19_only_the_care_provider_releases_and_only_the_resident_reads(desk: Desk) -> None:
    """R-ID-19: not another's operations manager, no local administrator; no other resident, no guardian."""
    desk.services.hold("cases", PROVIDER, "Ärendet")
    first = desk.request()
    assert desk.request() == first, "one at a time"
    desk.gather()
    clinic, manager = desk.manager()
    [part] = [part for part in desk.mine().parts if part.care_provider]
    asked = report.ReleaseReport(request_id=uuid4(), clinic=clinic, part=part.part)
    with pytest.raises(NotFound):
        desk.one.run(lambda tx: subject_access.release(tx, asked, OTHER), manager)
    admins_clinic, admin = desk.one.clinic_with_admin()
    for who, where in ((admin, admins_clinic), (manager, admins_clinic)):
        theirs = asked.model_copy(update={"clinic": where})
        with pytest.raises(Forbidden):
            desk.one.run(lambda tx, theirs=theirs: subject_access.release(tx, theirs, PROVIDER), who)
    other = Desk(desk.one)
    reading = report.ReadReport(report=first)
    with pytest.raises(NotFound):
        desk.one.run(lambda tx: subject_access.whole(tx, reading), other.me)
    guardian = Caller("resident", str(desk.resident), uuid4(), acting_for=other.resident)
    with pytest.raises(Forbidden):
        desk.one.run(lambda tx: subject_access.whole(tx, reading), guardian)
    desk.one.moved = timedelta(days=31)
    desk.gather()
    assert not desk.mine().whole, "what waits for its care provider is not removed"
    desk.one.run(lambda tx: subject_access.release(tx, asked, PROVIDER), manager)
    desk.gather()
    desk.one.moved = timedelta(days=60)
    desk.gather()
    assert desk.mine().whole, "it is kept for 30 days from then"
    desk.one.moved = timedelta(days=61, minutes=1)
    desk.gather()
    with pytest.raises(NotFound):
        desk.one.run(lambda tx: subject_access.whole(tx, reading), desk.me)
    assert desk.one.rows("SELECT 1 FROM report_pages") == []


def test_r_id_19_a_part_that_nobody_releases_has_an_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-19: the operator is told after the month, the resident after three; another month later it is removed."""
    told: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, event: str, **values: Any) -> None:
            told.append((event, values))

    monkeypatch.setattr(subject_access, "log", Log())
    desk.services.hold("cases", PROVIDER, "Ärendet")
    desk.services.hold("cases", OTHER, "Det andra")
    first = desk.request()
    desk.gather()
    desk.release(OTHER)
    desk.gather()
    clinic, manager = desk.manager()
    [part] = desk.waiting(PROVIDER, clinic, manager)
    desk.one.run(subject_access.tell_who_has_not_released)
    assert told == []
    for days, line in ((31, ("subject_access_not_released", {"care_provider": PROVIDER, "parts": 1})), (91, None)):
        desk.one.moved = timedelta(days=days)
        told.clear()
        desk.one.run(subject_access.tell_who_has_not_released)
        assert told == ([line] if line else [])
        assert desk.mine().ended is (line is None)
    assert "väntar inte längre" in desk.read("html")
    assert json.loads(desk.read())["ended"]
    assert desk.waiting(PROVIDER, clinic, manager) == []
    asked = report.ReleaseReport(request_id=uuid4(), clinic=clinic, part=part.part)
    with pytest.raises(Conflict) as refused:
        desk.one.run(lambda tx: subject_access.release(tx, asked, PROVIDER), manager)
    assert refused.value.reason == "report_ended"
    desk.one.moved = timedelta(days=119)
    desk.gather()
    assert desk.mine().report == first
    desk.one.moved = timedelta(days=121)
    assert desk.request() != first
    desk.gather()
    assert desk.mine().report != first
    desk.one.moved = timedelta(days=300)
    desk.gather()


@pytest.mark.parametrize("down", ["cases", "attachments"])
def test_r_id_19_what_a_service_never_answers_about_has_an_end(desk: Desk, down: str) -> None:
    """R-ID-19: it is asked for three months, and then no more; what has come is not kept for ever for its sake."""
    desk.services.hold("attachments", None, "fil")
    desk.services.down = {down}
    desk.request()
    desk.gather()
    desk.one.moved = timedelta(days=91)
    desk.services.asked.clear()
    desk.gather()
    assert desk.services.asked == []
    assert desk.mine().ended
    desk.one.moved = timedelta(days=121)
    desk.gather()
    assert desk.one.rows("SELECT 1 FROM reports") == desk.one.rows("SELECT 1 FROM report_pages") == []


def test_r_id_19_what_identity_holds_itself_is_all_in_it(desk: Desk) -> None:
    """R-ID-19, R-ID-14: and of a protected person's place there is nothing; markup stays text."""
    setting = identity.SetContact(request_id=uuid4(), email="eva@example.org", notify_by=["email"])
    desk.one.run(lambda tx: contacts.set_contact(tx, setting, NUMBER_KEY), desk.me)
    told = registered(desk.number, given_name="<b>Eva</b>", place=Place("Storgatan 1", "41111", "Göteborg", "14", "80"))
    desk.one.run(lambda tx: residents.keep(tx, told, NUMBER_KEY))
    desk.one.opened("resident", str(desk.resident))
    desk.request()
    desk.gather()
    text = desk.read()
    for known in (desk.number, "eva@example.org", "Storgatan 1", "Inloggningar", "Registerutdrag"):
        assert known in text
    assert "<b>Eva" not in desk.read("html")
    hidden = registered(desk.number, protected=True, place=Place("Storgatan 1", "41111", "Göteborg", "14", "80"))
    desk.one.run(lambda tx: residents.keep(tx, hidden, NUMBER_KEY))
    for place in ("Storgatan", "41111", "Göteborg", "Länskod", "Kommunkod"):
        assert place not in desk.read(), "what was gathered before is not given out either"
    assert desk.number in desk.read()
    desk.one.rows("UPDATE report_parts SET state = 'gathering'")
    desk.gather()
    assert "Storgatan" not in desk.read()
    assert "Skyddade personuppgifter" in desk.read("html")


def test_r_id_19_pieces_of_two_documents_are_never_put_together(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-19: a part that comes between two pieces has the reading begin again; all pieces are the whole."""
    monkeypatch.setattr(report_document, "PIECE", 700)
    desk.services.hold("cases", PROVIDER, "Ärendet")
    wanted = desk.request()
    desk.gather()

    def piece(number: int, digest: str | None = None) -> report.ReportPiece:
        asked = report.ReadReport(report=wanted, format="json", piece=number, digest=digest)
        whole = desk.one.run(lambda tx: subject_access.whole(tx, asked), desk.me)
        return report_document.piece(whole, asked)

    first = piece(0)
    assert piece(1, first.digest).digest == first.digest
    desk.release(PROVIDER)
    desk.gather()
    with pytest.raises(Conflict) as refused:
        piece(1, first.digest)
    assert refused.value.reason == "report_changed"
    pieces = [piece(0)]
    while pieces[-1].more:
        pieces.append(piece(len(pieces), pieces[0].digest))
    text = "".join(one.text for one in pieces)
    assert sha256(text.encode()).hexdigest() == pieces[0].digest
    assert "Ärendet" in json.dumps(json.loads(text), ensure_ascii=False)
    with pytest.raises(NotFound):
        piece(len(pieces), pieces[0].digest)


TOLD = {
    "residents": "Konto",
    "identity_numbers": "Identitetsnummer",
    "linked_accounts": "Konton som är samma persons",
    "taken_apart": "Skilt från en annan persons konto",
    "accepted_terms": "Godkända villkor",
    "reports": "Registerutdrag",
    "report_parts": "Registerutdrag",
    "contacts": "Kontaktuppgifter",
    "verified_addresses": "Bekräftade adresser",
    "address_codes": "Koder för att bekräfta en adress",
    "unreachable_addresses": "Adresser som inte kunde nås",
    "sessions": "Inloggningar",
    "listings": "Vårdval",
    "my_clinics": "Mina mottagningar",
    "approvals": "Godkännanden för kommunikation",
    "guardianships": "Vårdnad",
    "blocked_guardians": "Spärrade ombud",
}
"""The tables that hold something about a resident, and under which heading the report tells it."""
NOT_ABOUT_A_RESIDENT = {
    "logins": "a nonce, and nobody's name",
    "renewal_tokens": "hashes of secrets; when they were used stands with their session",
    "terms_texts": "the same for everybody",
    "signing_keys": "keys",
    "staff": "staff",
    "roles": "staff",
    "regional_admins": "staff",
    "role_history": "staff",
    "rights_clock": "a number",
    "catchments": "clinics",
    "clinic_places": "clinics",
    "codes_a_day": "how many codes an address got, by its hash, not whose it is",
    "disturbances": "the same for everybody",
    "report_pages": "the report itself",
}


def test_r_id_19_every_table_of_identity_is_told_or_is_not_about_residents(desk: Desk) -> None:
    """R-ID-19: a table that is added without saying which it is fails here, and so does one that is not told."""
    assert set(metadata.tables) == TOLD.keys() | NOT_ABOUT_A_RESIDENT.keys()
    one, me, mine = desk.one, str(desk.resident), NUMBER_KEY.hash(desk.number)
    child_number = new_number()
    child = one.take_in(registered(child_number))
    one.opened("resident", me)
    for sql in (
        f"INSERT INTO accepted_terms VALUES ('resident', '{me}', '1', now())",
        f"INSERT INTO verified_addresses VALUES ('resident', '{me}', 'email', 'x', now())",
        f"INSERT INTO address_codes VALUES ('resident', '{me}', 'email', 'x', 'y', now(), 2, 3, now())",
        f"INSERT INTO address_codes VALUES ('guardian', '{me} {child}', 'sms', 'x', 'y', now(), 0, 1, now())",
        f"INSERT INTO unreachable_addresses VALUES ('resident', '{me}', 'sms', 1, now())",
        f"INSERT INTO linked_accounts VALUES ('{me}', '{me}', now())",
        f"INSERT INTO taken_apart (at, resident, number, by) VALUES (now(), '{me}', 'x', 'x')",
        f"INSERT INTO my_clinics VALUES ('{me}', 'SE1-MINE', now())",
        f"INSERT INTO guardianships VALUES ('{me}', '{child}', '2040-01-01', now())",
    ):
        one.rows(sql)
    setting = identity.SetContact(request_id=uuid4(), email="eva@example.org")
    one.run(lambda tx: contacts.set_contact(tx, setting, NUMBER_KEY), desk.me)
    held = f"decode('{mine.hex()}', 'hex')"
    one.rows(f"INSERT INTO listings VALUES ({held}, 'SE1-LISTED', now(), now())")
    one.rows(
        "INSERT INTO approvals (approval, clinic, number, sealed, approved_at, approved_by)"
        f" VALUES (gen_random_uuid(), 'SE1-APPROVED', {held}, 'x', now(), 'SE1-A')"
    )
    one.rows(
        "INSERT INTO blocked_guardians (block, clinic, guardian, child, sealed, blocked_at, blocked_by)"
        f" VALUES (gen_random_uuid(), 'SE1-BLOCKED', 'other', {held}, 'x', now(), 'SE1-A')"
    )
    desk.request()
    desk.gather()
    [part] = json.loads(desk.read())["parts"]
    assert {told["kind"] for told in part["held"]} == set(TOLD.values())
    values = {value["value"] for told in part["held"] for value in told["values"]}
    assert {"SE1-LISTED", "SE1-MINE", "SE1-APPROVED", "SE1-BLOCKED", "barn", str(child)} <= values
    assert "SE1-A" not in values, "who of the staff did it is not about the resident"


def test_r_id_13_r_id_19_the_report_of_a_blocked_guardian_does_not_tell_where_the_child_is(desk: Desk) -> None:
    """R-ID-13, R-ID-19: a parent who is kept away at a clinic reads that they are, not where; the child reads both."""
    one, child = desk.one, Desk(desk.one)
    clinic, admin = one.clinic_with_admin()
    asked = access.BlockGuardian(
        request_id=uuid4(), clinic=clinic, guardian_number=desk.number, child_number=child.number
    )
    one.run(lambda tx: representation.block(tx, asked, NUMBER_KEY), admin)
    desk.request()
    desk.gather()
    assert "Spärrade ombud" in desk.read()
    assert clinic not in desk.read()
    child.request()
    child.gather()
    assert clinic in child.read()


def test_r_id_19_r_id_24_a_report_is_of_both_accounts_of_a_person(desk: Desk) -> None:
    """R-ID-19, R-ID-24: by numbers that the register linked when both had an account; asked for and read in either."""
    old = new_number()
    other = desk.one.take_in(registered(old))
    linked = registered(desk.number, former=(old,))
    desk.one.run(lambda tx: residents.bring_up_to_date(tx, None, linked, NUMBER_KEY))
    file = uuid4()
    desk.services.hold("cases", PROVIDER, "Jag har ont i ryggen", files=(file,))
    report_id = desk.request()
    in_other = Caller("resident", str(other), uuid4())
    asked = report.RequestReport(request_id=uuid4())
    assert desk.one.run(lambda tx: subject_access.request(tx, asked), in_other).report == report_id
    desk.gather()
    desk.release(PROVIDER)
    desk.gather()
    assert desk.mine().whole
    both = {desk.resident, other}
    for service, files in (("cases", []), ("attachments", [file])):
        questions = [one for by, one in desk.services.asked if by == service and getattr(one, "care_provider", None)]
        assert {one.resident for one in questions} == both
        assert all(one.attachments == files for one in questions)
    question = report.ReadReport(report=report_id, format="json")
    text = report_document.piece(desk.one.run(lambda tx: subject_access.whole(tx, question), in_other), question).text
    assert all(number in text for number in (old, desk.number))
    [found] = desk.one.run(lambda tx: subject_access.mine(tx, report.MyReports()), in_other).reports
    assert found.report == report_id
