"""SOAP 1.1 over mutual TLS, as the RIV-TA profile RIVTABP21 has it: one question, one answer, nothing trusted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from lxml import etree

from services.directory.sources import SourceError

_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_REGISTRY = "urn:riv:itintegration:registry:1"
_LARGEST_ANSWER = 4 << 20
_PIECE = 1 << 16


@dataclass(frozen=True)
class Endpoint:
    """Where a catalogue answers, and how to get in. Callers keep to one call at a time (`hsa_queue`).

    `timeout_seconds`: as long may nothing come; when as long has passed since the question, no more is waited for.
    """

    url: str
    logical_address: str
    certificate: tuple[str, str] | None = None
    authority: str | None = None
    timeout_seconds: float = 4

    def ask(self, operation: str, responder: str, fields: Mapping[str, str]) -> Any:
        """The operation's response element. Raises `SourceError` if the catalogue is down or answers anything else."""
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{responder}:{operation}"'}
        ends = time.monotonic() + self.timeout_seconds
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.cert = self.certificate
                session.verify = self.authority or True
                with session.post(
                    self.url,
                    data=question(self.logical_address, operation, responder, fields),
                    headers=headers,
                    timeout=self.timeout_seconds,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    # A SOAP fault comes with status 500; it is no answer either.
                    if answer.status_code != 200:
                        raise SourceError(f"http_{answer.status_code}")
                    body = _body(answer.raw, ends)
        except requests.exceptions.Timeout:
            raise SourceError("timeout") from None
        except (requests.exceptions.RequestException, OSError):
            raise SourceError("unreachable") from None
        except urllib3.exceptions.TimeoutError:  # urllib3's own errors, while the body is read
            raise SourceError("timeout") from None
        except urllib3.exceptions.HTTPError:
            raise SourceError("truncated") from None
        return response_in(body, operation, responder)


def _body(raw: Any, ends: float) -> bytes:
    """All of the answer, if it comes in time: a server that sends a byte now and then would hold up all who wait."""
    body = bytearray()
    while piece := raw.read1(_PIECE, decode_content=True):
        body += piece
        if len(body) > _LARGEST_ANSWER:
            raise SourceError("too_large")
        if time.monotonic() > ends:
            raise SourceError("timeout")
    return bytes(body)


def question(logical_address: str, operation: str, responder: str, fields: Mapping[str, str]) -> bytes:
    """The envelope of a question."""
    envelope = etree.Element(f"{{{_SOAP}}}Envelope", nsmap={"soap": _SOAP, "reg": _REGISTRY, "ask": responder})
    header = etree.SubElement(envelope, f"{{{_SOAP}}}Header")
    etree.SubElement(header, f"{{{_REGISTRY}}}LogicalAddress").text = logical_address
    body = etree.SubElement(envelope, f"{{{_SOAP}}}Body")
    asked = etree.SubElement(body, f"{{{responder}}}{operation}")
    for name, value in fields.items():
        etree.SubElement(asked, f"{{{responder}}}{name}").text = value
    return etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")


def response_in(body: bytes, operation: str, responder: str) -> Any:
    """The response element in an answer. Raises `SourceError` for a fault or for anything that is no such answer."""
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
    response = content.find(f"{{{responder}}}{operation}Response")
    if response is None:
        raise SourceError("soap_fault" if content.find(f"{{{_SOAP}}}Fault") is not None else "not_soap")
    return response
