"""Commands that prove something: test, check, bench, demo; and lock, which pins what is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from deploy.local.folder import CHECKOUT
from deploy.local.problems import Problem

KINDS = ("unit", "integration", "contract", "end_to_end", "faults", "deployment")
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")
"""The whole suite waits more than it computes: two halves, each with servers of its own, take little more than one."""
LOCKED = ("requirements", "requirements-dev")


def _environment() -> dict[str, str]:
    """The environment of what is run, without the settings of a person's own services."""
    return os.environ | {"PYTHONPATH": str(CHECKOUT)}


def _run(command: list[str]) -> int:
    """Runs it in the checkout and hands signals on; its status."""
    sys.stdout.flush()
    with subprocess.Popen(command, cwd=CHECKOUT, env=_environment()) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # pytest has had it too, and tidies up
                continue


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("what", required=False)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def test(what: str | None, options: tuple[str, ...]) -> None:
    """Runs the tests: all but the long ones, or WHAT: unit, integration, contract, end_to_end, faults, deployment (on
    docker compose), soak (the long ones), or a path. OPTIONS go to pytest: ./dev test integration -x -k resend
    """
    chosen: list[str] = []
    if what is None or what.startswith("-"):
        chosen = list(SIDE_BY_SIDE)
    if what == "soak":
        chosen = ["-m", "soak", "--timeout=14400", "tests"]
    elif what in KINDS:
        chosen = [f"tests/{what}"]
    elif what is not None and not what.startswith("-"):
        path, _, inside = what.partition("::")
        if not Path(path).exists() and not (CHECKOUT / path).exists():
            raise Problem(f"there is no {what} to test: {', '.join(KINDS)}, soak, or a path")
        found = Path(path).resolve() if Path(path).exists() else CHECKOUT / path
        chosen = [str(found) + (f"::{inside}" if inside else "")]
    elif what is not None:
        options = (what, *options)
    sys.exit(_run(_module("pytest", *chosen, *options)))


@click.command()
def check() -> None:
    """Runs ruff, mypy, import-linter, and looks whether the generated docs are up to date."""
    checks = {
        "ruff check": _module("ruff", "check", "."),
        "ruff format": _module("ruff", "format", "--check", "."),
        "mypy": _module("mypy"),
        "import-linter": [str(Path(sys.executable).parent / "lint-imports"), "--no-logo"],
        "generated docs": _module("shared.contracts.document", "--check"),
    }
    failed = []
    for name, command in checks.items():
        began = time.monotonic()
        done = subprocess.run(command, cwd=CHECKOUT, env=_environment(), capture_output=True, text=True)
        well = done.returncode == 0
        click.echo(f"{'passed' if well else 'FAILED'}  {name} ({time.monotonic() - began:.1f} s)")
        if not well:
            failed.append(name)
            click.echo((done.stdout + done.stderr).rstrip())
    if failed:
        sys.exit(f"./dev: not in order: {', '.join(failed)}")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(options: tuple[str, ...]) -> None:
    """Runs the benchmarks (all, or those named) on servers of their own. Fails where a bar
    does not hold; --publish shows the run in bench/results and README.md.
    """
    for name in options:
        if not name.startswith("-") and not (CHECKOUT / "bench" / f"{name}.py").exists():
            raise Problem(f"there is no benchmark {name}")
    sys.exit(_run(_module("bench", *options)))


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--feed", type=click.Path(exists=True, dir_okay=False), help="Take clinics from it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output; progress on standard error.")
@click.option("--target", type=click.Choice(["local", "compose"]), default="local", help="Where it runs.")
@click.option("--scale", multiple=True, help="SERVICE=N, with --target compose.")
def demo(options: tuple[str, ...], feed: str | None, as_json: bool, target: str, scale: tuple[str, ...]) -> None:
    """Sets up all it needs, starts the stack, and runs the main story through all services, telling it as it goes."""
    command = _module("deploy.local.demo", "--target", target, *(f"--scale={one}" for one in scale))
    command += ["--feed", str(Path(feed).resolve())] if feed else []
    command += ["--json"] if as_json else []
    sys.exit(_run([*command, *options]))


@click.command()
def lock() -> None:
    """Compiles requirements*.in to hashed requirements*.txt, for every Python from 3.11 (needs uv)."""
    if shutil.which("uv") is None:
        raise Problem("uv is not installed: pip install uv, or see its site")
    for name in LOCKED:
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
        command += ["--no-header", "--no-emit-index-url", "--no-annotate", f"{name}.in", "--output-file", f"{name}.txt"]
        if subprocess.run(command, cwd=CHECKOUT).returncode != 0:
            raise Problem(f"uv could not compile {name}.in")
        click.echo(f"{name}.txt is up to date")


COMMANDS = (test, check, bench, demo, lock)
