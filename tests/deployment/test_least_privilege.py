"""Each process has the rights, secrets, network and place in the servers that it uses, and no other."""

from __future__ import annotations

import pytest

from deploy.rabbitmq import definitions, permissions
from tests.deployment.support import OWN, SERVICES, Load, containers_of, in_container, inspected, psql

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


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
    assert set(rows) == own | {"backup||t"}  # the archive's, in no database
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
    assert str(definitions.MOST_CHANNELS) in limits
    connections = deployment.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_connections", "user")[1]
    assert 0 < connections.split().count("cases") <= 3 * 5
    queues = deployment.compose(
        "exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "-p", "vardarende", "list_queues", "name", "policy", "--silent"
    )[1]
    policies = dict(line.split("\t") for line in queues.splitlines() if "\t" in line)
    assert policies["events.cases"] == policies["dead.cases"] == "events" and policies["rpc-cases-outside"] == "calls"
    assert all(policies.values()), policies
    listeners = deployment.compose("exec", "-T", "rabbitmq", "rabbitmq-diagnostics", "-q", "listeners")[1]
    assert "5671" in listeners and ":5672" not in listeners and "port: 5672" not in listeners


def test_the_broker_stops_those_who_publish_before_its_container_is_out_of_memory(deployment):
    [container] = containers_of(deployment, "rabbitmq")
    ask = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "eval", "vm_memory_monitor:get_memory_limit().")
    assert 0 < int(deployment.compose(*ask)[1]) < 0.7 * inspected(container)["HostConfig"]["Memory"]


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


A_TEXT = "Jag undrar en sak."
"""What the cases say that `deploy.demo.load` starts."""


def test_texts_and_files_are_not_to_be_read_in_what_the_servers_keep(deployment):
    """R-SYS-2: neither the texts that the cases above were started with, nor the document that the story attached."""
    written, _ = Load(deployment).finish()
    assert written
    look = "grep -rlaF '{}' {} | head -n 1"
    for service, place, text in (("postgres", "/var/lib/postgresql/data", A_TEXT), ("store", "/data", "%PDF-1")):
        assert deployment.compose("exec", "-T", service, "sh", "-c", look.format(text, place))[1].strip() == ""
    there = deployment.compose("exec", "-T", "postgres", "sh", "-c", look.format("Sjöporten", "/var/lib/postgresql"))[1]
    assert there.strip(), "what is not sealed is found in this way"
