"""SOAP 1.1 as RIV-TA's basic profile 2.1 wants it: document/literal, one header LogicalAddress, answers and faults."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from lxml import etree

from deploy.local.common.behaviour import Behaviours
from deploy.local.common.control import HTTP_MODES, misbehave
from deploy.local.common.http import App, Reply, Request, answer_text

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
TESTDATA = Path(__file__).parents[4] / "shared" / "testdata"
"""Schemas and data from public sources, beside the project where someone has put them."""
REGISTRY = "urn:riv:itintegration:registry:1"

SOAP_MODES = HTTP_MODES | {
    "fault": "SOAP Fault: the catalogue can't be reached",
    "forbidden": "HTTP 403",
    "empty": "an answer that knows nobody and nothing",
    "invalid": "an answer that breaks the schema",
    "truncated": "half of the answer's bytes, as if they were all",
}

log = logging.getLogger(__name__)


class Fault(Exception):
    """Answered as a SOAP Fault. `code`: Client or Server. The text holds no personal data."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


One: TypeAlias = "str | bool | int | Part | None"
Value: TypeAlias = "One | Sequence[One]"


@dataclass(frozen=True)
class Part:
    """An element's children in schema order, all of one namespace; None and empty ones are left out."""

    namespace: str
    children: Mapping[str, Value]


@dataclass(frozen=True)
class Field:
    """A child that a request may have. `choice`: of these exactly one must be there."""

    name: str
    least: int = 0
    most: int | None = 1
    check: Callable[[str], bool] = lambda text: True
    choice: bool = False
    parts: tuple[Field, ...] = ()
    namespace: str | None = None


def truth(text: str) -> bool:
    """Whether the text is an xs:boolean."""
    return text in ("true", "false", "1", "0")


@dataclass(frozen=True)
class Operation:
    """A contract: `<responder>` is the namespace of request and response, and soapAction is `<responder>:<name>`."""

    name: str
    responder: str
    fields: tuple[Field, ...]
    answer: Callable[[etree._Element, bool], Part]
    """From the request, and whether to know nothing, to the response's children."""
    subjects: Callable[[etree._Element], list[str]] = lambda request: []
    """What misbehaving can be limited to."""


class Schema:
    """The official schema of an operation, where it lies beside the project (see `TESTDATA`)."""

    def __init__(self, file: Path) -> None:
        self._schema = etree.XMLSchema(etree.parse(file)) if file.exists() else None
        self._lock = threading.Lock()

    def holds(self, content: etree._Element) -> bool:
        """Whether the content keeps to it; where there is none, yes."""
        if self._schema is None:
            return True
        with self._lock:
            return bool(self._schema.validate(content))


@dataclass
class Calls:
    """How the callers behave: HSA wants one question at a time, and 50 ms between the questions of a bulk refresh."""

    count: dict[str, int] = field(default_factory=dict)
    most_at_once: int = 0
    shortest_pause: float | None = None
    _now: int = 0
    _ended: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, operation: str) -> None:
        """A question came."""
        with self._lock:
            self.count[operation] = self.count.get(operation, 0) + 1
            if self._ended is not None:
                pause = time.monotonic() - self._ended if self._now == 0 else 0.0
                self.shortest_pause = pause if self.shortest_pause is None else min(pause, self.shortest_pause)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)

    def end(self) -> None:
        """It was answered."""
        with self._lock:
            self._now -= 1
            self._ended = time.monotonic()

    def shown(self) -> dict[str, object]:
        """As JSON."""
        with self._lock:
            pause = self.shortest_pause
            return {
                "calls": dict(self.count),
                "most_at_once": self.most_at_once,
                "shortest_pause_ms": None if pause is None else round(pause * 1000, 1),
            }

    def forget(self) -> None:
        """Counts from here."""
        with self._lock:
            self.count, self.most_at_once, self.shortest_pause, self._ended = {}, self._now, None, None


def app(
    operations: Sequence[Operation],
    logical_address: str,
    behaviours: Behaviours,
    calls: Calls,
    schemas: Mapping[str, Schema] | None = None,
) -> App:
    """Answers at every path: what is asked for stands in the envelope. `schemas`: by operation, for questions and
    answers alike."""
    official = schemas or {}
    served = App()
    by_tag = {f"{{{one.responder}}}{one.name}": one for one in operations}

    @served.route("POST", "*")
    def call(request: Request) -> Reply:
        try:
            asked = _open(request, logical_address)
            operation = by_tag.get(asked.tag)
            if operation is None:
                raise Fault("Client", "unknown operation")
            action = request.headers.get("soapaction", "").strip().strip('"')
            if action != f"{operation.responder}:{operation.name}":
                raise Fault("Client", "SOAPAction does not fit the body")
            check(asked, operation.responder, operation.fields)
            if operation.name in official and not official[operation.name].holds(asked):
                raise Fault("Client", "breaks the schema")
        except Fault as fault:
            log.info("refused: %s", fault.text)
            return _fault(fault)
        calls.begin(operation.name)
        try:
            return _answer(operation, asked, behaviours, official.get(operation.name))
        except Fault as fault:
            return _fault(fault)
        finally:
            calls.end()

    return served


