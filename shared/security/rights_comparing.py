"""A copy of the rights that lacks something is mended: an event can be lost with a broker or a database (R-ID-10).

A copy with a gap in the numbers asks identity in every call, which is safe but not for ever. So it is compared with
what identity holds, in pages. Of whom it has something else, identity tells anew, by the same events that tell every
change, so that the service hears of it too. Where nothing differs, the numbers that never came are passed over: only
old ones, so that no access token lives of a session whose end might have been among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Connection, text

from shared.contracts import identity
from shared.contracts.base import Call
from shared.operations.logs import log
from shared.security.rights import Freshness, pass_over, progress

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

Transactions = Callable[[], AbstractContextManager["Transaction"]]
Ask = Callable[[Call[Any, Any], Any], Any]
Held = tuple[frozenset[tuple[str, str]], bool]

_NOTHING: Held = (frozenset(), False)
_COPY = text(
    """SELECT subject, roles, regional FROM rights_subjects
       WHERE subject COLLATE "C" > :after AND (CAST(:until AS text) IS NULL OR subject COLLATE "C" <= :until)"""
)


class NumbersWentBack(Exception):
    """Identity has given out a number that it does not know of any more: its database was put back from a copy, and
    `services.identity.restored` was not run. Until it is, changes of rights may pass by this service's copy."""


def mend(transaction: Transactions, ask: Ask, freshness: Freshness, now: float | None = None) -> None:
    """Closes a gap that has been there for ten minutes. `now`: monotonic seconds. Raises what identity refuses with."""
    settled = freshness.settled(time.monotonic() if now is None else now)
    with transaction() as tx:
        before = progress(tx.connection, settled)
    if before[0] >= settled or compare(transaction, ask):
        return
    with transaction() as tx:
        passed = pass_over(tx.connection, settled, before)
    if passed:
        log.warning("rights_gap_closed", applied=before[0], settled=settled)


def compare(transaction: Transactions, ask: Ask) -> int:
    """Has identity tell anew of everyone of whom the copy has something else; says of how many, at most some hundred.

    What changes meanwhile may be told twice, which does no harm. Raises `NumbersWentBack`.
    """
    different: list[str] = []
    with transaction() as tx:
        applied, _ = progress(tx.connection, 0)
    for number, after, until, told in _pages(ask):
        if number < applied:
            log.error("rights_clock_went_back", number=number, applied=applied)
            raise NumbersWentBack(f"identity is at {number}, the copy at {applied}")
        with transaction() as tx:
            copied = _copied(tx.connection, after, until)
        different += sorted(
            one for one in told.keys() | copied.keys() if told.get(one, _NOTHING) != copied.get(one, _NOTHING)
        )
        if len(different) >= identity.MANY:
            break
    if different:
        again = identity.TellRightsAgain(request_id=uuid4(), people=different[: identity.MANY])
        ask(identity.TELL_RIGHTS_AGAIN, again)
        log.warning("rights_differed", people=len(different))
    return len(different)


def _pages(ask: Ask) -> Iterator[tuple[int, str, str | None, dict[str, Held]]]:
    """As of which number, what identity holds of those after one HSA-id up to another, inclusive; None: the last."""
    after = ""
    while True:
        page: identity.RightsPage = ask(identity.ALL_RIGHTS, identity.AllRights(after=after))
        told = {
            one.person: (frozenset((held.clinic, held.role.value) for held in one.roles), one.regional)
            for one in page.people
        }
        until = page.people[-1].person if page.more else None
        yield page.number, after, until, told
        if until is None:
            return
        after = until


def _copied(connection: Connection, after: str, until: str | None) -> dict[str, Held]:
    rows = connection.execute(_COPY, {"after": after, "until": until})
    return {
        row.subject: (frozenset((held["clinic"], held["role"]) for held in row.roles), row.regional) for row in rows
    }
