# ruff: noqa: F403, I001 - all of it is the contract of the directory, in the order in which docs/rpc.md tells it
"""What the directory offers and tells: clinics and staff as the care directories have them, and how they got here."""

from __future__ import annotations

from shared.contracts.directory.common import *
from shared.contracts.directory.syncs import *
from shared.contracts.directory.activating import *
from shared.contracts.directory.clinics import *
from shared.contracts.directory.cards import *
from shared.contracts.directory.staff import *
from shared.contracts.directory.events import *
