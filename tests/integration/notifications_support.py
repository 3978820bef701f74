"""What the tests of notifications stand on: a database made by the service's own migration, neighbours that answer from
memory, and channels that do as they are told."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.notifications import clinic_settings, delivering, listing, queueing
from services.notifications.channels.outcome import Accepted, Letter, NotAccepted, Outcome
from services.notifications.delivering import Swept
from services.notifications.providers import Provider
from services.notifications.rendering import Words
from services.notifications.sending import Sender
from shared.contracts import cases, directory, identity
from shared.contracts.base import Role
from shared.contracts.notifications import Channel, ResendDelivery, SetClinicSettings
from shared.database.transaction import Database, Transaction
from shared.messaging.errors import Refused, Unavailable
from shared.security import rights
from shared.security.caller import Caller, Rights
from shared.security.sealing import Sealer
from tests.stack.rooms import Rooms

LEASE = timedelta(seconds=60)
SETTINGS = SimpleNamespace(address_key=b"a" * 32)
SEALER = Sealer("test", {"test": b"k" * 32})


@dataclass
class FakeChannel:
    """Remembers what was sent. `script`: what happens at the next attempts; afterwards everything is accepted."""

    sent: list[tuple[str, Words]] = field(default_factory=list)
    script: list[Outcome | Exception] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    refuse: NotAccepted | None = None
    prepared: Letter | None = None
    abandoned: int = 0
    tried: int = 0
    during: Callable[[], None] = lambda: None

    def prepare(self, letter: Letter) -> NotAccepted | None:
        self.prepared = letter
        self.tried += self.refuse is not None
        return self.refuse

    def send(self) -> Outcome:
        assert self.prepared is not None
        letter = self.prepared
        self.tried += 1
        self.during()
        outcome = self.script.pop(0) if self.script else Accepted("taken")
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Accepted):
            self.sent.append((letter.address, letter.words))
            self.letters.append(letter)
        return outcome

    def abandon(self) -> None:
        self.abandoned += 1

    def close(self) -> None:
        """Nothing to close."""

    @property
    def addresses(self) -> list[str]:
        return sorted(address for address, _ in self.sent)


_numbers = itertools.count(1)
"""Of changes of rights: one row for all worlds of a database."""


class Killed(BaseException):
    """The process dies here: nothing of it runs any more."""


class DyingProcess:
    """Transactions of a process, until it is killed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dead = False

    def die(self) -> None:
        """Nothing is written from now on, not even what is given back on the way out."""
        self._dead = True
        raise Killed

    def transaction(self) -> AbstractContextManager[Transaction]:
        if self._dead:
            raise Killed
        return self._database.transaction()


class FailingDatabase:
    """Transactions of a process whose database goes away at the `at`-th and is back at the first after `back`.

    `committed`: that transaction had its effect all the same, only its answer was lost.
    """

    def __init__(self, database: Database, at: int, *, committed: bool) -> None:
        self._database = database
        self._at = at
        self._committed = committed
        self._number = 0
        self.back = False

    @property
    def went_away(self) -> bool:
        """Whether the process came so far."""
        return self._number >= self._at

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._number += 1
        if self.back or self._number < self._at:
            with self._database.transaction() as tx:
                yield tx
            return
        if self._committed and self._number == self._at:
            with self._database.transaction() as tx:
                yield tx
        raise Unavailable(reason="database_gone")


