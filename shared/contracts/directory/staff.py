"""Staff, as the directory has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.contracts.base import HsaId, Instant, Query, Reply
from shared.contracts.directory.common import StaffStatus, directory

STAFF_AT_ONCE = 1000


class GetStaff(Query):
    """What the copy says of these persons. One whom it does not know is `missing` (R-ID-9)."""

    people: Annotated[list[HsaId], Field(max_length=STAFF_AT_ONCE)]


class StaffFacts(Reply):
    """`protected` is the protected mark (R-ID-14, R-ID-16). `mobile` is in E.164. `as_of`: last known so."""

    person: str
    status: StaffStatus
    given_name: str | None = None
    surname: str | None = None
    title: str | None = None
    email: str | None = None
    mobile: str | None = None
    protected: bool = False
    as_of: Instant | None = None


class Staff(Reply):
    staff: list[StaffFacts]


GET_STAFF = directory.call("get_staff", GetStaff, Staff, who=("service:cases", "service:identity"))


class FindStaff(Query):
    """Asks HSA about one person, for login and the giving of rights; while HSA is down a copy under 24 hours old will
    do, else the answer is `unavailable` (R-DIR-12)."""

    person: HsaId


FIND_STAFF = directory.call("find_staff", FindStaff, StaffFacts, who=("service:identity",))


class RefreshMyFacts(Query):
    """Fetches what HSA says of the caller now: "Uppdatera information från HSA" in the personal settings (R-DIR-1).
    `unavailable` while HSA does not answer."""


REFRESH_MY_FACTS = directory.call("refresh_my_facts", RefreshMyFacts, StaffFacts, who=("staff",))
