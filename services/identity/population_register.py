"""The population register (Personuppgiftstjänsten): GetPersonsForProfile 5, SOAP 1.1 over mutual TLS.

Only what identity needs is read, and nothing of where a protected person lives, whatever the register answered
(R-ID-14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import requests
from lxml import etree

from services.identity.identity_numbers import IdentityNumber
from shared.messaging.errors import Unavailable
from shared.operations.logs import log

MANY = 500
"""How many persons one request may ask for."""

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_REGISTRY = "urn:riv:itintegration:registry:1"
_DOMAIN = "urn:riv:strategicresourcemanagement:persons:person"
_RESPONDER = f"{_DOMAIN}:GetPersonsForProfileResponder:5"
_PERSON = f"{_DOMAIN}:5"
_ACTION = f"{_RESPONDER}:GetPersonsForProfile"
_PROFILE = "P2"
_LARGEST_ANSWER = 8 * 1024 * 1024


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

    def look_up(self, number: IdentityNumber) -> RegisteredPerson | None:
        """The person with this number, or None if the register has none. Raises `Unavailable`."""
        return self.look_up_many([number])[number.number]

    def look_up_many(self, numbers: Sequence[IdentityNumber]) -> dict[str, RegisteredPerson | None]:
        """Every number asked for with its person, or None if the register has none. At most `MANY`.

        Raises `Unavailable` when the register is down, answers a fault or something that can't be trusted; then nothing
        of the answer is used.
        """
        asked = {number.number: number for number in numbers}
        if not 1 <= len(asked) <= MANY:
            raise ValueError("one to 500 numbers")
        try:
            persons = self._read(self._send(self._request(list(asked.values()))), asked)
        except (requests.RequestException, etree.LxmlError, ValueError) as error:
            log.warning("population_register_failed", error_type=type(error).__name__)
            raise Unavailable(
                "Folkbokföringsuppgifterna går inte att hämta just nu. Försök igen om en stund.",
                reason="population_register_unavailable",
            ) from None
        return persons

    def _request(self, numbers: Sequence[IdentityNumber]) -> bytes:
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
        etree.SubElement(question, f"{{{_RESPONDER}}}profile").text = _PROFILE
        etree.SubElement(question, f"{{{_RESPONDER}}}ignoreReferredIdentity").text = "true"
        return etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")

    def _send(self, envelope: bytes) -> bytes:
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{_ACTION}"'}
        with self._http.post(
            self._url, data=envelope, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True
        ) as answer:
            if answer.status_code != requests.codes.ok:
                raise ValueError("not answered with 200")
            text: bytes = answer.raw.read(_LARGEST_ANSWER + 1, decode_content=True)
        if len(text) > _LARGEST_ANSWER:
            raise ValueError("too large")
        return text

    def _read(self, text: bytes, asked: dict[str, IdentityNumber]) -> dict[str, RegisteredPerson | None]:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        root = etree.fromstring(text, parser)
        if root.getroottree().docinfo.internalDTD is not None:
            raise ValueError("a document type has no place in an answer")
        answer = root.find(f"{{{_SOAP}}}Body/{{{_RESPONDER}}}GetPersonsForProfileResponse")
        if root.tag != f"{{{_SOAP}}}Envelope" or answer is None:
            raise ValueError("no answer in it")
        persons: dict[str, RegisteredPerson | None] = {}
        for entry in _children(answer, _RESPONDER, {"requestedPersonRecord"}):
            _children(entry, _PERSON, {"requestedPersonalIdentity", "personRecord"})
            requested = _must(entry, "requestedPersonalIdentity/p:extension")
            if requested not in asked or requested in persons:
                raise ValueError("an answer about someone who was not asked for")
            record = entry.find(f"{{{_PERSON}}}personRecord")
            # An unknown person comes as no record or as one without content.
            persons[requested] = None if record is None or len(record) == 0 else self._person(record, requested)
        if len(persons) != len(asked):
            raise ValueError("not everyone asked for is in the answer")
        return persons

    def _person(self, record: etree._Element, requested: str) -> RegisteredPerson | None:
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
            code="AV" if died else _deregistration(record),
            place=None if protected else _place(record),
        )


def _children(element: etree._Element, namespace: str, names: set[str]) -> list[etree._Element]:
    """The child elements of this namespace. Raises ValueError for one that the contract does not have there; those of
    other namespaces are extensions of later versions, and passed over."""
    found = [one for one in element.iterchildren(tag=etree.Element) if etree.QName(one).namespace == namespace]
    if any(etree.QName(one).localname not in names for one in found):
        raise ValueError("an element that the contract does not have")
    return found


def _text(element: etree._Element, path: str) -> str | None:
    found = element.find("p:" + path, {"p": _PERSON})
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
    found = record.find(f"{{{_PERSON}}}deregistration")
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
