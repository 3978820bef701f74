"""Containers or native processes: where a container engine answers, containers; VARDARENDE_SERVERS forces one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from deploy.local import system_packages
from deploy.local.problems import Problem
from deploy.local.servers import Place, Server

KINDS = ("native", "containers")


def chosen_kind(folder: Path, say: Callable[[str], None]) -> str:
    """What the stack in the folder runs on: as it was begun, as forced, or as can be. Raises `Problem`."""
    forced = os.environ.get("VARDARENDE_SERVERS") or None
    if forced is not None and forced not in KINDS:
        raise Problem(f"VARDARENDE_SERVERS must be {' or '.join(KINDS)}, not {forced!r}")
    file = folder / "stack.json"
    begun = json.loads(file.read_text())["kind"] if file.exists() else None
    if begun and forced and forced != begun:
        raise Problem(f"this stack's data are in {begun} servers: begin anew with ./dev down --delete-data")
    kind = forced or begun or ("containers" if _containers_can(say) else "native")
    if kind == "native":
        system_packages.require(system_packages.SERVERS, say)
    return kind


def _containers_can(say: Callable[[str], None]) -> bool:
    from deploy.local.servers import containers

    if not containers.engine_answers():
        return False
    missing = containers.fetch_images(say)
    if missing:
        say(f"a container engine answers, but has no image {missing} and can't fetch it: native servers instead")
    return not missing


def make_servers(kind: str, place: Place) -> dict[str, Server]:
    """The servers, not yet started."""
    from deploy.local.servers.door import Door

    if kind == "containers":
        from deploy.local.servers import containers

        return {one.name: one for one in (*containers.make(place), Door(place))}
    from deploy.local.servers.postgres import Postgres
    from deploy.local.servers.rabbitmq import RabbitMQ
    from deploy.local.servers.seaweedfs import SeaweedFS

    return {one.name: one for one in (Postgres(place), RabbitMQ(place), SeaweedFS(place), Door(place))}
