"""Caddy from PyPI: the door before the store's public address, by the deployment's own rules."""

from __future__ import annotations

import sys
from pathlib import Path

import requests

from deploy.local import ports
from deploy.local.folder import CHECKOUT
from deploy.local.problems import Problem
from deploy.local.processes import Program
from deploy.local.servers.native import NativeServer

RULES = CHECKOUT / "deploy" / "s3"


def caddy(name: str, home: Path, settings: Path) -> Program:
    """Caddy with these settings (a Caddyfile), and with `home` for what it keeps. Raises `Problem` if it is missing."""
    program = Path(sys.executable).parent / "caddy"
    if not program.exists():
        raise Problem(f"Caddy is missing beside {sys.executable}: remove .venv and try again")
    argv = [str(program), "run", "--adapter", "caddyfile", "--config", str(settings)]
    kept = {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    return Program(name, argv, home.parent, kept)


class Door(NativeServer):
    """Caddy in the foreground, listening on the local address alone; a program where the others are containers too."""

    name, title = "door", "Caddy, the store's door,"
    used_ports = ("s3_public",)

    def program(self) -> Program:
        """Caddy with a folder of its own, so that it needs no rights."""
        home = self.place.folder / "door"
        return caddy(self.name, home, home / "Caddyfile")

    def prepare(self) -> None:
        """Writes its settings."""
        home = self.place.folder / "door"
        home.mkdir(parents=True, exist_ok=True)
        (home / "Caddyfile").write_text(f"""{{
    import "{RULES}/options.caddy"
}}
import "{RULES}/passing.caddy"
http://:{self.place.ports["s3_public"]} {{
    bind {self.host}
    import passing
    reverse_proxy {self.host}:{self.place.ports["s3"]} {{
        import as_it_came
    }}
}}
""")

    def answers(self) -> bool:
        """Whether one reaches the store through it."""
        if ports.free(self.place.ports["s3_public"]):
            return False
        try:
            return requests.get(f"{self.endpoint}/healthz", timeout=5).ok
        except requests.RequestException:
            return False

    @property
    def endpoint(self) -> str:
        """The store's public address."""
        return f"http://{self.host}:{self.place.ports['s3_public']}"
