"""What the counterparts need: a certificate authority like SITHS, and the passwords that others would give."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from deploy.local import siths_ca
from deploy.secrets.wanted import password

HOST = "counterparts"
PORTS = {
    "siths_ca": 9000,
    "idp": 9001,
    "hsa": 9002,
    "pu": 9003,
    "kiv": 9004,
    "mail": 9005,
    "sms": 9006,
}
"""Each also has a control port, a hundred above."""
CONTROL = 100
PACKAGES = ("aiosmtpd", "atpublic", "attrs")
"""What the counterparts need besides what the services do. Pure Python, and so the same in a container."""


def make(folder: Path, write: Callable[[Path, str], None]) -> None:
    """Adds them to the folder of secrets."""
    pki = folder / "demo-pki"
    siths_ca.ensure(pki)
    client = siths_ca.issue_function(pki, "vardarende")
    for name, file in (
        ("outside-ca.crt", siths_ca.trust_file(pki)),
        ("siths-ca.crt", siths_ca.cards_file(pki)),
        ("outside-client.crt", client.certificate),
        ("outside-client.key", client.key),
    ):
        write(folder / name, file.read_text())
    for name in ("smtp.password", "sms.password"):
        if not (folder / name).exists():
            write(folder / name, password())
    for server in PORTS:
        if server != "siths_ca":
            siths_ca.issue_function(pki, server, hosts=(HOST, "127.0.0.1", "localhost"))
    copy_packages(folder / "demo-packages")
    clock = folder / "demo-clock"
    clock.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        owner = (folder / "outside-ca.crt").stat()
        for path in (clock, *clock.iterdir(), pki, *pki.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)


def copy_packages(folder: Path) -> None:
    """Copies `PACKAGES` from the environment that this runs in, readable by everyone."""
    folder.mkdir(exist_ok=True)
    for name in PACKAGES:
        for file in distribution(name).files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                copy = folder / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_binary())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
