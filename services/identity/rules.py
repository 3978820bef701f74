"""The decisions of identity, without I/O: who may give what, how long a session lasts, what a register code means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.contracts.base import HsaId, Role

# --- logging in -----------------------------------------------------------------------------------------------------

LOGIN_LIFETIME = timedelta(minutes=10)
"""From the beginning of a login to its end; after that its nonce is worth nothing."""


SINCE_SHOWN = timedelta(seconds=60)
"""For an unlocking, the e-ID must have been shown after the login began, give or take the clocks (R-ID-4)."""


def shown_afresh(begun: datetime, shown: datetime) -> bool:
    """Whether someone showed their e-ID for this very login, and was not let in on an earlier one."""
    return shown >= begun - SINCE_SHOWN


def hsa_id_to_use(chosen: Collection[str], own: Collection[str], wished: str | None) -> str | None:
    """Which of a person's own HSA-ids the session is for: the wished one if it is theirs, else the one that was chosen
    at the identity provider, else the only one.

    None: the wished one is not theirs, or there are several to choose among.
    """
    if wished is not None:
        return wished if wished in own else None
    candidates = chosen or own
    return next(iter(candidates)) if len(candidates) == 1 else None


# --- sessions (R-ID-21) ---------------------------------------------------------------------------------------------

ACCESS_LIFETIME = timedelta(minutes=5)
IDLE_LIMIT = timedelta(minutes=30)
SESSION_LIMIT = timedelta(hours=12)
CLOCK_DIFFERENCE = timedelta(seconds=60)
"""How far the clocks of two machines may be apart."""


def session_end(started: datetime) -> datetime:
    """When a session ends at the latest, however busy it is."""
    return started + SESSION_LIMIT


def access_end(now: datetime, session_ends: datetime) -> datetime:
    """When an access token that is given out now ends."""
    return min(now + ACCESS_LIFETIME, session_ends)


def session_lives(now: datetime, renewed: datetime, session_ends: datetime, ended: datetime | None) -> bool:
    """Whether a session can still be renewed: not ended, not idle for 30 minutes, not 12 hours old."""
    return ended is None and now < session_ends and now - renewed < IDLE_LIMIT


def remember_ended_until(now: datetime) -> datetime:
    """Until when other services must know that a session has ended: its last access token is dead by then."""
    return now + ACCESS_LIFETIME + CLOCK_DIFFERENCE


# --- roles (R-ID-6) -------------------------------------------------------------------------------------------------

_BY_ADMINISTRATORS = frozenset({Role.CASE_RECEIVER, Role.CASE_HANDLER, Role.LOCAL_ADMIN, Role.RIGHTS_ADMIN})


@dataclass(frozen=True)
class Grant:
    """What the holder of one role may give to others, and take from them."""

    gives: frozenset[Role]
    takes: frozenset[Role]

    @classmethod
    def same(cls, *roles: Role) -> Grant:
        return cls(frozenset(roles), frozenset(roles))


GRANTS: Mapping[Role, Grant] = {
    Role.RIGHTS_ADMIN: Grant.same(Role.CASE_RECEIVER, Role.CASE_HANDLER),
    Role.LOCAL_ADMIN: Grant.same(*_BY_ADMINISTRATORS),
    Role.OPERATIONS_ASSISTANT: Grant.same(*_BY_ADMINISTRATORS),
    Role.OPERATIONS_MANAGER: Grant.same(*_BY_ADMINISTRATORS, Role.OPERATIONS_ASSISTANT),
    # An operations manager who is gone can't take back the assistant, so the region can.
    Role.REGIONAL_ADMIN: Grant(
        gives=frozenset({Role.LOCAL_ADMIN, Role.OPERATIONS_MANAGER, Role.LOG_REVIEWER}),
        takes=frozenset({Role.LOCAL_ADMIN, Role.OPERATIONS_MANAGER, Role.LOG_REVIEWER, Role.OPERATIONS_ASSISTANT}),
    ),
}
"""The grant matrix: roles that are not named here give nothing to anybody."""
NEVER_TO_ONESELF = frozenset({Role.LOG_REVIEWER})
"""Nobody makes oneself the one who reviews what has been read: another regional administrator has to."""


def may_give(held: Iterable[Role], role: Role) -> bool:
    """Whether someone who holds these roles (regional_admin among them, if so) may give this one (R-ID-6)."""
    return any(role in GRANTS[one].gives for one in held if one in GRANTS)


def may_take(held: Iterable[Role], role: Role) -> bool:
    """Whether someone who holds these roles may take this one from another (R-ID-6)."""
    return any(role in GRANTS[one].takes for one in held if one in GRANTS)


def administers(held: Iterable[Role]) -> bool:
    """Whether someone who holds these roles gives any right there, and so sees who has which."""
    return any(one in GRANTS for one in held)


def loses_last_administrator(role: Role, others: int, by_regional_admin: bool) -> bool:
    """Whether taking this role would silently leave the clinic without a local administrator (R-ID-6): it has `others`
    beside the one from whom it is taken."""
    return role is Role.LOCAL_ADMIN and others == 0 and not by_regional_admin


# --- the population register ----------------------------------------------------------------------------------------


class RegisterCode(StrEnum):
    """What a deregistration code does to an account."""

    NOTHING = "nothing"
    INACTIVATES = "inactivates"
    UNKNOWN = "unknown"


_CHANGES_NOTHING = frozenset({"UV", "GN", "GS", "AS", "OB", "TA", "FI"})


def register_code(code: str | None) -> RegisterCode:
    """AV makes the account inactive (R-ID-17); UV and the other known ones change nothing; unknown ones change nothing
    and are to be logged (R-ID-18)."""
    if code is None or code in _CHANGES_NOTHING:
        return RegisterCode.NOTHING
    return RegisterCode.INACTIVATES if code == "AV" else RegisterCode.UNKNOWN


def active_after(code: str | None, active: bool) -> bool:
    """Whether an account that was `active` or not is so once the register has told this code (R-ID-17, R-ID-18).

    Only a death makes it inactive, and only someone who is not deregistered at all makes it active again.
    """
    return code is None or (active and register_code(code) is not RegisterCode.INACTIVATES)


def answer_counts(asked_at: datetime, known_as_of: datetime, now: datetime) -> bool:
    """Whether an answer to what was asked at `asked_at` is to be kept, where what is known was asked for at
    `known_as_of`: answers can be written in another order than they were asked for, and the older must not undo what
    the newer one said (R-ID-14, R-ID-17, R-ID-24).

    What is known from a time that is still to come, by a clock that went wrong, stands against no answer.
    """
    return asked_at >= known_as_of or known_as_of > now + CLOCK_DIFFERENCE


# --- access to clinics (R-ID-13, R-ID-15, R-ID-22) ------------------------------------------------------------------

MANAGES_ACCESS = (Role.LOCAL_ADMIN, Role.OPERATIONS_MANAGER, Role.OPERATIONS_ASSISTANT)
"""Who sets a clinic's catchment, approves residents and blocks guardians there."""

