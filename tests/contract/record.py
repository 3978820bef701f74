"""Records what the contracts are now, for the tests of versions to come: `python -m tests.contract.record VERSION`.

Needs the local stack (`./dev up`). Writes `recorded/<version>/`: the schemas of all requests, replies and events, and
the payloads of one run of the main story, as they went over the wire. Secrets and addresses in them are replaced.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deploy.local import cli_stack
from deploy.local.story import Story
from deploy.local.world import World
from shared.contracts.document import contracts

RECORDED = Path(__file__).parent / "recorded"
_SECRET = re.compile(r"token|nonce|url|endpoint|issuer")


def schemas() -> dict[str, Any]:
    """The schema of everything that goes over the wire, by `service.name.part`."""
    found: dict[str, Any] = {}
    for contract in contracts():
        for call in contract.calls.values():
            found[f"{call.routing_key}.request"] = call.request.model_json_schema()
            found[f"{call.routing_key}.reply"] = call.reply.model_json_schema(mode="serialization")
        for event in contract.events.values():
            found[f"{event.service}.{event.name}.event"] = event.body.model_json_schema()
    return found


def _harmless(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _harmless(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_harmless(one, name) for one in value]
    return "replaced-value-of-some-length" if isinstance(value, str) and _SECRET.search(name) else value


class Recorder(World):
    """Keeps the first few payloads of each call."""

    payloads: dict[str, list[Any]]

    def call(self, call: Any, request: Any, token: str | None = None, timeout: float = 10.0) -> Any:
        """As `World.call`."""
        self._keep(f"{call.routing_key}.request", request)
        reply = super().call(call, request, token, timeout)
        self._keep(f"{call.routing_key}.reply", reply)
        return reply

    def _keep(self, name: str, payload: BaseModel) -> None:
        kept = self.payloads.setdefault(name, [])
        if len(kept) < 3:
            kept.append(_harmless(payload.model_dump(mode="json")))


def main(version: str) -> int:
    """The command line."""
    folder = RECORDED / version
    folder.mkdir(parents=True)
    with Recorder(cli_stack.started(), "recorder") as world:
        world.payloads = {}
        steps = Story(world, lambda step: None).tell()
        if not all(step.ok for step in steps):
            print(steps[-1].problem, file=sys.stderr)
            return 1
    for name, content in (("schemas", schemas()), ("payloads", world.payloads)):
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
