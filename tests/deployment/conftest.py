"""The deployment, really run: where no container engine answers, every run of the tests says that this was not.

One deployment for all tests, with three of cases, in which the story has been told: there are people, cases and files.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.deployment import Deployment
from deploy.local.servers import containers

TOLD = "THE DEPLOYMENT WAS NOT RUN: no container engine with docker compose answers here"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """For secrets and backups; away afterwards. Below /tmp, where the engine may look too."""
    made = Path(tempfile.mkdtemp(prefix="vardarende-deployment-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def settings(folder: Path) -> dict[str, str]:
    """Ports that nobody has, and where the backups go."""
    listening = {name: f"127.0.0.1:{free_port()}" for name in ("AMQPS_LISTEN", "S3_LISTEN", "REPORTS_LISTEN")}
    return listening | {"BACKUPS": str(folder / "backups")}


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> None:
    """Skips, loudly, where there is none; fails where nothing but the deployment was asked for."""
    if shutil.which("docker") is None or not containers.engine_answers():
        if all("deployment" in asked for asked in request.config.args):
            pytest.fail(TOLD, pytrace=False)
        warnings.warn(TOLD, stacklevel=1)
        pytest.skip(TOLD)


@pytest.fixture(scope="session")
def started(engine: None, folder: Path) -> Iterator[Deployment]:
    """The whole of docker-compose.yml with counterparts, with three of cases; removed with its data afterwards."""
    (folder / "backups").mkdir()
    made = Deployment(folder / "secrets", "vardarende-test", settings(folder))
    made.make_secrets()
    try:
        made.up(["cases=3"])
        yield made
    finally:
        made.down(volumes=True)


@pytest.fixture(scope="session")
def story(started: Deployment) -> dict[str, Any]:
    """What came of the story, told there once."""
    told = started.compose("run", "--rm", "--no-TTY", "--no-deps", "story", check=False)[1]
    [line] = [one for one in told.splitlines() if one.startswith("{")]
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture(scope="session")
def deployment(started: Deployment, story: dict[str, Any]) -> Deployment:
    """The same, with the people, cases and files of the story."""
    return started


@pytest.fixture
def elsewhere(deployment: Deployment, folder: Path) -> Iterator[Deployment]:
    """An empty deployment with the same secrets, of which a test starts what it needs."""
    backups = {"BACKUPS": str(folder / "backups-elsewhere")}
    made = Deployment(deployment.folder, "vardarende-restored", settings(folder) | backups)
    yield made
    made.down(volumes=True)
    shutil.rmtree(folder / "backups-elsewhere", ignore_errors=True)
