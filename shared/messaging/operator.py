"""One call as the operator, where the system runs: the first administrator, a job by hand, a new signing key.

    python -m shared.messaging.operator identity.make_first_administrator '{"person": "SE2321000131-P000000000001"}'
    python -m shared.messaging.operator identity.run_job '{"job": "refresh_residents"}'

with AMQP_URL of the broker's user `operator` (AMQP_PASSWORD_FILE, AMQP_CA_FILE) and OPERATOR_KEY_FILE, the key that
signs what the operator says. A request id is made up where one is needed and none is given. Prints the answer as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from shared.contracts.base import Call
from shared.messaging.client import RpcClient
from shared.messaging.errors import Refused
from shared.messaging.topology import all_contracts
from shared.operations.settings import EXIT_CONFIGURATION, strong_file, with_password
from shared.security.tokens import Signer

EXIT_FAILED = 1
_SECONDS = 30.0


def calls() -> dict[str, Call[Any, Any]]:
    """All that the operator may call."""
    return {
        call.routing_key: call
        for contract in all_contracts()
        for call in contract.calls.values()
        if "operator" in call.who
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status 0: done; 1: refused, and why; 2: no such call; 78: settings are missing."""
    parser = argparse.ArgumentParser(prog="operator", description="One call as the operator.")
    parser.add_argument("call", metavar="SERVICE.METHOD", choices=sorted(calls()), help=", ".join(sorted(calls())))
    parser.add_argument("arguments", nargs="?", default="{}", metavar="JSON", help="its arguments, as an object")
    options = parser.parse_args(arguments)
    call = calls()[options.call]
    try:
        given = json.loads(options.arguments)
        request = call.request.model_validate_json(
            json.dumps(({"request_id": str(uuid4())} if call.changes else {}) | given)
        )
    except (ValueError, TypeError) as error:
        parser.error(f"the arguments do not fit the contract: {error}")
    try:
        url, ca_file, signer = _settings()
    except (ValueError, OSError) as error:
        print(f"settings to mend in the environment:\n  {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    client = RpcClient(url, "operator.command", ca_file=ca_file)
    client.start()
    try:
        reply = client.ask(call, request, token=signer.own_token(), timeout=_SECONDS)
    except Refused as refused:
        print(f"{refused.code}: {refused}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        client.stop()
    print(reply.model_dump_json(indent=2))
    return 0


def _settings() -> tuple[str, str | None, Signer]:
    for name in ("AMQP_URL", "OPERATOR_KEY_FILE"):
        if not os.environ.get(name):
            raise ValueError(f"{name} is not set")
    password = os.environ.get("AMQP_PASSWORD_FILE")
    url = with_password(os.environ["AMQP_URL"], strong_file(Path(password) if password else None))
    return url, os.environ.get("AMQP_CA_FILE"), Signer.from_file(Path(os.environ["OPERATOR_KEY_FILE"]), "operator")


if __name__ == "__main__":
    sys.exit(main())
