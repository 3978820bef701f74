"""Messages of a case: sealed when they are sent, opened when they are read, never changed in between (R-CASE-9)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from uuid import UUID, uuid5

from sqlalchemy import bindparam, insert, select, text, update

from services.cases import weight
from services.cases.opening import open_sealed
from services.cases.tables import UNOPENED, Row, message_files, messages
from shared.contracts.attachments import ClaimedFile
from shared.contracts.cases import (
    MESSAGE_SENT,
    AnswerShown,
    AttachmentShown,
    LinkShown,
    MessageKind,
    MessageSentEvent,
    MessageShown,
    ReferralShown,
    Writer,
)
from shared.database.transaction import Transaction
from shared.security.caller import Caller
from shared.security.sealing import Sealer

# In SQL, or made once: to put a statement together takes SQLAlchemy longer than to run it.
_ADD = (
    b"INSERT INTO messages (id, case_id, position, care_provider, kind, sent_at, written_by, writer, sender_name,"
    b" signature, content) VALUES"
)
_MESSAGES = select(messages).where(messages.c.case_id == bindparam("this")).order_by(messages.c.position)
_FILES = (
    select(message_files)
    .where(message_files.c.case_id == bindparam("this"))
    .order_by(message_files.c.message, message_files.c.position)
)


@dataclass(frozen=True)
class Sender:
    """Who writes: for staff with name and signature as they are now (R-CASE-11)."""

    written_by: Writer
    writer: str
    name: str | None = None
    signature: str | None = None


@dataclass(frozen=True)
class NewMessage:
    """A message about to be sent, with the files that have been claimed for it."""

    id: UUID
    kind: MessageKind
    sender: Sender
    care_provider: str
    text: str
    answers: tuple[AnswerShown, ...] = ()
    files: tuple[ClaimedFile, ...] = ()
    referral: ReferralShown | None = None
    title: str | None = None
    links: tuple[LinkShown, ...] = ()

    @property
    def weight(self) -> int:
        """Bytes that it takes in a reply."""
        signed = f"{self.sender.name or ''}{self.sender.signature or ''}{self.referral.name if self.referral else ''}"
        signed += (self.title or "") + "".join(f"{link.text} {link.url} text and url" for link in self.links)
        return weight.of_message(self.text, self.files, self.answers, signed)


def message_id(request_id: UUID, caller: Caller) -> UUID:
    """The id of the message without files that this request sends: the same for each repetition."""
    return uuid5(request_id, f"message of {caller.identity}")


def message_id_with(files: Collection[UUID], case: UUID, request_id: UUID, caller: Caller) -> UUID:
    """The same where there may be files, which are bound to the id before the message is there (R-CASE-17).

    So the id is of these files in this case alone: a repetition finds its claim, and a request id that is used again
    with other files, or in another case, binds them to a message that will never be, not to the one that was sent.
    """
    if not files:
        return message_id(request_id, caller)
    named = " ".join(sorted(str(file) for file in files))
    return uuid5(request_id, f"message of {caller.identity} in {case} with {named}")


def resident_sender(caller: Caller) -> Sender:
    """A resident, or a guardian who writes for a child (R-CASE-15). The name is asked for when someone reads."""
    return Sender("guardian" if caller.acting_for else "resident", caller.subject)


def add(tx: Transaction, case: Row, message: NewMessage, *, position: int, handler: str | None) -> None:
    """Sends the message in the case: stores it and its files, and tells so. `handler` is who has the case now."""
    add_all(tx, [(case, message)], position=position, handler=handler)


def add_all(
    tx: Transaction,
    sent: Sequence[tuple[Row, NewMessage]],
    *,
    position: int,
    handler: str | None,
    notify: bool = True,
) -> None:
    """The same for a message in each of several cases, in as many statements."""
    for case, message in sent:
        tx.add(_ADD, _row(tx, case, message, position))
    files = [
        {
            "attachment": file.attachment,
            "message": message.id,
            "case_id": case["id"],
            "position": place,
            "size": file.size,
            "content_type": file.content_type,
        }
        for case, message in sent
        for place, file in enumerate(message.files)
    ]
    if files:
        tx.execute(insert(message_files), files)
    for case, message in sent:
        tx.publish(
            MESSAGE_SENT,
            MessageSentEvent(
                case=case["id"],
                message=message.id,
                clinic=case["clinic"],
                resident=case["resident"],
                kind=message.kind,
                written_by=_TOLD_AS[message.sender.written_by],
                handler=handler,
                attachments=[file.attachment for file in message.files],
                notify=notify,
            ),
            aggregate=case["id"],
        )


_TOLD_AS: Mapping[Writer, Literal["resident", "staff", "system"]] = {
    "resident": "resident",
    "guardian": "resident",
    "staff": "staff",
    "system": "system",
}


def _row(tx: Transaction, case: Row, message: NewMessage, position: int) -> tuple[Any, ...]:
    content: dict[str, Any] = {
        "text": message.text,
        "answers": [answer.model_dump(mode="json") for answer in message.answers],
        "files": {str(file.attachment): file.name for file in message.files},
        **({"referral": message.referral.model_dump()} if message.referral else {}),
        **({"title": message.title} if message.title else {}),
        **({"links": [link.model_dump() for link in message.links]} if message.links else {}),
    }
    return (
        message.id,
        case["id"],
        position,
        message.care_provider,
        message.kind,
        tx.now,
        message.sender.written_by,
        message.sender.writer,
        message.sender.name,
        message.sender.signature,
        tx.sealer.seal(json.dumps(content).encode(), context(case["id"], message.id)),
    )


def context(case: UUID, message: UUID) -> bytes:
    """What the content of a message is bound to."""
    return f"case {case} message {message}".encode()


@dataclass(frozen=True)
class Stored:
    """A message as it was sent, and who wrote it: what the caller may see of that is the caller's matter."""

    writer: str
    shown: MessageShown


