"""Commands for the stack: up, down, status, logs, clock."""

from __future__ import annotations

import os
import re
import shutil
import sys
from datetime import timedelta

import click

from deploy.local import counterparts, leftovers
from deploy.local.folder import data_folder, make_folder, require_room
from deploy.local.own_processes import SERVICES
from deploy.local.problems import Problem
from deploy.local.stack import Stack, existing
from deploy.local.telling import progress
from deploy.local.world import World

_STEP = re.compile(r"([+-])?(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def started() -> Stack:
    """The stack of this checkout, started if need be."""
    say = progress()
    folder = data_folder()
    make_folder(folder, 0o711)
    require_room(folder)
    stack = Stack(folder, say=say)
    stack.up()
    return stack


@click.command()
def up() -> None:
    """Starts servers, counterparts and services in the background; everything is ready when it returns.

    What runs already is left alone: after a change in the code, ./dev down first.
    """
    stack = started()
    click.echo(_where(stack))


@click.command()
@click.option("--delete-data", is_flag=True, help="Remove databases, queues, files, keys and logs too.")
def down(delete_data: bool) -> None:
    """Stops services, counterparts and servers. Data stay, unless --delete-data."""
    folder, say = data_folder(), progress()
    if not (folder / "stack.json").exists():
        if delete_data and folder.exists():
            shutil.rmtree(folder)
        click.echo("nothing runs here", err=True)
        return
    stack = Stack(folder, say=say)
    stack.down()
    if delete_data:
        leftovers.sweep(folder / "tests")
        stack.destroy()
    say("stopped" + (f", and {folder} removed" if delete_data else ""))


@click.command()
def status() -> None:
    """Tells what runs, where it is, and what is missing. Ends with 1 if something is not as it should be."""
    folder = data_folder()
    if not (folder / "stack.json").exists():
        click.echo("nothing is here yet: ./dev up starts it")
        sys.exit(1)
    stack, well = existing(folder), True
    click.echo(f"servers run as {'containers' if stack.kind == 'containers' else 'native processes'}")
    for server in stack.servers.values():
        well &= server.alive
        click.echo(_line(server.name, "runs" if server.alive else "does not run", f"{server.title}"))
    for name, counterpart in stack.counterparts.items():
        well &= counterpart.alive
        click.echo(_line(name, f"pid {counterpart.pid}" if counterpart.alive else "does not run", _title(name)))
    for name, process in stack.processes.items():
        ready, told = process.readiness() if process.alive else (False, "")
        well &= ready
        state = "ready" if ready else "not ready" if process.alive else "does not run"
        click.echo(_line(name, state, f"pid {process.pid}, {process.health}" if ready else told))
        if not process.alive and process.log.exists():
            click.echo(f"    its log: {process.log}")
    click.echo(_where(stack))
    sys.exit(0 if well else 1)


def _title(name: str) -> str:
    return counterparts.TITLES[name]


def _line(name: str, state: str, more: str) -> str:
    return f"  {name:<22} {state:<14} {more}"


def _where(stack: Stack) -> str:
    at, ports = stack.system.at, stack.ports
    rows = {
        "RabbitMQ": f"{stack.rabbitmq.host}:{ports['amqp']}, vhost vardarende; management {stack.rabbitmq.admin.url}",
        "PostgreSQL": f"{stack.postgres.host}:{ports['postgres']}, databases {', '.join(SERVICES)}",
        "Object store (S3)": f"{at.store}; for clients {at.public_store}",
        "Identity provider": at.idp,
        "Mail that arrived": f"{stack.counterparts['mail'].control_url}/messages",
        "SMS that arrived": f"{stack.counterparts['sms'].control_url}/messages",
        "Health and metrics": ", ".join(f"{name} {ports[name]}" for name in stack.processes),
        "Addresses, passwords": str(stack.folder / "stack.json"),
        "Logs": str(stack.folder / "logs"),
    }
    return "\n".join(f"{title + ':':<22}{value}" for title, value in rows.items())


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--lines", default=40, show_default=True, help="How many lines of each.")
@click.option("--of-tests", is_flag=True, help="Those of the last run of the tests.")
def logs(name: str | None, follow: bool, lines: int, of_tests: bool) -> None:
    """Shows the end of the logs, or of one: a service, a worker, a counterpart, a server."""
    folder = data_folder() / ("test-logs" if of_tests else "logs")
    known = {file.stem: file for file in sorted(folder.glob("*.log"))}
    if not known:
        raise Problem(f"no logs in {folder} yet")
    if name is not None and name not in known:
        raise Problem(f"no log {name}; there are: {', '.join(known)}")
    files = [known[name]] if name else list(known.values())
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    sys.stdout.flush()
    os.execvp("tail", command)


@click.command()
@click.argument("step", required=False)
def clock(step: str | None) -> None:
    """Tells what time the local stack thinks it is; moves it by STEP (+2h, +30d, -15m), or back to the real (now)."""
    stack = existing(data_folder())
    world = World.__new__(World)  # the time needs no connection to the broker
    world.stack = stack
    if step == "now":
        world.set_clock(timedelta())
    elif step is not None:
        match = _STEP.fullmatch(step)
        if match is None:
            raise Problem(f"{step!r} is no step of time: +90s, +30m, +2h, +31d, +1w, or now")
        sign = -1 if match[1] == "-" else 1
        world.move_clock(sign * timedelta(**{_UNITS[match[3]]: int(match[2])}))
    offset = world.clock_offset
    click.echo(f"{world.now().isoformat(timespec='seconds')}  ({offset} from the real time)")


COMMANDS = (up, down, status, logs, clock)
