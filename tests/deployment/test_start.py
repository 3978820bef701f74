"""Before anything starts."""

from __future__ import annotations

import pytest

from deploy.local.deployment import Deployment

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def test_a_missing_or_weak_secret_is_named_and_nothing_starts(engine, folder):
    broken = Deployment(folder / "broken", "vardarende-broken")
    broken.make_secrets()
    (broken.folder / "amqp-cases.password").write_text("hemligt")
    (broken.folder / "identity-numbers.key").write_text("0" * 64)
    try:
        broken.compose("build", "--quiet", "preflight")
        status, told = broken.compose("run", "--rm", "--no-TTY", "preflight", check=False)
        assert status != 0
        assert "amqp-cases.password holds a weak" in told
        assert "identity-numbers.key is not 64 random hex digits" in told
        assert "hemligt" not in told
        status, told = broken.compose("up", "--detach", "rabbitmq", "postgres", check=False)
        assert status != 0
        assert broken.compose("ps", "--quiet", "--status", "running")[1].split() == []
        (broken.folder / "database-cases.password").unlink()
        status, told = broken.compose("up", "--detach", "preflight", "roles", check=False)
        assert status != 0
        assert "database-cases.password" in told + broken.compose("logs", "preflight")[1]
    finally:
        broken.down(volumes=True)
