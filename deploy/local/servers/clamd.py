"""ClamAV's daemon from the system's packages, with a database of signatures made here: no download, ready in a second.

Only for tests of the virus scan and for trying it: the signatures know two files, EICAR and ours. It is native in any
case, as no image of it is among those that the stack uses.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket

from deploy.local import ports, system_packages
from deploy.local.processes import Program
from deploy.local.servers.native import NativeServer

PACKAGE = "clamav-daemon"
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""The file that every scanner calls a virus, and that is none. Kept in two halves, or scanners would find this one."""
OWN = b"vardarende: a signature of our own"
LARGEST_FILE = "64M"


class Clamd(NativeServer):
    """`clamd` in the foreground, listening on the local address alone."""

    name, title = "clamd", "ClamAV"
    used_ports = ("clamd",)

    def program(self) -> Program:
        """The daemon. As root it would want to become another user; it stays whom it is."""
        home = self.place.folder / "clamd"
        found = shutil.which("clamd") or "/usr/sbin/clamd"
        return Program(self.name, [found, "--foreground", f"--config-file={home / 'clamd.conf'}"], self.place.folder)

    def prepare(self) -> None:
        """Writes its settings and its signatures."""
        home = self.place.folder / "clamd"
        (home / "signatures").mkdir(parents=True, exist_ok=True)
        lines = [f"{name}:0:*:{what.hex()}" for name, what in (("Eicar-Test", EICAR), ("Vardarende.Own", OWN))]
        (home / "signatures" / "own.ndb").write_text("\n".join(lines) + "\n")
        settings = {
            "DatabaseDirectory": home / "signatures",
            "TemporaryDirectory": home,
            "TCPAddr": self.host,
            "TCPSocket": self.place.ports["clamd"],
            "User": pwd.getpwuid(os.geteuid()).pw_name,
            "StreamMaxLength": LARGEST_FILE,
            "MaxFileSize": LARGEST_FILE,
            "MaxScanSize": "256M",
            "AlertExceedsMax": "yes",
            "MaxThreads": 4,
        }
        (home / "clamd.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    def start(self) -> None:
        """Starts it, unless it runs; installs it if it is missing. Raises `Problem` if it can't."""
        system_packages.require([PACKAGE], lambda _: None)
        super().start()

    def answers(self) -> bool:
        """Whether it takes requests."""
        if ports.free(self.place.ports["clamd"]):
            return False
        try:
            with socket.create_connection((self.host, self.place.ports["clamd"]), timeout=2) as line:
                line.sendall(b"zPING\0")
                return line.recv(16).rstrip(b"\0") == b"PONG"
        except OSError:
            return False

    @property
    def address(self) -> str:
        """What the checker is told."""
        return f"{self.host}:{self.place.ports['clamd']}"
