"""The Python environment that ./dev runs in: made from the hashed requirements, again only when they change.

Runs on nothing but the standard library, and parts of that may be missing (Debian keeps venv in a package of its own).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from deploy.local import system_packages
from deploy.local.problems import Problem

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements-dev.txt"
LARGE_AND_HARDLY_USED = r"/(phonenumbers|mypy|mypyc|pip|pygments|holidays|hypothesis|rich|setuptools|testing|tests?)/"
HELP = Path(__file__).with_name("help.txt")


def run(arguments: list[str]) -> NoReturn:
    """Makes the environment if need be, then becomes the command line in it."""
    if not arguments or arguments in (["-h"], ["--help"], ["help"]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ./dev | head
        print(HELP.read_text().rstrip())
        sys.exit(0)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        ensure(say)
    except Problem as problem:
        sys.exit(f"./dev: {problem}")
    except OSError as error:
        sys.exit(f"./dev: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        sys.exit("./dev: interrupted")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONHOME", None)
    sys.stdout.flush()
    os.execve(PYTHON, [str(PYTHON), "-P", "-m", "deploy.local.cli", *arguments], environment)


def _wanted() -> str:
    """What the environment is made from: the requirements and this Python."""
    made_from = REQUIREMENTS.read_bytes() + sys.version.encode() + os.path.realpath(sys.executable).encode()
    return hashlib.sha256(made_from).hexdigest()


def ensure(say: system_packages.Say) -> None:
    """Makes .venv, or brings it up to date. Raises `Problem`."""
    stamp = VENV / "made-from"
    if _reads(stamp) == _wanted():
        return
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        if _reads(stamp) != _wanted():
            _make(say)
            stamp.write_text(_wanted())
    finally:
        os.close(lock)


def _reads(stamp: Path) -> str:
    """The stamp, if the environment's Python is there too."""
    try:
        return stamp.read_text() if PYTHON.exists() else ""
    except OSError:
        return ""


def _make(say: system_packages.Say) -> None:
    system_packages.require(["python3-venv"], say)
    if VENV.exists() and _python_of_venv() != os.path.realpath(sys.executable):
        shutil.rmtree(VENV)
    if not PYTHON.exists() or not (VENV / "bin" / "pip").exists():
        say("making .venv")
        shutil.rmtree(VENV, ignore_errors=True)
        done = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
        if done.returncode != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            raise Problem(f"python3 -m venv failed:\n{(done.stdout + done.stderr).strip()[-1500:]}")
    count = sum("==" in line for line in REQUIREMENTS.read_text().splitlines())
    say(f"installing the {count} Python packages of {REQUIREMENTS.name} (half a minute or so the first time)")
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    command += ["--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS)]
    well, told = system_packages.run_telling(command, say, "Collecting", "fetched, then all are unpacked")
    if not well:
        raise Problem(
            f"pip could not install the requirements (network, proxy, full disk?); the end of what it says:\n{told}"
        )
    # pip would compile everything, with one processor: what is large and hardly used is compiled when it is used
    compile_most = ["compileall", "-q", "-j", "0", "-x", LARGE_AND_HARDLY_USED, str(VENV / "lib")]
    subprocess.run([str(PYTHON), "-m", *compile_most], capture_output=True)
    say("the Python environment is ready")


def _python_of_venv() -> str:
    return os.path.realpath(PYTHON) if PYTHON.exists() else ""
