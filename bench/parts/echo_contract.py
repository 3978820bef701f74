"""The contract of the echo: 600 bytes there and back."""

from __future__ import annotations

from typing import Annotated

from shared.contracts.base import Contract, Query, Reply, Text

contract = Contract("cases")


class Echo(Query):
    """What is to come back."""

    text: Annotated[str, Text(2000)]


class Echoed(Reply):
    text: str


ECHO = contract.call("echo", Echo, Echoed, who=("service:notifications",))
BODY_BYTES = 600
TEXT = "e" * BODY_BYTES
