# ruff: noqa: F403, I001 - all of it is the contract of cases, in the order in which docs/rpc.md tells it
"""What the cases service offers and tells: case types, cases, their messages, and who has read them."""

from __future__ import annotations

from shared.contracts.cases.common import *
from shared.contracts.cases.offer import *
from shared.contracts.cases.working import *
from shared.contracts.cases.reading import *
from shared.contracts.cases.access_log import *
from shared.contracts.cases.for_services import *
from shared.contracts.cases.events import *