PLACE_FRESH = timedelta(hours=24)
"""How long it is believed in which county a clinic lies before the directory is asked again."""


class AccessRefused(StrEnum):
    """Why a resident can't turn to a clinic."""

    OUTSIDE_CATCHMENT = "outside_catchment"
    PROTECTED_OUTSIDE_COUNTY = "protected_outside_county"
    GUARDIAN_BLOCKED = "guardian_blocked"
    NOT_REPRESENTATIVE = "not_representative"
    UNKNOWN_RESIDENT = "unknown_resident"


@dataclass(frozen=True)
class Whereabouts:
    """Where a resident belongs. Codes as in the directory: counties of two digits, municipalities of four."""

    protected: bool
    county: str | None
    municipality: str | None
    listed_at: HsaId | None


@dataclass(frozen=True)
class Area:
    """A clinic's catchment; nothing named: everywhere."""

    counties: frozenset[str] = frozenset()
    municipalities: frozenset[str] = frozenset()

    def covers(self, county: str | None, municipality: str | None) -> bool:
        """Whether someone registered there lives inside; where it is not known where, only if it is everywhere."""
        return (
            not (self.counties or self.municipalities) or county in self.counties or municipality in self.municipalities
        )


EVERYWHERE = Area()


@dataclass(frozen=True)
class LetIn:
    """An approval of one resident by one clinic. `case_types` None: all; `last_day` None: until it is taken back."""

    case_types: frozenset[UUID] | None = None
    last_day: date | None = None

    def holds(self, today: date) -> bool:
        """Whether it holds on this day, Swedish date; on its last day it does."""
        return self.last_day is None or today <= self.last_day


