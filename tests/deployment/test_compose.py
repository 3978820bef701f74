"""docker-compose.yml as it stands: the story, rights in servers, restarts, replicas, backup and restore.

In this order, on one deployment; the whole takes some minutes.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import subprocess
import time

import pytest
import yaml

from deploy.local.deployment import Deployment
from deploy.local.folder import CHECKOUT
from deploy.rabbitmq import definitions, permissions
from services.notifications import reports
from tests.deployment.conftest import settings

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
OWN = [name for name, one in COMPOSE.items() if one.get("restart") == "unless-stopped" and "user" in one]
SERVICES = ("attachments", "cases", "directory", "identity", "notifications")
A_TEXT = "Jag undrar en sak."
"""What the cases say that `deploy.demo.load` starts."""


def containers_of(deployment, service):
    return deployment.compose("ps", "--quiet", service)[1].split()


def inspected(container):
    [told] = json.loads(subprocess.run(["docker", "inspect", container], capture_output=True, check=True).stdout)
    return told


def wait_until_healthy(container, seconds=90):
    ends = time.monotonic() + seconds
    while inspected(container)["State"]["Health"]["Status"] != "healthy":
        if time.monotonic() > ends:
            told = inspected(container)
            said = subprocess.run(["docker", "logs", "--tail", "20", container], capture_output=True, text=True)
            health = told["State"]["Health"]["Log"][-1]
            pytest.fail(f"{told['Name']} is not healthy in time: {health}\n{said.stdout}{said.stderr}")
        time.sleep(0.5)


def until(holds, seconds=60):
    """Waits until it holds."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "does not come true"
        time.sleep(0.5)


def in_container(deployment, service, script):
    """The lines that a Python program in the service's container writes."""
    return deployment.compose("exec", "-T", service, "python", "-c", script)[1].splitlines()


