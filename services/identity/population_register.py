"""The population register (Personuppgiftstjänsten): GetPersonsForProfile 5, SOAP 1.1 over mutual TLS.

Only what identity needs is read, and nothing of where a protected person lives, whatever the register answered
(R-ID-14).
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from typing import Literal

import requests
from lxml import etree

from services.identity.fetching import fetched
from services.identity.identity_numbers import IdentityNumber, NotANumber, parse
from shared.messaging.errors import Unavailable
from shared.operations.clock import now, today
from shared.operations.logs import log

MANY = 500
"""How many persons one request may ask for."""

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_REGISTRY = "urn:riv:itintegration:registry:1"
_DOMAIN = "urn:riv:strategicresourcemanagement:persons:person"
_RESPONDER = f"{_DOMAIN}:GetPersonsForProfileResponder:5"
_PERSON = f"{_DOMAIN}:5"
_ACTION = f"{_RESPONDER}:GetPersonsForProfile"
_PLAIN, _WITH_RELATIONS = "P2", "P4"
_LARGEST_ANSWER = 8 * 1024 * 1024
_DECEASED = "AV"
_LONGEST_CHAIN = 3
"""So many times a number is followed to the one that replaced it."""


@dataclass(frozen=True)
class PartialDate:
    """A date of any accuracy: `2026`, `2026-03` or `2026-03-14`."""

    value: str

    def __post_init__(self) -> None:
        """Raises ValueError for what is no date."""
        self.earliest()

    def earliest(self) -> date:
        """The first day that it can mean."""
        return date(*self._parts, *(1, 1)[: 3 - len(self._parts)])

    def latest(self) -> date:
        """The last day that it can mean."""
        year, month = (*self._parts, 12)[:2]
        return date(year, month, self._parts[2] if len(self._parts) == 3 else calendar.monthrange(year, month)[1])

    @property
    def _parts(self) -> tuple[int, ...]:
        lengths = [len(part) for part in self.value.split("-")]
        if lengths not in ([4], [4, 2], [4, 2, 2]) or not self.value.replace("-", "").isdecimal():
            raise ValueError("no date")
        return tuple(int(part) for part in self.value.split("-"))


@dataclass(frozen=True)
class RelationCodes:
    """How the register names custody: of a child, who its guardian is; of a guardian, whose child it is.

    The register's own list of codes is not public, so the deployment says which they are.
    """

    guardian: frozenset[str] = frozenset({"V"})
    child: frozenset[str] = frozenset({"VF"})


@dataclass(frozen=True, repr=False)
class Relation:
    """Custody between the person of the record and another. `other` is the guardian of the person, or the child."""

    other: Literal["guardian", "child"]
    number: str
    begins: PartialDate | None = None
    ends: PartialDate | None = None

    def in_force(self, day: date) -> bool:
        """Whether it surely is on this day: a date that is not known whole counts against it."""
        begun = self.begins is None or self.begins.latest() <= day
        return begun and (self.ends is None or day < self.ends.earliest())


@dataclass(frozen=True)
class Place:
    """Where someone is registered. Codes as the register has them: two digits each."""

    street: str | None = None
    postal_code: str | None = None
    city: str | None = None
    county_code: str | None = None
    municipality_code: str | None = None


@dataclass(frozen=True, repr=False)
class RegisteredPerson:
    """What the register says of one person. `place` is None for the protected."""

    number: str
    given_name: str
    surname: str
    protected: bool
    code: str | None
    """The deregistration code, empty where a deregistration is told without one, None where none is told; a death that
    is told in another way counts as AV."""
    place: Place | None
    asked_at: datetime
    """When the request was sent that this answers, in UTC: what the register says is at least as new as that."""
    replaced_by: str | None = None
    """The number that the register refers to instead of this one (codes GN and GS, R-ID-24)."""
    former: tuple[str, ...] = ()
    """Numbers that the register refers to this one from, and linked identities of the same person (R-ID-24)."""
    relations: tuple[Relation, ...] = ()
    """Custody, where it was asked for; none of a protected person's, for whom nobody acts (R-ID-13)."""


class AnswerNotTrusted(Unavailable):
    """The register answered something that can't be trusted: about whom, or what, is not known."""


_NOT_NOW = "Folkbokföringsuppgifterna går inte att hämta just nu. Försök igen om en stund."


