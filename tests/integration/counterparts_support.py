"""The counterparts as processes of their own, for their tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from lxml import etree

from deploy.local import siths_ca
from deploy.local.common.soap import ENVELOPE, REGISTRY

CHECKOUT = Path(__file__).parents[2]
PUBLIC = CHECKOUT.parent / "shared" / "testdata"
READY_SECONDS = 30


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Counterpart:
    """A running counterpart."""

    name: str
    folder: Path
    extra: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def start(self) -> Counterpart:
        """Starts it; returns before it is ready."""
        self.port, self.control_port = free_ports(2)
        argv = [sys.executable, "-m", f"deploy.local.{self.name}", "--port", str(self.port)]
        if self.name == "siths_ca":
            argv += ["--data", str(self.pki)]
        else:
            argv += ["--data", str(self.folder / self.name), "--pki", str(self.pki)]
            argv += ["--control-port", str(self.control_port)]
        self._log = (self.folder / f"{self.name}.log").open("ab")
        self.process = subprocess.Popen(
            [*argv, *self.extra],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | self.env,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        return self

    def wait(self) -> None:
        """Returns when it has said `ready`."""
        assert self.process.stdout is not None
        impatient = threading.Timer(READY_SECONDS, self.process.kill)
        impatient.start()
        line = self.process.stdout.readline()
        impatient.cancel()
        assert line == "ready\n", f"{self.name} said {line!r}: {self.log[-2000:]}"

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return status

    @property
    def pki(self) -> Path:
        """The certificate authority's folder."""
        return self.folder / "pki"

    @property
    def log(self) -> str:
        """What it wrote to stderr."""
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def url(self) -> str:
        """Its own address, over TLS."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def control(self) -> str:
        """Its control port."""
        return f"http://127.0.0.1:{self.control_port}"

    def behave(self, mode: str, **rule: Any) -> None:
        """Has it misbehave, once unless told otherwise."""
        told = requests.post(f"{self.control}/behave", json={"times": 1} | rule | {"mode": mode}, timeout=10)
        assert told.status_code == 201, told.text

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Over TLS, as our own system unless `cert` says otherwise."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(siths_ca.trust_file(self.pki))
            session.cert = siths_ca.issue_function(self.pki, "vardarende").pair
            arguments = {"timeout": 5, "allow_redirects": False} | arguments
            return session.request(method, f"{self.url}{path}", **arguments)


@dataclass(frozen=True)
class Contract:
    """A contract as a caller knows it."""

    operation: str
    responder: str
    logical_address: str
    schema: Path

    def envelope(self, inner: str) -> bytes:
        """A request. `inner` is in the responder's namespace; `p:` is the population register's core types."""
        return (
            f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Header><LogicalAddress xmlns="{REGISTRY}">{self.logical_address}'
            f'</LogicalAddress></s:Header><s:Body><{self.operation} xmlns="{self.responder}"'
            ' xmlns:p="urn:riv:strategicresourcemanagement:persons:person:5">'
            f"{inner}</{self.operation}></s:Body></s:Envelope>"
        ).encode()

    def post(self, counterpart: Counterpart, body: bytes, **arguments: Any) -> requests.Response:
        """Asks."""
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{self.responder}:{self.operation}"'}
        arguments.setdefault("headers", headers)
        return counterpart.request("POST", "/", data=body, **arguments)

    def ask(self, counterpart: Counterpart, inner: str) -> etree._Element:
        """The response element."""
        reply = self.post(counterpart, self.envelope(inner))
        assert reply.status_code == 200, reply.text
        return content(reply)


def content(reply: requests.Response) -> etree._Element:
    """The body's only element, as a document of its own."""
    body = etree.fromstring(reply.content).find(f"{{{ENVELOPE}}}Body")
    assert body is not None
    assert len(body) == 1
    return etree.fromstring(etree.tostring(body[0]))


def values(element: etree._Element, name: str) -> list[str]:
    """The texts of all descendants of this name."""
    return [one.text or "" for one in element.iterfind(f".//{{*}}{name}")]


_HSA = PUBLIC / "hsa" / "rivta"
_PU = PUBLIC / "pu" / "rivta" / "person" / "5.0" / "interactions" / "GetPersonsForProfileInteraction"
_ORGANIZATION = _HSA / "organization" / "5.0" / "interactions"
_EMPLOYEE = _HSA / "employee" / "4.0" / "interactions"

EMPLOYEE = Contract(
    "GetEmployeeIncludingProtectedPerson",
    "urn:riv:infrastructure:directory:employee:GetEmployeeIncludingProtectedPersonResponder:4",
    "SE165565594230-1000",
    _EMPLOYEE
    / "GetEmployeeIncludingProtectedPersonInteraction"
    / "GetEmployeeIncludingProtectedPersonResponder_4.0.xsd",
)
UNIT = Contract(
    "GetUnit",
    "urn:riv:infrastructure:directory:organization:GetUnitResponder:5",
    "SE165565594230-1000",
    _ORGANIZATION / "GetUnitInteraction" / "GetUnitResponder_5.0.xsd",
)
CARE_UNIT = Contract(
    "GetHealthCareUnit",
    "urn:riv:infrastructure:directory:organization:GetHealthCareUnitResponder:2",
    "SE165565594230-1000",
    _ORGANIZATION / "GetHealthCareUnitInteraction" / "GetHealthCareUnitResponder_2.0.xsd",
)
PERSONS = Contract(
    "GetPersonsForProfile",
    "urn:riv:strategicresourcemanagement:persons:person:GetPersonsForProfileResponder:5",
    "SE2321000156",
    _PU / "GetPersonsForProfileResponder_5.0.xsd",
)