def _answer(operation: Operation, asked: etree._Element, behaviours: Behaviours, official: Schema | None) -> Reply:
    rule = behaviours.take(operation.name, *operation.subjects(asked), among=tuple(SOAP_MODES))
    if wrong := misbehave(rule):
        return wrong
    mode = rule.mode if rule else None
    if mode == "forbidden":
        return answer_text("forbidden", 403)
    if mode == "fault":
        raise Fault("Server", "the catalogue can't be reached")
    response = etree.Element(f"{{{operation.responder}}}{operation.name}Response", nsmap={"r": operation.responder})
    _fill(response, operation.answer(asked, mode == "empty"))
    if official is not None and not official.holds(response):
        log.error("our answer to %s breaks the schema", operation.name)
        raise Fault("Server", "the answer breaks the schema")
    if mode == "invalid":
        etree.SubElement(response, f"{{{operation.responder}}}notInTheSchema").text = "1"
    body = _envelope(response)
    if mode == "truncated":
        body = body[: len(body) // 2]
    return Reply(200, body, "text/xml; charset=utf-8")


def _open(request: Request, logical_address: str) -> etree._Element:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "text/xml":
        raise Fault("Client", "Content-Type must be text/xml")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(request.body, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise Fault("Client", "not XML") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Fault("Client", "a document type is not allowed")
    if root.tag != f"{{{ENVELOPE}}}Envelope":
        raise Fault("VersionMismatch", "not a SOAP 1.1 envelope")
    addresses = root.findall(f"{{{ENVELOPE}}}Header/{{{REGISTRY}}}LogicalAddress")
    if len(addresses) != 1 or (addresses[0].text or "") != logical_address:
        raise Fault("Client", "LogicalAddress is missing, or nobody's here")
    body = root.find(f"{{{ENVELOPE}}}Body")
    content = [] if body is None else _elements(body)
    if len(content) != 1:
        raise Fault("Client", "the body must have one element")
    return content[0]


def _elements(parent: etree._Element) -> list[etree._Element]:
    return [child for child in parent if isinstance(child.tag, str)]


def check(element: etree._Element, namespace: str, fields: Sequence[Field]) -> None:
    """Refuses what the schema refuses: unknown, missing, too many, out of order, malformed. Raises Fault."""
    names = [one.name for one in fields]
    seen = dict.fromkeys(names, 0)
    last, foreign = 0, False
    for child in _elements(element):
        name = etree.QName(child)
        if name.namespace != namespace:
            foreign = True  # xs:any ##other, at the end
            continue
        if name.localname not in seen or foreign:
            raise Fault("Client", f"unexpected element {name.localname}")
        position = names.index(name.localname)
        if position < last:
            raise Fault("Client", f"element {name.localname} out of order")
        last = position
        seen[name.localname] += 1
        wanted = fields[position]
        if wanted.parts:
            check(child, wanted.namespace or namespace, wanted.parts)
        elif len(child) or not wanted.check((child.text or "").strip()):
            raise Fault("Client", f"element {name.localname} is malformed")
    for one in fields:
        if seen[one.name] < one.least or (one.most is not None and seen[one.name] > one.most):
            raise Fault("Client", f"element {one.name} must occur {one.least} to {one.most or 'many'} times")
    choices = [one for one in fields if one.choice]
    if choices and sum(seen[one.name] for one in choices) != 1:
        raise Fault("Client", f"exactly one of {', '.join(one.name for one in choices)}")


def text(element: etree._Element, name: str) -> str | None:
    """A child's text, of the element's own namespace."""
    found = element.find(f"{{{etree.QName(element).namespace}}}{name}")
    return None if found is None else (found.text or "").strip()


def _fill(parent: etree._Element, part: Part) -> None:
    for name, value in part.children.items():
        for one in _several(value):
            if one is None or (isinstance(one, Part) and not _any(one)):
                continue
            child = etree.SubElement(parent, f"{{{part.namespace}}}{name}")
            if isinstance(one, Part):
                _fill(child, one)
            else:
                child.text = str(one).lower() if isinstance(one, bool) else str(one)


def _several(value: Value) -> Sequence[One]:
    return [value] if value is None or isinstance(value, str | bool | int | Part) else value


def _any(part: Part) -> bool:
    return any(
        _any(one) if isinstance(one, Part) else one is not None
        for value in part.children.values()
        for one in _several(value)
    )


def _envelope(content: etree._Element) -> bytes:
    envelope = etree.Element(f"{{{ENVELOPE}}}Envelope", nsmap={"soap": ENVELOPE})
    etree.SubElement(envelope, f"{{{ENVELOPE}}}Body").append(content)
    whole: bytes = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
    return whole


def _fault(fault: Fault) -> Reply:
    content = etree.Element(f"{{{ENVELOPE}}}Fault", nsmap={"soap": ENVELOPE})
    etree.SubElement(content, "faultcode").text = f"soap:{fault.code}"
    etree.SubElement(content, "faultstring").text = fault.text
    return Reply(500, _envelope(content), "text/xml; charset=utf-8")