class PopulationRegister:
    """Asks the register; may be used by many workers at once."""

    def __init__(
        self,
        url: str,
        *,
        certificate: str,
        key: str,
        ca: str,
        logical_address: str,
        timeout_seconds: float = 10.0,
        accept_test_persons: bool = False,
        codes: RelationCodes | None = None,
    ) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.cert = (certificate, key)
        self._http.verify = ca
        self._http.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=32))
        self._url = url
        self._logical_address = logical_address
        self._timeout = timeout_seconds
        self._accept_test_persons = accept_test_persons
        self._codes = codes or RelationCodes()

    def look_up(self, number: IdentityNumber, *, relations: bool = False) -> RegisteredPerson | None:
        """The person with this number, or None if the register has none. Raises `Unavailable`."""
        return self.look_up_many([number], relations=relations)[number.number]

    def look_up_current(self, number: IdentityNumber, *, relations: bool = False) -> RegisteredPerson | None:
        """As `look_up`, by the number that is in force now, with the earlier ones as `former` (R-ID-24).

        A reference counts only if the register has it both ways: an error in one record must never make one person's
        account another's. That the one referred to is protected or has died counts all the same (R-ID-14, R-ID-17): of
        the protected the register may tell no other numbers. `replaced_by` is then left as it is.
        """
        person = self.look_up(number, relations=relations)
        if person is None:
            return None
        earlier: list[str] = []
        while person.replaced_by and person.code != _DECEASED and len(earlier) < _LONGEST_CHAIN:
            newer = self.look_up(parse(person.replaced_by, today()), relations=relations)
            if newer is None or person.number not in newer.former or newer.number in earlier:
                log.warning("register_reference_not_followed")
                person = person if newer is None else _marked(person, newer)
                break
            earlier.append(person.number)
            person = newer
        return replace(person, former=(*earlier, *self._referring(person, set(earlier))))

    def _referring(self, person: RegisteredPerson, known: set[str]) -> list[str]:
        """The former numbers, beside the known ones, whose own records refer to this person."""
        asked = [parse(one, today()) for one in person.former if one not in known][:MANY]
        found = self.look_up_many(asked) if asked else {}
        return [one for one, record in found.items() if record is not None and record.replaced_by == person.number]

    def look_up_many(
        self, numbers: Sequence[IdentityNumber], *, relations: bool = False, seconds: float | None = None
    ) -> dict[str, RegisteredPerson | None]:
        """Every number asked for with its person, or None if the register has none. At most `MANY`; in `seconds`, where
        that is less than what the register is given otherwise.

        Raises `Unavailable` when the register is down or answers a fault, and its kind `AnswerNotTrusted` where the
        answer can't be trusted; then nothing of the answer is used.
        """
        asked = {number.number: number for number in numbers}
        if not 1 <= len(asked) <= MANY:
            raise ValueError("one to 500 numbers")
        asked_at = now()
        try:
            question = self._request(list(asked.values()), _WITH_RELATIONS if relations else _PLAIN)
            answer = self._send(question, min(seconds or self._timeout, self._timeout))
        except (requests.RequestException, OSError, ValueError) as error:
            log.warning("population_register_failed", error_type=type(error).__name__)
            raise Unavailable(_NOT_NOW, reason="population_register_unavailable") from None
        try:
            return self._read(answer, asked, asked_at)
        except (etree.LxmlError, ValueError) as error:
            log.warning("population_register_not_trusted", error_type=type(error).__name__)
            raise AnswerNotTrusted(_NOT_NOW, reason="population_register_unavailable") from None

    def _request(self, numbers: Sequence[IdentityNumber], profile: str = _PLAIN) -> bytes:
        names = {"soap": _SOAP, "r": _REGISTRY, "g": _RESPONDER, "p": _PERSON}
        envelope = etree.Element(f"{{{_SOAP}}}Envelope", nsmap=names)
        header = etree.SubElement(envelope, f"{{{_SOAP}}}Header")
        etree.SubElement(header, f"{{{_REGISTRY}}}LogicalAddress").text = self._logical_address
        body = etree.SubElement(envelope, f"{{{_SOAP}}}Body")
        question = etree.SubElement(body, f"{{{_RESPONDER}}}GetPersonsForProfile")
        for number in numbers:
            person = etree.SubElement(question, f"{{{_RESPONDER}}}personId")
            etree.SubElement(person, f"{{{_PERSON}}}root").text = number.kind.value
            etree.SubElement(person, f"{{{_PERSON}}}extension").text = number.number
        etree.SubElement(question, f"{{{_RESPONDER}}}profile").text = profile
        etree.SubElement(question, f"{{{_RESPONDER}}}ignoreReferredIdentity").text = "true"
        return etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")

    def _send(self, envelope: bytes, seconds: float) -> bytes:
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{_ACTION}"'}
        return fetched(
            self._http,
            "POST",
            self._url,
            seconds=seconds,
            largest=_LARGEST_ANSWER,
            data=envelope,
            headers=headers,
        )

    def _read(
        self, text: bytes, asked: dict[str, IdentityNumber], asked_at: datetime
    ) -> dict[str, RegisteredPerson | None]:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        root = etree.fromstring(text, parser)
        if root.getroottree().docinfo.internalDTD is not None:
            raise ValueError("a document type has no place in an answer")
        answers = root.findall(f"{{{_SOAP}}}Body/{{{_RESPONDER}}}GetPersonsForProfileResponse")
        if root.tag != f"{{{_SOAP}}}Envelope" or len(answers) != 1:
            raise ValueError("no answer in it, or several")
        persons: dict[str, RegisteredPerson | None] = {}
        for entry in _children(answers[0], _RESPONDER, {"requestedPersonRecord"}):
            _children(entry, _PERSON, {"requestedPersonalIdentity", "personRecord"})
            requested = _must(entry, "requestedPersonalIdentity/p:extension")
            if requested not in asked or requested in persons:
                raise ValueError("an answer about someone who was not asked for")
            record = _only(entry, "personRecord")
            # An unknown person comes as no record or as one without content.
            persons[requested] = (
                None if record is None or len(record) == 0 else self._person(record, requested, asked_at)
            )
        if len(persons) != len(asked):
            raise ValueError("not everyone asked for is in the answer")
        return persons

    def _person(self, record: etree._Element, requested: str, asked_at: datetime) -> RegisteredPerson | None:
        if _must(record, "personalIdentity/p:extension") != requested:
            raise ValueError("a record of someone else")
        if _flag(record, "testIndicator") and not self._accept_test_persons:
            return None
        protected = _flag(record, "protectedPersonIndicator", needed=True) or _flag(record, "protectedPopulationRecord")
        died = _text(record, "coOrdinationNumberData/p:deceasedDate/p:value") is not None or (
            _text(record, "personalIdentityStatus/p:identityStatusCause") == "AVLIDEN"
        )
        given = _name(record, "givenName")
        surname = " ".join(part for part in (_name(record, "middleName"), _name(record, "surname")) if part)
        return RegisteredPerson(
            number=requested,
            given_name=given,
            surname=surname,
            protected=protected,
            code=_DECEASED if died else _deregistration(record),
            place=None if protected else _place(record),
            asked_at=asked_at,
            replaced_by=_replaced_by(record),
            former=_former(record, requested),
            relations=() if protected else tuple(self._relations(record)),
        )

    def _relations(self, record: etree._Element) -> Iterable[Relation]:
        """Custody of the codes that are known; of people without a number there is none to act by."""
        for one in record.findall(f"{{{_PERSON}}}relationship"):
            kind, number = _text(one, "relationshipType"), _number(one, "relationshipId/p:personalIdentity")
            if number is not None and kind in self._codes.guardian | self._codes.child:
                yield Relation(
                    "guardian" if kind in self._codes.guardian else "child",
                    number,
                    _partial_date(one, "relationshipFromDate"),
                    _partial_date(one, "relationshipToDate"),
                )


