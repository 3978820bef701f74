"""Every change of someone's rights and every ended session, numbered without gaps and told at once (R-ID-10).

The number is taken in the transaction of the change. Its row lock puts such transactions in one order, so that the
events leave in the order of their numbers, and whoever holds the lock reads rights that nobody else is changing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection, select, text, update

from services.identity.tables import rights_clock
from shared.contracts import identity
from shared.contracts.base import Done, HsaId, Role
from shared.messaging.errors import NotAuthenticated
from shared.security.caller import Caller, Rights

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

AGGREGATE = "rights"
"""One for all changes: their events leave in the order of their numbers."""

_NOW = text(
    """SELECT (SELECT number FROM rights_clock) AS number,
              (SELECT coalesce(jsonb_agg(jsonb_build_object('clinic', clinic, 'role', role)), '[]')
               FROM roles WHERE person = :subject) AS roles,
              EXISTS (SELECT FROM regional_admins WHERE person = :subject) AS regional,
              EXISTS (SELECT FROM sessions
                      WHERE session = :session AND subject = :subject AND ended_at IS NULL) AS session_live"""
)

_PAGE = text(
    """SELECT clock.number, held.person, held.roles, held.regional
       FROM rights_clock AS clock
       LEFT JOIN (SELECT staff.person,
                         (SELECT coalesce(jsonb_agg(jsonb_build_object('clinic', clinic, 'role', role)), '[]')
                          FROM roles WHERE roles.person = staff.person) AS roles,
                         EXISTS (SELECT FROM regional_admins AS admins WHERE admins.person = staff.person) AS regional
                  FROM staff
                  WHERE staff.person COLLATE "C" > :after
                    AND (EXISTS (SELECT FROM roles WHERE roles.person = staff.person)
                         OR EXISTS (SELECT FROM regional_admins AS admins WHERE admins.person = staff.person))
                  ORDER BY staff.person COLLATE "C" LIMIT :most) AS held ON true
       ORDER BY held.person COLLATE "C" """
)
PAGE = 1000


def current(connection: Connection, subject: str, session: UUID | None) -> identity.RightsNow:
    """What someone may do, read in one statement, so that the number belongs to what stands beside it."""
    row = connection.execute(_NOW, {"subject": subject, "session": session}).one()
    return identity.RightsNow(
        number=row.number,
        roles=[identity.HeldRole(**one) for one in row.roles],
        regional=row.regional,
        session_live=session is None or row.session_live,
    )


def current_rights(tx: Transaction, request: identity.CurrentRights) -> identity.RightsNow:
    """Answers a service whose own copy may be late."""
    return current(tx.connection, request.subject, request.session)


def all_rights(tx: Transaction, request: identity.AllRights) -> identity.RightsPage:
    """Answers a service that compares its copy; one statement, so that the number belongs to what stands beside it."""
    rows = tx.execute(_PAGE, {"after": request.after, "most": PAGE}).all()
    return identity.RightsPage(
        number=rows[0].number,
        people=[
            identity.RightsOf(
                person=row.person, roles=[identity.HeldRole(**one) for one in row.roles], regional=row.regional
            )
            for row in rows
            if row.person is not None
        ],
        more=len(rows) == PAGE,
    )


def tell_again(tx: Transaction, request: identity.TellRightsAgain) -> Done:
    """Tells what these hold now, as a change like any other: the newest version, which every copy takes in."""
    for person in sorted(set(request.people)):
        tell(tx, person)
    return Done()


def rights_source(connection: Connection, caller: Caller) -> Rights:
    """What the caller may do, from identity's own tables. Raises `NotAuthenticated` if the session has ended."""
    now = current(connection, caller.subject, caller.session)
    if not now.session_live:
        raise NotAuthenticated(reason="session_ended")
    held: dict[HsaId, set[Role]] = {}
    for one in now.roles:
        held.setdefault(one.clinic, set()).add(one.role)
    return Rights({clinic: frozenset(found) for clinic, found in held.items()}, now.regional)


def latest_number(connection: Connection) -> int:
    """The latest revocation number, for the announcement four times a second."""
    number: int = connection.execute(select(rights_clock.c.number)).scalar_one()
    return number


def wait_for_turn(tx: Transaction) -> None:
    """Takes the lock of all changes of rights: what is read about rights from here on stays so until the end."""
    tx.execute(select(rights_clock.c.number).with_for_update())


def tell(tx: Transaction, subject: str, ended_sessions: Sequence[identity.EndedSession] = ()) -> int:
    """Numbers a change and publishes it with all that the subject holds now. Call it after the change."""
    number: int = tx.execute(
        update(rights_clock).values(number=rights_clock.c.number + 1).returning(rights_clock.c.number)
    ).scalar_one()
    now = current(tx.connection, subject, None)
    tx.publish(
        identity.RIGHTS_CHANGED,
        identity.RightsChanged(
            number=number,
            subject=subject,
            version=number,  # grows with each change of the subject, as it grows with every change
            roles=now.roles,
            regional=now.regional,
            ended_sessions=list(ended_sessions),
        ),
        aggregate=AGGREGATE,
    )
    return number