class World:
    """A clinic, its staff, residents, and one sender."""

    def __init__(self, url: str, sealer: Sealer = SEALER, settings: Any = SETTINGS) -> None:
        self.url = url
        self.database = Database(url, service="notifications", sealer=sealer, settings=settings)
        self.clinic = f"SE2321000131-E{secrets.randbelow(10**12):012}"
        self.residents: dict[UUID, identity.ResidentContact] = {}
        self.staff: dict[str, identity.StaffContact] = {}
        self.names = {self.clinic: "Björkskogens vårdcentral"}
        self.faults: dict[str, Refused] = {}
        self.asked: list[str] = []
        self.email, self.sms = FakeChannel(), FakeChannel()
        self.second_sms: FakeChannel | None = None

    # --- people ---

    def person(
        self,
        *roles: Role,
        notify_by: tuple[str, ...] = ("email",),
        about: tuple[str, ...] = ("new_case", "case_assigned", "resident_wrote"),
        email: str | None = None,
        mobile: str | None = "+46701740605",
    ) -> str:
        person = f"SE2321000131-P{secrets.randbelow(10**12):012}"
        self.staff[person] = identity.StaffContact(
            person=person,
            email=email or f"{person[-6:]}@vgregion.example",
            mobile=mobile,
            notify_by=list(notify_by),
            tell_me_about=list(about),
            own_emails=[email] if email else [],
        )
        self.give(person, *roles)
        return person

    def give(self, person: str, *roles: Role) -> None:
        """These are the person's roles at the clinic from now on."""
        held = [identity.HeldRole(clinic=self.clinic, role=role) for role in roles]
        self.staff[person] = self.staff[person].model_copy(update={"roles": held})
        number = next(_numbers)
        change = identity.RightsChanged(
            number=number,
            subject=person,
            version=number,
            roles=held,
        )
        with self.database.transaction() as tx:
            rights.apply(tx.connection, change)

    def resident(self, *notify_by: str, email: str | None = None, mobile: str | None = None) -> UUID:
        resident = uuid4()
        self.residents[resident] = identity.ResidentContact(
            resident=resident,
            active=True,
            email=email or f"{resident.hex[:8]}@example.se",
            mobile=mobile or "+46701740650",
            notify_by=list(notify_by),
        )
        return resident

    def child(self, *guardians: identity.GuardianContact) -> UUID:
        """A child under 13 whose guardians' choices count."""
        child = self.resident("sms", "email")
        self.guardians(child, *guardians)
        return child

    def guardians(self, child: UUID, *guardians: identity.GuardianContact) -> None:
        """These may act for the child from now on."""
        self.residents[child] = self.residents[child].model_copy(update={"guardians": list(guardians)})

    def guardian(self, *notify_by: Any, **facts: Any) -> identity.GuardianContact:
        guardian = uuid4()
        reached = {"email": f"{guardian.hex[:8]}@example.se", "mobile": f"+4670174{guardian.int % 10**4:04}"}
        return identity.GuardianContact(guardian=guardian, notify_by=list(notify_by), **reached | facts)

    def caller(self, *roles: Role, clinic: str | None = None) -> Caller:
        held = Rights({clinic or self.clinic: frozenset(roles)})
        return Caller("staff", "SE2321000131-P000000000009", rights=held)

    # --- events ---

    def case_started(self) -> cases.CaseStartedEvent:
        return cases.CaseStartedEvent(case=uuid4(), clinic=self.clinic, resident=uuid4(), message=uuid4())

    def message(self, resident: UUID, written_by: str, handler: str | None = None) -> cases.MessageSentEvent:
        return cases.MessageSentEvent(
            case=uuid4(),
            message=uuid4(),
            clinic=self.clinic,
            resident=resident,
            kind="counter_question" if written_by == "staff" else "resident_message",
            written_by=written_by,  # type: ignore[arg-type]
            handler=handler,
        )

    def hear(self, event: Any, body: Any) -> None:
        """As the kernel does, in one transaction."""
        self.database.hear(uuid4(), lambda tx: queueing.queue(tx, event, body))

    # --- sending ---

    def ask(self, call: Any, request: Any, timeout: float = 5.0) -> Any:
        self.asked.append(call.name)
        if call.name in self.faults:
            raise self.faults[call.name]
        if call is directory.GET_CLINICS:
            return directory.Clinics(
                clinics=[_facts(one, self.names[one]) for one in request.clinics if one in self.names]
            )
        assert call is identity.CONTACTS
        return identity.ContactsFound(
            residents=[self.residents[one] for one in request.residents if one in self.residents],
            staff=[self.staff[one] for one in request.staff if one in self.staff],
        )

    def sender(
        self, *, batch: int = 50, lease: timedelta = LEASE, process: DyingProcess | FailingDatabase | None = None
    ) -> Sender:
        return Sender((process or self.database).transaction, self.ask, self.providers(), batch=batch, lease=lease)

    def providers(self) -> dict[Channel, list[Provider]]:
        """The first of each channel, and the second where a test has put one beside it."""
        mail = Provider("mail.example", lambda: self.email)
        sms = [Provider(f"sms{number}.example", lambda one=one: one) for number, one in enumerate(self.sms_in_order())]
        return {Channel.EMAIL: [mail], Channel.SMS: sms}

    def sms_in_order(self) -> list[FakeChannel]:
        return [self.sms] if self.second_sms is None else [self.sms, self.second_sms]

    def send(self) -> int:
        """Rounds until nothing is due; returns how many deliveries were taken in hand."""
        sender, handled = self.sender(), 0
        while taken := sender.round():
            handled += taken
        return handled

    def sweep(self) -> Swept:
        with self.database.transaction() as tx:
            return delivering.sweep(tx)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def states(self) -> list[tuple[str, str, str | None]]:
        """Recipient kind, state and reason of every delivery."""
        found = self.rows(
            "SELECT recipient_kind, state, reason FROM deliveries"
            " ORDER BY created_at, recipient_kind, recipient, channel"
        )
        return [(kind, state, reason) for kind, state, reason in found]

    def make_due(self) -> None:
        """As if the pauses were over. What a sender holds just now is passed by: each would wait for the other."""
        self.rows(
            "UPDATE deliveries SET due_at = created_at WHERE delivery IN"
            " (SELECT delivery FROM deliveries WHERE state = 'waiting' FOR UPDATE SKIP LOCKED)"
        )

    def end_leases(self) -> None:
        """As if the leases had run out."""
        self.rows(
            "UPDATE deliveries SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_until IS NOT NULL"
        )


