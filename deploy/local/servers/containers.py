"""The same servers as containers, through testcontainers: wherever DOCKER_HOST, or the usual socket, answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# testcontainers' own cleaner would end the containers with the program that started them, and wants an image more.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

import docker
import docker.errors
import requests
from testcontainers.core.container import DockerContainer

from deploy.local import ports
from deploy.local.broker_admin import BrokerAdmin
from deploy.local.problems import Problem
from deploy.local.servers import ADMINISTRATOR, Place, Server
from deploy.local.servers.postgres import PASSING_SETTINGS, SETTINGS, can_connect
from deploy.local.servers.rabbitmq import STATISTICS
from deploy.local.servers.seaweedfs import s3_answers, s3_config, sse_key
from deploy.rabbitmq.definitions import MOST_CHANNELS_OF_A_CONNECTION

POSTGRES, RABBITMQ, SEAWEEDFS = "postgres:17", "rabbitmq:4-management", "chrislusf/seaweedfs:4.48"
IMAGES = (POSTGRES, RABBITMQ, SEAWEEDFS)
LABEL = "vardarende.stack"
CHANNELS = f"-rabbit channel_max {MOST_CHANNELS_OF_A_CONNECTION}"
_LOG_LINES = 15
_START_SECONDS = 120.0
_EVERY_ADDRESS = "0.0.0.0"


def engine_answers() -> bool:
    """Whether a container engine is there."""
    try:
        docker.from_env(timeout=5).ping()
        return True
    except (docker.errors.DockerException, requests.RequestException):
        return False


def fetch_images(say: Callable[[str], None]) -> str | None:
    """Fetches the images that are missing. Returns the name of one that can't be had, or None."""
    client = docker.from_env()
    for image in IMAGES:
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            say(f"fetching the image {image}")
            try:
                client.images.pull(image)
            except (docker.errors.APIError, requests.RequestException):
                return image
    return None


class ContainerServer:
    """A server in a container. Its data are in the container, which stays when it is stopped."""

    name = title = ""
    container_port = 0
    port_name = ""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.container_name = f"{place.label}-{self.name}"
        self.log = place.folder / "logs" / f"{self.name}.log"
        self._client = docker.from_env()
        self.host = DockerContainer(POSTGRES).get_docker_client().host()
        if self.host in ("localhost", "::1"):
            self.host = "127.0.0.1"

    def describe(self) -> DockerContainer:
        """What to run."""
        raise AssertionError("each server says so itself")

    def run_options(self) -> dict[str, Any]:
        """What testcontainers has no word for."""
        return {"labels": {LABEL: str(self.place.folder)}}

    def answers(self) -> bool:
        """Whether it takes requests."""
        raise AssertionError("each server says so itself")

    @property
    def _container(self) -> Any:
        try:
            return self._client.containers.get(self.container_name)
        except docker.errors.NotFound:
            return None

    @property
    def alive(self) -> bool:
        """Whether its container runs, or hangs."""
        found = self._container
        return found is not None and found.status in ("running", "paused")

    def publish(self) -> dict[int, str]:
        """Ports in the container that are reached from outside, and the names of ours."""
        return {self.container_port: self.port_name}

    def start(self) -> None:
        """Starts its container, the old one if there is one."""
        found = self._container
        if found is not None:
            if found.status == "created":  # it could not be started, and tells of an earlier attempt's settings
                found.remove(force=True, v=True)
            else:
                found.start()
                return
        container = self.describe().with_name(self.container_name).with_kwargs(**self.run_options())
        at = "127.0.0.1" if self.host == "127.0.0.1" else _EVERY_ADDRESS
        for inside, name in self.publish().items():
            container.ports[f"{inside}/tcp"] = (at, self.place.ports[name])  # type: ignore[assignment]
        try:
            container.start()
        except docker.errors.APIError as error:
            raise Problem(f"{self.title}'s container can't be started: {error.explanation}") from None

    def wait(self) -> None:
        """Returns when it answers."""
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if not self.alive or time.monotonic() > end:
                how = "took too long to start" if self.alive else "died while starting"
                raise Problem(f"the container {self.container_name} {how}; the end of its log:\n{self._tail()}")
            time.sleep(0.1)

    def _tail(self) -> str:
        found = self._container
        return found.logs(tail=_LOG_LINES).decode(errors="replace") if found is not None else ""

    def save_log(self) -> None:
        """Writes its log so far to the file where a native server has its."""
        found = self._container
        if found is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(found.logs())

    def stop(self) -> None:
        """Stops it in its orderly way."""
        if self.alive:
            self.save_log()
            self._container.stop(timeout=40)

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            self._container.kill()
            self._container.wait()

    def pause(self) -> None:
        """Freezes all its processes."""
        self._container.pause()

    def resume(self) -> None:
        """Lets them go on."""
        self._container.unpause()

    def remove(self) -> None:
        """Takes the container away with its data."""
        found = self._container
        if found is not None:
            found.remove(force=True, v=True)