def _marked(person: RegisteredPerson, newer: RegisteredPerson) -> RegisteredPerson:
    """The person, protected if the newer record says so, and dead if it says so."""
    if newer.code == _DECEASED:
        person = replace(person, code=_DECEASED)
    return replace(person, protected=True, place=None, relations=()) if newer.protected else person


def _number(element: etree._Element, path: str) -> str | None:
    """The number that stands there, in twelve characters; None for one of a kind that nobody here has."""
    text = _text(element, f"{path}/p:extension")
    try:
        return parse(text, today()).number if text else None
    except NotANumber:
        return None


def _partial_date(element: etree._Element, name: str) -> PartialDate | None:
    value = _text(element, f"{name}/p:value")
    return PartialDate(value) if value else None


def _referred(record: etree._Element, status: str) -> list[str]:
    """Numbers of the same person that Skatteverket refers to: "NY" the one in force, "AS" those before."""
    found = [
        _number(one, "referredPersonalIdentity")
        for one in record.findall(f"{{{_PERSON}}}referredPersonalIdentities")
        if _text(one, "referredPersonalIdentityStatus") == status
    ]
    return [one for one in found if one]


def _linked(record: etree._Element, *, primary: bool) -> list[str]:
    """Identities of the same person that the register itself has linked: the main one, or the others."""
    found = [
        _number(one, "referredPersonalIdentity")
        for one in record.findall(f"{{{_PERSON}}}linkedIdentity")
        if _flag(one, "primaryIdentity", needed=True) is primary
    ]
    return [one for one in found if one]


