"""What the tests of the directory stand on: its own database, sources that say what the test wants, callers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import text

from services.directory import sync
from services.directory.records import Raw
from services.directory.sources import NAMES, Catalogue, SourceError
from shared.contracts.directory import GetSyncRun, StartSync, SyncRun
from shared.database import migrate
from shared.database.transaction import Database, Transaction
from shared.operations import clock
from shared.security.caller import Caller, Rights
from shared.security.sealing import Sealer
from tests.integration.kernel_support import fresh_database

T = TypeVar("T")

SEALER = Sealer("test", {"test": b"k" * 32})
REGION = "SE2321000131-E900000000001"
SETTINGS = SimpleNamespace(default_care_provider=REGION, default_care_provider_name="Regionen")
ADMINISTRATOR = Caller("staff", "SE2321000131-P000000000001", rights=Rights(is_regional_admin=True))
STAFF = Caller("staff", "SE2321000131-P000000000002")
RESIDENT = Caller("resident", "7d3f1c1e-6c57-4b0b-8f6f-3b1d0f0f6f11")
OPERATOR = Caller("operator", "operator")
MAX_REMOVED_SHARE = 0.5
_TABLES = (
    "public_cards, cards, applications, clinics, units, staff, sync_refused, sync_runs, source_states, outbox, inbox, "
    "requests"
)


def unit_id(number: int) -> str:
    return f"SE2321000131-E{number:012}"


def person_id(number: int) -> str:
    return f"SE2321000131-P{number:012}"


def unit(number: int, name: str = "", **attributes: Any) -> Raw:
    name = name or f"Vårdcentralen {number}"
    return Raw(f"ou={name},ou=Org,o=VGR", {"hsaidentity": [unit_id(number)], "ou": [name], **attributes})


def person(number: int, **attributes: Any) -> Raw:
    names = {"givenname": ["Karin"], "sn": [f"Lind{number}"], "title": ["Läkare"]}
    return Raw(f"cn=p{number},ou=Personal,o=VGR", {"hsaidentity": [person_id(number)], **names, **attributes})


@dataclass
class FakeSource:
    """A source with what the test puts in. `broken`: why it can not be read. A record may be an exception. `meanwhile`:
    what happens once it has been read, while its records are taken in."""

    unit_records: list[Any] | None = field(default_factory=list)
    staff_records: list[Any] | None = None
    broken: str | None = None
    reads: int = 0
    name: str = "kiv"
    meanwhile: Callable[[], object] | None = None

    @property
    def has_units(self) -> bool:
        return self.unit_records is not None

    @property
    def has_staff(self) -> bool:
        return self.staff_records is not None

    def units(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        return self._catalogue(self.unit_records, state)

    def staff(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        return self._catalogue(self.staff_records, state)

    def _catalogue(self, records: list[Any] | None, state: dict[str, Any] | None) -> Catalogue | None:
        if self.broken:
            raise SourceError(self.broken)
        assert records is not None
        now = {"seen": json.dumps(records, default=repr)}
        if state == now:
            return None

        def each() -> Iterator[Raw | None]:
            self.reads += 1
            if self.meanwhile is not None:
                self.meanwhile()
            for record in records:
                if isinstance(record, Exception):
                    raise record
                yield record

        return Catalogue(now, each)


class Directory:
    """One directory, with a database of its own and a clock that the test moves."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url, service="directory", sealer=SEALER, settings=SETTINGS)
        self.max_removed_share = MAX_REMOVED_SHARE
        self.now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def clear(self) -> None:
        with self.transaction() as tx:
            tx.execute(text(f"TRUNCATE {_TABLES}"))

    @contextmanager
    def transaction(self, caller: Caller = OPERATOR) -> Iterator[Transaction]:
        with self.database.transaction(caller) as tx:
            yield tx

    def do(self, work: Callable[..., T], request: Any, *extras: Any, caller: Caller = OPERATOR, **named: Any) -> T:
        """Runs a capability as the kernel does."""
        with self.transaction(caller) as tx:
            return work(tx, request, *extras, **named)

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.transaction() as tx:
            return list(tx.execute(text(query), values))

    def one(self, query: str, **values: Any) -> Any:
        [(value,)] = self.rows(query, **values)
        return value

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """The events told since last asked, in order."""
        with self.transaction() as tx:
            rows = list(tx.execute(text("SELECT type, payload FROM outbox ORDER BY seq")))
            tx.execute(text("DELETE FROM outbox"))
        return [(row.type, row.payload) for row in rows]

    def move(self, **time: float) -> None:
        self.now += timedelta(**time)

    def _order(self, *configured: str) -> list[str]:
        return [name for name in NAMES if name in {*configured, "hsa"}]

    def run(self, source: FakeSource, **request: Any) -> SyncRun:
        """Asks for a run, does it, and reads its record."""
        with self.transaction() as tx:
            asked = sync.request_run(tx, StartSync(request_id=UUID(int=0), **request))
        assert sync.run_next(self.transaction, [source], self.max_removed_share, self._order(source.name))
        return self.do(sync.get_run, GetSyncRun(run=asked.run))


@pytest.fixture(scope="session")
def directory_database(database_server: str) -> Iterator[str]:
    """The address of a database migrated as the directory's; tests empty it one after the other."""
    with fresh_database(database_server, empty=True) as made:
        migrate.upgrade("directory", made.url)
        yield made.url


@pytest.fixture
def directory(directory_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """An empty directory."""
    made = Directory(directory_database)
    monkeypatch.setattr(clock, "now", lambda: made.now)
    made.clear()
    yield made
    made.database.dispose()
