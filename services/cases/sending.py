"""Sends mailings, some recipients at a time, each lot in a transaction with what became of it (R-CASE-14).

Whoever is killed in between leaves the rest waiting; the next run goes on there. A recipient gets one case: that they
have it is written in the transaction that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import bindparam, select, update

from services.cases import case_types, contacting, mailings
from services.cases.handlers import Entitled, entitled, hold_rights_of, told_to_handle
from services.cases.messages import Sender
from services.cases.opening import open_sealed
from services.cases.signature import name_and_signature, signature_of
from services.cases.tables import Row, mailing_recipients
from services.cases.tables import mailings as table
from shared.contracts.directory import GET_CLINICS, GET_STAFF, GetClinics, GetStaff
from shared.contracts.identity import (
    CURRENT_RIGHTS,
    RESIDENT_CARDS,
    CurrentRights,
    ResidentCard,
    ResidentCards,
    RightsNow,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import DeadlineExceeded, Unavailable
from shared.operations.jobs import TurnLost
from shared.operations.logs import log

AT_ONCE = 100


@dataclass(frozen=True)
class Asked:
    """What the other services said of one lot: the clinic, the sender, and the result for each resident."""

    care_provider: str | None
    rights: RightsNow
    name: str
    signature: str
    results: dict[UUID, str]


def send_all(run: Any) -> int:
    """Sends all that is to be sent, the oldest mailing first; says to how many."""
    sent, passed = 0, list[UUID]()
    while not run.stopping.is_set():
        with run.transaction() as tx:
            found = _next(tx, passed)
        if found is None:
            break
        mailing, residents = found
        try:
            asked = _ask(run, mailing, residents)
            with run.transaction() as tx:
                sent += send_some(tx, mailing["id"], asked)
        except TurnLost:
            raise
        except Exception as error:  # the others should not suffer for it; it has its turn again in the next run
            passed.append(mailing["id"])
            known = isinstance(error, Unavailable | DeadlineExceeded)
            log.error("mailing_put_off", mailing_id=str(mailing["id"]), exc_info=None if known else error)
    if sent:
        log.info("mailings_sent", count=sent)
    return sent


def _next(tx: Transaction, passed: list[UUID]) -> tuple[Row, list[UUID]] | None:
    """The oldest mailing that is being sent, but those passed over, and the residents of its next lot."""
    sending = (table.c.state == "sending") & table.c.id.not_in(passed)
    oldest = select(table).where(sending).order_by(table.c.sent_from, table.c.id).limit(1)
    mailing = tx.execute(oldest).mappings().one_or_none()
    if mailing is None:
        return None
    return mailing, [row["resident"] for row in _waiting(tx, mailing["id"])]


def _waiting(tx: Transaction, mailing: UUID) -> list[Row]:
    waiting = select(mailing_recipients).where(
        mailing_recipients.c.mailing == mailing, mailing_recipients.c.result == "waiting"
    )
    return list(tx.execute(waiting.order_by(mailing_recipients.c.position).limit(AT_ONCE)).mappings())


def _ask(run: Any, mailing: Row, residents: list[UUID]) -> Asked:
    """Everything about one lot, before the transaction. What can't be asked now, or is not known to the directory at
    the moment, is asked again in the next run: `Unavailable`."""
    clinics = run.ask(GET_CLINICS, GetClinics(clinics=[mailing["clinic"]])).clinics
    staff = run.ask(GET_STAFF, GetStaff(people=[mailing["author"]])).staff
    if not clinics:
        raise Unavailable(reason="care_provider_unknown")
    name, made = name_and_signature(staff[0].given_name, staff[0].surname, staff[0].title)
    cards = run.ask(RESIDENT_CARDS, ResidentCards(residents=residents)).cards if residents else []
    known: dict[UUID, ResidentCard] = {card.resident: card for card in cards}
    rights = run.ask(CURRENT_RIGHTS, CurrentRights(subject=mailing["author"]))
    if not name and told_to_handle(rights, mailing["clinic"]):  # who may not send any more needs no name to be stopped
        raise Unavailable(reason="sender_unknown")
    return Asked(
        care_provider=clinics[0].care_provider if clinics[0].active else None,
        rights=rights,
        name=name,
        signature=made,
        results={one: _result(known.get(one)) for one in residents},
    )


def _result(card: ResidentCard | None) -> str:
    """What can become of a recipient (R-CASE-12, R-CASE-22)."""
    if card is None:
        return "no_account"
    if card.locked:
        return "locked"
    return "sent" if card.active else "sent_to_inactive"


def send_some(tx: Transaction, mailing_id: UUID, asked: Asked) -> int:
    """Sends to the next recipients, of those who were asked about; says to how many. Ends the mailing where it is done,
    or where its author may not send it any more."""
    mailing = tx.execute(select(table).where(table.c.id == mailing_id).with_for_update()).mappings().one()
    if mailing["state"] != "sending":
        return 0  # cancelled meanwhile
    hold_rights_of(tx, mailing["author"])
    # Identity's word too: the copy alone may be late without knowing (R-ID-10).
    by = entitled(tx, mailing["author"], mailing["clinic"], asked.rights)
    allowed = by is not None and told_to_handle(asked.rights, mailing["clinic"])
    if by is None or not allowed or asked.care_provider is None:
        mailings.end(tx, mailing_id, "stopped")
        log.warning("mailing_stopped", mailing_id=str(mailing_id))
        return 0
    waiting = _waiting(tx, mailing_id)
    if not waiting:
        mailings.end(tx, mailing_id, "done")
        return 0
    lot = [row for row in waiting if row["resident"] in asked.results]
    if not lot:
        return 0
    to = {
        row["position"]: contacting.To(
            resident=row["resident"],
            case=uuid5(mailing_id, f"case of {row['resident']}"),
            message=uuid5(mailing_id, f"message to {row['resident']}"),
        )
        for row in lot
        if asked.results[row["resident"]].startswith("sent")
    }
    if to:
        contacting.start_cases(tx, _letter(tx, mailing, asked, asked.care_provider, by), list(to.values()))
    place = mailing_recipients.c.position == bindparam("_position")
    tx.execute(
        update(mailing_recipients)
        .where(mailing_recipients.c.mailing == mailing_id, place)
        .values(result=bindparam("_result"), case_id=bindparam("_case")),
        [
            {
                "_position": row["position"],
                "_result": asked.results[row["resident"]],
                "_case": to[row["position"]].case if row["position"] in to else None,
            }
            for row in lot
        ],
    )
    return len(to)


def _letter(tx: Transaction, mailing: Row, asked: Asked, care_provider: str, by: Entitled) -> contacting.Letter:
    template = case_types.as_it_was(tx, mailing)
    content = open_sealed(tx.sealer, bytes(mailing["content"]), mailings.context(mailing["id"]))
    signature = signature_of(tx, mailing["author"]) or asked.signature
    return contacting.Letter(
        clinic=mailing["clinic"],
        care_provider=care_provider,
        template=template,
        text=content.decode(),
        sender=Sender("staff", mailing["author"], asked.name, signature),
        handler_rights_number=by.rights_number,
    )
