"""Where files are measured: the service's database and buckets, a checker in hand, and processes to be started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.parts.programs import wait_until
from deploy.local import databases
from deploy.local import upload as helper
from deploy.local.own_processes import OwnProcess
from deploy.local.stack import Stack
from services.attachments import uploading
from services.attachments.settings import CheckerSettings
from services.attachments.store import Signer, Store
from services.attachments.worker import Checker
from shared.contracts import attachments as contract
from shared.database.transaction import Database
from shared.messaging.client import RpcClient
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from shared.security.tokens import Signer as TokenSigner

_SERVICE, _WORKER = "attachments", "attachments_worker"


class Worked:
    """The service and its checker while they run."""

    def __init__(self, stack: Stack, processes: dict[str, OwnProcess]) -> None:
        self._processes = processes
        self._client = RpcClient(stack.broker_url("callers"), "bench")
        self._token = TokenSigner.from_file(stack.keys.signing_key("cases"), "service:cases")
        self._client.start()
        wait_until(lambda: self._client.connected, "the client's connection")

    def ask_limits(self) -> None:
        """One call that the service answers by itself."""
        self._client.ask(contract.LIMITS, contract.GetLimits(), token=self._token.own_token(), timeout=30.0)

    def connections_lost(self) -> int:
        """How often either of them has lost a connection to the broker, as for a missed heartbeat."""
        return sum(process.output().count("broker_connection_lost") for process in self._processes.values())

    def peak_megabytes(self, name: str) -> float:
        """The most memory that a process has had; that of its children is not in it."""
        status = Path(f"/proc/{self._processes[name].pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    def close(self) -> None:
        """Ends the conversation."""
        self._client.stop()


@dataclass
class Place:
    """The store and the database of the service."""

    stack: Stack
    folder: Path
    settings: CheckerSettings
    database: Database
    signer: Signer
    store: Store

    @classmethod
    @contextmanager
    def on(cls, stack: Stack) -> Iterator[Place]:
        """On a stack whose servers are started here, if they do not run."""
        stack.start_servers()
        password = {_SERVICE: stack.keys.password(f"database_{_SERVICE}")}
        owner = {_SERVICE: stack.keys.password(f"database_{databases.owner_of(_SERVICE)}")}
        databases.make(stack.postgres.admin_url(), password, owner)
        databases.migrate(stack.system.migration(_SERVICE))
        told = {name.lower(): value for name, value in stack.system.environment(_WORKER).items()}
        settings = CheckerSettings(**{name: told[name] for name in told if name in CheckerSettings.model_fields})
        folder = stack.folder / "bench-files"
        folder.mkdir()
        database = Database(
            settings.database_url,
            service=_SERVICE,
            sealer=Sealer.from_file(settings.data_keys_file),
            settings=settings,
        )
        place = cls(stack, folder, settings, database, Signer(settings), Store(settings))
        place.store.prepare()
        try:
            yield place
        finally:
            database.dispose()

    def store_access(self) -> dict[str, Any]:
        """What a client of the store is told."""
        return {
            "endpoint_url": self.settings.s3_endpoint,
            "region_name": self.settings.s3_region,
            "aws_access_key_id": self.settings.s3_access_key_file.read_text().strip(),
            "aws_secret_access_key": self.settings.s3_secret_key_file.read_text().strip(),
        }

    def ask(self, path: Path, content_type: str) -> dict[str, Any]:
        """A place for the file: the request that the client is to make."""
        return self._asked(path, content_type).upload.model_dump()

    def upload(self, path: Path, content_type: str) -> UUID:
        """Asks for a place and uploads."""
        asked = self._asked(path, content_type)
        helper.upload(path, asked.upload.model_dump())
        return asked.attachment

    def _asked(self, path: Path, content_type: str) -> contract.UploadAsked:
        about = helper.about(path, content_type=content_type)
        request = contract.AskUpload(request_id=uuid4(), **about)
        caller = Caller("resident", str(uuid4()))
        return self.database.write(lambda tx: uploading.ask_upload(tx, request, self.signer), caller=caller)

    def check(self, attachment: UUID) -> None:
        """Checks the file, here."""
        self._rows("UPDATE attachments SET look_at = created_at WHERE attachment = %s", attachment)
        outcomes: list[str] = []
        checker = Checker(
            self.database.transaction, self.store, self.settings, lambda outcome, _: outcomes.append(outcome)
        )
        assert checker.round()
        assert outcomes == ["usable"], outcomes

    def wait_until_usable(self, attachments: list[UUID], seconds: float) -> None:
        """Returns when the running checker has found all of them usable."""
        count = "SELECT count(*) FROM attachments WHERE state = 'usable' AND attachment = ANY(%s)"
        wait_until(lambda: self._rows(count, attachments) == [(len(attachments),)], "the checks", seconds)

    def forget(self) -> None:
        """Rids the store of all files so far."""
        self._rows("TRUNCATE attachments")
        for bucket in self.store.buckets:
            for key, version in self.store.versions(bucket, ""):
                self.store._do("delete_object", Bucket=bucket, Key=key, VersionId=version)

    @contextmanager
    def running(self, **told: str) -> Iterator[Worked]:
        """The service and its checker as processes, the checker with other settings."""
        worker = self.stack.system.process(_WORKER)
        program = replace(worker.program, env=dict(worker.program.env) | told)
        processes = {
            _SERVICE: self.stack.system.process(_SERVICE),
            _WORKER: OwnProcess(program, self.stack.folder, self.stack.ports[_WORKER]),
        }
        try:
            for process in processes.values():
                process.start()
            for process in processes.values():
                process.wait_ready()
            worked = Worked(self.stack, processes)
            try:
                yield worked
            finally:
                worked.close()
        finally:
            for process in processes.values():
                process.stop()

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        owner = self.stack.owners_url(_SERVICE)
        with psycopg.connect(owner, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []
