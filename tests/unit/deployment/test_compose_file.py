"""docker-compose.yml tells each process all that it needs, and gives it no secret that it does not use."""

from __future__ import annotations

import importlib
import re

import pytest
import yaml
from pydantic import TypeAdapter

from deploy.local.folder import CHECKOUT
from deploy.rabbitmq import definitions
from deploy.secrets import wanted
from services.notifications.providers import SmsProvider
from shared.operations.settings import ProcessSettings, ServiceSettings

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DEMO = yaml.safe_load((CHECKOUT / "deploy" / "demo" / "compose.yml").read_text())
OUTSIDE = (CHECKOUT / "deploy" / "demo" / "outside.env").read_text()
ROOMS = {"": "service.py", "_worker": "worker.py", "_web": "web.py"}
PROCESSES = sorted(
    f"{folder.name}{suffix}"
    for folder in (CHECKOUT / "services").iterdir()
    for suffix, room in ROOMS.items()
    if (folder / room).exists()
)
IMAGES = {"postgres:17", "rabbitmq:4-management", "chrislusf/seaweedfs:4.48"}
DOOR = "${IMAGE:-vardarende}-door:${VERSION:-local}"


def settings_of(process):
    """The class by which the process reads its environment."""
    service, _, kind = process.partition("_")
    room = importlib.import_module(f"services.{service}.{ROOMS['_' + kind if kind else ''].removesuffix('.py')}")
    found = {
        value
        for value in vars(room).values()
        if isinstance(value, type)
        and issubclass(value, ProcessSettings)
        and value not in (ProcessSettings, ServiceSettings)
    }
    # The one that says most: a worker's settings are the service's and its own.
    return max(found, key=lambda one: len(one.model_fields), default=ServiceSettings)


def test_every_process_is_there():
    ours = {
        name
        for name, one in SERVICES.items()
        if one.get("restart") == "unless-stopped" and one["image"] not in IMAGES | {DOOR}
    }
    assert ours == {*PROCESSES, "watch"}
    for service in wanted.SERVICES:
        assert SERVICES[f"migrate_{service}"]["command"][-1] == service


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_is_told_all_that_it_needs_and_nothing_else(process):
    given = set(SERVICES[process]["environment"])
    fields = settings_of(process).model_fields
    needed = {name.upper() for name, field in fields.items() if field.is_required()}
    # Read by the kernel's libraries, by nobody's settings.
    libraries = {"AWS_CA_BUNDLE"}
    assert needed <= given, "what docker-compose.yml does not say"
    assert given <= {name.upper() for name in fields} | libraries, "what the process does not read"


@pytest.mark.parametrize("process", PROCESSES)
def test_its_secrets_are_those_that_its_settings_name(process):
    one = SERVICES[process]
    named = set(re.findall(r"/run/secrets/([a-z0-9_.-]+)", " ".join(map(str, one["environment"].values()))))
    assert named == set(one["secrets"])


