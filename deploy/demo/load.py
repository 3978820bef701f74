"""Residents who go on starting cases, and a count of what was acknowledged: `python -m deploy.demo.load --seconds N`.

Each acknowledged case is a line on standard output, `{"at": epoch seconds, "case": id}`, written when the answer has
come; failures are lines with `error`. No call is repeated: what fails, fails. A line on standard input ends it sooner.
Run the story first: it makes the clinic ready.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from uuid import uuid4

from deploy.demo.world import DeployedWorld
from deploy.local.people import cast
from shared.contracts import cases, logging_in
from shared.messaging.errors import Refused

CALL_SECONDS = 25.0


def _token(world: DeployedWorld) -> str:
    session = world.login_resident(cast.SECOND_RESIDENT)
    if session.terms_version_to_accept is None:
        return session.access_token
    accept = logging_in.AcceptTerms(request_id=uuid4(), version=session.terms_version_to_accept)
    return str(world.call(logging_in.ACCEPT_TERMS, accept, session.access_token).access_token)


_one_line = threading.Lock()


def _tell(**line: object) -> None:
    with _one_line:
        print(json.dumps(line), flush=True)


def main() -> int:
    """0: every call was answered well."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.load")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--residents", type=int, default=3, help="how many at the same time")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between a resident's cases")
    given = parser.parse_args()
    failed, told_to_end = threading.Event(), threading.Event()

    def listen() -> None:
        if sys.stdin.readline():
            told_to_end.set()

    threading.Thread(target=listen, daemon=True).start()
    with DeployedWorld() as world:
        token = _token(world)
        kinds = world.call(cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=cast.SJOPORTEN), token).case_types
        ends = time.monotonic() + given.seconds

        def start() -> None:
            while time.monotonic() < ends and not told_to_end.is_set():
                request = cases.StartCase(
                    request_id=uuid4(),
                    clinic=cast.SJOPORTEN,
                    case_type=kinds[0].case_type,
                    answers=[cases.Answer(component="arende", values=["Jag undrar en sak."])],
                )
                try:
                    begun = world.call(cases.START_CASE, request, token, timeout=CALL_SECONDS)
                    _tell(at=time.time(), case=str(begun.case))
                except Refused as error:
                    failed.set()
                    _tell(at=time.time(), error=error.code, reason=error.reason)
                time.sleep(given.pause)

        threads = [threading.Thread(target=start) for _ in range(given.residents)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return 1 if failed.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
