"""Passwords and credentials are changed as docs/operations.md tells, and the old ones are refused."""

from __future__ import annotations

import subprocess

import pytest

from deploy.local.folder import CHECKOUT
from tests.deployment.support import UPLOADS, as_caller, in_container, roll

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


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
