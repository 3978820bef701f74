"""The population register (Personuppgiftstjänsten) over mutual TLS: GetPersonsForProfile 5.0.

    python -m deploy.local.pu --port N --control-port M --data DIR --pki DIR [--people FILE]

Every path answers.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.local.common.behaviour import Behaviours
from deploy.local.common.control import control_app
from deploy.local.common.http import App, Reply, Request, Server, answer_json
from deploy.local.common.process import arguments, run
from deploy.local.common.soap import SOAP_MODES, TESTDATA, Calls, Schema
from deploy.local.common.soap import app as soap_app
from deploy.local.common.tls import only_functions, server_context
from deploy.local.hsa import add_calls
from deploy.local.people import residents
from deploy.local.pu_answers import Register, Relations, operation

SCHEMA = (
    TESTDATA / "pu/rivta/person/5.0/interactions/GetPersonsForProfileInteraction/GetPersonsForProfileResponder_5.0.xsd"
)
LOGICAL_ADDRESS = "SE2321000156"
MODES = SOAP_MODES | {
    "leaky": "address and county of a protected person too, against the contract",
    "another": "the record of another person than the one asked for",
}


def control(register: Register, behaviours: Behaviours, calls: Calls) -> App:
    """The control port: misbehaving, whom the register knows, and how it was asked."""
    served = control_app(behaviours)

    @served.route("GET", "/people")
    def people(request: Request) -> Reply:
        return answer_json({"people": [asdict(one) for one in register.people().values()]})

    @served.route("POST", "/people")
    def put(request: Request) -> Reply:
        try:
            register.put(residents.resident(request.json()))
        except (ValueError, TypeError) as error:
            return answer_json({"error": str(error)}, 400)
        return Reply(204)

    @served.route("DELETE", "/people")
    def remove(request: Request) -> Reply:
        register.remove(request.asked("number") or "")
        return Reply(204)

    add_calls(served, calls)
    return served


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = arguments("pu", "The population register: residents by SOAP.")
    parser.add_argument("--people", type=Path, help="file of residents instead of our own")
    parser.add_argument("--logical-address", default=LOGICAL_ADDRESS)
    parser.add_argument("--guardian-code", default=Relations().guardian, help="relation of a child to a guardian")
    parser.add_argument("--child-code", default=Relations().child, help="relation of a guardian to a child")
    given = parser.parse_args(argv)
    try:
        people = residents.read(given.people) if given.people else residents.everyone()
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"pu: {given.people} is no file of residents: {type(error).__name__}", file=sys.stderr)
        return 1

    def make() -> list[Server]:
        behaviours, calls = Behaviours(MODES), Calls()
        register = Register(people, Relations(given.guardian_code, given.child_code))
        official = {"GetPersonsForProfile": Schema(SCHEMA)}
        answering = soap_app([operation(register, behaviours)], given.logical_address, behaviours, calls, official)
        tls = server_context(given.pki, "pu", clients=ssl.CERT_REQUIRED)
        main_server = Server(given.port, only_functions(given.pki, answering), tls)
        return [main_server, Server(given.control_port, control(register, behaviours, calls))]

    return run("pu", make)


if __name__ == "__main__":
    sys.exit(main())
