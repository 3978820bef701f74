"""`./dev`: one script for people. help.txt is what it says of itself; each command's own help is its docstring."""

from __future__ import annotations

import errno
import sys
from typing import Any

import click
import requests

from deploy.local import cli_calls, cli_checks, cli_dead_letters, cli_deployment, cli_stack
from deploy.local.environment import HELP
from deploy.local.problems import Problem


class _Dev(click.Group):
    """Shows help.txt, and tells problems in one line."""

    def get_help(self, ctx: click.Context) -> str:
        return HELP.read_text().rstrip()

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except Problem as problem:
            sys.exit(f"./dev: {problem}")
        except OSError as error:
            if isinstance(error, requests.RequestException):
                raise
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = (
                ": make room on the disk, or choose another folder with VARDARENDE_DATA=/some/folder" if full else ""
            )
            sys.exit(f"./dev: {error.strerror or error}{f': {error.filename}' if error.filename else ''}{advice}")


@click.group(cls=_Dev, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def dev(context: click.Context) -> None:
    """Says what there is, when no command is given."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _commands in (cli_stack, cli_calls, cli_checks, cli_dead_letters, cli_deployment):
    for _command in _commands.COMMANDS:
        dev.add_command(_command)


if __name__ == "__main__":
    dev(prog_name="./dev")
