"""Residents, as the population register and their e-IDs know them. All numbers are test numbers of Skatteverket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from deploy.local.people.feed import DATA


@dataclass(frozen=True)
class Address:
    """Where someone lives."""

    street: str
    postal_code: str
    city: str
    care_of: str | None = None


@dataclass(frozen=True)
class Resident:
    """A person of the population register. `mobile` and `email` are what the person would choose in the e-services.

    `protected`: "person" is sekretessmarkering, "record" skyddad folkbokföring. `replaced_by`: the number in force now.
    `guardians`: numbers of those who have custody. `deregistration`: {"code", "date"}.
    `status`: of a samordningsnummer.
    """

    number: str
    given_name: str = ""
    surname: str = ""
    key: str | None = None
    middle_name: str | None = None
    given_name_indicator: int | None = None
    county_code: str | None = None
    municipality_code: str | None = None
    address: Address | None = None
    address_abroad: Mapping[str, Any] | None = None
    protected: Literal["person", "record"] | None = None
    deregistration: Mapping[str, str] | None = None
    deceased_date: str | None = None
    replaced_by: str | None = None
    guardians: tuple[str, ...] = ()
    identity_level: str | None = None
    status: Mapping[str, str] | None = None
    test: bool = False
    mobile: str | None = None
    email: str | None = None
    note: str | None = field(default=None, compare=False)

    @property
    def has_coordination_number(self) -> bool:
        """Samordningsnummer: the day is 60 more."""
        return self.number[6] in "6789"


def resident(values: Any) -> Resident:
    """From JSON. Raises ValueError."""
    if not isinstance(values, Mapping):
        raise ValueError("not an object")
    unknown = set(values) - {one.name for one in fields(Resident)}
    if unknown or not values.get("number"):
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}" if unknown else "number is missing")
    given = dict(values)
    try:
        if given.get("address") is not None:
            given["address"] = Address(**given["address"])
        given["guardians"] = tuple(given.get("guardians", ()))
        return Resident(**given)
    except TypeError as error:
        raise ValueError("malformed person") from error


def read(file: Path) -> tuple[Resident, ...]:
    """A file of residents. Raises OSError or ValueError."""
    return tuple(resident(one) for one in json.loads(file.read_text())["residents"])


@cache
def everyone() -> tuple[Resident, ...]:
    """All residents of the local stack."""
    return read(DATA / "residents.json")


def find(number: str) -> Resident | None:
    """The one with this number."""
    return next((one for one in everyone() if one.number == number), None)


def named(key: str) -> Resident:
    """The one with this key in data/residents.json. KeyError: there is none."""
    for one in everyone():
        if one.key == key:
            return one
    raise KeyError(key)
