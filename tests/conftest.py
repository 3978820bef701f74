"""What all tests share: the servers and the running system of tests/stack."""

from __future__ import annotations

pytest_plugins = ["tests.stack.plugin"]
