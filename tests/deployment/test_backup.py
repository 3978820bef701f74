"""What was acknowledged before a backup is there when it is restored, and nobody who was logged in then still is."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest

from tests.deployment.support import GO_ON, LOG_IN, Load, as_caller, containers_of, psql, until, watched

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def test_what_was_acknowledged_is_there_when_the_databases_are_lost_and_restored_elsewhere(
    deployment, elsewhere, folder
):
    """What came after the backup too, up to a second before: from the archive (R-SYS-5)."""
    load = Load(deployment)
    used, kept = (json.loads(as_caller(deployment, LOG_IN)[-1]) for _ in range(2))
    began = time.time()
    deployment.compose("run", "--rm", "--no-TTY", "backup")
    until(lambda: began - 1 <= watched(deployment, "vardarende_backup_made_seconds")["databases"] < time.time())
    assert time.time() - watched(deployment, "vardarende_backup_made_seconds")["archive"] < 60
    assert as_caller(deployment, GO_ON, *used)[-3:] == ["let in"] * 3
    lost = time.time()
    subprocess.run(["docker", "kill", *containers_of(deployment, "postgres")], check=True, capture_output=True)
    shutil.copytree(folder / "backups", elsewhere.settings["BACKUPS"])
    written, _ = load.finish()
    deployment.compose("up", "--detach", "--wait", "--no-deps", "postgres")
    assert {one["at"] < began for one in written} == {True, False}, "before the backup and after it"

    [backup] = sorted((folder / "backups").glob("databases-*.tar.gz"))
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "restore", backup.name)
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "postgres")
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "roles")
    there = set(psql(elsewhere, "cases", "SELECT id FROM cases").split())
    gone = [lost - one["at"] for one in written if one["case"] not in there]
    print(f"of {len(written)} acknowledged cases {len(gone)} are lost, the oldest {max(gone, default=0):.3f} s before")
    assert max(gone, default=0) < 1

    live = "SELECT count(*) FROM sessions WHERE ended_at IS NULL"
    sessions = int(psql(elsewhere, "identity", live))
    assert sessions > 0
    begin_anew = ("identity", "python", "-m", "services.identity.restored")
    told = elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", *begin_anew)[1]
    assert "the revocation number was" in told and f"; {sessions} sessions have ended" in told
    assert psql(elsewhere, "identity", live) == "0"
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "archive", "rabbitmq", "counterparts", "identity")
    access, new, renewal = as_caller(elsewhere, GO_ON, *kept)[-3:]
    # All keys but identity's own have gone too, and that one signs for the first minute only.
    assert access in ("not_authenticated session_ended", "not_authenticated token_of_unknown_key")
    assert (new, renewal) == ("let in", "not_authenticated session_ended")

    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "backup")  # the archive goes on from what it had
    status, told = elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "restore", backup.name, check=False)
    assert status != 0 and "restore into an empty volume" in told


def test_the_store_is_saved_and_loaded_elsewhere(deployment, elsewhere, folder):
    deployment.compose("stop", "store")
    deployment.compose("run", "--rm", "--no-TTY", "--no-deps", "backup_store")
    deployment.compose("up", "--detach", "--wait", "--no-deps", "store")
    [backup] = sorted((folder / "backups").glob("store-*.tar.gz"))
    listing = (
        "import boto3\n"
        "key, secret = (open(f'/run/secrets/s3-{n}.key').read().strip() for n in ('access', 'secret'))\n"
        "s3 = boto3.client('s3', endpoint_url='https://store:8333', region_name='us-east-1', aws_access_key_id=key,\n"
        "                  aws_secret_access_key=secret)\n"
        "import hashlib\n"
        "for one in s3.list_objects_v2(Bucket='attachments').get('Contents', []):\n"
        "    body = s3.get_object(Bucket='attachments', Key=one['Key'])['Body'].read()\n"
        "    print(one['Key'], hashlib.sha256(body).hexdigest())\n"
    )
    look = ("run", "--rm", "--no-TTY", "--no-deps", "attachments_worker", "python", "-c", listing)

    def files(of):
        """Name and SHA-256 of each; what a store that is not ready yet makes the program say is left out."""
        told = (line.split() for line in of.compose(*look, check=False)[1].splitlines())
        return sorted((one[0], one[1]) for one in told if len(one) == 2 and len(one[1]) == 64)

    kept, ends = files(deployment), time.monotonic() + 60
    while not kept and time.monotonic() < ends:
        kept = files(deployment)
    assert kept
    shutil.copytree(folder / "backups", elsewhere.settings["BACKUPS"])
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "backup_store", "load", backup.name)
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "store")
    found, ends = files(elsewhere), time.monotonic() + 60
    while found != kept and time.monotonic() < ends:
        found = files(elsewhere)
    assert found == kept