def roll(deployment, *services, **environment):
    """deploy/roll.sh, as docs/operations.md tells to use it."""
    done = subprocess.run(
        ["deploy/roll.sh", *services],
        cwd=CHECKOUT,
        env=deployment.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture
def elsewhere(deployment, folder):
    """An empty deployment with the same secrets, of which a test starts what it needs."""
    made = Deployment(deployment.folder, "vardarende-restored", settings(folder))
    yield made
    made.down(volumes=True)


def psql(deployment, database, statement):
    command = ("exec", "-T", "--user", "postgres", "postgres", "psql", "-XAtq", "-d", database, "-c", statement)
    return deployment.compose(*command)[1].strip()


UPLOADS = """
import sys, requests
from deploy.demo.load import _token
from deploy.demo.world import DeployedWorld
from deploy.local.story import Story, picture
from shared.contracts import attachments
with DeployedWorld() as world:
    story = Story(world, lambda *_: None)
    story.tokens['resident'] = token = _token(world)
    file = story._usable('resident', 'ny.png', 'image/png', picture())
    link = world.call(attachments.PREVIEW_ATTACHMENT, attachments.PreviewAttachment(attachment=file), token)
    requests.get(link.url, timeout=20).raise_for_status()
    print('checked and read')
"""
"""Uploads a file as a resident, by the door, and reads it when it has been checked."""


LOG_IN = """
import json
from deploy.demo.load import _token
from deploy.demo.world import DeployedWorld
from deploy.local.people import cast
with DeployedWorld() as world:
    _token(world)  # who has not accepted the terms does so
    opened = world.login_resident(cast.SECOND_RESIDENT)
    print(json.dumps([opened.access_token, opened.renewal_token]))
"""
"""Logs a resident in; writes the session's tokens."""
GO_ON = """
import sys
from uuid import uuid4
from deploy.demo.load import _token
from deploy.demo.world import DeployedWorld
from shared.contracts import logging_in
from shared.messaging.errors import Refused
def tried(work):
    try:
        work()
        print('let in')
    except Refused as refused:
        print(refused.code, refused.reason)
with DeployedWorld() as world:
    access, renewal = sys.argv[1:]
    for token in (access, _token(world)):
        tried(lambda: world.call(logging_in.LIST_SESSIONS, logging_in.ListSessions(), token))
    renew = logging_in.RenewSession(request_id=uuid4(), renewal_token=renewal)
    tried(lambda: world.call(logging_in.RENEW_SESSION, renew))
"""
"""Goes on with a session by its tokens; in between, calls with a new one."""


def as_caller(deployment, program, *arguments):
    """The lines that a program writes which calls as somebody outside."""
    story = ("run", "--rm", "--no-TTY", "--no-deps", "story", "python", "-c", program, *arguments)
    return deployment.compose(*story)[1].splitlines()


class Load:
    """Cases being written, in a container beside the others, until it is told to finish."""

    def __init__(self, deployment, seconds=600):
        program = ("story", "python", "-m", "deploy.demo.load", "--seconds", str(seconds))
        self._running = subprocess.Popen(
            deployment.command("run", "--rm", "--no-TTY", "--no-deps", *program),
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.first = json.loads(self._running.stdout.readline())

    def finish(self):
        """Lines of acknowledged cases, and of failures."""
        self._running.stdin.write("enough\n")
        self._running.stdin.close()
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
    assert story["seconds"] >= sum(step["seconds"] for step in story["steps"]) > 0


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
    own = {f"{service}|{service}|t" for service in SERVICES} | {"notifications_web|notifications|t"}
    assert set(rows) == own
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
    told = in_container(deployment, "cases", script)
    assert told == ["identity require out", "postgres require out", "cases disable out", "cases require in"]


def test_the_broker_knows_only_our_users_and_only_speaks_tls(deployment):
    users = deployment.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_users")[1]
    names = {line.split()[0] for line in users.splitlines()[1:] if line.strip()}
    assert names == set(permissions.everyone())
    limits = deployment.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_user_limits", "--user", "cases")[1]
    assert str(definitions.MOST_CONNECTIONS) in limits
    queues = deployment.compose(
        "exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "-p", "vardarende", "list_queues", "name", "policy", "--silent"
    )[1]
    policies = dict(line.split("\t") for line in queues.splitlines() if "\t" in line)
    assert policies["events.cases"] == policies["dead.cases"] == "events" and policies["rpc-cases"] == "calls"
    assert all(policies.values()), policies
    listeners = deployment.compose("exec", "-T", "rabbitmq", "rabbitmq-diagnostics", "-q", "listeners")[1]
    assert "5671" in listeners and ":5672" not in listeners and "port: 5672" not in listeners


def test_the_broker_refuses_what_the_contracts_do_not_name_the_service_for(deployment):
    """Whatever program speaks with the secrets of cases; test_broker_permissions.py tries the rest."""
    script = (
        "import amqp\n"
        "def channel():\n"
        "    connection = amqp.Connection('rabbitmq:5671', 'cases', open('/run/secrets/amqp-cases.password').read(),\n"
        "        virtual_host='vardarende', ssl={'ca_certs': '/run/secrets/ca.crt', 'server_hostname': 'rabbitmq'})\n"
        "    connection.connect()\n"
        "    made = connection.channel()\n"
        "    made.confirm_select()\n"
        "    return made\n"
        "def tried(work):\n"
        "    try:\n"
        "        work(channel())\n"
        "        return 'done'\n"
        "    except amqp.AccessRefused:\n"
        "        return 'refused'\n"
        "def publish(exchange, key):\n"
        "    return lambda c: c.basic_publish_confirm(amqp.Message('{}', expiration='1'), exchange, key)\n"
        "for work in (publish('nameko-rpc', 'identity.current_rights'),\n"
        "             publish('nameko-rpc', 'identity.make_first_administrator'),\n"
        "             publish('identity.events', 'rights_changed'), publish('', 'events.notifications'),\n"
        "             lambda c: c.basic_get('rpc-identity'), lambda c: c.basic_get('events.notifications'),\n"
        "             lambda c: c.exchange_delete('cases.events'), lambda c: c.queue_declare('mine')):\n"
        "    print(tried(work))\n"
    )
    assert in_container(deployment, "cases", script) == ["done", *["refused"] * 7]


def test_a_process_reaches_by_network_only_what_it_uses(deployment):
    reach = (
        "import socket, threading\n"
        "def look(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 2).close()\n"
        "        reached.append(f'{host} {port}')\n"
        "    except OSError:\n"
        "        pass\n"
        "reached = []\n"
        "places = ('postgres', 5432), ('rabbitmq', 5671), ('rabbitmq', 15672), ('store', 8333), ('store', 8888), \\\n"
        "    ('counterparts', 9002)\n"
        "looking = [threading.Thread(target=look, args=at, daemon=True) for at in places]\n"
        "[one.start() for one in looking]\n"
        "[one.join(4) for one in looking[:1]]\n"  # a name that is not known here may be looked for much longer
        "[one.join(1) for one in looking[1:]]\n"
        "print('\\n'.join(sorted(reached)))\n"
    )
    told = {
        service: in_container(deployment, service, reach)
        for service in ("cases", "identity", "attachments_worker", "notifications_web")
    }
    assert told["cases"] == ["postgres 5432", "rabbitmq 5671"]
    assert told["identity"] == ["counterparts 9002", "postgres 5432", "rabbitmq 5671"]
    assert told["attachments_worker"] == ["postgres 5432", "rabbitmq 5671", "store 8333"]
    assert told["notifications_web"] == ["postgres 5432"]


def test_the_webhook_has_a_role_of_its_own_and_no_secret_of_the_services(deployment):
    """The internet reaches it."""
    there = deployment.compose("exec", "-T", "notifications_web", "ls", "/run/secrets")[1].split()
    own = ["ca.crt", "database-notifications_web.password"]
    assert there == [*own, "report-addresses.key", "reports.crt", "reports.key", "reports.password"]
    roles = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'notifications.web'"
    assert psql(deployment, "postgres", roles) == "notifications_web"
    rights = (
        "SELECT DISTINCT table_name FROM information_schema.column_privileges WHERE grantee = 'notifications_web' "
        "ORDER BY 1"
    )
    assert psql(deployment, "notifications", rights).split() == ["clinic_addresses", "deliveries", "outbox"]


OPEN = {"postgres": ["5432"], "rabbitmq": ["15692", "5671"], "store": ["18333", "8333"]}
"""The ports of the servers that others reach; the store's second takes nobody's certificate (below)."""
OPEN_TO_CALLERS = {
    "entry_calls": ("rabbitmq", ["5671"]),
    "entry_files": ("door", ["8333"]),
    "entry_reports": ("notifications_web", ["8443"]),
}
"""Who is on the networks by which outside callers come in, and those of its ports: nothing tells figures there."""
SCAN = """
import concurrent.futures, socket
def look(port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0
for host in %r:
    address = socket.gethostbyname(host)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = zip(range(1, 65536), pool.map(look, range(1, 65536)))
        print(*sorted(str(port) for port, there in found if there))
"""


def test_the_servers_have_no_other_port_open_than_those_that_are_used(deployment):
    """Those by which their parts speak with one another ask nobody who they are."""
    told = in_container(deployment, "attachments_worker", SCAN % (list(OPEN),))
    assert dict(zip(OPEN, (line.split() for line in told), strict=True)) == OPEN


def test_by_the_networks_of_outside_callers_nothing_is_reached_but_what_is_for_them(deployment):
    """Neither figures nor anybody else; and there is no way out by them."""
    for network, (host, ports) in OPEN_TO_CALLERS.items():
        beside = ["docker", "run", "--rm", "--network", f"{deployment.project}_{network}", "vardarende:local"]
        done = subprocess.run([*beside, "python", "-c", SCAN % ([host],)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ports, network
        [found] = json.loads(
            subprocess.run(
                ["docker", "network", "inspect", f"{deployment.project}_{network}"], capture_output=True, check=True
            ).stdout
        )
        there = {one["Name"].split("-")[-2] for one in found["Containers"].values()}
        assert there == {host, "watch"}, network  # who looks whether it answers, and listens to nobody there


def watched(deployment, figure):
    """The values of a figure of `watch`, by the label that it has."""
    script = "import urllib.request as r; print(r.urlopen('http://watch-inside:8000/metrics').read().decode())"
    found = re.findall(rf'^{figure}{{[a-z]+="(.*)"}} (.*)$', "\n".join(in_container(deployment, "watch", script)), re.M)
    return {label: float(value) for label, value in found}


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


def test_nobody_makes_himself_a_user_of_the_store_by_its_inner_port(deployment):
    """Not even by the store's own certificate, which the door has; without TLS neither."""
    script = (
        "import socket, ssl\n"
        "def answer(context):\n"
        "    raw = socket.create_connection(('store', 18333), 5)\n"
        "    try:\n"
        "        end = context.wrap_socket(raw, server_hostname='store') if context else raw\n"
        "        end.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes(3) + bytes([4]) + bytes(5))\n"
        "        return 'in' if end.recv(9)[3:4] == bytes([4]) else 'out'\n"
        "    except OSError:\n"
        "        return 'out'\n"
        "tls = ssl.create_default_context(cafile='/run/secrets/ca.crt')\n"
        "tls.set_alpn_protocols(['h2'])\n"
        "print(answer(None))\n"
        "print(answer(tls))\n"
        "tls.load_cert_chain('/run/secrets/s3.crt', '/run/secrets/s3.key')\n"
        "print(answer(tls))\n"
    )
    told = deployment.compose("exec", "-T", "door", "python3", "-c", script)[1].split()
    assert told == ["out", "out", "out"]


def test_the_stores_credentials_reach_what_they_are_for_and_nobody_comes_in_without(deployment):
    signers = [(deployment.folder / f"s3-signer-{part}.key").read_text() for part in ("access", "secret")]
    script = (
        "import boto3, botocore.exceptions, urllib.request, urllib.error, ssl\n"
        "def store(key, secret):\n"
        "    return boto3.client('s3', endpoint_url='https://store:8333', region_name='us-east-1',\n"
        "                        aws_access_key_id=key, aws_secret_access_key=secret)\n"
        "def tried(work):\n"
        "    try:\n"
        "        work()\n"
        "        return 'done'\n"
        "    except botocore.exceptions.ClientError as error:\n"
        "        return error.response['Error']['Code']\n"
        "checker = store(*(open(f'/run/secrets/s3-{n}.key').read().strip() for n in ('access', 'secret')))\n"
        f"signer = store(*{signers!r})\n"
        "kept = checker.list_objects_v2(Bucket='attachments')['Contents'][0]['Key']\n"
        "print(tried(lambda: checker.create_bucket(Bucket='another')))\n"
        "print(tried(lambda: signer.get_object(Bucket='attachments', Key=kept)))\n"
        "print(tried(lambda: signer.list_objects_v2(Bucket='attachments')))\n"
        "print(tried(lambda: signer.list_objects_v2(Bucket='attachments-uploads')))\n"
        "print(tried(lambda: signer.put_object(Bucket='attachments', Key=kept, Body=b'x')))\n"
        "print(tried(lambda: signer.delete_object(Bucket='attachments', Key=kept)))\n"
        "try:\n"
        "    context = ssl.create_default_context(cafile='/run/secrets/ca.crt')\n"
        "    urllib.request.urlopen(f'https://store:8333/attachments/{kept}', context=context)\n"
        "    print('anyone in')\n"
        "except urllib.error.HTTPError as error:\n"
        "    print('anyone out', error.code)\n"
    )
    told = in_container(deployment, "attachments_worker", script)
    refused = "AccessDenied"
    assert told == [refused, "done", refused, refused, refused, refused, "anyone out 403"]


def test_a_delivery_report_from_outside_is_taken_if_its_address_is_one_that_we_gave_out(deployment):
    """R-NOT-7: by the published port, as the SMS provider's server comes, to a delivery that the story had sent."""
    of_an_sms = "SELECT delivery || '.' || resent FROM deliveries WHERE channel = 'sms' AND state = 'sent' LIMIT 1"
    reference = psql(deployment, "notifications", of_an_sms)
    assert reference
    port = int(deployment.settings["REPORTS_LISTEN"].rpartition(":")[2])
    key = base64.b64decode((deployment.folder / "report-addresses.key").read_text())
    trusting = ssl.create_default_context(cafile=str(deployment.folder / "ca.crt"))

    def report(signed):
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusting)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"/reports/sms-1/{reference}/{signed}", "id=s1&status=delivered", form)
        return connection.getresponse().status

    def reported():
        row = f"SELECT report FROM deliveries WHERE delivery = '{reference.partition('.')[0]}'"
        return psql(deployment, "notifications", row)

    right = reports.signature(key, "sms-1", reference)
    assert report("0" * len(right)) == 403
    assert report(reports.signature(key, "sms-1", reference + "1")) == 403
    assert reported() == ""
    assert report(right) == 200
    assert reported() == "delivered"


def test_services_are_restarted_and_upgraded_one_container_after_another_and_no_call_is_lost(deployment):
    """A plain restart of one of three, then the new version of cases and of identity, which all others depend on."""
    subprocess.run(["docker", "tag", "vardarende:local", "vardarende:next"], check=True)
    load = Load(deployment)
    first, *_ = before = containers_of(deployment, "cases")
    subprocess.run(["docker", "restart", first], check=True, capture_output=True, timeout=120)
    wait_until_healthy(first)
    roll(deployment, "cases", "identity", VERSION="next")
    written, failed = load.finish()
    after = containers_of(deployment, "cases")
    assert len(after) == 3 and not set(after) & set(before)
    for container in (*after, *containers_of(deployment, "identity")):
        assert inspected(container)["Config"]["Image"] == "vardarende:next"
    assert failed == []
    assert len(written) > 20


def test_a_job_runs_once_though_there_are_three(deployment):
    """The time of all is moved on by a minute, and a job of every minute is done once by the three together."""
    count = (
        "import re, urllib.request\n"
        "told = urllib.request.urlopen('http://127.0.0.1:8000/metrics').read().decode()\n"
        "print(sum(float(n) for labels, n in re.findall(r'^vardarende_job_runs_total{(.*)} (.*)$', told, re.M)\n"
        "          if 'close_expired_counter_questions' in labels and 'done' in labels))\n"
    )

    def done():
        asked = (
            subprocess.run(["docker", "exec", one, "python", "-c", count], capture_output=True, text=True, check=True)
            for one in containers_of(deployment, "cases")
        )
        return sum(float(told.stdout) for told in asked)

    file = deployment.folder / "demo-clock" / "clock.json"
    moved = json.loads(file.read_text())["offset_seconds"]
    while not 1 < (time.time() + moved) % 60 < 40:  # not while the minute turns by itself
        time.sleep(0.5)
    before = done()
    new = file.with_name(".clock.test")
    new.write_text(json.dumps({"offset_seconds": moved + 60}))
    new.replace(file)
    ends = time.monotonic() + 10
    while done() == before and time.monotonic() < ends:
        time.sleep(0.5)
    time.sleep(2)  # for a second one that thinks it is its turn
    assert done() - before == 1


def test_the_operator_looks_at_dead_letters_without_typing_a_password(deployment):
    """As docs/operations.md tells."""
    program = "python -m shared.messaging.dead_letters"
    told = deployment.compose("run", "--rm", "--no-TTY", "--no-deps", "--entrypoint", program, "operator", "list")[1]
    assert {line.split()[0] for line in told.splitlines() if line.split()} >= set(SERVICES)


def test_texts_and_files_are_not_to_be_read_in_what_the_servers_keep(deployment):
    """R-SYS-2: neither the texts that the cases above were started with, nor the document that the story attached."""
    look = "grep -rlaF '{}' {} | head -n 1"
    for service, place, text in (("postgres", "/var/lib/postgresql/data", A_TEXT), ("store", "/data", "%PDF-1")):
        assert deployment.compose("exec", "-T", service, "sh", "-c", look.format(text, place))[1].strip() == ""
    there = deployment.compose("exec", "-T", "postgres", "sh", "-c", look.format("Sjöporten", "/var/lib/postgresql"))[1]
    assert there.strip(), "what is not sealed is found in this way"


def test_passwords_are_rotated_and_the_old_ones_are_refused(deployment):
    """As docs/operations.md tells, for the broker and both database roles of one service."""
    names = ["amqp-notifications.password"]
    names += [f"database-notifications{role}.password" for role in ("", "-owner", "_web")]
    old = {name: (deployment.folder / name).read_text() for name in names}
    for name in names:
        (deployment.folder / name).unlink()
    deployment.make_secrets()
    assert all((deployment.folder / name).read_text() != was for name, was in old.items())
    load_definitions = "cat > /tmp/d.json && rabbitmqctl -q import_definitions /tmp/d.json && rm /tmp/d.json"
    subprocess.run(
        deployment.command("exec", "-T", "rabbitmq", "sh", "-c", load_definitions),
        cwd=CHECKOUT,
        input=(deployment.folder / "rabbitmq-definitions.json").read_bytes(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    deployment.compose("run", "--rm", "--no-TTY", "--no-deps", "roles")
    roll(deployment, "notifications", "notifications_worker")
    deployment.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "notifications_web")
    cut = ("rabbitmqctl", "close_all_user_connections", "notifications", "rotated")
    deployment.compose("exec", "-T", "rabbitmq", *cut)
    script = (
        "import amqp, psycopg, ssl, sys\n"
        f"for password in {old['database-notifications.password']!r}, None:\n"
        "    try:\n"
        "        psycopg.connect(host='postgres', user='notifications', dbname='notifications', sslmode='require',\n"
        "            password=password or open('/run/secrets/database-notifications.password').read()).close()\n"
        "        print('database in')\n"
        "    except psycopg.OperationalError:\n"
        "        print('database out')\n"
        f"for password in {old['amqp-notifications.password']!r}, None:\n"
        "    connection = amqp.Connection('rabbitmq:5671', 'notifications',\n"
        "        password or open('/run/secrets/amqp-notifications.password').read(), virtual_host='vardarende',\n"
        "        ssl={'ca_certs': '/run/secrets/ca.crt', 'server_hostname': 'rabbitmq'})\n"
        "    try:\n"
        "        connection.connect()\n"
        "        print('broker in')\n"
        "    except amqp.AMQPError:\n"
        "        print('broker out')\n"
    )
    told = in_container(deployment, "notifications", script)
    assert told == ["database out", "database in", "broker out", "broker in"]


def test_the_stores_credentials_are_rotated_and_the_old_ones_are_refused(deployment):
    """As docs/operations.md tells, both of them: files are uploaded, checked and read with the new ones."""
    names = [f"{user}-{part}.key" for user in ("s3", "s3-signer") for part in ("access", "secret")]
    old = [(deployment.folder / name).read_text().strip() for name in names]
    for name in names:
        (deployment.folder / name).unlink()
    deployment.make_secrets()
    deployment.compose("up", "-d", "--wait", "--no-deps", "--force-recreate", "store")
    roll(deployment, "attachments", "attachments_worker")
    told = as_caller(deployment, UPLOADS)
    assert "checked and read" in told, told
    new = [(deployment.folder / name).read_text().strip() for name in names]
    script = (
        "import boto3, botocore.exceptions\n"
        f"for access, secret in {[(keys[at], keys[at + 1]) for keys in (old, new) for at in (0, 2)]!r}:\n"
        "    store = boto3.client('s3', endpoint_url='https://store:8333', region_name='us-east-1',\n"
        "                         aws_access_key_id=access, aws_secret_access_key=secret)\n"
        "    try:\n"
        "        store.put_object(Bucket='attachments-uploads', Key='a-try', Body=b'x')\n"
        "        print('in')\n"
        "    except botocore.exceptions.ClientError as error:\n"
        "        print(error.response['Error']['Code'])\n"
    )
    refused = "InvalidAccessKeyId"
    assert in_container(deployment, "attachments_worker", script) == [refused, refused, "in", "in"]


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