def united(approvals: Iterable[LetIn], today: date) -> LetIn | None:
    """What several approvals of one resident by one clinic let in together on this day; None: none of them holds."""
    holding = [one for one in approvals if one.holds(today)]
    if not holding:
        return None
    types = [one.case_types for one in holding]
    return LetIn(None if None in types else frozenset().union(*(one for one in types if one is not None)))


@dataclass(frozen=True)
class Access:
    """Whether a resident may turn to a clinic; `case_types`: only these, None: all of them."""

    refused: AccessRefused | None = None
    case_types: frozenset[UUID] | None = None


def whereabouts(
    *, protected: bool, county: str | None, municipality: str | None, listed_at: HsaId | None, listed_county: str | None
) -> Whereabouts:
    """Where a resident belongs: the register's county; where it gives none, as for the protected, that of the clinic
    where they are listed (R-ID-15). `municipality` is the register's, of two digits, counted within the county."""
    if protected or county is None:
        return Whereabouts(protected, listed_county, None, listed_at)
    return Whereabouts(protected, county, county + municipality if municipality else None, listed_at)


def access_to_clinic(
    resident: Whereabouts, clinic: HsaId, clinic_county: str | None, area: Area, approval: LetIn | None, today: date
) -> Access:
    """The one decision whether a resident may turn to a clinic (R-ID-15, R-ID-22).

    Where they are listed they always may. Else they belong to the catchment, and a protected person to the county too,
    where an unknown county counts as another one; or the clinic has approved them.
    """
    if resident.listed_at == clinic:
        return Access()
    own_county = resident.county is not None and resident.county == clinic_county
    refused = None
    if resident.protected and not own_county:
        refused = AccessRefused.PROTECTED_OUTSIDE_COUNTY
    elif not area.covers(resident.county, resident.municipality):
        refused = AccessRefused.OUTSIDE_CATCHMENT
    if refused is not None and approval is not None and approval.holds(today):
        return Access(case_types=approval.case_types)
    return Access(refused)


# --- representatives (R-ID-11, R-ID-13) -----------------------------------------------------------------------------

CHILD_UNTIL = 13
"""The age, in years, from which nobody acts for a child."""


def birth_date(number: str) -> date | None:
    """The date of birth in a personnummer or samordningsnummer of twelve digits; None where it is not known whole."""
    try:
        day = int(number[6:8])
        return date(int(number[:4]), int(number[4:6]), day - 60 if day > 60 else day)
    except ValueError:
        return None


def independent_on(born: date) -> date:
    """The 13th birthday: from that day on there is no representative. Born on 29 February: the 28th."""
    try:
        return born.replace(year=born.year + CHILD_UNTIL)
    except ValueError:
        return date(born.year + CHILD_UNTIL, 2, 28)


def may_act_for(*, today: date, born: date | None, guardian_protected: bool, child_protected: bool) -> bool:
    """Whether someone with custody may act for a child on this day, Swedish date: a child under 13 whose birth date is
    known whole, and neither of the two protected."""
    return born is not None and born <= today < independent_on(born) and not (guardian_protected or child_protected)


def is_child(number: str, today: date) -> bool:
    """Whether the number is that of a child under 13, whose guardians are told in its place (R-NOT-8)."""
    born = birth_date(number)
    return born is not None and born <= today < independent_on(born)


# --- verification of addresses (R-NOT-9) ----------------------------------------------------------------------------

CODE_DIGITS = 6
CODE_LIFETIME = timedelta(minutes=15)
CODE_ATTEMPTS = 5
CODES_AN_HOUR = 5
"""To one person."""
CODES_A_DAY = 10
"""To one address, whoever has them sent: nobody can have us flood a stranger's mailbox or telephone."""


def counted_address(address: str) -> str:
    """What the codes of a day are counted by: all mail addresses that differ by a tag (`+…`) lead to one mailbox."""
    name, at, domain = address.rpartition("@")
    return (name.partition("+")[0] + at + domain).casefold() if at else address


def code_holds(now: datetime, sent_at: datetime, attempts: int) -> bool:
    """Whether a code can still be given back, counting this attempt: in time, and not guessed at too often."""
    return now - sent_at < CODE_LIFETIME and attempts <= CODE_ATTEMPTS
