"""What the population register answers: GetPersonsForProfile 5.0, by profile, made from residents."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lxml import etree

from deploy.local.common.behaviour import Behaviours
from deploy.local.common.soap import Fault, Field, Operation, Part, Value, text, truth
from deploy.local.people.residents import Address, Resident

PERSON = "urn:riv:strategicresourcemanagement:persons:person:5"
RESPONDER = "urn:riv:strategicresourcemanagement:persons:person:GetPersonsForProfileResponder:5"
PERSONNUMMER = "1.2.752.129.2.1.3.1"
SAMORDNINGSNUMMER = "1.2.752.129.2.1.3.3"
MANY = 500
PROFILES = tuple(f"P{number}" for number in range(1, 11))
OUT_OF_USE = frozenset(PROFILES[5:])
_IDENTITY = (Field("root", least=1), Field("extension"))


@dataclass(frozen=True)
class Relations:
    """How the register names custody, seen from the child and from the guardian."""

    guardian: str = "V"
    child: str = "VF"


class Register:
    """Residents by number. What is put or removed at run time lives until the process ends."""

    def __init__(self, people: Iterable[Resident], relations: Relations) -> None:
        self._people = {one.number: one for one in people}
        self._lock = threading.Lock()
        self.relations = relations

    def people(self) -> dict[str, Resident]:
        """Everyone, by number."""
        return self._people

    def put(self, person: Resident) -> None:
        """Adds a person, or replaces the one with the same number."""
        with self._lock:
            self._people = self._people | {person.number: person}

    def remove(self, number: str) -> None:
        """The register no longer knows this number."""
        with self._lock:
            self._people = {key: one for key, one in self._people.items() if key != number}


def operation(register: Register, behaviours: Behaviours) -> Operation:
    """The contract. The mode `leaky` gives the address of protected persons in spite of the rule, `another` the
    record of another person."""
    return Operation(
        "GetPersonsForProfile",
        RESPONDER,
        (
            Field("personId", least=1, most=None, parts=_IDENTITY, namespace=PERSON),
            Field("profile", least=1, check=lambda value: value in PROFILES),
            Field("ignoreReferredIdentity", least=1, check=truth),
        ),
        lambda asked, nothing: _answer(register, behaviours, asked, nothing),
        lambda asked: [extension for _, extension in _identities(asked)],
    )


def _identities(asked: etree._Element) -> list[tuple[str, str]]:
    found = []
    for person in asked.findall(f"{{{RESPONDER}}}personId"):
        root, extension = (person.findtext(f"{{{PERSON}}}{name}") or "" for name in ("root", "extension"))
        found.append((root.strip(), extension.strip()))
    return found


def _answer(register: Register, behaviours: Behaviours, asked: etree._Element, nothing: bool) -> Part:
    identities = _identities(asked)
    if len(identities) > MANY:
        raise Fault("Client", f"at most {MANY} persons")
    profile = text(asked, "profile") or ""
    if profile in OUT_OF_USE:
        raise Fault("Client", "the profile is reserved")
    ignore = text(asked, "ignoreReferredIdentity") in ("true", "1")
    people = register.people()
    records: list[Part] = []
    for root, extension in identities:
        person = None if nothing else people.get(extension)
        if person is not None and root != _root(person.number):
            person = None
        if person is not None and not ignore and person.replaced_by:
            person = people.get(person.replaced_by, person)
        if person is not None and behaviours.take(person.number, among=("another",)) is not None:
            person = next(one for one in people.values() if one.number != extension)
        leaky = person is not None and behaviours.take(person.number, among=("leaky",)) is not None
        record = None if person is None else _record(register, person, int(profile[1:]), leaky)
        identity = Part(PERSON, {"root": root, "extension": extension})
        records.append(Part(PERSON, {"requestedPersonalIdentity": identity, "personRecord": record}))
    return Part(RESPONDER, {"requestedPersonRecord": records})


def _root(number: str) -> str:
    """The series that a number is of, as the register knows it: personnummer, samordningsnummer, reserve numbers."""
    if number[8] in "KMX":
        return "1.2.752.113.11.0.2.1.1.1"  # Västra Götaland
    if number[8] in "PTF":
        return "1.2.752.74.9.1"  # national
    if number[8:10].isalpha():
        return "1.2.752.74.9.2"  # Värmland
    if number.startswith("99"):
        return "1.2.752.97.3.1.3"  # Stockholm
    if "32" <= number[6:8] <= "59":
        return "1.2.752.129.2.1.3.2"  # Inera
    return SAMORDNINGSNUMMER if number[6] in "6789" else PERSONNUMMER


def _identity(number: str) -> Part:
    return Part(PERSON, {"root": _root(number), "extension": number})


def _date(value: str | None) -> Part | None:
    """A date of any accuracy: 2026, 2026-03 or 2026-03-14."""
    if not value:
        return None
    return Part(PERSON, {"format": {4: "YYYY", 7: "YYYY-MM", 10: "YYYY-MM-DD"}[len(value)], "value": value})


def _record(register: Register, person: Resident, profile: int, leaky: bool) -> Part:
    if person.protected and not leaky:
        profile = 1
    elif leaky:
        profile = max(profile, 2)
    before = [one.number for one in register.people().values() if one.replaced_by == person.number]
    status = person.status or {}
    children: dict[str, Value] = {
        "personalIdentity": _identity(person.number),
        "identityLevel": person.identity_level,
        # the schema wants the date wherever the level stands, though the contract's text does not
        "identityLevelDate": _date("2024-01-15"),
        "gender": "1" if int(person.number[-2]) % 2 else "2",
        "protectedPersonIndicator": person.protected == "person",
        "testIndicator": person.test,
        "primaryIdentity": person.replaced_by is None,
        "version": "20261001031500",
        "name": Part(
            PERSON,
            {
                "givenNameIndicator": person.given_name_indicator,
                "givenName": person.given_name or None,
                "middleName": person.middle_name,
                "surname": person.surname or None,
            },
        ),
        "linkedIdentity": [
            Part(
                PERSON,
                {
                    "referredPersonalIdentity": _identity(number),
                    "assuranceLevel": "1",
                    "primaryIdentity": number == person.replaced_by,
                },
            )
            for number in filter(None, (person.replaced_by, *before))
        ],
        "referredPersonalIdentities": _referred(person, before),
        "birth": Part(PERSON, {"dateOfBirth": _born(person.number)}) if profile >= 4 else None,
        "populationRegistrationLocality": _locality(person) if profile >= 2 else None,
        "addressInformation": _addresses(person) if profile >= 2 else None,
        "contactInformation": _contact(person) if profile >= 3 and not person.protected else None,
        "deregistration": _deregistration(person.deregistration),
        "maritalStatus": Part(PERSON, {"maritalStatusCode": "OG"}) if profile >= 4 else None,
        "relationship": _relations(register, person) if profile >= 4 else None,
        "coOrdinationNumberData": Part(PERSON, {"deceasedDate": _date(person.deceased_date)}),
        "personalIdentityStatus": Part(
            PERSON,
            {
                "identityStatus": status.get("status"),
                "identityStatusDate": _date(status.get("date")),
                "identityStatusCause": status.get("cause"),
            },
        ),
        "protectedPopulationRecord": person.protected == "record",
    }
    if not person.identity_level:
        del children["identityLevelDate"]
    return Part(PERSON, children)


def _referred(person: Resident, before: Iterable[str]) -> list[Part]:
    """An old number points to the new one, and the new one back."""
    found = [(number, "AS") for number in before]
    if person.replaced_by:
        found = [(person.replaced_by, "NY")]
    return [
        Part(
            PERSON,
            {"referredPersonalIdentity": _identity(number), "referredPersonalIdentityStatus": status},
        )
        for number, status in found
    ]


def _born(number: str) -> Part | None:
    day = int(number[6:8]) % 60
    month = number[4:6]
    if month == "00":
        return _date(number[:4])
    return _date(f"{number[:4]}-{month}-{day:02}" if day else f"{number[:4]}-{month}")


def _locality(person: Resident) -> Part | None:
    if person.county_code is None:
        return None
    return Part(PERSON, {"countyCode": person.county_code, "municipalityCode": person.municipality_code})


def _addresses(person: Resident) -> Part | None:
    abroad = person.address_abroad
    lines = list(abroad["lines"]) if abroad else []
    return Part(
        PERSON,
        {
            "residentialAddress": _address(person.address) if person.address else None,
            "addressAbroad": Part(
                PERSON,
                {f"postalAddress{at + 1}": line for at, line in enumerate(lines[:3])}
                | {"countryCode": abroad["country"] if abroad else None},
            ),
        },
    )


def _address(address: Address) -> Part:
    return Part(
        PERSON,
        {
            "careOf": address.care_of,
            "postalAddress2": address.street,
            "postalCode": int(address.postal_code),  # a number in the schema: leading noughts are lost
            "city": address.city,
        },
    )


def _contact(person: Resident) -> list[Part]:
    return [
        Part(PERSON, {"contactType": kind, "value": value, "digitalNotification": True})
        for kind, value in (("tel", person.mobile), ("mail", person.email))
        if value
    ]


def _deregistration(told: Mapping[str, str] | None) -> Part | None:
    if not told:
        return None
    return Part(
        PERSON,
        {"deregistrationReasonCode": told.get("code"), "deregistrationDate": _date(told.get("date"))},
    )


def _relations(register: Register, person: Resident) -> list[Part]:
    kinds = register.relations
    people = register.people()
    found = [(number, kinds.guardian) for number in person.guardians]
    found += [(one.number, kinds.child) for one in people.values() if person.number in one.guardians]
    return [
        Part(
            PERSON,
            {
                "relationshipId": Part(PERSON, {"personalIdentity": _identity(number)}),
                "relationshipType": kind,
            },
        )
        for number, kind in found
    ]
