"""Catalogues of 10 000 units and 100 000 staff, against the same records parsed and copied by a bare script; searching
at that size, against its SQL alone; and LDAP in pages, against ldapsearch."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.parts.programs import Program, settings_of
from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers
from deploy.local import databases, ports, siths_ca, system_packages
from deploy.local.kiv_ldap import READER, UNITS_BASE, KivLdap
from deploy.local.people.feed import Record
from shared.database import migrate

FIRST_LOAD_BAR, SECOND_RUN_BAR, SEARCH_BAR, MEMORY_BAR = 0.5, 0.2, 0.3, 200.0
UNITS, STAFF = 10_000, 100_000
_SEARCHES = 500
_ROUNDS = 3
_CLINIC_OF = 5
_KINDS = ("Vårdcentralen", "Barnmorskemottagningen", "Rehab", "Jourcentralen", "Ungdomsmottagningen", "Öppenvården")
_PLACES = ("Göteborg", "Borås", "Skövde", "Åmål", "Öckerö", "Trollhättan", "Lidköping", "Kungälv", "Älvängen", "Ed")
_TREES = ("Eken", "Alen", "Björken", "Granen", "Linden", "Asken", "Lönnen", "Rönnen", "Tallen", "Almen")


def measure(servers: Servers) -> list[Figure]:
    """The figures of this benchmark."""
    folder = servers.folder / "catalogues"
    folder.mkdir()
    records = list(_units())
    files = _write(folder, records)
    start = _Loaders(servers)
    try:
        figures = []
        for kind, given in (("feed", [files["units"], files["persons"]]), ("hsa_file", [files["hsa"]])):
            figures += _loads(start(), kind, given)
        loader = start()
        loader.ask(order="empty")
        loader.ask(order="load", kind="feed", files=[files["units"]])
        figures += _searching(loader)
        figures += _ldap(loader, folder, records)
    finally:
        for program in start.started:
            program.stop()
    return figures


class _Loaders:
    """Starts loaders, each a process of its own, on a database of the directory."""

    def __init__(self, servers: Servers) -> None:
        password = servers.keys.password("database_directory")
        databases.make(servers.admin_url, {"directory": password})
        self._url = servers.stack.database_url("directory")
        migrate.upgrade("directory", self._url)
        self._servers = servers
        self.started: list[Program] = []

    def __call__(self) -> Program:
        settings = settings_of("directory", self._servers.keys, self._servers.broker_url, self._url)
        self.started.append(Program("directory_loader", [], settings, self._servers.folder))
        return self.started[-1]


def _loads(loader: Program, kind: str, files: list[str]) -> list[Figure]:
    loader.ask(order="empty")
    first = loader.ask(order="load", kind=kind, files=files)
    same = loader.ask(order="load", kind=kind, files=files)
    for file in files:  # other bytes, the same records
        with Path(file).open("a") as end:
            end.write("\n")
    again = loader.ask(order="load", kind=kind, files=files)
    memory = loader.ask(order="peak_megabytes")
    bare = loader.ask(order="bare", kind=kind, files=files)
    return [
        ratio(f"{kind}: first load, against parsing and COPY alone", [bare], [first], FIRST_LOAD_BAR),
        median(f"{kind}: first load", "s", [first]),
        ratio(f"{kind}: second run of the same file, of the first", [same], [first], SECOND_RUN_BAR, at_most=True),
        median(f"{kind}: the same records in other bytes, of the first", "times", [again / first]),
        median(f"{kind}: memory of the worker", "MB", [memory], MEMORY_BAR, at_most=True),
    ]


def _searching(loader: Program) -> list[Figure]:
    loader.ask(order="activate", every=_CLINIC_OF)
    chosen = random.Random(7)
    wanted = [[chosen.choice(_KINDS)[:6].lower(), chosen.choice(_PLACES)[:4].lower()] for _ in range(_SEARCHES)]
    plain = str.maketrans("åäö", "aao")
    wanted = [[word.translate(plain) for word in words] for words in wanted]
    ours, bare, each = [], [], []
    for _ in range(_ROUNDS):
        bare.append(_SEARCHES / sum(loader.ask(order="search_bare", wanted=wanted)))
        spent = loader.ask(order="search", wanted=wanted)
        each += spent
        ours.append(_SEARCHES / sum(spent))
    each.sort()
    return [
        ratio(f"search among {UNITS} units, against the SQL alone", ours, bare, SEARCH_BAR),
        _quantile("search, half of them within", each, 0.5),
        _quantile("search, 99 of 100 within", each, 0.99),
    ]


def _quantile(name: str, seconds: list[float], share: float) -> Figure:
    value = seconds[min(int(len(seconds) * share), len(seconds) - 1)]
    return Figure(name, value * 1000, "ms", seconds[0] * 1000, seconds[-1] * 1000, len(seconds))


def _ldap(loader: Program, folder: Path, records: list[dict[str, Any]]) -> list[Figure]:
    system_packages.require(["ldap-utils"], lambda text: None)
    pki = folder / "pki"
    siths_ca.ensure(pki)
    server = KivLdap(folder / "ldap", ports.choose(anywhere=True)["kiv"], pki)
    server.prepare([Record(one["dn"], one["attributes"]) for one in records], lambda text: None)
    server.start()
    try:
        certificate, authority = siths_ca.issue_function(pki, "vardarende").pair, str(siths_ca.trust_file(pki))
        how = {"url": server.url, "units_base": UNITS_BASE, "staff_base": "", "user": READER}
        how |= {"password": server.password, "authority": authority}
        ours = [loader.ask(order="read_ldap", certificate=list(certificate), **how) for _ in range(2)]
        peer = [_ldapsearch(server, certificate, authority, folder) for _ in range(2)]
    finally:
        server.stop()
    return [
        median(
            "LDAP: all units in pages, against ldapsearch", "times", [p / o for p, o in zip(peer, ours, strict=True)]
        ),
        median("LDAP: all units in pages", "s", ours),
        median("ldapsearch", "s", peer),
    ]


def _ldapsearch(server: KivLdap, certificate: tuple[str, str], authority: str, folder: Path) -> float:
    environment = {"LDAPTLS_CACERT": authority, "LDAPTLS_CERT": certificate[0], "LDAPTLS_KEY": certificate[1]}
    environment["LDAPTLS_REQCERT"] = "allow"  # libldap takes localhost for the machine's own name
    command = ["ldapsearch", "-LLL", "-x", "-H", server.url, "-D", READER, "-w", server.password, "-b", UNITS_BASE]
    command += ["-E", "pr=500/noprompt", "(objectClass=vgrOrganizationalUnit)"]
    began = time.perf_counter()
    with (folder / "found.ldif").open("wb") as found:
        subprocess.run(command, env=environment | {"PATH": "/usr/bin:/bin"}, stdout=found, check=True)
    seconds = time.perf_counter() - began
    count = (folder / "found.ldif").read_bytes().count(b"hsaIdentity:")
    assert count == UNITS, f"{count} units instead of {UNITS}"
    return seconds


# --- the records ----------------------------------------------------------------------------------------------------


def _units() -> Iterator[dict[str, Any]]:
    chosen = random.Random(1)
    for number in range(UNITS):
        place = chosen.choice(_PLACES)
        name = f"{chosen.choice(_KINDS)} {chosen.choice(_TREES)} {number}"
        phone = f"+4631{7_000_000 + number}"
        attributes = {
            "hsaidentity": [f"SE2321000131-E{number:012}"],
            "ou": [name],
            "l": [place],
            "hsacountycode": ["14"],
            "hsamunicipalitycode": ["1480"],
            "hsageographicalcoordinates": [f"X: {6_400_000 + number}, Y: {1_268_000 + number}"],
            "hsadestinationindicator": ["03"],
            "vgrcaretype": ["01"],
            "hsabusinessclassificationcode": ["1411", "1502"],
            "hsamanagementcode": ["1"],
            "hsapublictelephonenumber": [phone],
            "hsatelephonenumber": [phone],
            "hsasurgeryhours": ["1-5#08:00#17:00"],
            "hsatelephonetime": ["1-4#08:00#16:00", "5-5#08:00#15:00"],
            "hsapostaladdress": [f"{name}$ $Storgatan {number}$ $417 26${place}"],
            "hsastreetaddress": [f"Storgatan {number}\r$417 26 {place}\r"],
            "postalcode": ["41726"],
            "labeleduri": ["http://www.vgregion.example/" + str(number)],
            "description": [f"{name} finns för dig som bor i {place} med omnejd. " * 6],
            "hsaroute": ["Buss 25 och 31 stannar utanför.\r$\r$"],
            "vgrmodifytimestamp": ["20261123120000Z"],
        }
        yield {"dn": f"ou={name},ou={place},ou=Org,o=VGR", "attributes": attributes}


def _staff() -> Iterator[dict[str, Any]]:
    for number in range(STAFF):
        attributes = {
            "hsaidentity": [f"SE2321000131-P{number:012}"],
            "objectclass": ["top", "person", "inetOrgPerson"],
            "givenname": ["Karin"],
            "sn": [f"Lindqvist {number}"],
            "title": ["Distriktssköterska"],
            "mail": [f"karin.{number}@vgregion.example"],
            "mobile": [f"+4670{1_740_000 + number % 9_000}"],
        }
        yield {"dn": f"cn=p{number},ou=Personal,o=VGR", "attributes": attributes}


def _write(folder: Path, units: list[dict[str, Any]]) -> dict[str, str]:
    files = {name: str(folder / f"{name}.{'xml' if name == 'hsa' else 'json'}") for name in ("units", "persons", "hsa")}
    Path(files["units"]).write_text(json.dumps({"units": units}, ensure_ascii=False))
    with Path(files["persons"]).open("w") as persons:
        persons.write('{"persons": [')
        for place, one in enumerate(_staff()):
            persons.write(("," if place else "") + json.dumps(one, ensure_ascii=False))
        persons.write("]}")
    with Path(files["hsa"]).open("w") as xml:
        xml.write('<FileGetHsaUnitsResponse xmlns="urn:riv:hsa:HsaWsResponder:3"><hsaUnits>')
        for one in units:
            identity, name = one["attributes"]["hsaidentity"][0], one["attributes"]["ou"][0]
            xml.write(f"<hsaUnit><hsaIdentity>{identity}</hsaIdentity><DN>{one['dn']}</DN><name>{name}</name>")
            xml.write(f"<publicName>{name}</publicName><startDate>2020-01-01T00:00:00+01:00</startDate></hsaUnit>")
        xml.write("</hsaUnits></FileGetHsaUnitsResponse>")
    return files
