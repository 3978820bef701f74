"""From a committed case to the mail server's acceptance, and many mails at once, against a bare smtplib loop.

Both hand the same mails to the same server, over as many kept connections, encrypted and logged in. The service looks
each delivery's address up, records each attempt before and after, and so writes to the disk for each mail; its peer has
one text in memory. Recipients are addresses of clinics, so that no other service is asked.
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.parts.programs import Program, settings_of, wait_until
from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers
from deploy.local import ports, siths_ca
from deploy.local.counterparts import Counterpart, pki
from deploy.local.folder import CHECKOUT
from deploy.local.own_processes import NAMEKO_CONFIG
from services.notifications import clinic_settings, queueing
from services.notifications.addresses import read_key
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import MOST_ADDRESSES, SetClinicSettings
from shared.database import migrate
from shared.database.transaction import Database
from shared.security.caller import Caller, Rights
from shared.security.sealing import Sealer

BAR = 0.8
WITHIN_MS = 1_000.0
CONNECTIONS = 4
_MAILS = int(os.environ.get("BENCH_MAILS", "6000"))
_ROUNDS = 3
_CASES, _PER_SECOND = 400, 20.0
_BULK, _ONE = "SE2321000131-E000000000001", "SE2321000131-E000000000002"
_NAME = "bench_notifications"


@dataclass(frozen=True)
class Place:
    """The service's database, and the mail server."""

    servers: Servers
    mail: Counterpart
    trust: Path
    password_file: Path
    address_key: Path
    url: str
    database: Database

    def environment(self) -> dict[str, str]:
        """Of the service and its sender."""
        return settings_of("notifications", self.servers.keys, self.servers.broker_url, self.url) | {
            "PYTHONPATH": str(CHECKOUT),
            "PATH": os.environ["PATH"],
            "PYTHONWARNINGS": "ignore",
            "HEALTH_PORT": "0",
            "ADDRESS_KEY_FILE": str(self.address_key),
            "REPORT_KEY_FILE": str(self.address_key),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.mail.port),
            "SMTP_CA_FILE": str(self.trust),
            "SMTP_USER": "vardarende",
            "SMTP_PASSWORD_FILE": str(self.password_file),
            "MAIL_FROM": "no-reply@e-tjanster.example",
            "SMS_URL": "http://127.0.0.1:9/",
            "SMS_USER": "nobody",
            "SMS_PASSWORD_FILE": str(self.password_file),
            "SMS_SENDER": "Ingen",
        }

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def queue(self, mails: int) -> None:
        """So many deliveries that are due when they are looked for."""
        for _ in range(mails // MOST_ADDRESSES):
            event = cases.CaseStartedEvent(case=uuid4(), clinic=_BULK, resident=UUID(int=1), message=uuid4())
            with self.database.transaction() as tx:
                queueing.queue(tx, cases.CASE_STARTED, event)

    @contextmanager
    def watched(self) -> Iterator[Callable[[], int]]:
        """How many are not sent yet. By one connection, and by the indexes of what is: watching should cost nothing."""
        unfinished = (
            b"SELECT (SELECT count(*) FROM deliveries WHERE state = 'waiting')"
            b" + (SELECT count(*) FROM deliveries WHERE state IN ('claimed', 'sending'))"
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(b"SET enable_seqscan = off")
            yield lambda: int(connection.execute(unfinished).fetchall()[0][0])


def measure(servers: Servers, rounds: int = _ROUNDS) -> list[Figure]:
    """The figures of this benchmark."""
    with ExitStack() as stack:
        place = stack.enter_context(_place(servers))
        start = stack.enter_context(servers.programs())
        bare = start(
            "bare_smtp",
            "notifications",
            *("127.0.0.1", str(place.mail.port), str(place.trust), "vardarende", str(place.password_file)),
        )
        bare.ask(order="hand_over", count=200, connections=CONNECTIONS)  # warm
        ours, peers = [], []
        for _ in range(rounds):
            peers.append(bare.ask(order="hand_over", count=_MAILS, connections=CONNECTIONS))
            ours.append(_drained(place))
        delays = _delays(place, start("case_teller", "cases"))
    return [
        ratio(f"mails at once over {CONNECTIONS} connections, against a bare smtplib loop", ours, peers, BAR),
        median("mails at once", "/s", ours),
        median("mails at once, bare smtplib", "/s", peers),
        _quantile(f"{_PER_SECOND:.0f} cases a second: committed to accepted, half of them within", delays, 0.5, None),
        _quantile("99 of 100 within", delays, 0.99, WITHIN_MS),
    ]


def _drained(place: Place) -> float:
    """Mails a second, from the sender's first attempt to its last acceptance."""
    place.rows("TRUNCATE deliveries")
    place.queue(_MAILS)
    place.rows("ANALYZE deliveries")
    with (
        _running(place, "sender", ["-m", "services.notifications.worker"], {"SENDERS": str(CONNECTIONS)}),
        place.watched() as unsent,
    ):
        wait_until(lambda: unsent() < _MAILS, "the first mail")
        left, began = unsent(), time.monotonic()
        wait_until(lambda: _paused(unsent()) == 0, "the last mail", 170.0)
        seconds = time.monotonic() - began
    assert place.rows("SELECT DISTINCT state FROM deliveries") == [("sent",)]
    return left / seconds


def _paused(count: int) -> int:
    time.sleep(0.1)
    return count


def _delays(place: Place, teller: Program) -> list[float]:
    """Milliseconds from the commit of a case to the acceptance of the mail about it."""
    place.rows("TRUNCATE deliveries")
    service = ["-m", "nameko", "run", "--config", str(CHECKOUT / NAMEKO_CONFIG), "services.notifications.service"]
    with (
        _running(place, "service", service, {}),
        _running(place, "sender", ["-m", "services.notifications.worker"], {"SENDERS": str(CONNECTIONS)}),
    ):
        teller.ask(order="start_cases", clinic=_ONE, count=40, per_second=_PER_SECOND)  # warm
        wait_until(lambda: place.rows("SELECT count(*) FROM deliveries WHERE state = 'sent'") == [(40,)], "warming up")
        committed = teller.ask(order="start_cases", clinic=_ONE, count=_CASES, per_second=_PER_SECOND)
        wait_until(
            lambda: place.rows("SELECT count(*) FROM deliveries WHERE state = 'sent'") == [(40 + _CASES,)], "the mails"
        )
    ended = dict(place.rows("SELECT event_id, extract(epoch from ended_at)::float8 FROM deliveries"))
    return sorted(
        (ended[queueing.occasion(f"case_started/{message}")] - moment) * 1000 for message, moment in committed.items()
    )


@contextmanager
def _place(servers: Servers) -> Iterator[Place]:
    with psycopg.connect(servers.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {_NAME}".encode())
    url = psycopg.conninfo.conninfo_to_dict(servers.admin_url)
    address = f"postgresql://{url['user']}:{url['password']}@{url['host']}:{url['port']}/{_NAME}"
    migrate.upgrade("notifications", address)
    mail = Counterpart("mail", servers.folder, ports.kept(servers.folder / "ports.json"), [])
    mail.start()
    address_key = servers.folder / "address.key"
    address_key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    settings = SimpleNamespace(address_key=read_key(address_key))
    ring = Sealer.from_file(servers.keys.data_keys("notifications"))
    database = Database(address, service="notifications", sealer=ring, settings=settings)
    try:
        mail.wait()
        password = servers.folder / "counterparts" / "mail" / "password"
        trust = siths_ca.trust_file(pki(servers.folder))
        place = Place(servers, mail, trust, password, address_key, address, database)
        for clinic, addresses in ((_BULK, MOST_ADDRESSES), (_ONE, 1)):
            caller = Caller("staff", "SE2321000131-P1", rights=Rights({clinic: frozenset({Role.LOCAL_ADMIN})}))
            entered = [f"brevlada{number}@vgregion.example" for number in range(addresses)]
            request = SetClinicSettings(request_id=uuid4(), clinic=clinic, new_case_addresses=entered)
            with database.transaction(caller) as tx:
                clinic_settings.set_settings(tx, request)
            place.rows("INSERT INTO clinic_names VALUES (%s, 'Björkskogens vårdcentral', now())", clinic)
        yield place
    finally:
        database.dispose()
        mail.stop()


@contextmanager
def _running(place: Place, name: str, command: list[str], settings: Mapping[str, str]) -> Iterator[None]:
    log = place.servers.folder / f"notifications_{name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            cwd=CHECKOUT,
            env=place.environment() | dict(settings),
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _quantile(name: str, delays: list[float], share: float, at_most: float | None) -> Figure:
    value = delays[min(int(len(delays) * share), len(delays) - 1)]
    return Figure(name, value, "ms", delays[0], delays[-1], len(delays), at_most, at_most=True)
