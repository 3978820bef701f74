"""The same case with many residents: prepared by a handler, told how far it has come (R-CASE-14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, ColumnElement, Select, and_, delete, func, insert, literal, or_, select, update

from services.cases import access_log, contacting, neighbours
from services.cases.drafts import KEPT
from services.cases.paging import before, cursor, number_cursor, page, read_cursor, read_number_cursor
from services.cases.tables import Row, cases, mailing_recipients, mailings
from services.cases.visibility import viewer, visible
from shared.contracts.base import Done, Role
from shared.contracts.contacting import (
    MOST_RECIPIENTS,
    AddRecipients,
    CancelMailing,
    CreateMailing,
    GetMailing,
    ListMailings,
    ListRecipients,
    MailingCreated,
    MailingListed,
    Mailings,
    MailingShown,
    Recipients,
    RecipientsAdded,
    RecipientShown,
    RefusedRecipient,
    ResultCount,
    SendMailing,
)
from shared.contracts.identity import FIND_RESIDENTS, FindResidents, FoundByNumber
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Invalid, LimitExceeded, NotFound
from shared.messaging.server import OngoingCall
from shared.operations.logs import log


def context(mailing: UUID) -> bytes:
    """What the words of a mailing are sealed to."""
    return f"mailing {mailing}".encode()


def create(tx: Transaction, request: CreateMailing) -> MailingCreated:
    """Keeps the template as it is now, and the words."""
    tx.caller.require(request.clinic, Role.CASE_HANDLER)
    template = contacting.template_of(tx, request)
    mailing = uuid4()
    tx.execute(
        insert(mailings).values(
            id=mailing,
            clinic=request.clinic,
            author=tx.caller.subject,
            case_type=template.id,
            case_type_name=template.name,
            form_version=template.form_version,
            content=tx.sealer.seal(contacting.words(template, request.text).encode(), context(mailing)),
            state="draft",
            recipients=0,
            created_at=tx.now,
            changed_at=tx.now,
        )
    )
    return MailingCreated(mailing=mailing)


def _mine(tx: Transaction, mailing: UUID, *, lock: bool = False) -> Row:
    """The caller's own mailing at a clinic where they are a handler: else `NotFound`."""
    return _found(tx, select(mailings).where(mailings.c.id == mailing, _own(tx)), lock=lock)


def _followed(tx: Transaction, mailing: UUID, *, lock: bool = False) -> Row:
    """The same, or one of a clinic that the caller administers."""
    return _found(tx, select(mailings).where(mailings.c.id == mailing, or_(_own(tx), _administered(tx))), lock=lock)


def _own(tx: Transaction) -> ColumnElement[bool]:
    handles = mailings.c.clinic.in_(tx.caller.rights.clinics_with(Role.CASE_HANDLER))
    return and_(mailings.c.author == tx.caller.subject, handles)


def _administered(tx: Transaction) -> ColumnElement[bool]:
    return mailings.c.clinic.in_(tx.caller.rights.clinics_with(Role.LOCAL_ADMIN))


def _found(tx: Transaction, question: Select[Any], *, lock: bool) -> Row:
    row = tx.execute(question.with_for_update() if lock else question).mappings().one_or_none()
    if row is None:
        raise NotFound("Utskicket finns inte.", reason="mailing_not_found")
    return row


# --- recipients -----------------------------------------------------------------------------------------------------


def _open(tx: Transaction, request: AddRecipients) -> Row:
    row = _mine(tx, request.mailing)
    if row["state"] != "draft":
        raise _begun()
    return row


def add_recipients(call: OngoingCall[AddRecipients, RecipientsAdded]) -> RecipientsAdded:
    """Has identity say whose the numbers are, and adds those who have an account (R-ID-24)."""
    call.read(_open)
    found = call.ask(FIND_RESIDENTS, FindResidents(identity_numbers=call.request.identity_numbers)).found
    return call.write(_add, found)