@pytest.mark.parametrize("process", PROCESSES)
def test_it_starts_after_its_migration_and_its_servers(process):
    after = SERVICES[process]["depends_on"]
    migration = f"migrate_{process.split('_')[0]}"
    assert after[migration] == {"condition": "service_completed_successfully"}
    assert (after.get("rabbitmq") == {"condition": "service_healthy"}) == ("broker" in SERVICES[process]["networks"])
    assert SERVICES[migration]["depends_on"] == {"roles": {"condition": "service_completed_successfully"}}
    assert SERVICES["roles"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for server in ("postgres", "rabbitmq", "store"):
        assert SERVICES[server]["depends_on"] == {"preflight": {"condition": "service_completed_successfully"}}


def test_clients_reach_the_store_through_its_door_alone_r_att_6():
    assert "ports" not in SERVICES["store"] and SERVICES["store"]["networks"] == ["store"]
    assert COMPOSE["networks"]["store"] == {"internal": True}
    assert "S3_LISTEN" in SERVICES["door"]["ports"][0]
    assert SERVICES["door"]["depends_on"] == {"store": {"condition": "service_healthy"}}


def test_everything_is_read_only_limited_and_without_rights():
    for name, one in SERVICES.items():
        assert one["cap_drop"] == ["ALL"] and one["security_opt"] == ["no-new-privileges:true"], name
        assert one["read_only"] or name == "rabbitmq", name
        assert one["mem_limit"] and one["pids_limit"], name
        assert one["logging"]["options"]["max-size"] and one["logging"]["options"]["max-file"], name
        if one.get("restart") == "unless-stopped":
            assert one["stop_grace_period"], name
        if "user" in one:
            assert "cap_add" not in one, name
        assert one["image"] in IMAGES or one["image"].startswith("${IMAGE"), name


def test_every_secret_is_made_or_given_and_used():
    made = {secret.name for secret in wanted.all_random()} | set(wanted.GIVEN)
    made |= {"ca.crt", *wanted.DERIVED}
    made |= {f"{name}.{suffix}" for name in wanted.INNER_SERVERS for suffix in ("crt", "key")}
    used = {secret for one in SERVICES.values() for secret in one.get("secrets", ())}
    assert set(COMPOSE["secrets"]) == used
    assert used <= made
    callers = {f"amqp-{user}.password" for user in wanted.BROKER_USERS} - used
    outside = {f"{name}.signing.pem" for name in wanted.SIGNERS if name not in wanted.SERVICES}
    assert made - used == callers | outside - used


def test_the_demo_says_what_the_world_outside_must_and_moves_the_time_of_every_process():
    text = (CHECKOUT / "docker-compose.yml").read_text()
    asked = set(re.findall(r"\$\{([A-Z0-9_]+):\?", text)) - {"SECRETS", "SERVICE_USER"}
    told = set(re.findall(r"^([A-Z0-9_]+)=", OUTSIDE, re.MULTILINE))
    assert asked <= told
    passed_on = {
        name for one in SERVICES.values() for name, value in one.get("environment", {}).items() if value is None
    }
    assert told <= set(re.findall(r"\$\{([A-Z0-9_]+)", text)) | passed_on
    assert {name for name, one in DEMO["services"].items() if one == DEMO["x-clock"]} == set(PROCESSES)


def test_every_setting_that_is_told_of_reaches_whom_it_is_for():
    """docs/operations.md names them; what a server's start script reads must be in that server's environment."""
    [table] = re.findall(r"### Settings\n\n(.*?)\n\n", (CHECKOUT / "docs" / "operations.md").read_text(), re.DOTALL)
    told = {name for line in table.splitlines()[2:] for name in re.findall(r"`([A-Z_0-9]+)`", line.split("|")[1])}
    whole = (CHECKOUT / "docker-compose.yml").read_text()
    assert {name for name in told if "${" + name not in whole and f"      {name}:\n" not in whole} == set()
    for server, script in (("postgres", "postgres"), ("rabbitmq", "rabbitmq"), ("store", "s3")):
        read = re.findall(r"\$\{([A-Z_]+):-", (CHECKOUT / "deploy" / script / "start.sh").read_text())
        assert set(read) <= set(SERVICES[server]["environment"]), server


def test_what_is_told_to_be_added_by_an_override_is_read_by_whom_it_is_given_to():
    """docs/operations.md has examples of what needs a file, a network or a password more."""
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    examples = [yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert any("SECOND_SMS_FILE" in str(one) for one in examples)
    for example in examples:
        there = example.get("secrets", {})
        assert there == {name: {"file": "${SECRETS}/" + name} for name in there}
        for process, more in example["services"].items():
            settings = {name.upper() for name in settings_of(process).model_fields}
            assert set(more["environment"]) <= settings
            named = {value.removeprefix("/run/secrets/") for value in more["environment"].values() if value[0] == "/"}
            assert named <= set(more.get("secrets", ())) <= set(there)
            assert set(more.get("networks", ())) <= set(COMPOSE["networks"])
    [provider] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    TypeAdapter(SmsProvider).validate_json(provider)


def test_the_broker_gives_a_connection_so_many_channels():
    lines = (CHECKOUT / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text().splitlines()
    assert f"channel_max = {definitions.MOST_CHANNELS_OF_A_CONNECTION}" in lines


def test_the_database_server_may_have_as_many_processes_as_connections():
    most = int(re.findall(r":-(\d+)", SERVICES["postgres"]["environment"]["MAX_CONNECTIONS"])[0])
    assert SERVICES["postgres"]["pids_limit"] > most + 100
