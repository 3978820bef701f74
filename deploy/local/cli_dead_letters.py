"""The command for dead letters: `shared.messaging.dead_letters` on the local stack's broker."""

from __future__ import annotations

import os
import sys

import click

from deploy.local.folder import data_folder
from deploy.local.own_processes import SERVICES
from deploy.local.problems import Problem
from deploy.local.stack import existing
from shared.messaging import dead_letters


def _run(*arguments: str) -> None:
    stack = existing(data_folder())
    if not stack.rabbitmq.alive:
        raise Problem("the stack does not run: start it with ./dev up")
    os.environ["AMQP_URL"] = stack.broker_url("callers")
    sys.exit(dead_letters.main(arguments))


@click.group("dead-letters")
def dead() -> None:
    """Events whose handlers failed until the last attempt. They wait until someone sends them again or removes them."""


_SERVICE = click.Choice(SERVICES)


@dead.command("list")
@click.argument("service", type=_SERVICE, required=False)
def list_them(service: str | None) -> None:
    """How many each service has, or those of SERVICE."""
    _run("list", *([service] if service else []))


@dead.command()
@click.argument("service", type=_SERVICE)
@click.argument("event_id", metavar="ID")
def show(service: str, event_id: str) -> None:
    """One of them, as JSON."""
    _run("show", service, event_id)


@dead.command()
@click.argument("service", type=_SERVICE)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that the service has.")
def resend(service: str, ids: tuple[str, ...], everything: bool) -> None:
    """Sends them to the service again, as if for the first time."""
    if bool(ids) == everything:
        raise Problem("name the ids to send again, or --all")
    _run("resend", service, *ids, *(["--all"] if everything else []))


@dead.command()
@click.argument("service", type=_SERVICE)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--not-understood", is_flag=True, help="All that are no event that the service understands.")
def discard(service: str, ids: tuple[str, ...], not_understood: bool) -> None:
    """Removes them for good. What is understood should be sent again: its effect is missing somewhere."""
    if bool(ids) == not_understood:
        raise Problem("name the ids to remove, or --not-understood")
    _run("discard", service, *ids, *(["--not-understood"] if not_understood else []))


COMMANDS = (dead,)