def _replaced_by(record: etree._Element) -> str | None:
    linked = [] if _flag(record, "primaryIdentity") else _linked(record, primary=True)
    return next(iter([*_referred(record, "NY"), *linked]), None)


def _former(record: etree._Element, own: str) -> tuple[str, ...]:
    found = dict.fromkeys([*_referred(record, "AS"), *_linked(record, primary=False)])
    return tuple(one for one in found if one != own)


def _children(element: etree._Element, namespace: str, names: set[str]) -> list[etree._Element]:
    """The child elements of this namespace. Raises ValueError for one that the contract does not have there; those of
    other namespaces are extensions of later versions, and passed over."""
    found = [one for one in element.iterchildren(tag=etree.Element) if etree.QName(one).namespace == namespace]
    if any(etree.QName(one).localname not in names for one in found):
        raise ValueError("an element that the contract does not have")
    return found


@cache
def _steps(path: str) -> tuple[str, ...]:
    """A path as the names of elements, each in the one before."""
    return tuple(f"{{{_PERSON}}}{step.removeprefix('p:')}" for step in path.split("/"))


def _only(element: etree._Element, path: str) -> etree._Element | None:
    """What stands there, in half of the time of `find`: a path is looked for thirty times in each record.

    Raises ValueError where it stands there twice: the contract has it once at most, and the two could say different
    things of whether someone is protected (R-ID-14) or alive (R-ID-17).
    """
    found: etree._Element | None = element
    for step in _steps(path):
        if found is None:
            return None
        children = found.iterchildren(step)
        found = next(children, None)
        if next(children, None) is not None:
            raise ValueError("more than one of what there is once")
    return found


def _text(element: etree._Element, path: str) -> str | None:
    found = _only(element, path)
    text = found.text.strip() if found is not None and found.text else ""
    return text or None


def _must(element: etree._Element, path: str) -> str:
    text = _text(element, path)
    if text is None:
        raise ValueError("something mandatory is missing")
    return text


def _flag(element: etree._Element, name: str, *, needed: bool = False) -> bool:
    text = _must(element, name) if needed else _text(element, name)
    if text not in (None, "true", "false", "1", "0"):
        raise ValueError("neither true nor false")
    return text in ("true", "1")


def _deregistration(record: etree._Element) -> str | None:
    found = _only(record, "deregistration")
    if found is None or len(found) == 0:
        return None
    return _text(found, "deregistrationReasonCode") or ""


def _name(record: etree._Element, part: str) -> str:
    """A part of the name: as text (schema 5.0) or as `{name}` (contract text 5.1)."""
    return _text(record, f"name/p:{part}/p:name") or _text(record, f"name/p:{part}") or ""


def _place(record: etree._Element) -> Place:
    address = "addressInformation/p:residentialAddress/p:"
    lines = [_text(record, address + line) for line in ("careOf", "postalAddress1", "postalAddress2")]
    code = _text(record, address + "postalCode")
    return Place(
        street=", ".join(line for line in lines if line) or None,
        # The schema has it as a number, so that a leading zero is lost on the way.
        postal_code=code.zfill(5) if code else None,
        city=_text(record, address + "city"),
        county_code=_text(record, "populationRegistrationLocality/p:countyCode"),
        municipality_code=_text(record, "populationRegistrationLocality/p:municipalityCode"),
    )
