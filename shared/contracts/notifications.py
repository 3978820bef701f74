"""What notifications offers: the clinics' settings, and how deliveries went; and what it tells: addresses that fail."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Contract, Done, EventBody, HsaId, Instant, Query, Reply, Text

notifications = Contract("notifications")

MOST_ADDRESSES = 50
LONGEST_PAGE = 200

EnteredAddress = Annotated[str, Text(254)]
"""A mail address as someone has typed it; checked by a library, and kept in its normalised form."""


class DeliveryState(StrEnum):
    """How far a delivery has come. The last six are ends; `uncertain` and `failed` can be sent again by hand."""

    WAITING = "waiting"  # to be sent when due: new, or after a failure
    CLAIMED = "claimed"  # a sender has it in hand; nothing has left yet
    SENDING = "sending"  # on its way to the provider, which may have accepted it
    SENT = "sent"  # the provider has accepted it
    UNCERTAIN = "uncertain"  # the provider may have accepted it; never sent again by itself (R-NOT-7)
    FAILED = "failed"  # certainly not sent, and not tried again by itself
    WITHDRAWN = "withdrawn"  # no longer to be told: inactive, right gone, address removed (R-NOT-4, R-NOT-5)
    NOT_WANTED = "not_wanted"  # has not chosen to be told of this (R-NOT-1)
    MERGED = "merged"  # another delivery of the same event goes to the same address (R-NOT-6)


class RecipientKind(StrEnum):
    """Who is told."""

    CLINIC = "clinic"
    STAFF = "staff"
    RESIDENT = "resident"


class Channel(StrEnum):
    """By what means."""

    EMAIL = "email"
    SMS = "sms"


class DeliveryKind(StrEnum):
    """What is told, and so in which words."""

    CLINIC_NEW_CASE = "clinic_new_case"  # to the clinic's addresses (R-NOT-2)
    CLINIC_REMINDER = "clinic_reminder"  # to the clinic's addresses for reminders (R-NOT-2)
    CLINIC_TEST = "clinic_test"  # to one of the clinic's addresses, when its administrator tries it
    NEW_CASE = "new_case"  # to a case receiver who has chosen it (R-NOT-1)
    CASE_ASSIGNED = "case_assigned"  # to the handler (R-NOT-1)
    RESIDENT_WROTE = "resident_wrote"  # to the handler (R-NOT-1)
    INBOX = "inbox"  # to the resident (R-NOT-3)


class SetClinicSettings(Command):
    """Sets whom the clinic's mail goes to; what was set before is replaced (R-NOT-2).

    Addresses are normalised, and the same address twice is one. `reminder_days`: whole Swedish working days without
    handling after which the reminder addresses are told; None: no reminders.
    """

    clinic: HsaId
    new_case_addresses: list[EnteredAddress] = Field(max_length=MOST_ADDRESSES)
    reminder_addresses: list[EnteredAddress] = Field(default_factory=list, max_length=MOST_ADDRESSES)
    reminder_days: int | None = Field(None, ge=1, le=90)


class GetClinicSettings(Query):
    """What the clinic has set, and which of its addresses people have as their own too (R-NOT-6)."""

    clinic: HsaId


class ClinicSettings(Reply):
    """What a clinic has set, in normal form; empty if it never set anything."""

    clinic: HsaId
    new_case_addresses: list[str]
    reminder_addresses: list[str]
    reminder_days: int | None
    changed_at: datetime | None
    unreachable: list[str] = Field(
        default_factory=list, description="addresses that mail came back from since the settings were saved last"
    )
    unreadable: int = Field(
        0,
        description="addresses that can't be read any more, so that nothing is sent to them; to be entered again, since"
        " the next save removes them",
    )
    overlapping: list[str] | None = Field(
        None, description="new-case addresses that case receivers have chosen as their own; None: not known now"
    )
    of_former_staff: list[str] | None = Field(
        None,
        description="addresses of people who held a role at the clinic and hold none there now; None: not known now",
    )


class SendTestMessage(Command):
    """Sends a test message to one of the addresses that the clinic has entered, for its administrator to see it arrive.

    An address that is not among them: `not_found`. Too many within an hour: `limit_exceeded`.
    """

    clinic: HsaId
    address: EnteredAddress


class TestMessageQueued(Reply):
    """It stands among the clinic's deliveries."""

    delivery: UUID


class OverlappingAddresses(Query):
    """Which of these addresses the clinic has entered as its own (R-ID-10); without a clinic: any clinic (R-NOT-9)."""

    clinic: HsaId | None
    addresses: list[EnteredAddress] = Field(max_length=MOST_ADDRESSES)


class Overlapping(Reply):
    """The addresses that a clinic has entered."""

    overlapping: list[str] = Field(description="those of the addresses asked about, as they were written")


