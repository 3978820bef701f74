"""Identity's capabilities on a real database, without the broker: callers, a clock to move, the events told."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from services.identity import logins, resident_accounts, residents, revocations, roles, sessions, tables
from services.identity.identity_numbers import luhn
from services.identity.openid import Provider
from services.identity.population_register import Place, RegisteredPerson
from services.identity.settings import OWN_TEXTS
from services.identity.signing_keys import KeyRing
from services.identity.terms import TermsShelf
from shared.contracts import identity, logging_in
from shared.contracts.base import Role
from shared.database.transaction import Database, Transaction
from shared.security.caller import ANYONE, Caller
from shared.security.sealing import Sealer
from shared.security.tokens import Signer

T = TypeVar("T")

SEALER = Sealer("test", {"test": b"k" * 32})
NUMBER_KEY = resident_accounts.NumberKey(b"n" * 32)
PROVIDER = Provider("https://idp.example", "https://idp.example/authorize", "https://idp.example/keys")
OPERATOR = Caller("operator", "operator")


def new_person() -> str:
    return f"SE2321000131-P{secrets.randbelow(10**12):012}"


def new_clinic() -> str:
    return f"SE2321000131-E{secrets.randbelow(10**12):012}"


def new_number() -> str:
    nine = f"{secrets.choice(range(30, 99))}0{1 + secrets.randbelow(9)}{10 + secrets.randbelow(18)}"
    nine += f"{1 + secrets.randbelow(999):03}"
    return f"19{nine}{luhn(nine)}"


def registered(number: str, **changes: Any) -> RegisteredPerson:
    facts = {
        "number": number,
        "given_name": "Eva",
        "surname": "Ek",
        "protected": False,
        "code": None,
        "place": Place("Storgatan 1", "01234", "Göteborg", "14", "80"),
        "asked_at": datetime.now(UTC),
    }
    return RegisteredPerson(**(facts | changes))


class Identity:
    """One identity, with a database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url, service="identity", sealer=SEALER)
        self.desk = sessions.TokenDesk(
            KeyRing(Signer(Ed25519PrivateKey.generate(), "identity")), TermsShelf.from_folder(OWN_TEXTS)
        )
        self.moved = timedelta()
        self.settings: Any = None

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    @contextmanager
    def at_its_time(self) -> Iterator[Transaction]:
        """A transaction at the time that the test has come to, as jobs have them."""
        with self.database.transaction() as tx:
            tx.now = self.now
            yield tx

    def run(self, work: Callable[[Transaction], T], caller: Caller = ANYONE) -> T:
        """Runs `work` in a transaction, at the time that the test has come to."""
        with self.database.transaction(caller) as tx:
            tx.now = self.now
            tx.settings = self.settings
            return work(tx)

    def staff(self, person: str, session: UUID | None = None) -> Caller:
        """The member of staff with the rights of now, as the kernel would know them."""
        session = session or self.open("staff", person)
        caller = Caller("staff", person, session)
        with self.database.engine.connect() as connection:
            return Caller("staff", person, session, rights=revocations.rights_source(connection, caller))

    def opened(self, kind: identity.PersonKind, subject: str) -> logging_in.SessionOpened:
        [opened] = self.run(lambda tx: sessions.open_sessions(tx, kind, [subject], self.desk))
        return opened

    def take_in(self, person: RegisteredPerson) -> UUID:
        """The account of someone who logs in."""

        def work(tx: Transaction) -> UUID:
            [found] = resident_accounts.find_for_change(tx, [person], NUMBER_KEY)
            return residents.let_in(tx, found, person, NUMBER_KEY)

        return self.run(work)

    def kept(self, resident: UUID) -> tuple[bool, bool, str | None]:
        """Whether the resident is protected, and active, and in which street they live."""

        def work(tx: Transaction) -> tuple[bool, bool, str | None]:
            row = tx.execute(select(tables.residents).where(tables.residents.c.resident == resident)).one()
            return row.protected, row.active, residents.particulars(tx, row).street

        return self.run(work)

    def begin_login(self, request: logging_in.BeginLogin) -> logging_in.LoginBegun:
        """At a provider that nobody asks."""
        [begun] = self.run(lambda tx: logins.begin(tx, [(request, (PROVIDER, "our-client"))]))
        return begun

    def begun(self, request: logins.Completing, purpose: str = "session") -> logins.BegunLogin:
        """The login that is to be completed, if it can be."""
        [begun] = self.run(lambda tx: logins.begun(tx, [request]))
        return logins.require_begun(begun, self.now, purpose)

    def open(self, kind: identity.PersonKind, subject: str) -> UUID:
        """A session; only its id."""
        import jwt

        claims = jwt.decode(self.opened(kind, subject).access_token, options={"verify_signature": False})
        return UUID(claims["sid"])

    def renew(self, token: str) -> logging_in.SessionOpened:
        """As the service does it, with the end of a session whose token came twice."""
        request = logging_in.RenewSession(request_id=uuid4(), renewal_token=token)
        try:
            return self.run(lambda tx: sessions.renew(tx, request, self.desk))
        except sessions.RenewalTokenReused as reused:
            session = reused.session
            self.run(lambda tx: sessions.end_reused(tx, request, session))
            raise

    def regional_admin(self) -> Caller:
        """Makes someone a regional administrator past the rule that there is a first one only once."""
        person = new_person()
        self.rows("INSERT INTO staff (person, added_at) VALUES (%s, now())", person)
        self.rows("INSERT INTO regional_admins (person, given_at, given_by) VALUES (%s, now(), 'test')", person)
        return self.staff(person)

    def give(self, caller: Caller, clinic: str, person: str, role: Role) -> identity.RoleGiven:
        request = identity.GiveRole(request_id=uuid4(), clinic=clinic, person=person, role=role)
        return self.run(lambda tx: roles.give(tx, request, roles.hsa_id_of(person)), caller)

    def take(
        self, caller: Caller, clinic: str, person: str, role: Role, missing: Collection[str] = ()
    ) -> identity.RoleTaken:
        request = identity.TakeRole(request_id=uuid4(), clinic=clinic, person=person, role=role)
        return self.run(lambda tx: roles.take(tx, request, roles.hsa_id_of(person), missing), caller)

    def clinic_with_admin(self) -> tuple[str, Caller]:
        """A clinic and its only local administrator."""
        clinic, person = new_clinic(), new_person()
        self.give(self.regional_admin(), clinic, person, Role.LOCAL_ADMIN)
        return clinic, self.staff(person)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Bodies of the events of this kind, in the order they leave."""
        return [body for (body,) in self.rows("SELECT payload FROM outbox WHERE type = %s ORDER BY seq", kind)]


@pytest.fixture(scope="module")
def identity_of_module(rooms: Any) -> Iterator[Identity]:
    """One that the tests of a module share."""
    database = rooms.database("identity")
    made = Identity(database.url)
    yield made
    made.database.dispose()
    database.drop()


@pytest.fixture
def one(identity_of_module: Identity) -> Identity:
    """It, with the clock at the real time."""
    identity_of_module.moved = timedelta()
    return identity_of_module


@pytest.fixture
def made(rooms: Any) -> Iterator[Identity]:
    """One whose residents no other test has."""
    database = rooms.database("identity")
    alone = Identity(database.url)
    yield alone
    alone.database.dispose()
    database.drop()


def take_in(one: Identity, person: RegisteredPerson) -> UUID:
    return one.take_in(person)


def card(one: Identity, resident: UUID) -> identity.ResidentCard:
    request = identity.ResidentCards(residents=[resident])
    [found] = one.run(lambda tx: residents.resident_cards(tx, request)).cards
    return found


def find(one: Identity, number: str) -> UUID | None:
    request = identity.FindResident(identity_number=number)
    return one.run(lambda tx: residents.find_resident(tx, request, NUMBER_KEY)).resident


def statuses(one: Identity, resident: UUID) -> list[tuple[bool, bool, int]]:
    told = [body for body in one.told("resident_status_changed") if body["resident"] == str(resident)]
    return [(body["active"], body["locked"], body["version"]) for body in told]


def two_accounts(one: Identity) -> tuple[str, str, UUID, UUID]:
    """The older number and the one in force of someone whom the register knew by both, and the account of each."""
    old, new = new_number(), new_number()
    return old, new, take_in(one, registered(old)), take_in(one, registered(new))


def lock(one: Identity, resident: UUID) -> None:
    request = logging_in.LockLogin(request_id=uuid4())
    one.run(lambda tx: residents.lock(tx, request), Caller("resident", str(resident), uuid4()))


def unlock(one: Identity, person: RegisteredPerson) -> UUID:
    begin = logging_in.BeginLogin(request_id=uuid4(), kind="resident", purpose="unlock")
    begun = one.begin_login(begin)
    assert begun.max_age == 0
    request = logging_in.UnlockLogin(request_id=uuid4(), login=begun.login, id_token="verified before")
    one.begun(request, "unlock")
    one.run(lambda tx: logins.complete_unlocking(tx, request, person, NUMBER_KEY))
    return begun.login
