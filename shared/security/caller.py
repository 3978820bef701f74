"""Who makes a call, and what they may do where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from shared.contracts.base import HsaId, Role
from shared.messaging.errors import Forbidden


@dataclass(frozen=True)
class Rights:
    """The roles of one person: per clinic, and in the region (R-ID-5)."""

    roles: Mapping[HsaId, frozenset[Role]] = field(default_factory=dict)
    is_regional_admin: bool = False

    def roles_at(self, clinic: HsaId) -> frozenset[Role]:
        """The person's roles at the clinic; none is an empty set."""
        return self.roles.get(clinic, frozenset())

    def clinics_with(self, *roles: Role) -> list[HsaId]:
        """The clinics where the person has at least one of the roles, in order of HSA-id."""
        return sorted(clinic for clinic, held in self.roles.items() if held.intersection(roles))


NO_RIGHTS = Rights()


@dataclass(frozen=True)
class Caller:
    """Who calls. `subject`: resident id, staff HSA-id, name of a service or system; empty for anyone."""

    kind: str
    subject: str = ""
    session: UUID | None = None
    acting_for: UUID | None = None
    terms_accepted: bool = True
    rights: Rights = NO_RIGHTS
    blocked_at: frozenset[HsaId] = frozenset()
    """Clinics that have blocked the guardian who calls, where a service has asked identity (R-ID-13)."""

    @property
    def identity(self) -> str:
        """One word for kind and subject, unlike every other caller's."""
        return f"{self.kind}:{self.subject}"

    @property
    def is_person(self) -> bool:
        return self.kind in ("resident", "staff")

    def require(self, clinic: HsaId, *roles: Role) -> None:
        """Raises `Forbidden` unless the caller has one of the roles at the clinic."""
        if not self.rights.roles_at(clinic).intersection(roles):
            raise Forbidden(reason="role_missing")

    def require_regional_admin(self) -> None:
        """Raises `Forbidden` unless the caller is a regional administrator."""
        if not self.rights.is_regional_admin:
            raise Forbidden(reason="role_missing")


ANYONE = Caller("anyone")