def of_case(tx: Transaction, case: UUID) -> list[Stored]:
    """The case's messages in the order they were sent, opened."""
    files: dict[UUID, list[Row]] = {}
    for file in tx.execute(_FILES, {"this": case}).mappings():
        files.setdefault(file["message"], []).append(file)
    rows = tx.execute(_MESSAGES, {"this": case}).mappings()
    return [_opened(tx.sealer, row, files.get(row["id"], [])) for row in rows]


def of_rows(tx: Transaction, rows: Sequence[Row]) -> dict[UUID, Stored]:
    """These messages, opened, of whatever cases."""
    of_them = select(message_files).where(
        message_files.c.case_id.in_({row["case_id"] for row in rows}),
        message_files.c.message.in_([row["id"] for row in rows]),
    )
    files: dict[UUID, list[Row]] = {}
    for file in tx.execute(of_them.order_by(message_files.c.message, message_files.c.position)).mappings():
        files.setdefault(file["message"], []).append(file)
    return {row["id"]: _opened(tx.sealer, row, files.get(row["id"], [])) for row in rows}


def _opened(sealer: Sealer, row: Row, files: Sequence[Row]) -> Stored:
    content = json.loads(open_sealed(sealer, bytes(row["content"]), context(row["case_id"], row["id"])))
    shown = MessageShown(
        message=row["id"],
        kind=cast(MessageKind, row["kind"]),
        sent_at=row["sent_at"],
        written_by=cast(Writer, row["written_by"]),
        sender_name=row["sender_name"],
        text=content["text"],
        answers=[AnswerShown.model_validate(answer) for answer in content["answers"]],
        signature=row["signature"],
        attachments=[
            AttachmentShown(
                attachment=file["attachment"],
                name=content["files"][str(file["attachment"])],
                size=file["size"],
                content_type=file["content_type"],
            )
            for file in files
        ],
        opened_at=row["opened_at"],
        referral=ReferralShown.model_validate(content["referral"]) if "referral" in content else None,
        title=content.get("title"),
        links=[LinkShown.model_validate(link) for link in content.get("links", [])],
    )
    return Stored(row["writer"], shown)


def open_for_resident(tx: Transaction, case: UUID, found: Sequence[Stored]) -> list[Stored]:
    """Marks those of the clinic's messages as opened by the resident, now, that were not before (R-CASE-15).

    Only what was found, and so is shown: not what has been sent since.
    """
    new = [
        one.shown.message
        for one in found
        if one.shown.opened_at is None and one.shown.written_by in ("staff", "system")
    ]
    if not new:
        return list(found)
    unopened = update(messages).where(messages.c.case_id == case, messages.c.id.in_(new), text(UNOPENED))
    opened = set(tx.execute(unopened.values(opened_at=tx.now).returning(messages.c.id)).scalars())
    return [
        Stored(one.writer, one.shown.model_copy(update={"opened_at": tx.now})) if one.shown.message in opened else one
        for one in found
    ]
