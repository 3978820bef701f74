"""The echo behind our entrypoint: `nameko run bench.parts.echo_service`."""

from __future__ import annotations

from typing import Any

from bench.parts.echo_contract import ECHO, Echoed, contract
from shared.messaging.entrypoints import rpc
from shared.messaging.kernel import Kernel
from shared.operations.settings import ServiceSettings


class EchoService:
    """Answers with what it was asked."""

    name = "cases"
    kernel = Kernel(ServiceSettings, contract=contract)

    @rpc(ECHO)
    def echo(self, call: Any) -> Echoed:
        return Echoed(text=call.request.text)
