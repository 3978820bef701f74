"""The story, replicas, an upgrade under load, and what operators and those outside do meanwhile."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import time

import pytest

from services.notifications import reports
from tests.deployment.support import SERVICES, Load, containers_of, inspected, psql, roll, rolled, wait_until_healthy

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def test_the_story_holds_with_three_of_cases(deployment, story):
    assert len(containers_of(deployment, "cases")) == 3
    assert story["ok"], [step for step in story["steps"] if not step["ok"]]
    assert story["seconds"] >= sum(step["seconds"] for step in story["steps"]) > 0


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


def test_of_a_service_that_has_no_containers_it_is_said_that_nothing_was_replaced(deployment):
    done = rolled(deployment, "cases", COMPOSE_PROJECT_NAME="vardarende-elsewhere")
    assert done.returncode == 1
    assert "cases: has no container to replace" in done.stdout


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