def _add(tx: Transaction, request: AddRecipients, found: Sequence[FoundByNumber]) -> RecipientsAdded:
    row = _mine(tx, request.mailing, lock=True)
    if row["state"] != "draft":
        raise _begun()
    there = _already(tx, row["id"], [one.resident for one in found if one.resident is not None])
    refused: list[RefusedRecipient] = []
    added: list[dict[str, Any]] = []
    for position, one in enumerate(found):
        if one.resident is None:
            reason = "no_account" if one.is_number else "not_an_identity_number"
            refused.append(RefusedRecipient(position=position, reason=reason))
        elif one.resident in there:
            refused.append(RefusedRecipient(position=position, reason="already_there"))
        else:
            there.add(one.resident)
            place = row["recipients"] + len(added)
            added.append({"mailing": row["id"], "position": place, "resident": one.resident, "result": "waiting"})
    total = row["recipients"] + len(added)
    if total > MOST_RECIPIENTS:
        raise LimitExceeded("Utskicket har för många mottagare.", reason="too_many_recipients")
    if added:
        tx.execute(insert(mailing_recipients), added)
        tx.execute(update(mailings).where(mailings.c.id == row["id"]).values(recipients=total, changed_at=tx.now))
    return RecipientsAdded(added=len(added), recipients=total, refused=refused)


def _already(tx: Transaction, mailing: UUID, residents: Sequence[UUID]) -> set[UUID]:
    question = select(mailing_recipients.c.resident).where(
        mailing_recipients.c.mailing == mailing, mailing_recipients.c.resident.in_(residents)
    )
    return set(tx.execute(question).scalars())


def _begun() -> Conflict:
    return Conflict("Utskicket har redan påbörjats.", reason="mailing_begun")


# --- sending, and how far it has come -------------------------------------------------------------------------------


def send(tx: Transaction, request: SendMailing) -> Done:
    """From now on the job sends it. One that is being sent is left to that."""
    row = _mine(tx, request.mailing, lock=True)
    if row["state"] != "draft":
        raise _begun()
    if row["recipients"] == 0:
        raise Invalid("Utskicket har inga mottagare.", reason="mailing_empty", fields=[("mailing", "saknar mottagare")])
    tx.execute(update(mailings).where(mailings.c.id == row["id"]).values(state="sending", sent_from=tx.now))
    return Done()


def cancel(tx: Transaction, request: CancelMailing) -> Done:
    """Nobody more gets it; its author's to say, and any administrator's of the clinic.

    Raises `Conflict`, `mailing_finished`, for one that is finished.
    """
    row = _followed(tx, request.mailing, lock=True)
    if row["state"] not in ("draft", "sending"):
        raise Conflict("Utskicket är redan avslutat.", reason="mailing_finished")
    end(tx, row["id"], "cancelled")
    return Done()


def end(tx: Transaction, mailing: UUID, state: str) -> None:
    """Ends it in this state; those who have not got it will not."""
    waiting = (mailing_recipients.c.mailing == mailing, mailing_recipients.c.result == "waiting")
    tx.execute(update(mailing_recipients).where(*waiting).values(result="not_sent"))
    ended = {"state": state, "finished_at": tx.now, "changed_at": tx.now}
    tx.execute(update(mailings).where(mailings.c.id == mailing).values(ended))


def get(tx: Transaction, request: GetMailing) -> MailingShown:
    """How far it has come."""
    row = _followed(tx, request.mailing)
    recipient = mailing_recipients.c
    counted = select(recipient.result, func.count().label("many")).where(recipient.mailing == row["id"])
    return MailingShown(
        mailing=row["id"],
        clinic=row["clinic"],
        template=row["case_type"],
        template_name=row["case_type_name"],
        state=row["state"],
        recipients=row["recipients"],
        results=[
            ResultCount(result=one.result, count=one.many)
            for one in tx.execute(counted.group_by(recipient.result).order_by(recipient.result))
        ],
        created_at=row["created_at"],
        sent_from=row["sent_from"],
        finished_at=row["finished_at"],
    )


