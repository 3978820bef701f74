"""Looks at what nobody inside would miss: the entries by which callers come, certificates, the last backups.

    python -m deploy.monitoring.watch

Serves it as figures on HEALTH_HOST and HEALTH_PORT, like every process; `alarms.yml` says when somebody is woken. It
has no secret: certificates are public, and of the backups it sees the names alone.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge

from shared.operations import logs
from shared.operations.health import HealthServer, Metrics
from shared.operations.logs import log

LOOK_SECONDS = 15.0
BACKUPS, SECRETS = Path("/backups"), Path("/run/secrets")
_PATIENCE_SECONDS = 5.0
_BACKUP = re.compile(r"(databases|store)-([0-9]{8}T[0-9]{6}Z)\.tar\.gz")
_TLS_FOR_POSTGRESQL = bytes.fromhex("0000000804d2162f")  # its clients ask for TLS in the open, and are answered S


@dataclass(frozen=True)
class Entry:
    """A server with TLS. `word`: what it is told, and how its answer must begin."""

    host: str
    port: int
    word: tuple[bytes, bytes] | None = None
    asks_for_tls: bytes = b""

    def look(self) -> datetime:
        """When the certificate that it shows runs out, if it answers. Raises OSError, ValueError.

        Whose the certificate is does not matter here: those outside have their own names for the entry.
        """
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((self.host, self.port), _PATIENCE_SECONDS) as bare:
            if self.asks_for_tls:
                bare.sendall(self.asks_for_tls)
                if bare.recv(1) != b"S":
                    raise OSError("speaks no TLS")
            with unchecked.wrap_socket(bare) as tls:
                shown = tls.getpeercert(binary_form=True)
                if self.word is not None:
                    told, expected = self.word
                    tls.sendall(told)
                    if not tls.recv(len(expected)).startswith(expected):
                        raise OSError("does not answer as it should")
                with suppress(OSError):
                    tls.unwrap()  # else PostgreSQL's log has a lost connection each time
        return x509.load_der_x509_certificate(shown or b"").not_valid_after_utc


_HTTP = b"GET /healthz HTTP/1.1\r\nHost: watch\r\nConnection: close\r\n\r\n"
ENTRIES = {
    "broker": Entry("rabbitmq", 5671, (b"AMQP\x00\x00\x09\x01", b"\x01")),
    "databases": Entry("postgres", 5432, asks_for_tls=_TLS_FOR_POSTGRESQL),
    "door": Entry("door", 8333, (_HTTP, b"HTTP/1.1 200")),  # of the store behind it
    "reports": Entry("notifications_web", 8443, (_HTTP, b"HTTP/")),
}
FILES = ("ca.crt", "outside-client.crt")
"""Certificates that we show to others, or that ours are known by."""


class Figures:
    """What is seen. Times are seconds since 1970, UTC."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._there = Gauge("vardarende_entry_there", "1 where the entry answers, else 0", ["entry"], registry=registry)
        self._ends = Gauge(
            "vardarende_certificate_ends_seconds", "When it runs out", ["certificate"], registry=registry
        )
        self._made = Gauge(
            "vardarende_backup_made_seconds",
            "When the newest was begun, or the archive written to; 0: none",
            ["kind"],
            registry=registry,
        )

    def look(self, entries: Mapping[str, Entry], secrets: Path, backups: Path) -> None:
        """Looks at all of it once."""
        for name, entry in entries.items():
            there = False
            try:
                self._ends.labels(name).set(entry.look().timestamp())
                there = True
            except (OSError, ValueError) as error:
                log.warning("entry_does_not_answer", entry=name, error_type=type(error).__name__)
            self._there.labels(name).set(there)
        for file in FILES:
            found = x509.load_pem_x509_certificates((secrets / file).read_bytes())
            self._ends.labels(file).set(min(one.not_valid_after_utc for one in found).timestamp())
        for kind, made in newest_backups(backups).items():
            self._made.labels(kind).set(made)


def newest_backups(folder: Path) -> dict[str, float]:
    """When the newest whole backup of each kind was begun, by its name, and when the archive was written to last; 0 if
    there is none, or none can be seen."""
    newest = {"databases": 0.0, "store": 0.0, "archive": 0.0}
    try:
        names = os.listdir(folder)
        newest["archive"] = max((file.stat().st_mtime for file in folder.glob("wal-*/*.partial")), default=0.0)
    except OSError as error:
        log.error("backups_can_not_be_seen", error_type=type(error).__name__)
        names = []
    for fits in filter(None, map(_BACKUP.fullmatch, names)):
        with suppress(ValueError):
            made = datetime.strptime(fits[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
            newest[fits[1]] = max(newest[fits[1]], made)
    return newest


def main() -> None:
    """Looks again and again until told to stop."""
    logs.configure("watch", "watch")
    metrics, stopping = Metrics(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    figures = Figures(metrics.registry)
    health = HealthServer(os.environ["HEALTH_HOST"], int(os.environ["HEALTH_PORT"]), metrics, {})
    health.start()
    while True:
        figures.look(ENTRIES, SECRETS, BACKUPS)
        if stopping.wait(LOOK_SECONDS):
            break
    health.stop()


if __name__ == "__main__":
    main()
