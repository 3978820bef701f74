"""Commands that talk to the services: call, token, admin, shell."""

from __future__ import annotations

import code
import json
import sys
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import click

from deploy.local.folder import data_folder
from deploy.local.login import LoginFailed
from deploy.local.own_processes import SERVICES
from deploy.local.problems import Problem
from deploy.local.stack import existing
from deploy.local.world import World
from shared.contracts import attachments, cases, directory, identity, notifications
from shared.messaging.errors import Refused

CONTRACTS = {
    "attachments": attachments.attachments,
    "cases": cases.cases,
    "directory": directory.directory,
    "identity": identity.identity,
    "notifications": notifications.notifications,
}


def running_world() -> World:
    """The running stack as those outside see it. Raises `Problem` if it does not run."""
    stack = existing(data_folder())
    if not stack.rabbitmq.alive:
        raise Problem("the stack does not run: start it with ./dev up")
    return World(stack, "dev")


def _changes(service: str, method: str) -> bool:
    known = CONTRACTS[service].calls.get(method) if service in CONTRACTS else None
    return known is not None and known.changes


def raw_call(world: World, service: str, method: str, arguments: dict[str, Any], token: str | None) -> Any:
    """Makes the call as any client would; adds a request id where one is needed. Raises `Problem` as the refusal."""
    if _changes(service, method):
        arguments = {"request_id": str(uuid4())} | arguments
    body = json.dumps({"args": [], "kwargs": arguments}, default=str).encode()
    try:
        reply = json.loads(world.client.ask_raw(f"{service}.{method}", body, token, 30.0))
    except Refused as refused:
        raise Problem(f"{refused.code}: {refused}") from None
    error = reply.get("error")
    if error:
        raise Problem(f"{error['exc_type']}: {error['value']}" + _fields(error))
    return reply["result"]


def _fields(error: dict[str, Any]) -> str:
    fields = error.get("fields") or (error.get("exc_args") or [None])[-1]
    return f" {json.dumps(fields, ensure_ascii=False)}" if isinstance(fields, list) and fields else ""


@click.command()
@click.argument("method", metavar="SERVICE.METHOD")
@click.argument("arguments", default="{}", metavar="[JSON]")
@click.option("--token", "-t", help="Whose call it is: a token of ./dev token.")
@click.option("--operator", is_flag=True, help="As the operator.")
def call(method: str, arguments: str, token: str | None, operator: bool) -> None:
    """Makes one call and prints the answer as JSON; a request id is made up where one is needed and none is given.

    ./dev call directory.search_clinics '{"text": "vårdcentral"}' --token "$(./dev token resident 199001012384)"
    """
    service, _, name = method.partition(".")
    if service not in SERVICES or not name:
        raise Problem(f"{method!r} is not SERVICE.METHOD; the services are {', '.join(SERVICES)}; see docs/rpc.md")
    try:
        given = json.loads(arguments)
    except ValueError as error:
        raise Problem(f"the arguments are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Problem('the arguments go by name: a JSON object, {"name": value}')
    with running_world() as world:
        answer = raw_call(world, service, name, given, world.operator_token if operator else token)
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


@click.command()
@click.argument("kind", type=click.Choice(["staff", "resident"]))
@click.argument("who", metavar="HSA-ID|PERSONNUMMER")
@click.option("--accept-terms", is_flag=True, help="Accept the terms too, if they are not yet.")
def token(kind: str, who: str, accept_terms: bool) -> None:
    """Logs in through the local identity provider and prints the access token, which lives five minutes."""
    with running_world() as world:
        try:
            session = world.login_staff(who) if kind == "staff" else world.login_resident(who)
            if accept_terms:
                session = world.accept_terms(session)
        except LoginFailed as failed:
            raise Problem(f"the identity provider refused the login: {failed}") from None
        except Refused as refused:
            raise Problem(f"{refused.code}: {refused}") from None
    if session.terms_version_to_accept:
        click.echo("the terms are not accepted yet, so the session can do nothing else: --accept-terms", err=True)
    click.echo(session.access_token)


@click.group()
def admin() -> None:
    """What the operator does."""


@admin.command()
@click.argument("hsa_id", metavar="HSA-ID")
def first(hsa_id: str) -> None:
    """Makes the first regional administrator; refused once there has been one."""
    with running_world() as world:
        made = raw_call(world, "identity", "make_first_administrator", {"person": hsa_id}, world.operator_token)
    click.echo(f"{made['person']} is regional administrator")


class _Service:
    """The calls of one service, as methods with arguments by name."""

    def __init__(self, shell: Shell, name: str) -> None:
        self._shell, self._name = shell, name

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda **arguments: raw_call(self._shell.world, self._name, method, arguments, self._shell.token)

    def __dir__(self) -> list[str]:
        return list(CONTRACTS[self._name].calls)


class Shell:
    """What the prompt has: one session at a time, whose token goes with every call."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.token: str | None = None
        self.services = {name: _Service(self, name) for name in CONTRACTS}

    def staff(self, hsa_id: str) -> None:
        """From now on calls are this member of staff's."""
        self.token = self.world.accept_terms(self.world.login_staff(hsa_id)).access_token

    def resident(self, number: str) -> None:
        """From now on calls are this resident's."""
        self.token = self.world.accept_terms(self.world.login_resident(number)).access_token

    def operator(self) -> None:
        """From now on calls are the operator's."""
        self.token = self.world.operator_token


BANNER = """RPC to all services: cases.list_inbox(limit=20); dir(cases) lists the calls. Answers are plain data.
Whose calls they are: staff("SE..."), resident("19..."), operator(). Also: world.mail(), world.sms(), uuid4()."""


@click.command()
def shell() -> None:
    """A Python prompt with RPC to all services."""
    with running_world() as world:
        inside = Shell(world)
        names: dict[str, Any] = {
            "world": world,
            "uuid4": uuid4,
            "UUID": UUID,
            "rpc": SimpleNamespace(**inside.services),
        }
        names |= inside.services | {"staff": inside.staff, "resident": inside.resident, "operator": inside.operator}
        sys.excepthook = _shown
        try:
            import readline
            import rlcompleter

            readline.set_completer(rlcompleter.Completer(names).complete)
            readline.parse_and_bind("tab: complete")
        except ImportError:
            pass
        code.interact(BANNER, local=names, exitmsg="")


def _shown(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if isinstance(error, Problem):
        click.echo(f"{error}", err=True)
    else:
        sys.__excepthook__(kind, error, trace)


COMMANDS = (call, token, admin, shell)