class ListDeliveries(Query):
    """Deliveries of all clinics, the newest first; only those in one state, if it is given."""

    state: DeliveryState | None = None
    after: UUID | None = Field(None, description="the last delivery of the page before")
    limit: int = Field(50, ge=1, le=LONGEST_PAGE)


class ListClinicDeliveries(Query):
    """Deliveries to the clinic's addresses and its staff, the newest first. Residents' are not among them."""

    clinic: HsaId
    state: DeliveryState | None = None
    after: UUID | None = Field(None, description="the last delivery of the page before")
    limit: int = Field(50, ge=1, le=LONGEST_PAGE)


class Delivery(Reply):
    """One delivery: to whom and how far it has come, never what it said."""

    delivery: UUID
    kind: DeliveryKind
    recipient_kind: RecipientKind
    clinic: HsaId
    person: HsaId | None = Field(None, description="the member of staff; only where the clinic's administrator asks")
    address: str | None = Field(None, description="an address of the clinic's; only where its administrator asks")
    channel: Channel | None = Field(None, description="None: not known before it is sent")
    state: DeliveryState
    reason: str | None = Field(None, description="snake_case: why it failed, waits, was withdrawn or is uncertain")
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    ended_at: datetime | None
    resent: int = Field(description="times it has been sent again by hand")
    provider: str | None = Field(None, description="to whom it was handed last; only where the operator asks")
    report: Literal["delivered", "undelivered", "on_its_way"] | None = Field(
        None, description="what the provider has told since"
    )


class Deliveries(Reply):
    """A page. `more`: there are older ones; ask with `after` set to the last of these."""

    deliveries: list[Delivery]
    more: bool


class ResendDelivery(Command):
    """Sends one that failed or is uncertain again (R-NOT-7). Administrators: their clinic's, never a resident's.

    Any other state: conflict, `not_resendable`.
    """

    delivery: UUID


class ResendFailed(Command):
    """Sends all that failed within a time again, as after an outage (R-NOT-7); what is uncertain, only one by one.

    At most a thousand in one call: ask again while the answer says that there are more.
    """

    since: Instant
    until: Instant
    channel: Channel | None = None


class FailedResent(Reply):
    count: int
    more: bool


class DeliveryStatistics(Query):
    """How many deliveries of a time came to what, and how soon: at most 31 days, by when they were queued.

    Local administrators: their clinic's, without residents'. The operator: all, or one clinic's.
    """

    clinic: HsaId | None = None
    since: Instant
    until: Instant


class DeliveryCount(Reply):
    """Deliveries that are alike."""

    kind: DeliveryKind
    channel: Channel | None
    state: DeliveryState
    count: int
    median_seconds: float | None = Field(description="from being queued to the provider's acceptance; only where sent")
    p99_seconds: float | None


class DeliveryCounts(Reply):
    counts: list[DeliveryCount]


class AddressBounced(EventBody):
    """A person could not be reached at the address that they had by this channel, for good.

    `contact_version`: of what the person had set, as identity told it when it was sent; a later one is another address.
    `child`: the person is a guardian, and the address is the one for this child's inbox.
    """

    kind: Literal["staff", "resident"]
    person: str
    channel: Channel
    contact_version: int
    child: UUID | None = None


ADDRESS_BOUNCED = notifications.event("address_bounced", AddressBounced, heard_by=("identity",))


class SendCode(Command):
    """Sends a person's verification code to the address that they say is theirs. It is no notification (R-NOT-3): it is
    sent as soon as may be, tried again for the 15 minutes that it is worth something, and kept nowhere after that."""

    channel: Channel
    address: Annotated[str, Text(254)]
    code: Annotated[str, Field(pattern=r"^\d{6}$")]


SET_CLINIC_SETTINGS = notifications.call("set_clinic_settings", SetClinicSettings, ClinicSettings, who=("staff",))
GET_CLINIC_SETTINGS = notifications.call("get_clinic_settings", GetClinicSettings, ClinicSettings, who=("staff",))
OVERLAPPING_ADDRESSES = notifications.call(
    "overlapping_addresses", OverlappingAddresses, Overlapping, who=("service:identity",)
)
SEND_TEST_MESSAGE = notifications.call("send_test_message", SendTestMessage, TestMessageQueued, who=("staff",))
LIST_DELIVERIES = notifications.call("list_deliveries", ListDeliveries, Deliveries, who=("operator",))
LIST_CLINIC_DELIVERIES = notifications.call("list_clinic_deliveries", ListClinicDeliveries, Deliveries, who=("staff",))
RESEND_DELIVERY = notifications.call("resend_delivery", ResendDelivery, Done, who=("operator", "staff"))
RESEND_FAILED = notifications.call("resend_failed", ResendFailed, FailedResent, who=("operator",))
DELIVERY_STATISTICS = notifications.call(
    "delivery_statistics", DeliveryStatistics, DeliveryCounts, who=("operator", "staff")
)
SEND_CODE = notifications.call("send_code", SendCode, Done, who=("service:identity",))
