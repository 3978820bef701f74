"""What a process tells those who run it: `/live`, `/ready` and `/metrics` over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Check = Callable[[], bool]


class Metrics:
    """What a process counts. Labels are names from the contracts, never values that came in a call (R-SYS-3)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Histogram(
            "vardarende_call_seconds",
            "Time to answer a call, by method and outcome",
            ["method", "code"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._measured: dict[tuple[str, str], Histogram] = {}
        self._events = Counter(
            "vardarende_events_handled_total",
            "Events taken in, by type and outcome",
            ["type", "outcome"],
            registry=self.registry,
        )
        self._relayed = Counter(
            "vardarende_events_published_total", "Outbox rows that the broker confirmed", registry=self.registry
        )
        self._unroutable = Counter(
            "vardarende_events_unroutable_total",
            "Events that no queue took although the contract names hearers",
            registry=self.registry,
        )
        self._outbox = Gauge("vardarende_outbox_rows", "Events not yet published", registry=self.registry)
        self._oldest = Gauge("vardarende_outbox_seconds", "Age of the oldest of them", registry=self.registry)
        self._jobs = Counter(
            "vardarende_job_runs_total", "Runs of jobs, by job and outcome", ["job", "outcome"], registry=self.registry
        )
        self._needs = Gauge(
            "vardarende_need_there", "1 where what the process needs is there, else 0", ["need"], registry=self.registry
        )

    def need(self, name: str, there: bool) -> None:
        """Whether something that the process needs is there."""
        self._needs.labels(name).set(there)

    def call(self, method: str, code: str, seconds: float) -> None:
        """A call was answered."""
        measured = self._measured.get((method, code))
        if measured is None:
            measured = self._measured[method, code] = self._calls.labels(method, code)
        measured.observe(seconds)

    def event(self, event_type: str, outcome: str) -> None:
        """An event was handled, delayed or put with the dead letters."""
        self._events.labels(event_type, outcome).inc()

    def relayed(self, count: int) -> None:
        """So many events went out."""
        self._relayed.inc(count)

    def unroutable(self, count: int) -> None:
        """So many events came back from the broker."""
        self._unroutable.inc(count)

    def outbox(self, rows: int, oldest: float) -> None:
        """So many events wait, the oldest of them for so many seconds."""
        self._outbox.set(rows)
        self._oldest.set(oldest)

    def job(self, job: str, outcome: str) -> None:
        """A job was run."""
        self._jobs.labels(job, outcome).inc()


class HealthServer:
    """Serves the three pages.

    Live: the process turns. Ready: all that it needs is there; else 503 and what is missing.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, needs: Mapping[str, Check]) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # of a client that says nothing

            def do_GET(self) -> None:
                status, kind, body = server.page(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing: probes come every few seconds."""

        self._metrics = metrics
        self._needs = needs
        self._http = ThreadingHTTPServer((host, port), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]

    def page(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a page."""
        if path == "/live":
            return 200, "application/json", b'{"live": true}'
        if path == "/ready":
            missing = self._missing()
            body = json.dumps({"ready": not missing, "missing": missing}).encode()
            return (503 if missing else 200), "application/json", body
        if path == "/metrics":
            missing = self._missing()
            for name in self._needs:
                self._metrics.need(name, name not in missing)
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
        return 404, "text/plain", b"not found"

    def _missing(self) -> list[str]:
        return sorted(name for name, there in self._needs.items() if not there())

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
