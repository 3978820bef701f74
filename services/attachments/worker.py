"""The checker: a process that finds uploaded files, checks them, and keeps the store tidy.

Any number of these processes may run, and be killed at any point. Start: `python -m services.attachments.worker`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import BinaryIO
from uuid import uuid4

from prometheus_client import Counter, Gauge, Histogram

from services.attachments import checking, cleaning, control, rules, worklist
from services.attachments.checking import CannotCheck, Desk, Examined, NoVerdict
from services.attachments.owing import Transactions, Writes
from services.attachments.reconciling import Difference, Reconciler
from services.attachments.rules import Refusal
from services.attachments.scanning import Scanner
from services.attachments.settings import CheckerSettings
from services.attachments.store import Kept, Store, StoreDown, measure, new_clean_key, preview_key_of
from services.attachments.worklist import Turn
from shared.contracts.attachments import attachments
from shared.messaging.errors import Refused
from shared.operations import clock
from shared.operations.jobs import Job, JobRunner, Run, Spawn
from shared.operations.logs import log
from shared.operations.process import Process

_RENEWALS_PER_LEASE = 4
_IDLE_SECONDS = 0.25
_SWEEP_IDLE_SECONDS = 1.0
_PAUSE_AFTER_FAULT_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 2.0
_SWEEP_PAUSE = timedelta(seconds=30)

Told = Callable[[str, float], None]


class Checker:
    """Checks one file after the other. `told` is called with each outcome and the seconds that it took."""

    def __init__(
        self,
        transaction: Transactions,
        store: Store,
        settings: CheckerSettings,
        told: Told,
        scanner: Scanner | None = None,
    ) -> None:
        self._transaction = transaction
        self._scanner = scanner
        self._writes = Writes(transaction)
        self._store = store
        self._settings = settings
        self._told = told
        self._lease = settings.lease_seconds

    def round(self) -> bool:
        """Takes the next file that is due and does what is to be done. False if there was none.

        Raises `Unavailable` while the database is away; what is owed by then is written first when it is back.
        """
        self.catch_up()
        lease = uuid4()
        turn = self._writes.write(
            lambda tx: worklist.take(tx, lease, self._lease), otherwise=lambda tx: worklist.give_back(tx, lease)
        )
        if turn is None:
            return False
        began = time.monotonic()
        with self._kept(turn):
            try:
                outcome = self._look(turn)
            except (StoreDown, CannotCheck) as error:
                outcome = "put_off"
                suspicious = isinstance(error, NoVerdict) and self._all_else_works(turn)
                self._writes.write(lambda tx: worklist.put_off(tx, turn, suspicious=suspicious))
                log.warning(
                    "check_put_off",
                    attachment=str(turn.attachment),
                    attempts=turn.looks + 1,
                    count=turn.suspicions + suspicious,
                    reason="store_down" if isinstance(error, StoreDown) else error.reason,
                    exc_info=error,
                )
        if outcome is not None:
            self._told(outcome, time.monotonic() - began)
        return True

    def catch_up(self) -> None:
        """Writes what it owes since the database was away. Raises `Unavailable` while it is."""
        self._writes.catch_up()

    def _look(self, turn: Turn) -> str | None:
        """Answers what came of it, None if the bytes are not there yet."""
        if turn.suspicions >= rules.MAX_SUSPICIONS:
            return self._refuse(turn, Refusal.CHECK_FAILED)
        size = self._store.uploaded_size(turn.attachment)
        if size is None:
            if clock.now() >= rules.upload_window_ends(turn.upload_expires_at):
                return self._refuse(turn, Refusal.UPLOAD_EXPIRED)
            self._writes.write(lambda tx: worklist.not_there_yet(tx, turn))
            return None
        if not self._writes.write(
            lambda tx: worklist.begin(tx, turn, self._lease), otherwise=lambda tx: worklist.give_back(tx, turn.lease)
        ):
            return "lost"
        if size != turn.size:
            return self._refuse(turn, Refusal.WRONG_SIZE)
        return self._check(turn)

    def _check(self, turn: Turn) -> str:
        if self._scanner is not None and not self._scanner.answers():
            raise CannotCheck("scanner_down")  # before all the bytes are fetched
        with checking.desk(self._settings) as desk:
            refusal = checking.fetch(self._store, turn, desk.upload) or self._infected(turn, desk.upload)
            if refusal is not None:
                return self._refuse(turn, refusal)
            if not self._writes.write(
                lambda tx: worklist.suspect(tx, turn), otherwise=lambda tx: worklist.give_up(tx, turn)
            ):
                return "lost"
            examined = checking.examine(desk, turn.content_type, self._settings)
            refusal = examined.refusal
            if refusal is None and examined.rewritten:
                refusal = self._infected(turn, desk.rewritten)
            if refusal is not None:
                return self._refuse(turn, refusal)
            kept = self._keep(turn, desk, examined)
        if not self._writes.write(lambda tx: worklist.accept(tx, turn, kept)):
            self._remove(kept)
            return "lost"
        log.info("attachment_usable", attachment=str(turn.attachment), size=kept.size, outcome=_outcome(kept, examined))
        return "usable"

    def _all_else_works(self, turn: Turn) -> bool:
        """Whether what is known to be fit is found fit at this moment."""
        scans = self._scanner is None or self._scanner.works()
        return scans and control.examination_works(turn.content_type, self._settings)

    def _infected(self, turn: Turn, file: BinaryIO) -> str | None:
        found = None if self._scanner is None else self._scanner.found(file)
        if found is None:
            return None
        log.warning("virus_found", attachment=str(turn.attachment), reason=found)
        return Refusal.INFECTED

    def _keep(self, turn: Turn, desk: Desk, examined: Examined) -> Kept:
        # what is kept are the very bytes that were examined, not whatever lies in the upload's place by now
        file = desk.rewritten if examined.rewritten else desk.upload
        size, sha256 = measure(file)
        key = new_clean_key(turn.attachment)
        version = self._store.keep(key, file, turn.content_type, sha256)
        cleaned = examined.rewritten and turn.content_type == rules.PDF
        if not examined.preview:
            return Kept(key, version, size, sha256, cleaned)
        preview_key = preview_key_of(key)
        _, preview_sha256 = measure(desk.preview)
        preview_version = self._store.keep(preview_key, desk.preview, rules.PREVIEW_TYPE, preview_sha256)
        return Kept(key, version, size, sha256, cleaned, preview_key, preview_version)

    def _remove(self, kept: Kept) -> None:
        self._store.remove_version(kept.key, kept.version)
        if kept.preview_key is not None and kept.preview_version is not None:
            self._store.remove_version(kept.preview_key, kept.preview_version)

    def _refuse(self, turn: Turn, refusal: str) -> str:
        if not self._writes.write(lambda tx: worklist.refuse(tx, turn, refusal)):
            return "lost"
        log.info("attachment_refused", attachment=str(turn.attachment), reason=refusal)
        return refusal

    @contextmanager
    def _kept(self, turn: Turn) -> Iterator[None]:
        """Renews the turn while it lasts. Fails in silence: who has lost the turn learns it when writing."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(self._lease / _RENEWALS_PER_LEASE):
                with suppress(Refused), self._transaction() as tx:
                    if not worklist.renew(tx, turn, self._lease):
                        return

        renewing = threading.Thread(target=renew, name="renewing", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()


def _outcome(kept: Kept, examined: Examined) -> str:
    if not examined.rewritten:
        return "as_uploaded"
    return "cleaned" if kept.cleaned else "metadata_removed"


class Sweeper:
    """Rids the store of what is no longer wanted."""

    def __init__(self, transaction: Transactions, store: Store) -> None:
        self._writes = Writes(transaction)
        self._store = store

    def round(self) -> bool:
        """Tidies up after one file. False if none is due. Raises `Unavailable` while the database is away."""
        self.catch_up()
        task = self._writes.write(cleaning.next_sweep, otherwise=lambda _: None)
        if task is None:
            return False
        try:
            cleaning.sweep(self._store, task)
        except StoreDown as error:
            self._writes.write(lambda tx: cleaning.give_up_sweep(tx, task, _SWEEP_PAUSE))
            log.warning("sweep_put_off", attachment=str(task.attachment), exc_info=error)
            return True
        self._writes.write(lambda tx: cleaning.swept(tx, task))
        return True

    def catch_up(self) -> None:
        """Writes what it owes since the database was away. Raises `Unavailable` while it is."""
        self._writes.catch_up()


def main() -> None:
    """Runs until told to stop; then each check that has begun is finished."""
    process = Process("attachments", "checker", CheckerSettings, contract=attachments)
    process.run(check_all)


def check_all(process: Process) -> None:
    """Checks and sweeps until the process is told to stop."""
    settings: CheckerSettings = process.settings
    store = Store(settings)
    process.core.needs["store"] = _lately(store.answers)
    if settings.s3_create_buckets and not _prepared(process, store):
        return
    told = _counting(process)
    scanner = Scanner(settings.clamd, settings.clamd_seconds) if settings.clamd else None
    if scanner is not None:
        process.core.needs["scanner"] = _lately(scanner.answers)
    workers: list[tuple[str, Checker | Sweeper, float]] = [
        (f"checker {number}", Checker(process.transaction, store, settings, told, scanner), _IDLE_SECONDS)
        for number in range(settings.checks_at_once)
    ]
    workers.append(("sweeper", Sweeper(process.transaction, store), _SWEEP_IDLE_SECONDS))
    reconcile = Job("reconcile_store", every=timedelta(hours=settings.reconcile_hours))
    jobs = JobRunner(process.core, {reconcile: _reconciling(process, store)})
    jobs.start()
    threads = [threading.Thread(target=_turn, args=(process, *one), name=one[0]) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs.stop()


def _reconciling(process: Process, store: Store) -> Spawn:
    """Starts the comparison of store and database, on a thread of its own."""
    differences = Gauge(
        "vardarende_store_differences",
        "Files of which store and database disagree, by kind, at the last comparison that this process made",
        ["kind"],
        registry=process.core.metrics.registry,
    )

    def work(run: Run) -> None:
        found = Reconciler(run.transaction, store, stopping=run.stopping.is_set).run()
        for kind in Difference.ALL:
            differences.labels(kind).set(found[kind])
        log.info("store_and_database_compared", count=found.total())

    return lambda run: threading.Thread(target=run, args=(work,), name="reconciling", daemon=True).start()


def _turn(process: Process, name: str, worker: Checker | Sweeper, idle_seconds: float) -> None:
    while not process.stopping.is_set():
        try:
            pause = 0.0 if worker.round() else idle_seconds
        except Exception as error:  # the database away, most likely
            log.warning("checker_disturbed", step=name, exc_info=error)
            pause = _PAUSE_AFTER_FAULT_SECONDS
        if pause:
            process.stopping.wait(pause)
    with suppress(Refused):  # if the database is still away, another takes over when the lease ends
        worker.catch_up()


def _prepared(process: Process, store: Store) -> bool:
    """Makes the buckets, as soon as the store answers. False if the process is to stop before that."""
    while not process.stopping.is_set():
        try:
            store.prepare()
            return True
        except StoreDown as error:
            log.warning("store_not_ready", exc_info=error)
            process.stopping.wait(_PAUSE_AFTER_FAULT_SECONDS)
    return False


def _lately(check: Callable[[], bool]) -> Callable[[], bool]:
    """The check, asked at most every other second: probes come often."""
    seen: list[tuple[float, bool]] = []

    def there() -> bool:
        if not seen or time.monotonic() - seen[-1][0] > _LOOK_AGAIN_SECONDS:
            seen[:] = [(time.monotonic(), check())]
        return seen[-1][1]

    return there


def _counting(process: Process) -> Told:
    registry = process.core.metrics.registry
    checks = Counter("vardarende_checks_total", "Files checked, by outcome", ["outcome"], registry=registry)
    took = Histogram("vardarende_check_seconds", "Time from taking a file to its outcome", registry=registry)

    def told(outcome: str, seconds: float) -> None:
        checks.labels(outcome).inc()
        took.observe(seconds)

    return told


if __name__ == "__main__":
    main()
