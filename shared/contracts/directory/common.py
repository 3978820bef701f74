"""The contract of the directory, and the words that its parts share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.base import Contract

directory = Contract("directory")

StaffStatus = Literal["fine", "missing"]
Cursor = Annotated[str, Field(max_length=1000)]
