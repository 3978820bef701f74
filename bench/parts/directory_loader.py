"""Loads catalogues as the directory's worker does and as a bare script would, and searches: `directory_loader`."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from bench.parts.programs import serve
from services.directory import searching, sync
from services.directory.loading import Kind
from services.directory.parsing import Unparsed
from services.directory.sources import NAMES, Source
from services.directory.sources.hsa_file import HsaFile
from services.directory.sources.kiv import Kiv
from services.directory.sources.kiv_ldap import KivLdap
from services.directory.staff import STAFF
from services.directory.units import UNITS
from shared.contracts.directory import SearchClinics
from shared.database.transaction import Database
from shared.operations import clock
from shared.security.caller import Caller
from shared.security.sealing import Sealer

_URL = os.environ["DATABASE_URL"]
_EMPTIED = "TRUNCATE public_cards, cards, applications, clinics, units, staff, sync_refused, sync_runs, source_states"
database = Database(
    _URL,
    service="directory",
    sealer=Sealer("bench", {"bench": b"k" * 32}),
    settings=SimpleNamespace(default_care_provider="SE2321000131-E1", default_care_provider_name="Regionen"),
)
_RESIDENT = Caller("resident", "7d3f1c1e-6c57-4b0b-8f6f-3b1d0f0f6f11")

_SEARCH = """SELECT units.hsa_id, units.name, units.place, units.sort_name, units.missing_runs, units.end_date,
units.county_code, units.municipality_code, coalesce(clinics.active, false) AS active
FROM units LEFT OUTER JOIN clinics ON clinics.hsa_id = units.hsa_id
WHERE units.search LIKE %s AND units.search LIKE %s AND clinics.active
ORDER BY units.sort_name, units.hsa_id LIMIT 21"""


def _source(kind: str, files: list[str]) -> Source:
    if kind == "hsa_file":
        return HsaFile(tuple(files))
    units, staff = ([one for one in files if part in one] for part in ("units", "persons"))
    return Kiv(tuple(units), tuple(staff))


def empty() -> None:
    """As before the first load."""
    with psycopg.connect(_URL, autocommit=True) as connection:
        connection.execute(_EMPTIED)


def load(kind: str, files: list[str]) -> float:
    """Seconds for a run with them, as the worker does it."""
    began = time.perf_counter()
    with database.transaction() as tx:
        run = sync.request_by_itself(tx)
    assert sync.run_next(database.transaction, [_source(kind, files)], 0.1, NAMES)
    seconds = time.perf_counter() - began
    with psycopg.connect(_URL) as connection:
        [row] = connection.execute("SELECT state, reason, counts FROM sync_runs WHERE id = %s", (run,)).fetchall()
    assert row[0] == "done", row
    return seconds


def bare(kind: str, files: list[str]) -> float:
    """Seconds for the same records, parsed likewise and copied into tables without indexes: nothing is compared."""
    began = time.perf_counter()
    source = _source(kind, files)
    tx: Any = SimpleNamespace(now=clock.now())
    with tempfile.TemporaryDirectory() as folder, psycopg.connect(_URL) as connection:
        for part, read in ((UNITS, source.units), (STAFF, source.staff)):
            if part is STAFF and not source.has_staff:
                continue
            catalogue = read(Path(folder), None)
            assert catalogue is not None
            _copy(connection, part, catalogue.records(), tx)
        connection.rollback()
    return time.perf_counter() - began


def _copy(connection: psycopg.Connection[Any], part: Kind[Any], raws: Any, tx: Any) -> None:
    connection.execute(f"CREATE TABLE bare_{part.part} (LIKE {part.table.name} INCLUDING DEFAULTS)")
    columns = [*part.columns, "content", "source", "changed_at"]
    with connection.cursor() as cursor, cursor.copy(f"COPY bare_{part.part} ({', '.join(columns)}) FROM STDIN") as copy:
        for raw in raws:
            record = part.parse(raw)
            assert not isinstance(record, Unparsed)
            copy.write_row((*part.row(record, raw, tx), b"", "bare", tx.now))


def peak_megabytes() -> float:
    """The most memory that this process has had (what `getrusage` tells begins with that of the parent)."""
    told = Path("/proc/self/status").read_text()
    return int(told.split("VmHWM:")[1].split()[0]) / 1024


def activate(every: int) -> None:
    """Makes each so-many-th unit a clinic."""
    with psycopg.connect(_URL, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO clinics (hsa_id, active, care_provider, version, activated_at, activated_by)"
            " SELECT hsa_id, true, 'SE2321000131-E1', 1, now(), 'bench' FROM units"
            " WHERE hashtext(hsa_id) %% %s = 0",
            (every,),
        )
        connection.execute("ANALYZE")


def search(wanted: list[list[str]]) -> list[float]:
    """Seconds for each search, as a resident's, all of what is found open to them."""
    spent = []
    for words in wanted:
        began = time.perf_counter()
        asked = SearchClinics(text=" ".join(words))
        hits = database.read(lambda tx, asked=asked: searching.for_resident(tx, asked), caller=_RESIDENT)  # type: ignore[misc]
        searching.page(hits, asked.limit, {one.clinic for one in hits.clinics})
        spent.append(time.perf_counter() - began)
    return spent


def search_bare(wanted: list[list[str]]) -> list[float]:
    """The same by the same SQL alone."""
    spent = []
    with psycopg.connect(_URL, autocommit=True) as connection:
        for first, second in wanted:
            began = time.perf_counter()
            connection.execute(_SEARCH, (f"%{first}%", f"%{second}%")).fetchall()
            spent.append(time.perf_counter() - began)
    return spent


def read_ldap(**how: Any) -> float:
    """Seconds to read all units from a directory server, to the file that they are loaded from."""
    certificate = how.pop("certificate")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        catalogue = KivLdap(certificate=(certificate[0], certificate[1]), **how).units(Path(folder), None)
        assert catalogue is not None
    return time.perf_counter() - began


if __name__ == "__main__":
    serve(
        {
            "empty": empty,
            "load": load,
            "bare": bare,
            "peak_megabytes": peak_megabytes,
            "activate": activate,
            "search": search,
            "search_bare": search_bare,
            "read_ldap": read_ldap,
        }
    )
