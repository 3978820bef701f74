"""Staff: who is in KiV's feed, and a few that only HSA knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from deploy.local.people.feed import DATA, Record, read


@dataclass(frozen=True)
class Person:
    """A person object. One who has two employments has two objects and two HSA-ids, but one identity number."""

    record: Record

    @property
    def hsa_id(self) -> str:
        """The person's HSA-id, upper-case."""
        return self.record.hsa_id

    @property
    def given_name(self) -> str | None:
        """A few persons have none."""
        return self.record.first("givenName")

    @property
    def surname(self) -> str:
        """Middle name and surname, as HSA gives them: one text."""
        return " ".join(filter(None, (self.record.first("hsaMiddleName"), self.record.first("sn"))))

    @property
    def title(self) -> str | None:
        """Free text."""
        return self.record.first("title")

    @property
    def identity_number(self) -> str | None:
        """Personnummer."""
        return self.record.first("hsaPersonIdentityNumber")

    @property
    def unit(self) -> str | None:
        """HSA-id of the unit where the person is employed."""
        return self.record.first("vgrOrgRel")

    @property
    def protected(self) -> bool:
        """Protected identity."""
        return self.record.has_class("hsaConfidentialPerson")

    @property
    def hidden(self) -> bool:
        """In the directory, but not shown to anyone who asks."""
        return self.record.has_class("hiddenObject")

    @property
    def feigned(self) -> bool:
        """A test object: left out unless asked for."""
        return (self.record.first("hsaFeignedDataObject") or "").upper() == "TRUE"

    @property
    def ends(self) -> datetime | None:
        """When the employment ends or ended."""
        value = self.record.first("hsaEndDate")
        return datetime.strptime(value, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC) if value else None

    def shown(self, now: datetime) -> bool:
        """Whether HSA answers with this person: neither hidden nor past the end date."""
        return not self.hidden and (self.ends is None or self.ends > now)


@cache
def in_kiv() -> tuple[Person, ...]:
    """The persons of KiV's feed."""
    return tuple(Person(record) for record in read(DATA / "kiv-persons.json", "persons"))


@cache
def everyone() -> tuple[Person, ...]:
    """All persons that HSA knows."""
    return (*in_kiv(), *(Person(record) for record in read(DATA / "hsa-only-persons.json", "persons")))


def find(hsa_id: str, among: Iterable[Person] | None = None) -> Person | None:
    """The person with this HSA-id, whatever its letter case."""
    wanted = hsa_id.upper()
    return next((one for one in (everyone() if among is None else among) if one.hsa_id == wanted), None)


def employments(hsa_id: str) -> list[str]:
    """Every HSA-id of the physical person who has this one; empty if nobody has."""
    person = find(hsa_id)
    if person is None:
        return []
    return [one.hsa_id for one in everyone() if one.identity_number == person.identity_number]
