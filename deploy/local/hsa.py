"""HSA over mutual TLS: GetEmployeeIncludingProtectedPerson 4.0, GetUnit 5.0 and GetHealthCareUnit 2.0.

    python -m deploy.local.hsa --port N --control-port M --data DIR --pki DIR [--feed FILE]

Staff and units are those of KiV's feed, and a few persons that only HSA has. Every path answers.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deploy.local.common.behaviour import Behaviours
from deploy.local.common.control import control_app
from deploy.local.common.http import App, Reply, Request, Server, answer_json
from deploy.local.common.process import arguments, run
from deploy.local.common.soap import SOAP_MODES, Calls
from deploy.local.common.soap import app as soap_app
from deploy.local.common.tls import only_functions, server_context
from deploy.local.hsa_answers import Catalogue, operations
from deploy.local.people import staff
from deploy.local.people.feed import DATA, read

LOGICAL_ADDRESS = "SE165565594230-1000"


def control(catalogue: Catalogue, behaviours: Behaviours, calls: Calls) -> App:
    """The control port: misbehaving, what HSA knows, and how it was asked."""
    served = control_app(behaviours)
    _records(served, "/people", catalogue.put_person, catalogue.remove_person)
    _records(served, "/units", catalogue.put_unit, catalogue.remove_unit)

    @served.route("GET", "/people")
    def people(request: Request) -> Reply:
        return answer_json(
            {"people": [dict(one.record.attributes) | {"dn": one.record.dn} for one in catalogue.people()]}
        )

    add_calls(served, calls)
    return served


def _records(
    served: App, path: str, put: Callable[[dict[str, Any], str | None], None], remove: Callable[[str], None]
) -> None:
    @served.route("POST", path)
    def add(request: Request) -> Reply:
        try:
            record = request.json()
            put(record["attributes"], record.get("dn"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            return answer_json({"error": str(error)}, 400)
        return Reply(204)

    @served.route("DELETE", path)
    def take_away(request: Request) -> Reply:
        remove(request.asked("hsa_id") or "")
        return Reply(204)


def add_calls(served: App, calls: Calls) -> None:
    """GET and DELETE /calls: how often, how many at once, how close on each other."""

    @served.route("GET", "/calls")
    def asked(request: Request) -> Reply:
        return answer_json(calls.shown())

    @served.route("DELETE", "/calls")
    def forget(request: Request) -> Reply:
        calls.forget()
        return Reply(204)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = arguments("hsa", "HSA: staff and units by SOAP.")
    parser.add_argument("--feed", type=Path, help="file of units to know instead of our own")
    parser.add_argument("--logical-address", default=LOGICAL_ADDRESS)
    given = parser.parse_args(argv)
    try:
        units = read(given.feed or DATA / "kiv-units.json", "units")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"hsa: {given.feed} is no feed of units: {type(error).__name__}", file=sys.stderr)
        return 1

    def make() -> list[Server]:
        behaviours, calls = Behaviours(SOAP_MODES), Calls()
        roles = () if given.feed else read(DATA / "kiv-roles.json", "roles")
        catalogue = Catalogue(staff.everyone(), (*units, *roles))
        answering = soap_app(operations(catalogue), given.logical_address, behaviours, calls)
        tls = server_context(given.pki, "hsa", clients=ssl.CERT_REQUIRED)
        main_server = Server(given.port, only_functions(given.pki, answering), tls)
        return [main_server, Server(given.control_port, control(catalogue, behaviours, calls))]

    return run("hsa", make)


if __name__ == "__main__":
    sys.exit(main())
