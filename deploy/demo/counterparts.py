"""All local counterparts in one container: `python -m deploy.demo.counterparts PKI_FOLDER DATA_FOLDER`."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from deploy.demo.outside import CONTROL, HOST, PORTS


def main() -> int:
    """Starts them all; ends when one of them does, or when told to."""
    pki, data = Path(sys.argv[1]), Path(sys.argv[2])
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    running = []
    for name, port in PORTS.items():
        if name == "siths_ca":
            continue  # it is there for revocations, of which the story has none
        folder = data / name
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", f"deploy.local.{name}", "--port", str(port), "--data", str(folder)]
        argv += ["--control-port", str(port + CONTROL), "--pki", str(pki)]
        if name in ("mail", "sms"):
            argv += ["--password-file", f"/run/secrets/{'smtp' if name == 'mail' else 'sms'}.password"]
        if name == "idp":
            argv += ["--issuer", f"https://{HOST}:{port}"]
        running.append(subprocess.Popen(argv))
    while not stopping.wait(0.5):
        if any(one.poll() is not None for one in running):
            break
    for one in running:
        one.terminate()
    for one in running:
        one.wait(10)
    return 0 if stopping.is_set() else 1


if __name__ == "__main__":
    sys.exit(main())
