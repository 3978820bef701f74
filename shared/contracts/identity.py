"""Identity: who someone is, what they may do, and that it is known everywhere at once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Contract, Done, EventBody, HsaId, Instant, Query, Reply, Role, Text

identity = Contract("identity")

PersonKind = Literal["staff", "resident"]
Channel = Literal["sms", "email"]
Occasion = Literal["case_assigned", "resident_wrote", "new_case"]
ClinicRole = Literal[
    Role.CASE_RECEIVER,
    Role.CASE_HANDLER,
    Role.LOCAL_ADMIN,
    Role.RIGHTS_ADMIN,
    Role.LOG_REVIEWER,
    Role.OPERATIONS_MANAGER,
    Role.OPERATIONS_ASSISTANT,
]

MANY = 500
"""How many people one question may name."""

# --- roles ----------------------------------------------------------------------------------------------------------


class MakeFirstAdministrator(Command):
    """Makes the first regional administrator; `conflict` once there has been one (R-ID-6)."""

    person: str = Field(max_length=200)


class FirstAdministrator(Reply):
    person: HsaId


class GiveRegionalAdmin(Command):
    """Makes a further regional administrator, as the operator; given before, nothing changes (R-ID-6).

    `person` may be pasted with blanks (R-ID-7), and must stand in HSA: else `invalid`, `staff_missing_in_directory`.
    """

    person: str = Field(max_length=200)


class TakeRegionalAdmin(Command):
    """Takes the right of a regional administrator, as the operator; not held, nothing changes (R-ID-6).

    It works at once in every service (R-ID-10). `conflict` with reason `last_administrator` for the only one there is:
    make another one first.
    """

    person: str = Field(max_length=200)


class RegionalAdmins(Reply):
    people: list[HsaId]
    """All regional administrators that there are now."""


class GiveRole(Command):
    """Gives someone a role at a clinic (R-ID-6).

    `person` may be pasted with blanks (R-ID-7), and need not be known here before (R-ID-8), but must stand in HSA: else
    `invalid` with reason `staff_missing_in_directory`. The clinic must be active: else `conflict`, `clinic_not_active`.
    Nobody makes oneself a log reviewer: `forbidden`, `not_to_oneself`.
    """

    clinic: HsaId
    person: str = Field(max_length=200)
    role: ClinicRole


class RoleGiven(Reply):
    person: HsaId
    roles: list[Role]
    """All that the person now holds at the clinic."""


class TakeRole(Command):
    """Takes a role at a clinic from someone; it works no more, anywhere, within a second (R-ID-10).

    The clinic's last administrator can only be taken by a regional administrator: else `conflict`, reason
    `last_administrator`. Administrators who are missing in HSA do not count beside one who is not.
    """

    clinic: HsaId
    person: str = Field(max_length=200)
    role: ClinicRole


class RoleTaken(Reply):
    person: HsaId
    roles: list[Role]
    overlapping_addresses: list[str] | None = None
    """Which of the clinic's own notification addresses equal the person's, from HSA or verified by them; they stay
    (R-ID-10). None: not known now."""


class ListRights(Query):
    """Who holds which roles at a clinic, for those who administer there."""

    clinic: HsaId


class PersonWithRoles(Reply):
    person: HsaId
    given_name: str | None = None
    surname: str | None = None
    title: str | None = None
    roles: list[Role]
    directory_status: Literal["fine", "missing"]
    """missing: absent from HSA, hidden there, or past the end date (R-ID-9)."""
    protected: bool = False
    overlapping_addresses: list[str] | None = None
    """Which of the clinic's own notification addresses equal the person's, from HSA or verified by them (R-ID-10).
    None: not known now."""


class ClinicRights(Reply):
    people: list[PersonWithRoles]


MAKE_FIRST_ADMINISTRATOR = identity.call(
    "make_first_administrator", MakeFirstAdministrator, FirstAdministrator, who=("operator",)
)
GIVE_REGIONAL_ADMIN = identity.call("give_regional_admin", GiveRegionalAdmin, RegionalAdmins, who=("operator",))
TAKE_REGIONAL_ADMIN = identity.call("take_regional_admin", TakeRegionalAdmin, RegionalAdmins, who=("operator",))
GIVE_ROLE = identity.call("give_role", GiveRole, RoleGiven, who=("staff",))
TAKE_ROLE = identity.call("take_role", TakeRole, RoleTaken, who=("staff",))
LIST_RIGHTS = identity.call("list_rights", ListRights, ClinicRights, who=("staff",))


class HeldRole(Reply):
    clinic: HsaId
    role: Role


class ListRolesOf(Query):
    """What someone holds, clinic by clinic: all of it for a regional administrator and for the person, else what they
    hold where the caller administers. `person` may be pasted with blanks (R-ID-7)."""

    person: str = Field(max_length=200)


class RolesOf(Reply):
    person: HsaId
    roles: list[HeldRole]
    regional: bool
    """Whether the person is a regional administrator."""


class ListRoleHistory(Query):
    """Who gave and took which role at a clinic and when, the newest first, for those who administer there (R-ID-6)."""

    clinic: HsaId
    person: HsaId | None = None
    before: int | None = Field(None, ge=1, le=2**63 - 1, description="number of the last change of the page before")
    limit: int = Field(100, ge=1, le=500)


class RoleChange(Reply):
    number: int
    at: Instant
    person: HsaId
    role: Role
    change: Literal["given", "taken"]
    by: str
    """`staff:` and an HSA-id, or `operator:operator`."""


class RoleHistory(Reply):
    """A page. `more`: ask with `before` set to the number of the last of these."""

    changes: list[RoleChange]
    more: bool


LIST_ROLES_OF = identity.call("list_roles_of", ListRolesOf, RolesOf, who=("staff",))
LIST_ROLE_HISTORY = identity.call("list_role_history", ListRoleHistory, RoleHistory, who=("staff",))

# --- contact data ---------------------------------------------------------------------------------------------------


class SetContact(Command):
    """How the caller wants to be told that something has come, in place of what was set before (R-NOT-1, R-NOT-3).

    Residents give their addresses; a guardian who acts for a child, those for the child's inbox. Staff are told at the
    addresses of HSA, or at others that they give here. To an address that is not verified yet a code is sent, and
    nothing else until it comes back by `verify_address` (R-NOT-9). One that a clinic has entered as its own is refused:
    `invalid`, reason `address_of_a_clinic`.
    """

    email: Annotated[str, Text(254)] | None = None
    mobile: Annotated[str, Text(40)] | None = None
    notify_by: list[Channel] = Field(default_factory=list, max_length=2)
    tell_me_about: list[Occasion] = Field(default_factory=list, max_length=3)


class ContactSet(Reply):
    to_verify: list[Channel] = []
    """Addresses that a code was sent to, which is to be given back by `verify_address`."""


class Contacts(Query):
    """The addresses and choices of people, as they are now; asked when something is about to be sent."""

    residents: list[UUID] = Field(default_factory=list, max_length=MANY)
    staff: list[HsaId] = Field(default_factory=list, max_length=MANY)


class GuardianContact(Reply):
    """How a guardian who may act for the child now wants to be told of the child's inbox (R-NOT-8)."""

    guardian: UUID
    email: str | None = None
    mobile: str | None = None
    notify_by: list[Channel] = []
    blocked_at: list[HsaId] = []
    """Clinics that have blocked the guardian: nothing of theirs is told (R-ID-13)."""
    version: int = 0
    """Of what the guardian has set."""


