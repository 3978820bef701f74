"""What the tests of the deployment do with its containers, its databases and its callers."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest
import yaml

from deploy.local.folder import CHECKOUT

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
OWN = [name for name, one in COMPOSE.items() if one.get("restart") == "unless-stopped" and "user" in one]
SERVICES = ("attachments", "cases", "directory", "identity", "notifications")


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
    done = rolled(deployment, *services, **environment)
    assert done.returncode == 0, done.stdout[-3000:]


def rolled(deployment, *services, **environment):
    """What became of it."""
    return subprocess.run(
        ["deploy/roll.sh", *services],
        cwd=CHECKOUT,
        env=deployment.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


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


def watched(deployment, figure):
    """The values of a figure of `watch`, by the label that it has."""
    script = "import urllib.request as r; print(r.urlopen('http://watch-inside:8000/metrics').read().decode())"
    found = re.findall(rf'^{figure}{{[a-z]+="(.*)"}} (.*)$', "\n".join(in_container(deployment, "watch", script)), re.M)
    return {label: float(value) for label, value in found}


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