def list_of_clinic(tx: Transaction, request: ListMailings) -> Mailings:
    """The clinic's mailings, latest first: to its administrators all of them, to handlers their own."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN, Role.CASE_HANDLER)
    question = select(mailings).where(mailings.c.clinic == request.clinic, or_(_own(tx), _administered(tx)))
    if request.after is not None:
        question = question.where(before(mailings.c.created_at, mailings.c.id, read_cursor(request.after)))
    in_order = question.order_by(mailings.c.created_at.desc(), mailings.c.id.desc()).limit(request.limit + 1)
    rows, after = page(
        tx.execute(in_order).mappings().all(), request.limit, lambda row: cursor(row["created_at"], row["id"])
    )
    return Mailings(
        mailings=[
            MailingListed(
                mailing=row["id"],
                author=row["author"],
                template_name=row["case_type_name"],
                state=row["state"],
                recipients=row["recipients"],
                created_at=row["created_at"],
                sent_from=row["sent_from"],
                finished_at=row["finished_at"],
            )
            for row in rows
        ],
        after=after,
    )


def forget_unsent(run: Any) -> int:
    """Removes mailings of which nothing was sent, and that nobody has touched for a week; says how many.

    Whom they were for is then kept no more. One in each transaction: it may have thousands of recipients.
    """
    removed = 0
    while True:
        with run.transaction() as tx:
            unsent = select(mailings.c.id).where(mailings.c.sent_from.is_(None), mailings.c.changed_at < tx.now - KEPT)
            old = tx.execute(unsent.limit(1).with_for_update(skip_locked=True)).scalar_one_or_none()
            if old is None:
                break
            tx.execute(delete(mailing_recipients).where(mailing_recipients.c.mailing == old))
            tx.execute(delete(mailings).where(mailings.c.id == old))
        removed += 1
    if removed:
        log.info("unsent_mailings_removed", count=removed)
    return removed


def list_recipients(call: OngoingCall[ListRecipients, Recipients]) -> Recipients:
    """What became of each, with the cards of those whose case the caller may read: a reading of it (R-CASE-18).

    Not of the others: whoever may write a list of numbers must not learn by it who is behind them, and whoever has had
    a case has no more of it than anyone else (R-CASE-3).
    """
    rows, after, readable = call.read(_listed)
    cards = neighbours.cards(call, {row["resident"] for row in rows if row["case_id"] in readable})
    return Recipients(
        recipients=[
            RecipientShown(
                resident=neighbours.card_for_staff(cards.get(row["resident"])),
                result=row["result"],
                case=row["case_id"],
                position=row["position"],
            )
            for row in rows
        ],
        after=after,
    )


def _listed(tx: Transaction, request: ListRecipients) -> tuple[list[Row], str | None, set[UUID]]:
    """A page of the recipients, and which of their cases the caller may read, each of them logged as read."""
    mailing = _mine(tx, request.mailing)["id"]
    question = select(mailing_recipients).where(mailing_recipients.c.mailing == mailing)
    if request.result is not None:
        question = question.where(mailing_recipients.c.result == request.result)
    if request.after is not None:
        # As a large number: a place that no position can have is the end, and no error.
        question = question.where(
            mailing_recipients.c.position > literal(read_number_cursor(request.after), BigInteger)
        )
    in_order = question.order_by(mailing_recipients.c.position).limit(request.limit + 1)
    found: list[Row] = list(tx.execute(in_order).mappings())
    rows, after = page(found, request.limit, lambda row: number_cursor(row["position"]))
    given = [row["case_id"] for row in rows if row["case_id"] is not None]
    theirs = select(cases).where(cases.c.id.in_(given), visible(viewer(tx.caller), tx.now))
    readable = tx.execute(theirs).mappings().all() if given else []
    access_log.log_listing(tx, readable)
    return rows, after, {row["id"] for row in readable}
