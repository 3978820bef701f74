"""Identity, part four: personal settings: what is known of someone's own addresses and choices (R-NOT-1, R-NOT-9)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Done, Instant, Query, Reply
from shared.contracts.identity import Channel, HeldRole, Occasion, identity

Code = Annotated[str, Field(min_length=1, max_length=20)]


class SendVerificationCode(Command):
    """Sends a new code to the caller's address of this kind; the earlier code is worth nothing then.

    At most five an hour, and ten a day to one address whoever has them sent, else `limit_exceeded`; `conflict`,
    `nothing_to_verify`, where there is no address or it is verified; `invalid`, `address_of_a_clinic`, where a clinic
    has entered it as its own since it was set (R-NOT-9).
    """

    channel: Channel


class VerifyAddress(Command):
    """Shows that the caller reads what comes to the address: the code that was sent there (R-NOT-9).

    `invalid`, reason `wrong_code`, for another code, one older than 15 minutes, and after five attempts; reason
    `address_of_a_clinic` where a clinic has entered it as its own since it was set.
    """

    channel: Channel
    code: Code


class MySettings(Query):
    """The caller's own settings; of a guardian who acts for a child, those for the child's inbox."""


class OwnAddress(Reply):
    channel: Channel
    address: str
    verified: bool
    """Nothing is sent to an address that is not verified, but the code."""


class FromHsa(Reply):
    """What HSA says of a member of staff, as the directory last knew it. `as_of`: when that was."""

    status: Literal["fine", "missing"]
    given_name: str | None = None
    surname: str | None = None
    title: str | None = None
    email: str | None = None
    mobile: str | None = None
    protected: bool = False
    as_of: Instant | None = None


class AcceptedTerms(Reply):
    """The text can be read by `read_terms` with this version (R-ID-2, R-ID-3)."""

    version: str
    accepted_at: Instant


class Settings(Reply):
    person: str
    """HSA-id of staff, resident id of others."""
    acting_for: UUID | None = None
    name: str | None = None
    """Of a resident."""
    identity_number: str | None = None
    protected: bool = False
    """The mark "Skyddade personuppgifter" (R-ID-14)."""
    addresses: list[OwnAddress]
    notify_by: list[Channel]
    tell_me_about: list[Occasion]
    accepted_terms: list[AcceptedTerms]
    hsa: FromHsa | None = None
    """Of staff; null where the directory does not answer now."""
    roles: list[HeldRole] = []


class RefreshFromHsa(Command):
    """Has the directory ask HSA about the caller now (R-DIR-1). `unavailable` where HSA and the directory are down."""


SEND_VERIFICATION_CODE = identity.call("send_verification_code", SendVerificationCode, Done, who=("resident", "staff"))
VERIFY_ADDRESS = identity.call("verify_address", VerifyAddress, Done, who=("resident", "staff"))
MY_SETTINGS = identity.call("my_settings", MySettings, Settings, who=("resident", "staff"))
REFRESH_FROM_HSA = identity.call("refresh_from_hsa", RefreshFromHsa, FromHsa, who=("staff",))
