"""A server that lost its data."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.deployment.support import OWN, Load, containers_of, psql, wait_until_healthy

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def test_a_broker_that_lost_all_its_data_is_there_again_by_itself(deployment):
    """As docs/operations.md tells: an empty one takes its definitions, and the processes find it."""
    deployment.compose("rm", "--stop", "--force", "rabbitmq")
    subprocess.run(["docker", "volume", "rm", f"{deployment.project}_broker"], check=True, capture_output=True)
    deployment.compose("up", "--detach", "--wait", "--no-deps", "rabbitmq")
    for service in OWN:
        for container in containers_of(deployment, service):
            wait_until_healthy(container)
    load = Load(deployment)
    time.sleep(2)
    written, failed = load.finish()
    assert written and failed == []
    ends = time.monotonic() + 15
    while psql(deployment, "cases", "SELECT count(*) FROM outbox") != "0":
        assert time.monotonic() < ends, "events are not published again"
        time.sleep(0.5)
