"""What the tests of cases stand on: a database made by the service's own migration, the service's own methods, and
neighbours that answer from memory."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.cases import expiry, reminding, rights_lost, seals
from services.cases.service import CasesService
from shared.contracts import access, attachments, cases, directory, identity
from shared.contracts.base import Role
from shared.database.transaction import Database, Transaction
from shared.messaging.errors import Conflict, NotFound, Refused
from shared.messaging.server import OngoingCall
from shared.operations import clock
from shared.security import rights
from shared.security.caller import Caller, Rights
from shared.security.sealing import Sealer
from tests.stack.rooms import Rooms

SEALER = Sealer("test", {"test": b"k" * 32})
SETTINGS = SimpleNamespace(max_files_resident=5, max_files_staff=20)
CARE_PROVIDER = "SE2321000131-E000000000001"

FORM = [
    cases.Component(id="what", kind="text", label="Vad gäller det?", required=True),
    cases.Component(id="files", kind="attachments", label="Bifoga filer"),
]


def refused(reason: str, kind: type[Refused], action: Callable[..., Any], *args: Any, **named: Any) -> Refused:
    with pytest.raises(kind) as told:
        action(*args, **named)
    assert told.value.reason == reason
    return told.value


def shared_database(rooms: Rooms) -> Iterator[str]:
    """For a fixture: one database for all tests of a module, each of which has a clinic and people of its own."""
    made = rooms.database("cases")
    yield made.url
    made.drop()


_numbers = itertools.count(1)
"""Of changes of rights: one row for all worlds of a database."""


class Neighbours:
    """The other services, as far as cases asks them. `faults`: what a call raises. `asked`: their names in order."""

    def __init__(self) -> None:
        self.clinics: dict[str, directory.ClinicFacts] = {}
        self.staff: dict[str, directory.StaffFacts] = {}
        self.cards: dict[UUID, identity.ResidentCard] = {}
        self.linked: dict[UUID, list[UUID]] = {}
        self.rights: dict[str, identity.RightsNow] = {}
        self.files: dict[UUID, tuple[str, attachments.ClaimedFile]] = {}
        self.access: dict[tuple[UUID, str], access.ClinicAccess] = {}
        self.representation: dict[tuple[UUID, UUID], access.RepresentationNow] = {}
        self.claims: dict[UUID, UUID] = {}
        self.claimed_for: dict[UUID, UUID] = {}
        self.faults: dict[str, Refused] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []

    def ask(self, call: Any, request: Any, **_: Any) -> Any:
        self.asked.append(call.name)
        if call.name in self.before:
            self.before.pop(call.name)()
        if call.name in self.faults:
            raise self.faults[call.name]
        return getattr(self, f"_{call.name}")(request)

    def _get_clinics(self, request: directory.GetClinics) -> directory.Clinics:
        return directory.Clinics(clinics=[self.clinics[one] for one in request.clinics if one in self.clinics])

    def _get_staff(self, request: directory.GetStaff) -> directory.Staff:
        missing = {one: directory.StaffFacts(person=one, status="missing") for one in request.people}
        return directory.Staff(staff=[self.staff.get(one, missing[one]) for one in request.people])

    def _resident_cards(self, request: identity.ResidentCards) -> identity.CardsFound:
        return identity.CardsFound(cards=[self.cards[one] for one in request.residents if one in self.cards])

    def _current_rights(self, request: identity.CurrentRights) -> identity.RightsNow:
        nothing = identity.RightsNow(number=0, roles=[], regional=False, session_live=True)
        return self.rights.get(request.subject, nothing)

    def _access_to_clinics(self, request: access.AccessToClinics) -> access.AccessFound:
        open_to_all = access.ClinicAccess(clinic="SE2321000131-E1", allowed=True)
        found = []
        for clinic in request.clinics:
            decided = self.access.get((request.resident, clinic), open_to_all)
            if request.guardian is not None:
                now = self._representation(access.Representation(guardian=request.guardian, child=request.resident))
                if not now.acting or clinic in now.blocked_at:
                    reason = "guardian_blocked" if now.acting else "not_representative"
                    decided = access.ClinicAccess(clinic=clinic, allowed=False, reason=reason)
            found.append(decided.model_copy(update={"clinic": clinic}))
        return access.AccessFound(access=found)

    def _representation(self, request: access.Representation) -> access.RepresentationNow:
        return self.representation.get((request.guardian, request.child), access.RepresentationNow(acting=True))

    def _find_resident(self, request: identity.FindResident) -> identity.ResidentFound:
        found = [card.resident for card in self.cards.values() if card.identity_number == request.identity_number]
        linked = self.linked.get(found[0], []) if found else []
        return identity.ResidentFound(resident=found[0] if found else None, linked=linked)

    def _find_residents(self, request: identity.FindResidents) -> identity.ResidentsFound:
        by_number = {card.identity_number: card.resident for card in self.cards.values()}
        return identity.ResidentsFound(
            found=[
                identity.FoundByNumber(resident=by_number.get(one), is_number=one.isdigit())
                for one in request.identity_numbers
            ]
        )

    def _claim(self, request: attachments.Claim) -> attachments.Claimed:
        for one in request.attachments:
            if one not in self.files or self.files[one][0] != request.owner:
                raise NotFound
            if self.claims.get(one, request.message) != request.message:
                raise Conflict(reason="attachment_already_used")
        self.claims |= dict.fromkeys(request.attachments, request.message)
        self.claimed_for |= dict.fromkeys(request.attachments, request.case)
        return attachments.Claimed(attachments=[self.files[one][1] for one in request.attachments])

    def _release(self, request: attachments.Release) -> Any:
        self.claims = {one: message for one, message in self.claims.items() if message != request.message}
        return None

    def _link(self, request: attachments.AskLink) -> attachments.Link:
        name = self.files[request.attachment][1].name
        return attachments.Link(url="http://store/x", expires_at=clock.now(), name=name, content_type="image/png")


class World:
    """A clinic with staff, residents, and the service's methods."""

    def __init__(self, url: str, folder: Path) -> None:
        self.database = Database(url, service="cases", sealer=SEALER, settings=SETTINGS)
        self.neighbours = Neighbours()
        self._core = SimpleNamespace(
            settings=SETTINGS,
            database=self.database,
            client=self.neighbours,
            signer=SimpleNamespace(own_token=lambda: "token"),
        )
        self._clock = folder / "clock.json"
        clock.use(str(self._clock))
        self._moved = timedelta()
        self._roles: dict[str, dict[str, set[Role]]] = {}
        self.clinic = self.new_clinic()
        self.admin = self.person(Role.LOCAL_ADMIN)
        self.receiver = self.person(Role.CASE_RECEIVER)
        self.handler = self.person(Role.CASE_HANDLER)
        self.reviewer = self.person(Role.LOG_REVIEWER)
        self.resident = self.new_resident()
        self.case_type = self.new_case_type()

    @classmethod
    def made(cls, url: str, folder: Path) -> Iterator[World]:
        """For a fixture."""
        world = cls(url, folder)
        yield world
        world.database.dispose()
        clock.use(None)

    # --- who there is

    def new_clinic(self, *, active: bool = True) -> str:
        clinic = f"SE2321000131-E{secrets.randbelow(10**12):012}"
        self.neighbours.clinics[clinic] = directory.ClinicFacts(
            clinic=clinic,
            name="Björkskogens vårdcentral",
            care_provider=CARE_PROVIDER,
            care_provider_name="Regionen",
            active=active,
            in_directory=True,
            end_date=None,
            county_code="14",
            municipality_code="1480",
        )
        return clinic

    def person(self, *roles: Role, clinic: str | None = None) -> Caller:
        person = f"SE2321000131-P{secrets.randbelow(10**12):012}"
        self.neighbours.staff[person] = directory.StaffFacts(
            person=person, status="fine", given_name="Åsa", surname=f"Ek{person[-4:]}", title="Läkare"
        )
        return self.give(person, *roles, clinic=clinic)

    def give(self, person: str, *roles: Role, clinic: str | None = None) -> Caller:
        """These are the person's roles at the clinic from now on: told as identity tells it."""
        clinic = clinic or self.clinic
        self._roles.setdefault(person, {})[clinic] = set(roles)
        number = next(_numbers)
        held = [
            identity.HeldRole(clinic=where, role=role) for where, some in self._roles[person].items() for role in some
        ]
        change = identity.RightsChanged(number=number, subject=person, version=number, roles=held)
        self.hear_rights(change)
        return self.staff(person)

    def hear_rights(self, change: identity.RightsChanged) -> None:
        """As the kernel does: into the copy first, then to the service, in one transaction."""

        def work(tx: Transaction) -> None:
            rights.apply(tx.connection, change)
            rights_lost.rights_changed(tx, change)

        self.database.hear(uuid4(), work)

    def staff(self, person: str) -> Caller:
        held = {clinic: frozenset(roles) for clinic, roles in self._roles.get(person, {}).items() if roles}
        return Caller("staff", person, session=uuid4(), rights=Rights(held))

    def new_resident(self, *, active: bool = True, locked: bool = False, protected: bool = False) -> Caller:
        resident = uuid4()
        self.set_resident(resident, active=active, locked=locked, protected=protected)
        return Caller("resident", str(resident), session=uuid4())

    def numbered(self, number: str, **state: bool) -> Caller:
        """A resident who is known by this number."""
        resident = self.new_resident(**state)
        card = self.neighbours.cards[UUID(resident.subject)]
        self.neighbours.cards[card.resident] = card.model_copy(update={"identity_number": number})
        return resident

    def set_resident(self, resident: UUID, number: str = "191212121212", **state: bool) -> None:
        flags = {"active": True, "locked": False, "protected": False} | state
        self.neighbours.cards[resident] = identity.ResidentCard(
            resident=resident, name="Tolvan Tolvansson", identity_number=number, **flags
        )

    def file(self, owner: Caller, name: str = "utslag.png") -> UUID:
        attachment = uuid4()
        claimed = attachments.ClaimedFile(attachment=attachment, name=name, size=4711, content_type="image/png")
        self.neighbours.files[attachment] = (owner.subject, claimed)
        return attachment

    # --- time

    def move(self, by: timedelta) -> None:
        self._moved += by
        self._clock.write_text(json.dumps({"offset_seconds": self._moved.total_seconds()}))
        clock.use(str(self._clock))

    def expire(self) -> int:
        return expiry.close_expired(self.database)

    def remind(self) -> int:
        return reminding.remind_all(self.database)

    def seal(self) -> int:
        return seals.seal_all(self.database)

    # --- calls

    def call(self, call: Any, request: Any, caller: Caller) -> Any:
        """The service's own method, as the kernel runs it."""
        ends, ids, rights_as_of = time.monotonic() + 30, [f"test.call.{uuid4()}"], float("inf")
        ongoing = OngoingCall(self._core, call, request, caller, ends, ids, rights_as_of)  # type: ignore[arg-type]
        try:
            return getattr(CasesService, call.name).__wrapped__(CasesService(), ongoing)
        except Refused as refusal:
            return ongoing.refuse(refusal)

    def new_case_type(self, form: list[cases.Component] | None = None, clinic: str | None = None) -> UUID:
        admin = self.admin if clinic is None else self.person(Role.LOCAL_ADMIN, clinic=clinic)
        request = cases.ActivateCaseType(
            request_id=uuid4(), clinic=clinic or self.clinic, name="Kontakta mig", components=form or FORM
        )
        case_type: UUID = self.call(cases.ACTIVATE_CASE_TYPE, request, admin).case_type
        return case_type

    def start(self, resident: Caller | None = None, **changed: Any) -> cases.CaseStarted:
        values = {
            "request_id": uuid4(),
            "clinic": self.clinic,
            "case_type": self.case_type,
            "answers": [cases.Answer(component="what", values=["Jag har fått utslag."])],
        }
        request = cases.StartCase(**(values | changed))  # type: ignore[arg-type]
        started: cases.CaseStarted = self.call(cases.START_CASE, request, resident or self.resident)
        return started

    def get(self, case: UUID, caller: Caller) -> cases.CaseShown:
        shown: cases.CaseShown = self.call(cases.GET_CASE, cases.GetCase(case=case), caller)
        return shown

    def version(self, case: UUID) -> int:
        with self.database.transaction() as tx:
            from sqlalchemy import select

            from services.cases.tables import cases as table

            return int(tx.execute(select(table.c.version).where(table.c.id == case)).scalar_one())

    def assign(self, case: UUID, handler: Caller | None = None, by: Caller | None = None, **more: Any) -> Any:
        values = {"request_id": uuid4(), "case": case, "handler": (handler or self.handler).subject}
        if "version" not in more:
            more["version"] = self.version(case)
        return self.call(cases.ASSIGN_CASE, cases.AssignCase(**(values | more)), by or self.receiver)

    def reply(self, case: UUID, kind: str = "partial_reply", by: Caller | None = None, **more: Any) -> Any:
        values = {"request_id": uuid4(), "case": case, "kind": kind, "text": "Hur länge har du haft det?"}
        if "version" not in more:
            more["version"] = self.version(case)
        return self.call(cases.REPLY, cases.WriteReply(**(values | more)), by or self.handler)

    def write(self, case: UUID, resident: Caller | None = None, **more: Any) -> Any:
        values = {"request_id": uuid4(), "case": case, "text": "I en vecka."}
        return self.call(cases.SEND_MESSAGE, cases.SendMessage(**(values | more)), resident or self.resident)

    def close_case(self, case: UUID, by: Caller | None = None, **more: Any) -> Any:
        values = {"request_id": uuid4(), "case": case, "version": self.version(case)}
        return self.call(cases.CLOSE_CASE, cases.CloseCase(**(values | more)), by or self.receiver)

    def waiting_case(self) -> UUID:
        """A case whose counter-question waits for the resident."""
        case = self.start().case
        self.assign(case)
        self.reply(case, "counter_question")
        return case

    def events(self, case: UUID) -> list[tuple[str, dict[str, Any]]]:
        """What has been told of the case, in order."""
        from sqlalchemy import select

        from shared.database.kernel_tables import outbox

        with self.database.transaction() as tx:
            rows = tx.execute(
                select(outbox.c.type, outbox.c.payload).where(outbox.c.aggregateid == str(case)).order_by(outbox.c.seq)
            )
            return [(row.type, row.payload) for row in rows]
