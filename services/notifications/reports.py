"""What providers tell later: that an SMS has arrived or could not be delivered, that a mail came back.

A report that can be told from a forged one is all that is taken: it comes to an address signed for one sending of one
delivery, or with the secret that the provider shares with us. It settles what was uncertain; it never makes anything be
sent.
"""

from __future__ import annotations

import email
import email.policy
import hmac
import re
from dataclasses import dataclass
from email.message import Message as Mail
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update

from services.notifications.bounces import BOUNCED, came_back, is_about_the_address
from services.notifications.channels.mail import SENDING_HEADER
from services.notifications.channels.sms_apis import Judgement
from services.notifications.tables import deliveries
from shared.contracts.notifications import DeliveryState
from shared.database.transaction import Transaction
from shared.operations.logs import log
from shared.security.sealing import keyed_hash

_REFERENCE = re.compile(
    r"(?P<delivery>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(?P<sending>[0-9]{1,6})"
    r"(?:\.(?P<attempt>[0-9]{1,6})-(?P<provider>[0-9a-f]{8}))?"  # not in those of the version before
)
_MESSAGE_ID = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@[^<>\s]+>")
_OPENS_PARTS = re.compile(rb"boundary[*0-9\s]*=", re.IGNORECASE)
_LOOKED_AT = 256 * 1024
_MOST_PARTS = 20
_SENDING = re.compile(r"[0-9]{1,6}")
_SIGNATURE_LENGTH = 32
_SEEN = (
    *BOUNCED,
    deliveries.c.state,
    deliveries.c.attempts,
    deliveries.c.provider,
    deliveries.c.report,
    deliveries.c.resent,
)
"""Of a delivery: the webhook's role may read no more."""


def reference_of(delivery: UUID, sending: int, attempt: int, provider: str) -> str:
    """What a provider repeats in its reports: which delivery, how many times it had been sent again by hand, which
    attempt this is, and with whom."""
    return f"{delivery}.{sending}.{attempt}-{_mark(provider)}"


def _mark(provider: str) -> str:
    return sha256(provider.encode()).hexdigest()[:8]


def signature(key: bytes, slot: str, reference: str) -> str:
    """What only we can put into the address of this provider for reports of this attempt."""
    return keyed_hash(key, f"report:{slot}/{reference}").hex()[:_SIGNATURE_LENGTH]


def is_signed(key: bytes, slot: str, reference: str, given: str) -> bool:
    """Whether the address is one that we gave out."""
    return hmac.compare_digest(signature(key, slot, reference).encode(), given.encode("utf-8", "replace"))


def take(tx: Transaction, reference: str, judgement: Judgement) -> bool:
    """Takes in what a provider says of one sending. False: there is no such delivery, or no more.

    Reports come late, twice and in any order: arrived is arrived. One of an earlier sending, before it was sent again
    by hand, says nothing of the new one. Nor does one that an earlier attempt, or one with another provider, came to
    nothing: that it did is known, and the message is tried elsewhere. That it has arrived counts from anyone (R-NOT-7).
    """
    fits = _REFERENCE.fullmatch(reference)
    if fits is None:
        return False
    row = tx.execute(
        select(*_SEEN).where(deliveries.c.delivery == UUID(fits["delivery"])).with_for_update()
    ).one_or_none()
    if row is None:
        return False
    if row.resent == int(fits["sending"]) and (judgement != "undelivered" or _is_of_the_last(row, fits)):
        _settle(tx, row, judgement)
    return True


def _is_of_the_last(row: Row[Any], fits: re.Match[str]) -> bool:
    """Whether what is reported is the last attempt that the delivery has had, or has just now."""
    if fits["attempt"] is None:
        return True
    last = row.attempts + (row.state == DeliveryState.SENDING)
    return int(fits["attempt"]) == last and fits["provider"] == _mark(row.provider or "")


@dataclass(frozen=True)
class CameBack:
    """A mail that came back. `sending`: which of the delivery's, if it says so."""

    delivery: UUID
    sending: int | None
    about_the_address: bool


