"""Contact cards: the public one and the logged-in one."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, HsaId, Instant, Query, Reply, Text
from shared.contracts.directory.common import directory


class OpeningHours(Reply):
    """Open on each of the days (1 is Monday); `closes` at or before `opens` is on the day after. From `first_day` to
    `last_day` alone, both included, where they are given."""

    days: list[int]
    opens: str
    closes: str
    comment: str | None = None
    first_day: date | None = None
    last_day: date | None = None


class Position(Reply):
    """The same point three times: RT90 2.5 gon V and SWEREF 99 TM in metres, WGS 84 in degrees."""

    rt90_x: int
    rt90_y: int
    sweref99_n: float
    sweref99_e: float
    latitude: float
    longitude: float


class TemporaryInformation(Reply):
    """Shown from the first day to the last, both included."""

    first_day: date
    last_day: date
    text: str


class CaseTypeOnCard(Reply):
    case_type: UUID
    name: str


class PublicCard(Reply):
    """What anyone may read about a clinic: the directory's word, and the clinic's case types (R-DIR-6).

    Phones by kind: public, text, sms, switchboard, fax; in E.164. Hours: surgery, phone, drop_in, visiting. Addresses,
    line by line: street, postal.
    """

    clinic: str
    name: str
    place: str | None
    county_code: str | None
    municipality_code: str | None
    position: Position | None
    phones: dict[str, list[str]]
    hours: dict[str, list[OpeningHours]]
    addresses: dict[str, list[str]]
    email: list[str]
    links: list[str]
    description: str | None
    route: str | None
    visiting_rules: str | None
    referral: str | None
    care_types: list[str]
    business_types: list[str]
    notices: list[TemporaryInformation]
    case_types: list[CaseTypeOnCard]
    published_at: Instant


NotShown = Literal["not_a_clinic", "not_in_directory", "ended", "missing_attributes", "not_yet_published"]


class NotShownCard(Reply):
    """Why there is no public card now: `missing_attributes` names the mandatory ones that the unit lacks (R-DIR-5)."""

    clinic: str
    reason: NotShown
    missing_attributes: list[str] = []


class GetPublicCards(Query):
    """Public contact cards as last published, at 10, 14 or 21 Swedish time (R-DIR-8); no login is needed."""

    clinics: Annotated[list[HsaId], Field(max_length=100)]


class PublicCards(Reply):
    cards: list[PublicCard]
    not_shown: list[NotShownCard]


GET_PUBLIC_CARDS = directory.call("get_public_cards", GetPublicCards, PublicCards, who=("anyone",))


class GetContactCard(Query):
    """The logged-in contact card: what the clinic's administrator has written, and the case types as they are now
    (R-DIR-7, R-DIR-10)."""

    clinic: HsaId


class CardAdministration(Reply):
    """For the clinic's administrators: whether and why not the clinic is shown publicly, and in which order.

    `order_differs`: a regional order overrides the clinic's own on the public card (R-DIR-9); `order_notice` says so in
    words, `public_order` is the order that is used there.
    """

    shown_publicly: bool
    not_shown: NotShownCard | None
    published_at: Instant | None
    order_differs: bool
    order_notice: str | None
    public_order: list[CaseTypeOnCard]


class ContactCard(Reply):
    """`case_types_known` is false while the cases service does not answer; `version` is the text's."""

    clinic: str
    name: str
    place: str | None
    active: bool
    text: str
    version: int
    updated_at: Instant | None
    case_types: list[CaseTypeOnCard]
    case_types_known: bool
    administration: CardAdministration | None = None


GET_CONTACT_CARD = directory.call("get_contact_card", GetContactCard, ContactCard, who=("resident", "staff"))


class WriteContactCard(Command):
    """The clinic's local administrator writes its logged-in contact card (R-DIR-7). `version` is the one that was read:
    if somebody has written since, nothing is changed."""

    clinic: HsaId
    text: Annotated[str, Text(5000, empty=True)]
    version: int = Field(ge=0, le=2**63 - 1)


class ContactCardWritten(Reply):
    clinic: str
    version: int


WRITE_CONTACT_CARD = directory.call("write_contact_card", WriteContactCard, ContactCardWritten, who=("staff",))


class SetPublicOrder(Command):
    """A regional administrator sets the order of a clinic's case types on the public card, in place of the clinic's own
    (R-DIR-9). None at all: the clinic's own order again. Case types that are not named follow in the clinic's order."""

    clinic: HsaId
    case_types: Annotated[list[UUID], Field(max_length=200)]


class PublicOrderSet(Reply):
    clinic: str


SET_PUBLIC_ORDER = directory.call("set_public_order", SetPublicOrder, PublicOrderSet, who=("staff",))