def set_addresses(world: World, *new_case: str) -> None:
    """The clinic has these addresses for new cases, and no others."""
    request = SetClinicSettings(request_id=uuid4(), clinic=world.clinic, new_case_addresses=list(new_case))
    with world.database.transaction(world.caller(Role.LOCAL_ADMIN)) as tx:
        clinic_settings.set_settings(tx, request)


def tell_resident(world: World, *notify_by: str) -> UUID:
    """A resident of these channels gets a message from the staff."""
    resident = world.resident(*notify_by)
    world.hear(cases.MESSAGE_SENT, world.message(resident, "staff"))
    return resident


def resend(world: World, delivery: UUID, caller: Caller | None = None) -> None:
    """As the operator asks for it by hand, or someone else."""
    with world.database.transaction(caller or Caller("operator")) as tx:
        listing.resend(tx, ResendDelivery(request_id=uuid4(), delivery=delivery))


def only_delivery(world: World) -> UUID:
    """The id of the one there is."""
    [(delivery,)] = world.rows("SELECT delivery FROM deliveries")
    return UUID(str(delivery))


@pytest.fixture(scope="session")
def notifications_database(rooms: Rooms) -> Iterator[str]:
    """A database of the service's, for all tests of its modules."""
    database = rooms.database("notifications")
    yield database.url
    database.drop()


@pytest.fixture
def notifications_world(notifications_database: str) -> Iterator[World]:
    """A world in which nothing has happened yet."""
    made = World(notifications_database)
    made.rows("TRUNCATE deliveries, clinic_addresses, clinic_settings, clinic_names, clinic_staff, provider_pace")
    made.rows("TRUNCATE rights_subjects, inbox, outbox")
    made.rows("UPDATE rights_state SET applied = 0")
    yield made
    made.database.dispose()


def _facts(clinic: str, name: str) -> directory.ClinicFacts:
    return directory.ClinicFacts(
        clinic=clinic,
        name=name,
        care_provider="SE2321000131-E000000000001",
        care_provider_name="Västra Götalandsregionen",
        active=True,
        in_directory=True,
        end_date=None,
        county_code="14",
        municipality_code="1480",
    )