def returned(raw: bytes) -> CameBack | None:
    """What a mail that came back (RFC 3464) is about, by the Message-ID of what was sent. None: it is no such mail.

    Anyone may have written it. Reading takes the time of its lines, once for each of the parts that they stand in: so
    many of both are looked at, and no more. What it is about stands at the beginning.
    """
    raw = raw[:_LOOKED_AT]
    if len(_OPENS_PARTS.findall(raw)) > _MOST_PARTS:
        return None
    try:
        return _failed_for_good(raw)
    except Exception as error:  # whatever the parser stumbles over
        log.info("mail_not_readable", exc_info=error)
        return None


def take_bounce(tx: Transaction, found: CameBack) -> None:
    """Takes in that a mail came back.

    Only what has failed for good counts: a server that still tries has said nothing. One of an earlier sending says
    nothing of the new one; one that does not say which it is about counts while there has been only one.
    """
    row = tx.execute(select(*_SEEN).where(deliveries.c.delivery == found.delivery).with_for_update()).one_or_none()
    if row is not None and row.resent == (found.sending or 0):
        _settle(tx, row, "undelivered", about_the_address=found.about_the_address)


def _settle(tx: Transaction, row: Row[Any], judgement: Judgement, *, about_the_address: bool = True) -> None:
    if row.report == "delivered" or row.report == judgement:
        return
    if judgement == "on_its_way" and row.report is not None:
        return  # it comes late: how the message ended is known already
    values: dict[str, Any] = {"report": judgement, "reported_at": tx.now}
    if row.state == DeliveryState.SENDING:
        pass  # its sender is about to record how it went, and sees this then
    elif judgement == "undelivered":
        if row.state not in (DeliveryState.SENT, DeliveryState.UNCERTAIN):
            return
        values |= {"state": DeliveryState.FAILED, "reason": "undelivered", "ended_at": tx.now}
        if about_the_address:
            came_back(tx, row)
    elif row.state != DeliveryState.SENT:
        # The provider has it after all, whatever it answered when it was handed over: it must not be sent again.
        values |= {"state": DeliveryState.SENT, "reason": None, "ended_at": tx.now, "lease_until": None}
    tx.execute(update(deliveries).where(deliveries.c.delivery == row.delivery).values(values))
    log.info("delivery_reported", delivery=str(row.delivery), channel=row.channel, state=judgement)


def _failed_for_good(raw: bytes) -> CameBack | None:
    """The delivery that a report of delivery status is about, if it says that it failed."""
    report = email.message_from_bytes(raw, policy=email.policy.compat32)
    if report.get_content_type() != "multipart/report":
        return None
    failed, original, about_the_address = False, None, False
    for part in report.walk():
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            for block in _blocks(part):
                if str(block.get("Action", "")).strip().lower() == "failed":
                    failed = True
                    # "5.1.1 (no such user)": a comment may follow
                    status = str(block.get("Status", "")).split(maxsplit=1)
                    about_the_address |= bool(status) and is_about_the_address(status[0])
        elif kind in ("message/rfc822", "message/rfc822-headers", "text/rfc822-headers"):
            original = original or _original(part)
    if not failed or original is None:
        return None
    return CameBack(*original, about_the_address)


def _blocks(part: Mail) -> list[Mail]:
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, Mail)] if isinstance(payload, list) else []


def _original(part: Mail) -> tuple[UUID, int | None] | None:
    """Which delivery, and which of its sendings, the mail or the headers that came back are of."""
    inner = _blocks(part)
    headers = (
        inner[0] if inner else email.message_from_string(str(part.get_payload()).lstrip(), policy=email.policy.compat32)
    )
    fits = _MESSAGE_ID.fullmatch(str(headers.get("Message-ID", "")).strip())
    sending = _SENDING.fullmatch(str(headers.get(SENDING_HEADER, "")).strip())
    return (UUID(fits[1]), int(sending[0]) if sending else None) if fits else None
