"""One identity process with the counterparts that logins of residents need, and a register of so many people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from bench.parts.servers import Servers
from deploy.local import counterparts, databases, idp_tokens, ports, siths_ca
from deploy.local.counterparts import Counterpart
from deploy.local.folder import make_folder, write_private
from deploy.local.idp import RESIDENT_CLIENT
from deploy.local.own_processes import Addresses, System
from services.identity.identity_numbers import IdentityNumber, NumberKind, luhn
from services.identity.population_register import PopulationRegister
from shared.messaging.client import RpcClient

LEVEL = "http://id.elegnamnd.se/loa/1.0/loa3"
_FIRST_BORN = date(1930, 1, 1)


@dataclass(frozen=True)
class IdentityProcess:
    """What runs, and what it takes to log in. `numbers`: everyone in the register."""

    numbers: list[str]
    client: RpcClient
    register: PopulationRegister
    register_url: str
    client_certificate: tuple[str, str]
    trust: str
    keys: idp_tokens.KeyRing
    issuer: str

    headers = {
        "Content-Type": "text/xml; charset=utf-8",
        "SOAPAction": '"urn:riv:strategicresourcemanagement:persons:person:'
        'GetPersonsForProfileResponder:5:GetPersonsForProfile"',
    }

    def id_token(self, number: str, nonce: str) -> str:
        """What the identity provider would give."""
        login = idp_tokens.Login(number, 0, LEVEL, ("SoftwarePKI",), None, None, {"personalIdentityNumber": number})
        return idp_tokens.id_token(self.keys, self.issuer, RESIDENT_CLIENT, nonce, login, idp_tokens.Lifetimes())

    def question(self, number: str) -> bytes:
        """What the register is asked about someone."""
        return self.register._request([IdentityNumber(number, NumberKind.PERSONNUMMER)])


@contextmanager
def running_identity(servers: Servers, people: int) -> Iterator[IdentityProcess]:
    """For the time of the block."""
    folder = make_folder(servers.folder / "identity", 0o711)
    taken = ports.choose(anywhere=True)
    write_private(folder / "ports.json", json.dumps(taken))
    pki = counterparts.pki(folder)
    siths_ca.ensure(pki)
    file = folder / "people.json"
    numbers = [_number(place) for place in range(people)]
    file.write_text(json.dumps({"residents": [_resident(number) for number in numbers]}))
    owner = databases.owner_of("identity")
    passwords = {name: servers.keys.password(f"database_{name}") for name in ("identity", owner)}
    databases.make(servers.admin_url, {"identity": passwords["identity"]}, {"identity": passwords[owner]})
    system = _system(servers, folder, taken, pki)
    extra = {"pu": ["--people", str(file)], "idp": ["--alg", "ES256"]}
    with ExitStack() as stopping:
        for name in ("siths_ca", "idp", "pu"):
            counterpart = Counterpart(name, folder, taken, extra.get(name, []))
            counterpart.start()
            stopping.callback(counterpart.stop)
            counterpart.wait()
        databases.migrate(system.migration("identity"))
        process = system.process("identity")
        process.start()
        stopping.callback(process.stop)
        process.wait_ready()
        client = RpcClient(servers.broker_url, "bench")
        client.start()
        stopping.callback(client.stop)
        certificate, key = system.client
        yield IdentityProcess(
            numbers=numbers,
            client=client,
            register=PopulationRegister(
                system.at.pu, certificate=certificate, key=key, ca=str(system.trust), logical_address="SE2321000156"
            ),
            register_url=system.at.pu,
            client_certificate=system.client,
            trust=str(system.trust),
            keys=idp_tokens.KeyRing(folder / "counterparts" / "idp" / "signing-keys.json"),
            issuer=system.at.idp,
        )


def _system(servers: Servers, folder: Path, taken: ports.Ports, pki: Path) -> System:
    here = {name: f"https://127.0.0.1:{taken[name]}" for name in ("idp", "hsa", "pu", "kiv", "sms")}
    at = Addresses(
        database=lambda service: _database_url(servers, service, service),
        owners_database=lambda service: _database_url(servers, service, databases.owner_of(service)),
        broker=lambda _name: servers.broker_url,
        store="http://127.0.0.1:1",
        public_store="http://127.0.0.1:1",
        smtp_host="127.0.0.1",
        smtp_port=1,
        **here,
    )
    trust = siths_ca.trust_file(pki)
    return System(folder, taken, servers.keys, at, trust, counterparts.client_certificate(folder))


def _database_url(servers: Servers, service: str, user: str) -> str:
    server = servers.database_url("cases").rsplit("@", 1)[1].rsplit("/", 1)[0]
    return f"postgresql://{user}:{servers.keys.password(f'database_{user}')}@{server}/{service}"


def _number(place: int) -> str:
    born = _FIRST_BORN + timedelta(days=place // 500)
    nine = f"{born:%y%m%d}{1 + place % 500:03}"
    return f"{born:%Y%m%d}{nine[6:]}{luhn(nine)}"


def _resident(number: str) -> dict[str, object]:
    address = {"street": "Storgatan 1", "postal_code": "41101", "city": "Göteborg"}
    return {
        "number": number,
        "given_name": "Test",
        "surname": "Testsson",
        "county_code": "14",
        "municipality_code": "80",
        "address": address,
    }
