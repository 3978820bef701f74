"""What the tests of attachments stand on: a database made by the service's own migration, buckets of their own in the
real store, and checkers that take one step at a time."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import requests

from deploy.local import keys, system_packages
from deploy.local.problems import Problem
from deploy.local.servers import Place
from deploy.local.servers.clamd import PACKAGE, Clamd
from deploy.local.servers.seaweedfs import ACCESS_KEY
from deploy.local.stack import Stack
from services.attachments import binding, cleaning, linking, uploading
from services.attachments.scanning import Scanner
from services.attachments.settings import CheckerSettings
from services.attachments.store import Signer, Store
from services.attachments.worker import Checker, Sweeper
from shared.contracts import attachments as contract
from shared.contracts import cases
from shared.contracts.attachments import OwnerKind
from shared.database.transaction import Database
from shared.operations import clock
from shared.security.caller import Caller
from shared.security.sealing import Sealer
from tests.stack.rooms import Rooms

PDF, GIF, JPEG, PNG = "application/pdf", "image/gif", "image/jpeg", "image/png"
SAFE = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
"""What keeps a browser from keeping a file, running it, or guessing what it is (R-ATT-6)."""
ENDINGS = {PDF: ".pdf", GIF: ".gif", JPEG: ".jpg", PNG: ".png"}


class World:
    """One service with its database and its store. What it does is what the entrypoints and the checker do."""

    def __init__(self, url: str, store: SimpleNamespace, folder: Path, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        made = keys.make(folder / "keys", ("attachments",))
        usual: dict[str, Any] = {
            "amqp_url": "amqp://unused",
            "database_url": url,
            "signing_key_file": made.signing_key("attachments"),
            "trusted_keys_file": made.trusted,
            "data_keys_file": made.data_keys("attachments"),
            "s3_endpoint": store.endpoint,
            "s3_public_endpoint": store.public_endpoint,
            "s3_access_key_file": store.access_key_file,
            "s3_secret_key_file": store.secret_key_file,
            "s3_upload_bucket": store.upload_bucket,
            "s3_bucket": store.bucket,
            "work_folder": folder,
        }
        self.url = url
        self.settings = CheckerSettings(**(usual | settings))
        self.database = Database(
            url, service="attachments", sealer=Sealer("test", {"test": b"k" * 32}), settings=self.settings
        )
        self.store = Store(self.settings)
        self.signer = Signer(self.settings)
        self.outcomes: list[str] = []
        self.checker = self.checker_on(self.store)
        self.sweeper = Sweeper(self.database.transaction, self.store)
        self._clock = folder / "clock.json"
        self._offset = timedelta()

    def checker_on(self, store: Any, scanner: Scanner | None = None) -> Checker:
        def told(outcome: str, _seconds: float) -> None:
            self.outcomes.append(outcome)

        return Checker(self.database.transaction, store, self.settings, told, scanner)

    def close(self) -> None:
        self.database.dispose()
        clock.use(None)

    # --- people ---

    def resident(self) -> Caller:
        return Caller("resident", str(uuid4()))

    def staff(self) -> Caller:
        return Caller("staff", f"SE2321000131-P{secrets.randbelow(10**12):012}")

    # --- calls ---

    def ask(self, caller: Caller, data: bytes, content_type: str, /, **other: Any) -> contract.UploadAsked:
        asked = contract.AskUpload(
            request_id=uuid4(),
            **(
                {
                    "name": "fil" + ENDINGS.get(content_type, ""),
                    "size": len(data),
                    "content_type": content_type,
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
                | other
            ),
        )
        return self.database.write(lambda tx: uploading.ask_upload(tx, asked, self.signer), caller=caller)

    def put(self, caller: Caller, data: bytes, content_type: str, /, **other: Any) -> UUID:
        """Asks for a place and uploads."""
        asked = self.ask(caller, data, content_type, **other)
        answer = send(asked.upload, data)
        assert answer.status_code == 200, answer.text
        return asked.attachment

    def usable(self, caller: Caller, data: bytes, content_type: str, /, **other: Any) -> UUID:
        """Uploads, and has it checked."""
        attachment = self.put(caller, data, content_type, **other)
        self.check()
        assert self.show(caller, attachment).state is contract.State.USABLE
        return attachment

    def show(self, caller: Caller, attachment: UUID) -> contract.Attachment:
        asked = contract.GetAttachment(attachment=attachment)
        return self.database.read(lambda tx: linking.get_attachment(tx, asked), caller=caller)

    def unsent(self, caller: Caller, draft: UUID | None = None) -> list[contract.Attachment]:
        asked = contract.ListUnsent(draft=draft)
        return self.database.read(lambda tx: linking.list_unsent(tx, asked), caller=caller).attachments

    def preview(self, caller: Caller, attachment: UUID) -> contract.Link:
        asked = contract.PreviewAttachment(attachment=attachment)
        return self.database.read(lambda tx: linking.preview(tx, asked, self.signer), caller=caller)

    def link(self, attachment: UUID, case: UUID) -> contract.Link:
        asked = contract.AskLink(attachment=attachment, case=case)
        return self.database.read(lambda tx: linking.link(tx, asked, self.signer))

    def hurry(self, caller: Caller, attachment: UUID) -> None:
        told = contract.Uploaded(request_id=uuid4(), attachment=attachment)
        self.database.write(lambda tx: uploading.uploaded(tx, told), caller=caller)

    def remove(self, caller: Caller, attachment: UUID) -> None:
        asked = contract.RemoveAttachment(request_id=uuid4(), attachment=attachment)
        self.database.write(lambda tx: cleaning.remove(tx, asked), caller=caller)

    def claim(
        self,
        caller: Caller,
        *files: UUID,
        message: UUID | None = None,
        case: UUID | None = None,
        at_most: int = 20,
    ) -> list[UUID]:
        claimed = self.claimed(caller, *files, message=message, case=case, at_most=at_most)
        return [one.attachment for one in claimed]

    def claimed(
        self, caller: Caller, *files: UUID, message: UUID | None = None, case: UUID | None = None, at_most: int = 20
    ) -> list[contract.ClaimedFile]:
        asked = contract.Claim(
            request_id=uuid4(),
            attachments=list(files),
            owner_kind=OwnerKind(caller.kind),
            owner=caller.subject,
            case=case or uuid4(),
            message=message or uuid4(),
            at_most=at_most,
        )
        return self.database.write(lambda tx: binding.claim(tx, asked)).attachments

    def sent(self, message: UUID, case: UUID, *files: UUID) -> None:
        told = cases.MessageSentEvent(
            case=case,
            message=message,
            clinic="SE2321000131-E000000000001",
            resident=uuid4(),
            kind="resident_message",
            written_by="resident",
            handler=None,
            attachments=list(files),
        )
        self.database.hear(uuid4(), lambda tx: binding.sent(tx, told))

    def draft_saved(self, caller: Caller, *files: UUID) -> None:
        told = cases.DraftSavedEvent(
            case=uuid4(), owner_kind=OwnerKind(caller.kind), owner=caller.subject, attachments=list(files)
        )
        self.database.hear(uuid4(), lambda tx: cleaning.draft_saved(tx, told))

    # --- the checker ---

    def check(self) -> int:
        """Lets the checker take all that waits, due or not; how many."""
        self.make_due()
        taken = 0
        while self.checker.round():
            taken += 1
        return taken

    def make_due(self) -> None:
        self.rows("UPDATE attachments SET look_at = created_at WHERE look_at IS NOT NULL AND lease IS NULL")

    def sweep(self) -> int:
        taken = 0
        while self.sweeper.round():
            taken += 1
        return taken

    def kept(self, attachment: UUID) -> list[tuple[str, str]]:
        """What the row says that the store has of the file, in the order of `objects`."""
        row = self.row(attachment, "clean_key, clean_version, preview_key, preview_version")
        assert row is not None
        return [one for one in (row[:2], row[2:]) if one[0] is not None]

    # --- the store, the database and the clock ---

    def objects(self, attachment: UUID) -> list[tuple[str, str]]:
        """All that the store has of the file, in both buckets."""
        return [
            one
            for bucket in (self.settings.s3_upload_bucket, self.settings.s3_bucket)
            for one in self.store.versions(bucket, str(attachment))
        ]

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def row(self, attachment: UUID, columns: str) -> tuple[Any, ...] | None:
        found = self.rows(f"SELECT {columns} FROM attachments WHERE attachment = %s", attachment)
        return found[0] if found else None

    def move_clock(self, by: timedelta) -> None:
        self._offset += by
        self._clock.write_text(json.dumps({"offset_seconds": self._offset.total_seconds()}))
        clock.use(str(self._clock))
        clock.now()
        time.sleep(0.06)  # the clock looks at its file at most every 50 ms


@pytest.fixture(scope="session")
def attachments_place(
    servers: Stack, rooms: Rooms, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, SimpleNamespace]]:
    """The address of a migrated database, and buckets in the store, for these tests alone."""
    folder, mark = tmp_path_factory.mktemp("attachments"), secrets.token_hex(4)
    (folder / "access").write_text(ACCESS_KEY + "\n")
    (folder / "secret").write_text(servers.keys.password("s3"))
    store = SimpleNamespace(
        endpoint=servers.system.at.store,
        public_endpoint=servers.system.at.public_store,
        access_key_file=folder / "access",
        secret_key_file=folder / "secret",
        upload_bucket=f"test-{mark}-uploads",
        bucket=f"test-{mark}",
    )
    database = rooms.database("attachments")
    world = World(database.url, store, folder)
    world.store.prepare()
    world.close()
    yield database.url, store
    database.drop()


@pytest.fixture(scope="session")
def clamd(servers: Stack, progress: Callable[[str], None]) -> Iterator[Clamd]:
    """A real virus scanner, with signatures of its own. Where it can't be had the test fails: it is never skipped."""
    server = Clamd(Place(servers.folder, servers.ports, servers.keys, passing=True))
    try:
        system_packages.require([PACKAGE], progress)
        server.start()
        server.wait()
    except Problem as problem:
        pytest.fail(f"the virus scanner can't be started: {problem}", pytrace=False)
    yield server
    server.kill()


@pytest.fixture
def world(attachments_place: tuple[str, SimpleNamespace], tmp_path: Path) -> Iterator[World]:
    """An attachments service without any file."""
    made = World(*attachments_place, tmp_path)
    made.rows("TRUNCATE attachments")
    yield made
    made.close()


def send(upload: contract.UploadRequest, data: bytes, **changes: str | None) -> requests.Response:
    """Makes the signed request, with headers changed (underscores for hyphens) or, by None, left out."""
    headers: dict[str, str | None] = {name.lower(): value for name, value in upload.headers.items()}
    headers.pop("content-length")  # requests counts for itself
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    kept = {name: value for name, value in headers.items() if value is not None}
    return requests.request(upload.method, upload.url, data=data, headers=kept, timeout=60)
