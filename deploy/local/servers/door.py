"""nginx from the system's packages: the door before the store's public address, by the deployment's own rules."""

from __future__ import annotations

import shutil

import requests

from deploy.local import ports
from deploy.local.folder import CHECKOUT
from deploy.local.processes import Program
from deploy.local.servers.native import NativeServer

RULES = CHECKOUT / "deploy" / "s3" / "passing.conf"


def configuration(listen: str, store: str, rules: str) -> str:
    """nginx's settings for a door at `listen` before the store's address, without TLS. `rules`: what it shall do.

    It is one process: who stops or halts it means all of it.
    """
    return f"""daemon off;
master_process off;
pid door.pid;
error_log stderr alert;
events {{ worker_connections 1024; }}
http {{
    server {{
        listen {listen};
        set $store {store};
        {rules}
    }}
}}
"""


def door_answers(endpoint: str) -> bool:
    """Whether one reaches the store through it."""
    try:
        return requests.get(f"{endpoint}/healthz", timeout=5).ok
    except requests.RequestException:
        return False


class Door(NativeServer):
    """`nginx` in the foreground, listening on the local address alone."""

    name, title = "door", "nginx, the store's door,"
    used_ports = ("s3_public",)

    def program(self) -> Program:
        """nginx with a folder of its own, so that it needs no rights."""
        home = self.place.folder / "door"
        found = shutil.which("nginx") or "/usr/sbin/nginx"
        argv = [found, "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        return Program(self.name, argv, self.place.folder)

    def prepare(self) -> None:
        """Writes its settings."""
        home = self.place.folder / "door"
        home.mkdir(parents=True, exist_ok=True)
        store = f"http://{self.host}:{self.place.ports['s3']}"
        settings = configuration(f"{self.host}:{self.place.ports['s3_public']}", store, f'include "{RULES}";')
        (home / "nginx.conf").write_text(settings)

    def answers(self) -> bool:
        """Whether one reaches the store through it."""
        return not ports.free(self.place.ports["s3_public"]) and door_answers(self.endpoint)

    @property
    def endpoint(self) -> str:
        """The store's public address."""
        return f"http://{self.host}:{self.place.ports['s3_public']}"
