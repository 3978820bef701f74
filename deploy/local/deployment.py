"""The deployment of docker-compose.yml on this machine, with the counterparts beside it: for the demo and for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from deploy.local.folder import CHECKOUT, data_folder, make_folder
from deploy.local.problems import Problem

FILES = ("docker-compose.yml", "deploy/demo/compose.yml")
OUTSIDE = "deploy/demo/outside.env"
START_SECONDS = 600


class Deployment:
    """One project of docker compose; its secrets lie in `folder`. `settings`: what docker-compose.yml takes besides."""

    def __init__(
        self, folder: Path, project: str = "vardarende-demo", settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.project, self.settings = folder, project, dict(settings or {})
        if shutil.which("docker") is None:
            raise Problem("docker is not installed here, or not in the PATH")

    def make_secrets(self) -> None:
        """Makes what is missing of them."""
        make_folder(self.folder)
        command = [sys.executable, "-m", "deploy.secrets", "make", str(self.folder), "--demo", "--host", "door"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        if done.returncode != 0:
            raise Problem(f"the secrets can't be made:\n{done.stderr.strip()[-1500:]}")

    def command(self, *arguments: str) -> list[str]:
        """`docker compose` for this project."""
        files = [part for file in FILES for part in ("-f", file)]
        environment = ["--env-file", str(self.folder / "compose.env"), "--env-file", OUTSIDE]
        return ["docker", "compose", "-p", self.project, *environment, *files, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """What makes a plain `docker compose` mean this project, for scripts that run it."""
        ours = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": ":".join(FILES),
            "COMPOSE_ENV_FILES": f"{self.folder / 'compose.env'},{OUTSIDE}",
        }
        return os.environ | self.settings | ours

    def compose(self, *arguments: str, check: bool = True, seconds: float = START_SECONDS) -> tuple[int, str]:
        """Runs it; exit status, and what it said on both outputs. Raises `Problem` if it fails, unless not `check`."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=CHECKOUT,
            env=os.environ | self.settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        if check and done.returncode != 0:
            raise Problem(f"docker compose {arguments[0]} failed:\n{done.stdout.strip()[-3000:]}")
        return done.returncode, done.stdout

    def up(self, scale: Sequence[str] = (), *, build: bool = True) -> None:
        """Starts what does not run; returns when everything is healthy."""
        scaled = [part for one in scale for part in ("--scale", one)]
        self.compose("up", "--detach", "--wait", *(["--build"] if build else []), *scaled)

    def down(self, *, volumes: bool = False) -> None:
        """Stops and removes the containers. With `volumes` the data too, so that nobody needs time to stop."""
        self.compose("--profile", "story", "down", *(["--volumes", "--timeout", "2"] if volumes else []))


def tell_story(feed: Path | None, scale: Sequence[str], *, as_json: bool) -> int:
    """Starts the deployment and tells the main story against it. 0: every step held."""
    try:
        deployment = Deployment(data_folder() / "compose")
        deployment.make_secrets()
        click.echo("starting the deployment; the first time takes some minutes", err=True)
        deployment.up(scale)
    except Problem as problem:
        click.echo(f"./dev demo: {problem}", err=True)
        return 1
    mounted = ["--volume", f"{feed.absolute()}:/feed.json:ro"] if feed else []
    told = ["python", "-m", "deploy.demo.run", *(["--feed", "/feed.json"] if feed else [])]
    command = deployment.command("run", "--rm", "--no-TTY", "--no-deps", *mounted, "story", *told)
    done = subprocess.run(command, cwd=CHECKOUT, stdout=None if as_json else subprocess.DEVNULL, env=dict(os.environ))
    if done.returncode == 0:
        stop = " ".join(deployment.command("down"))
        click.echo(f"\nAll steps held. The deployment still runs; to stop it:\n  {stop}", err=True)
    else:
        click.echo("\nA step did not hold.", err=True)
    return done.returncode
