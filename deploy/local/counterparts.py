"""The local counterparts of outside services: which there are, and how each is started."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.local import siths_ca
from deploy.local.folder import CHECKOUT
from deploy.local.ports import Ports
from deploy.local.processes import Process, Program

# siths_ca has neither a control port nor another's certificates; it is first, for certificates name its address.
NAMES = ("siths_ca", "idp", "hsa", "pu", "kiv", "mail", "sms")
TITLES = {
    "siths_ca": "certificate authority (like SITHS)",
    "idp": "identity provider (OpenID Connect)",
    "hsa": "HSA (SOAP)",
    "pu": "population register (SOAP)",
    "kiv": "KiV (JSON feeds)",
    "mail": "mail server (SMTP)",
    "sms": "SMS provider",
}


def pki(folder: Path) -> Path:
    """Where the certificate authority lies."""
    return folder / "counterparts" / "siths_ca"


class Counterpart(Process):
    """One of them. `control_url`: where one looks in, and makes it misbehave."""

    def __init__(self, name: str, folder: Path, ports: Ports, extra: list[str]) -> None:
        self.port, self.control_port = ports[name], ports[f"{name}_2"]
        data = pki(folder) if name == "siths_ca" else folder / "counterparts" / name
        argv = [sys.executable, "-m", f"deploy.local.{name}", "--port", str(self.port), "--data", str(data)]
        if name != "siths_ca":
            argv += ["--control-port", str(self.control_port), "--pki", str(pki(folder))]
        env = {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", "CLOCK_FILE": str(folder / "clock.json")}
        super().__init__(Program(name, [*argv, *extra], CHECKOUT, env, stop_seconds=5.0), folder)
        self._data = data

    @property
    def control_url(self) -> str:
        """Plain HTTP, on this machine only."""
        return f"http://127.0.0.1:{self.control_port}"

    def start(self) -> None:
        """Starts it, unless it lives."""
        self._data.mkdir(parents=True, exist_ok=True)
        super().start()

    def wait(self) -> None:
        """Returns when it has said `ready`."""
        self.wait_until(lambda: "ready" in self.output().split("\n"), 30.0)


def client_certificate(folder: Path) -> tuple[str, str]:
    """Certificate and key by which our system shows who it is to HSA, the population register and KiV."""
    return siths_ca.issue_function(pki(folder), "vardarende").pair
