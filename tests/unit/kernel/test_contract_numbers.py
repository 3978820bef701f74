"""Numbers in requests have an end: what is no number for the database is refused as `invalid`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from shared.contracts.document import contracts

LARGEST = 2**63 - 1
"""What the largest columns hold."""
REQUESTS = {f"{one.service}.{one.name}": one.request for contract in contracts() for one in contract.calls.values()}
REACH_NO_COLUMN = {
    "cases.assign_case": {"version"},
    "cases.reply": {"version"},
    "cases.close_case": {"version"},
    "cases.mark_recorded": {"version"},
    "attachments.claim": {"at_most"},
}
"""Numbers that are only compared with what is known."""
_WORDS = {"properties", "$defs", "anyOf", "items", "prefixItems", "additionalProperties"}


def unbounded(schema: Any, where: str = "") -> Iterator[str]:
    """The fields whose integers may be larger or smaller than a column holds."""
    if isinstance(schema, list):
        for one in schema:
            yield from unbounded(one, where)
    elif isinstance(schema, dict):
        if schema.get("type") == "integer":
            least = schema.get("minimum", schema.get("exclusiveMinimum", -LARGEST - 2))
            most = schema.get("maximum", schema.get("exclusiveMaximum", LARGEST + 1))
            if least < -LARGEST - 1 or most > LARGEST:
                yield where
        for name, one in schema.items():
            yield from unbounded(one, where if name in _WORDS else name)


@pytest.mark.parametrize("name", REQUESTS)
def test_no_number_in_a_request_is_larger_than_the_database_takes(name: str) -> None:
    request: type[BaseModel] = REQUESTS[name]
    assert set(unbounded(request.model_json_schema())) == REACH_NO_COLUMN.get(name, set())