class Postgres(ContainerServer):
    """PostgreSQL 17."""

    name, title, container_port, port_name = "postgres", "PostgreSQL", 5432, "postgres"

    def describe(self) -> DockerContainer:
        settings = SETTINGS | (PASSING_SETTINGS if self.place.passing else {}) | {"listen_addresses": "*"}
        command = ["postgres", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]
        password = self.place.keys.password("postgres")
        return (
            DockerContainer(POSTGRES)
            .with_env("POSTGRES_USER", ADMINISTRATOR)
            .with_env("POSTGRES_PASSWORD", password)
            .with_env("POSTGRES_DB", "postgres")
            .with_command(command)
        )

    def admin_url(self, database: str = "postgres") -> str:
        """The address by which everything may be done."""
        password = self.place.keys.password("postgres")
        return f"postgresql://{ADMINISTRATOR}:{password}@{self.host}:{self.place.ports['postgres']}/{database}"

    def answers(self) -> bool:
        """Whether one can log in."""
        return can_connect(self.admin_url())


class RabbitMQ(ContainerServer):
    """RabbitMQ 4 with its management API."""

    name, title, container_port, port_name = "rabbitmq", "RabbitMQ", 5672, "amqp"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.admin = BrokerAdmin(self.host, place.ports["management"], ADMINISTRATOR, place.keys.password("rabbitmq"))

    def publish(self) -> dict[int, str]:
        return {5672: "amqp", 15672: "management"}

    def describe(self) -> DockerContainer:
        return (
            DockerContainer(RABBITMQ)
            .with_env("RABBITMQ_DEFAULT_USER", ADMINISTRATOR)
            .with_env("RABBITMQ_DEFAULT_PASS", self.place.keys.password("rabbitmq"))
            .with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", f"{STATISTICS} {CHANNELS}")
            .with_env("RABBITMQ_NODENAME", "rabbit@localhost")
        )

    def answers(self) -> bool:
        """Whether it answers questions, and takes AMQP connections."""
        return self.admin.answers() and not ports.free(self.place.ports["amqp"])


class SeaweedFS(ContainerServer):
    """SeaweedFS, everything in one process."""

    name, title, container_port, port_name = "seaweedfs", "SeaweedFS", 8333, "s3"

    def describe(self) -> DockerContainer:
        options = "-dir=/data -ip=127.0.0.1 -ip.bind=0.0.0.0 -s3.port=8333 -s3.config=/tmp/s3.json -admin.ui=false"
        options += " -webdav=false -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false"
        # The configuration goes along as a variable: an engine elsewhere can't see our files.
        script = f'printf %s "$S3_CONFIG" > /tmp/s3.json && exec /usr/bin/weed -logtostderr=true mini {options}'
        return (
            DockerContainer(SEAWEEDFS)
            .with_env("S3_CONFIG", s3_config(self.place.keys.password("s3")))
            .with_env("WEED_S3_SSE_KEK", sse_key(self.place.keys.password("seaweedfs_kek")))
            .with_command([script])
        )

    def run_options(self) -> dict[str, Any]:
        return super().run_options() | {"entrypoint": ["/bin/sh", "-c"]}

    def answers(self) -> bool:
        """Whether it takes a signed request."""
        return s3_answers(f"http://{self.host}:{self.place.ports['s3']}", self.place.keys.password("s3"))


def make(place: Place) -> list[Server]:
    """The servers of a stack, not yet started."""
    return [Postgres(place), RabbitMQ(place), SeaweedFS(place)]


def sweep(folder: Path) -> None:
    """Removes the containers of a stack whose folder is about to be removed."""
    client, ours = docker.from_env(), {"label": f"{LABEL}={folder}"}
    for container in client.containers.list(all=True, filters=ours):
        container.remove(force=True, v=True)
