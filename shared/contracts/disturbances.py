"""Identity, part three: disturbances (driftstörningar), which everyone may read before logging in (R-ID-20)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command, Instant, Query, Reply, Text
from shared.contracts.identity import identity

Title = Annotated[str, Text(120)]
Notice = Annotated[str, Text(4000)]


class PublishDisturbance(Command):
    """Publishes a disturbance, by a regional administrator or the operator (R-ID-20).

    It is shown from `shown_from` (null: from now) until `shown_until` (null: until it is ended).
    """

    title: Title
    text: Notice
    shown_from: Instant | None = None
    shown_until: Instant | None = None


class ChangeDisturbance(Command):
    """Replaces what a disturbance says and when it is shown; with `shown_until` now or earlier it is ended."""

    disturbance: UUID
    title: Title
    text: Notice
    shown_from: Instant | None = None
    shown_until: Instant | None = None


class Disturbance(Reply):
    disturbance: UUID
    title: str
    text: str
    shown_from: Instant
    shown_until: Instant | None
    changed_at: Instant


class Disturbances(Query):
    """What is shown on the start page now, without login, the newest first."""


class DisturbancesShown(Reply):
    disturbances: list[Disturbance]
    status_page: str | None = None
    """Address of the operator's own status page."""


class AllDisturbances(Query):
    """Those to come, those shown and those ended, the newest first, for regional administrators and the operator."""

    limit: int = Field(100, ge=1, le=500)


DISTURBANCES = identity.call("disturbances", Disturbances, DisturbancesShown, who=("anyone",))
ALL_DISTURBANCES = identity.call("all_disturbances", AllDisturbances, DisturbancesShown, who=("staff", "operator"))
PUBLISH_DISTURBANCE = identity.call("publish_disturbance", PublishDisturbance, Disturbance, who=("staff", "operator"))
CHANGE_DISTURBANCE = identity.call("change_disturbance", ChangeDisturbance, Disturbance, who=("staff", "operator"))