class ResidentContact(Reply):
    resident: UUID
    active: bool
    email: str | None = None
    mobile: str | None = None
    notify_by: list[Channel] = []
    guardians: list[GuardianContact] | None = None
    """None: the resident's own choices count. A list, for a child under 13: those of these guardians do, and no others.
    Whoever may not act for the child now (13th birthday, protection) is not among them (R-NOT-8)."""
    version: int = 0
    """Of what the resident has set: tells a bounce of this address from one of an earlier address."""


class StaffContact(Reply):
    person: HsaId
    email: str | None = None
    mobile: str | None = None
    notify_by: list[Channel] = []
    tell_me_about: list[Occasion] = []
    roles: list[HeldRole] = []
    """All that the person holds now, at any clinic: personal notifications stop when the right is gone (R-NOT-5)."""
    version: int = 0
    """Of what the person has set."""
    own_emails: list[str] = []
    """All mail addresses known as theirs, that of HSA also when they are in HSA no more: for telling whose an address
    is, nothing is sent to them (R-ID-10)."""


class ContactsFound(Reply):
    """Those of the people asked for who are known here; the others are left out."""

    residents: list[ResidentContact]
    staff: list[StaffContact]


SET_CONTACT = identity.call("set_contact", SetContact, ContactSet, who=("resident", "staff"))
CONTACTS = identity.call("contacts", Contacts, ContactsFound, who=("service:notifications",))

# --- residents ------------------------------------------------------------------------------------------------------


class ResidentCards(Query):
    """What staff may see of residents: never an address (R-ID-14), and active or not, never why (R-ID-17)."""

    residents: list[UUID] = Field(max_length=MANY)


class ResidentCard(Reply):
    resident: UUID
    name: str
    identity_number: str
    active: bool
    locked: bool
    protected: bool


class CardsFound(Reply):
    """Cards of those who exist, in the order asked for."""

    cards: list[ResidentCard]


class FindResident(Query):
    """Which resident an identity number belongs to; other services never store the number (R-ID-24)."""

    identity_number: str = Field(max_length=40)


class ResidentFound(Reply):
    resident: UUID | None = None
    linked: list[UUID] = []
    """Further accounts of the same person, by numbers that the register linked later: cases hang on each."""


class FindResidents(Query):
    """Which residents these identity numbers belong to, of many at once (R-ID-24): of each person the account by that
    number, also where there are others of theirs."""

    identity_numbers: list[Annotated[str, Field(max_length=40)]] = Field(max_length=MANY)


