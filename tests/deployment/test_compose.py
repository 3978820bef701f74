"""docker-compose.yml as it stands: the story, rights in servers, restarts, replicas, backup and restore.

In this order, on one deployment; the whole takes some minutes.
"""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from deploy.local.deployment import Deployment
from deploy.local.folder import CHECKOUT
from tests.deployment.conftest import free_port

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

OWN = (
    "attachments", "attachments_worker", "cases", "directory", "directory_worker", "identity", "notifications",
    "notifications_worker",
)  # fmt: skip
SERVICES = ("attachments", "cases", "directory", "identity", "notifications")


def containers_of(deployment, service):
    return deployment.compose("ps", "--quiet", service)[1].split()


def inspected(container):
    [told] = json.loads(subprocess.run(["docker", "inspect", container], capture_output=True, check=True).stdout)
    return told


@pytest.fixture
def elsewhere(deployment, monkeypatch):
    """An empty deployment with the same secrets, of which a test starts what it needs."""
    monkeypatch.setenv("AMQPS_LISTEN", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("S3_LISTEN", f"127.0.0.1:{free_port()}")
    made = Deployment(deployment.folder, "vardarende-restored")
    yield made
    made.down(volumes=True)


def psql(deployment, database, statement):
    command = ("exec", "-T", "--user", "postgres", "postgres", "psql", "-XAtq", "-d", database, "-c", statement)
    return deployment.compose(*command)[1].strip()


class Load:
    """Cases being written, in a container beside the others."""

    def __init__(self, deployment, seconds):
        command = deployment.command(
            "run",
            "--rm",
            "--no-TTY",
            "--no-deps",
            "story",
            "python",
            "-m",
            "deploy.demo.load",
            "--seconds",
            str(seconds),
        )
        self._running = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.first = json.loads(self._running.stdout.readline())

    def finish(self):
        """Lines of acknowledged cases, and of failures."""
        lines = [self.first, *(json.loads(line) for line in self._running.stdout)]
        self._running.wait(120)
        return [one for one in lines if "case" in one], [one for one in lines if "error" in one]


# --- without anything running ---------------------------------------------------------------------------------------


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


# --- the deployment -------------------------------------------------------------------------------------------------


def test_the_story_holds_with_three_of_cases(deployment):
    assert len(containers_of(deployment, "cases")) == 3
    told = deployment.compose("run", "--rm", "--no-TTY", "--no-deps", "story")[1]
    [line] = [one for one in told.splitlines() if one.startswith("{")]
    story = json.loads(line)
    assert story["ok"], [step for step in story["steps"] if not step["ok"]]


def test_our_processes_can_write_nowhere_and_have_no_rights(deployment):
    for service in OWN:
        for container in containers_of(deployment, service):
            told = inspected(container)
            host = told["HostConfig"]
            assert told["Config"]["User"].split(":")[0] not in ("", "0", "root"), service
            assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"], service
            assert not host["Privileged"] and "no-new-privileges:true" in host["SecurityOpt"], service
            assert host["Memory"] > 0 and host["LogConfig"]["Config"]["max-size"], service
            environment = "\n".join(told["Config"]["Env"])
            assert "password=" not in environment.lower() and "-----BEGIN" not in environment, service
    capabilities = deployment.compose("exec", "-T", "cases", "grep", "Cap", "/proc/1/status")[1]
    assert {line.split()[1] for line in capabilities.splitlines()} == {"0" * 16}


def test_every_connection_to_the_databases_is_encrypted_and_each_to_its_own(deployment):
    rows = psql(
        deployment,
        "postgres",
        "SELECT DISTINCT usename, datname, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
        "WHERE client_addr IS NOT NULL",
    ).splitlines()
    assert {f"{service}|{service}|t" for service in SERVICES} <= set(rows)
    assert all(row.split("|")[0] == row.split("|")[1] and row.endswith("|t") for row in rows), rows
    script = (
        "import psycopg, sys\n"
        "p = open('/run/secrets/database-cases.password').read().strip()\n"
        "for user, database, mode in (('cases', 'identity', 'require'), ('cases', 'postgres', 'require'),\n"
        "                             ('cases', 'cases', 'disable'), ('cases', 'cases', 'require')):\n"
        "    try:\n"
        "        psycopg.connect(host='postgres', user=user, password=p, dbname=database, sslmode=mode).close()\n"
        "        print(database, mode, 'in')\n"
        "    except psycopg.OperationalError:\n"
        "        print(database, mode, 'out')\n"
    )
    told = deployment.compose("exec", "-T", "cases", "python", "-c", script)[1].split("\n")
    assert told[:4] == ["identity require out", "postgres require out", "cases disable out", "cases require in"]


def test_the_broker_knows_only_our_users_and_only_speaks_tls(deployment):
    users = deployment.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_users")[1]
    names = {line.split()[0] for line in users.splitlines()[1:] if line.strip()}
    assert names == {*SERVICES, "portal", "staff_tool", "operator", "listings"}
    listeners = deployment.compose("exec", "-T", "rabbitmq", "rabbitmq-diagnostics", "-q", "listeners")[1]
    assert "5671" in listeners and ":5672" not in listeners and "port: 5672" not in listeners


def test_a_process_reaches_by_network_only_what_it_uses(deployment):
    reach = (
        "import socket, sys\n"
        "for host, port in (('postgres', 5432), ('rabbitmq', 5671), ('store', 8333), ('store', 8888),\n"
        "                   ('counterparts', 9002)):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 2).close()\n"
        "        print(host, port)\n"
        "    except OSError:\n"
        "        pass\n"
    )
    told = {
        service: deployment.compose("exec", "-T", service, "python", "-c", reach)[1].split("\n")[:-1]
        for service in ("cases", "identity", "attachments_worker")
    }
    assert told["cases"] == ["postgres 5432", "rabbitmq 5671"]
    assert told["identity"] == ["postgres 5432", "rabbitmq 5671", "counterparts 9002"]
    assert told["attachments_worker"] == ["postgres 5432", "rabbitmq 5671", "store 8333"]


def test_the_stores_credentials_reach_its_two_buckets_only_and_nobody_comes_in_without(deployment):
    script = (
        "import boto3, botocore.exceptions, os, urllib.request, urllib.error, ssl\n"
        "key, secret = (open(f'/run/secrets/s3-{n}.key').read().strip() for n in ('access', 'secret'))\n"
        "s3 = boto3.client('s3', endpoint_url='https://store:8333', region_name='us-east-1', aws_access_key_id=key,\n"
        "                  aws_secret_access_key=secret)\n"
        "s3.list_objects_v2(Bucket='attachments')\n"
        "print('own in')\n"
        "try:\n"
        "    s3.create_bucket(Bucket='another')\n"
        "    print('another in')\n"
        "except botocore.exceptions.ClientError:\n"
        "    print('another out')\n"
        "try:\n"
        "    context = ssl.create_default_context(cafile='/run/secrets/ca.crt')\n"
        "    urllib.request.urlopen('https://store:8333/attachments?list-type=2', context=context)\n"
        "    print('anyone in')\n"
        "except urllib.error.HTTPError as error:\n"
        "    print('anyone out', error.code)\n"
    )
    told = deployment.compose("exec", "-T", "attachments_worker", "python", "-c", script)[1].split("\n")
    assert told[:3] == ["own in", "another out", "anyone out 403"], told


def test_a_service_is_restarted_one_after_another_and_no_call_is_lost(deployment):
    load = Load(deployment, 60)
    before = containers_of(deployment, "cases")
    for container in before:
        subprocess.run(["docker", "restart", "--time", "40", container], check=True, capture_output=True, timeout=120)
        ends = time.monotonic() + 90
        while inspected(container)["State"]["Health"]["Status"] != "healthy":
            assert time.monotonic() < ends, "not healthy again in time"
            time.sleep(1)
    written, failed = load.finish()
    assert failed == []
    assert len(written) > 20


def test_a_job_runs_once_though_there_are_three(deployment):
    """A job of every minute is done once or twice in a minute, by the three together."""
    job = "close_expired_counter_questions"
    count = (
        "import re, urllib.request\n"
        "told = urllib.request.urlopen('http://127.0.0.1:8000/metrics').read().decode()\n"
        f"print(sum(float(v) for l, v in re.findall(r'^(.*jobs?_.*) ([0-9.e+]+)$', told, re.M)\n"
        f"          if '\"{job}\"' in l and '\"done\"' in l and '_created' not in l))\n"
    )

    def done():
        asked = (
            subprocess.run(["docker", "exec", one, "python", "-c", count], capture_output=True, text=True, check=True)
            for one in containers_of(deployment, "cases")
        )
        return sum(float(told.stdout) for told in asked)

    before = done()
    time.sleep(62)
    assert 1 <= done() - before <= 2


def test_what_was_acknowledged_before_a_backup_is_there_when_it_is_restored_elsewhere(deployment, elsewhere, folder):
    load = Load(deployment, 30)
    time.sleep(3)
    began = time.time()
    deployment.compose("run", "--rm", "--no-TTY", "backup")
    written, failed = load.finish()
    assert failed == []
    [backup] = sorted((folder / "backups").glob("databases-*.tar.gz"))
    before = [one["case"] for one in written if one["at"] < began]
    assert before and len(before) < len(written)
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "restore", backup.name)
    elsewhere.compose("up", "--detach", "--wait", "--no-deps", "postgres")
    elsewhere.compose("run", "--rm", "--no-TTY", "--no-deps", "roles")
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
