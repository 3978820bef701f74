"""What `watch` tells of the entries, certificates and backups of a deployment."""

from __future__ import annotations

import time

import pytest

from tests.deployment.support import until, watched

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def test_it_is_seen_whether_the_entries_answer_and_when_their_certificates_run_out(deployment):
    entries = {"broker", "databases", "door", "reports"}
    assert watched(deployment, "vardarende_entry_there") == dict.fromkeys(entries, 1)
    ends = watched(deployment, "vardarende_certificate_ends_seconds")
    assert {name: round((ends[name] - time.time()) / 86400) for name in entries} == dict.fromkeys(entries, 397)
    assert set(ends) == entries | {"ca.crt", "outside-client.crt"}
    deployment.compose("stop", "door")
    try:
        until(lambda: watched(deployment, "vardarende_entry_there")["door"] == 0)
    finally:
        deployment.compose("up", "--detach", "--wait", "--no-deps", "door")
    until(lambda: watched(deployment, "vardarende_entry_there") == dict.fromkeys(entries, 1))