class FoundByNumber(Reply):
    resident: UUID | None
    is_number: bool = Field(description="false: it is no identity number at all")


class ResidentsFound(Reply):
    """One answer for each number, in the order asked for."""

    found: list[FoundByNumber]


class TakeApart(Command):
    """Takes apart two people whom the population register has told to be one by mistake, as the operator (R-SYS-1,
    R-ID-24). See to it first that the register has been corrected: else its next answer joins them again.

    `resident` is the account of one of them, `identity_number` a number of the other. If that number is in the account,
    it is taken out of it, and whoever has it gets an account of their own at the next login. If it has an account that
    is linked with this one, that account is no longer linked with any. The sessions of all concerned end, and custody
    until the register has told of it again; their subject access reports, which are of both, are removed. It is kept in
    a history. `conflict` with reason `not_together` where the number is in none of these accounts, `only_number` where
    the account has no other.
    """

    resident: UUID
    identity_number: str = Field(max_length=40)


class TakenApart(Reply):
    residents: list[UUID]
    """The accounts whose sessions have ended: all that were held to be one person's."""


RESIDENT_CARDS = identity.call("resident_cards", ResidentCards, CardsFound, who=("service:cases",))
FIND_RESIDENT = identity.call("find_resident", FindResident, ResidentFound, who=("service:cases",))
FIND_RESIDENTS = identity.call("find_residents", FindResidents, ResidentsFound, who=("service:cases",))
TAKE_APART = identity.call("take_apart", TakeApart, TakenApart, who=("operator",))

# --- rights, for the copies that other services keep ----------------------------------------------------------------


class CurrentRights(Query):
    """What someone may do at this very moment, for a service whose own copy may be late (R-ID-10).

    `subject` is what the token says: a resident's id or a staff HSA-id.
    """

    subject: str = Field(max_length=100)
    session: UUID | None = None


class RightsNow(Reply):
    number: int
    """The latest revocation number that the answer takes account of."""
    roles: list[HeldRole]
    regional: bool
    session_live: bool
    """False if the session has ended or is not the subject's; true where no session was named."""


CURRENT_RIGHTS = identity.call("current_rights", CurrentRights, RightsNow, who=("service",))


class AllRights(Query):
    """What all staff may do, some at a time by HSA-id, for a service that compares its copy (R-ID-10)."""

    after: str = Field("", max_length=100)


class RightsOf(Reply):
    person: HsaId
    roles: list[HeldRole]
    regional: bool


class RightsPage(Reply):
    """Those with any right, in the order of their HSA-ids' bytes, all as they were at one moment."""

    number: int
    """The latest revocation number that the answer takes account of."""
    people: list[RightsOf]
    more: bool


class TellRightsAgain(Command):
    """Has `rights_changed` told anew of these, whose rights stand otherwise in a service's copy: an event was lost."""

    people: list[Annotated[str, Field(max_length=100)]] = Field(max_length=MANY)


ALL_RIGHTS = identity.call("all_rights", AllRights, RightsPage, who=("service",))
TELL_RIGHTS_AGAIN = identity.call("tell_rights_again", TellRightsAgain, Done, who=("service",))


class PublicKeys(Query):
    """The keys that access tokens are signed with, for a service that meets one it does not know (R-ID-21)."""


class PublicKeysNow(Reply):
    keys: list[str]
    """A JWT for each, signed by identity's own key, which every service has in its file; the newest first."""


class ChangeSigningKey(Command):
    """Makes a new key for access tokens, in use a minute later. Tokens of the keys before stay good until they expire;
    with `withdraw` they are good no more within half a minute, and their sessions go on at the next renewal."""

    withdraw: bool = False


PUBLIC_KEYS = identity.call("public_keys", PublicKeys, PublicKeysNow, who=("service",))
CHANGE_SIGNING_KEY = identity.call("change_signing_key", ChangeSigningKey, Done, who=("operator",))


class EndedSession(Reply):
    session: UUID
    until: datetime
    """Until when it must be remembered: no access token of the session is valid after this."""


class RightsChanged(EventBody):
    """Someone's rights have changed, or a session has ended. `number` counts all such changes without gaps;
    `version` is the number of the subject's newest change: the newest wins. `roles` are all that the subject holds now.
    """

    number: int
    subject: str
    version: int
    roles: list[HeldRole] = []
    regional: bool = False
    ended_sessions: list[EndedSession] = []


class ResidentStatusChanged(EventBody):
    resident: UUID
    active: bool
    locked: bool
    version: int


class ContactChanged(EventBody):
    kind: PersonKind
    person: str
    version: int


EVERYONE = ("cases", "directory", "attachments", "notifications")

RIGHTS_CHANGED = identity.event("rights_changed", RightsChanged, heard_by=EVERYONE)
RESIDENT_STATUS_CHANGED = identity.event("resident_status_changed", ResidentStatusChanged, heard_by=("notifications",))
CONTACT_CHANGED = identity.event("contact_changed", ContactChanged)
