"""What was acknowledged before a backup is there when it is restored, and nobody who was logged in then still is."""

from __future__ import annotations

import json
import time

import pytest

from tests.deployment.support import GO_ON, LOG_IN, Load, as_caller, psql, until, watched

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def test_what_was_acknowledged_before_a_backup_is_there_when_it_is_restored_elsewhere(deployment, elsewhere, folder):
    load = Load(deployment)
    tokens = json.loads(as_caller(deployment, LOG_IN)[-1])
    time.sleep(2)
    began = time.time()
    deployment.compose("run", "--rm", "--no-TTY", "backup")
    assert as_caller(deployment, GO_ON, *tokens)[-3:] == ["let in"] * 3
    time.sleep(1)
    written, _ = load.finish()  # what was refused meanwhile was not acknowledged
    [backup] = sorted((folder / "backups").glob("databases-*.tar.gz"))
    until(lambda: began - 1 <= watched(deployment, "vardarende_backup_made_seconds")["databases"] < time.time())
    before = [one["case"] for one in written if one["at"] < began]
    assert before and len(before) < len(written)
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "restore", backup.name)
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "postgres")
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "roles")
    live = "SELECT count(*) FROM sessions WHERE ended_at IS NULL"
    there = int(psql(elsewhere, "identity", live))
    assert there > 0
    begin_anew = ("identity", "python", "-m", "services.identity.restored")
    told = elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", *begin_anew)[1]
    assert "the revocation number was" in told and f"; {there} sessions have ended" in told
    assert psql(elsewhere, "identity", live) == "0"
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "rabbitmq", "counterparts", "identity")
    ended = "not_authenticated session_ended"
    assert as_caller(elsewhere, GO_ON, *tokens)[-3:] == [ended, "let in", ended]
    ids = ",".join(f"'{case}'" for case in before)
    there = psql(elsewhere, "cases", f"SELECT count(*) FROM cases WHERE id::text IN ({ids})")
    assert int(there) == len(before)
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
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "backup_store", "load", backup.name)
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "store")
    found, ends = files(elsewhere), time.monotonic() + 60
    while found != kept and time.monotonic() < ends:
        found = files(elsewhere)
    assert found == kept
