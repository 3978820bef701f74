"""HSA's question about one person: GetEmployeeIncludingProtectedPerson 4.0, SOAP 1.1 over mutual TLS (RIVTABP21)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from lxml import etree

from services.directory import records
from services.directory.parsing import Unparsed
from services.directory.records import Person, Raw
from services.directory.sources import SourceError
from shared.operations.clock import SWEDEN

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_REGISTRY = "urn:riv:itintegration:registry:1"
_RESPONDER = "urn:riv:infrastructure:directory:employee:GetEmployeeIncludingProtectedPersonResponder:4"
_CORE = "urn:riv:infrastructure:directory:employee:4"
_ACTION = f"{_RESPONDER}:GetEmployeeIncludingProtectedPerson"
_LARGEST_ANSWER = 4 << 20

# HSA's field names to the directory's attribute names, which the record is made from.
_ATTRIBUTES = {
    "personHsaId": "hsaIdentity",
    "givenName": "givenName",
    "middleAndSurName": "sn",
    "title": "title",
    "mail": "mail",
    "mobileNumber": "mobile",
    "protectedPerson": "protectedPerson",
}


@dataclass(frozen=True)
class Hsa:
    """The catalogue's address and how to get in. Callers keep to one call at a time (`hsa_queue`)."""

    url: str
    logical_address: str
    certificate: tuple[str, str] | None = None
    authority: str | None = None
    timeout_seconds: float = 4

    def persons(self, hsa_id: str) -> list[Person]:
        """Every person object with this HSA-id; none: missing or hidden. Raises `SourceError` if HSA is down."""
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{_ACTION}"'}
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.cert = self.certificate
                session.verify = self.authority or True
                with session.post(
                    self.url,
                    data=question(self.logical_address, hsa_id),
                    headers=headers,
                    timeout=self.timeout_seconds,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    # A SOAP fault comes with status 500; it is no answer either.
                    if answer.status_code != 200:
                        raise SourceError(f"http_{answer.status_code}")
                    body = answer.raw.read(_LARGEST_ANSWER + 1, decode_content=True)
        except requests.exceptions.Timeout:
            raise SourceError("timeout") from None
        except (requests.exceptions.RequestException, OSError):
            raise SourceError("unreachable") from None
        except Exception as error:  # urllib3's own errors while the body is read
            if type(error).__module__.startswith("urllib3"):
                raise SourceError("truncated") from None
            raise
        if len(body) > _LARGEST_ANSWER:
            raise SourceError("too_large")
        return [one for one in persons_in(body) if one.hsa_id == hsa_id]


def question(logical_address: str, hsa_id: str) -> bytes:
    """The envelope that asks for one person."""
    envelope = etree.Element(f"{{{_SOAP}}}Envelope", nsmap={"soap": _SOAP, "reg": _REGISTRY, "emp": _RESPONDER})
    header = etree.SubElement(envelope, f"{{{_SOAP}}}Header")
    etree.SubElement(header, f"{{{_REGISTRY}}}LogicalAddress").text = logical_address
    body = etree.SubElement(envelope, f"{{{_SOAP}}}Body")
    asked = etree.SubElement(body, f"{{{_RESPONDER}}}GetEmployeeIncludingProtectedPerson")
    etree.SubElement(asked, f"{{{_RESPONDER}}}personHsaId").text = hsa_id
    return etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")


def persons_in(body: bytes) -> list[Person]:
    """The persons in an answer. Raises `SourceError` for a fault or for anything that is not such an answer."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError:
        raise SourceError("not_xml") from None
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]
        raise SourceError("not_xml")
    content = root.find(f"{{{_SOAP}}}Body")
    if root.tag != f"{{{_SOAP}}}Envelope" or content is None:
        raise SourceError("not_soap")
    response = content.find(f"{{{_RESPONDER}}}GetEmployeeIncludingProtectedPersonResponse")
    if response is None:
        raise SourceError("soap_fault" if content.find(f"{{{_SOAP}}}Fault") is not None else "not_soap")
    people = (_person(element) for element in response.findall(f"{{{_RESPONDER}}}personInformation"))
    return [person for person in people if person is not None]


def _person(element: Any) -> Person | None:
    attributes: dict[str, list[str]] = {}
    for child in element:
        if not isinstance(child.tag, str):
            continue
        name = etree.QName(child)
        if name.namespace != _CORE:
            continue
        if name.localname in _ATTRIBUTES and child.text:
            attributes.setdefault(_ATTRIBUTES[name.localname], []).append(child.text)
        elif name.localname == "personEndDate" and child.text:
            attributes["hsaEndDate"] = [_stamp(child.text)]
    person = records.person(Raw("", attributes))
    return None if isinstance(person, Unparsed) else person


def _stamp(xml_time: str) -> str:
    """An xs:dateTime in the directory's own form; as it came if it is none."""
    try:
        moment = datetime.fromisoformat(xml_time.strip())
    except ValueError:
        return xml_time
    moment = moment if moment.tzinfo else moment.replace(tzinfo=SWEDEN)
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
