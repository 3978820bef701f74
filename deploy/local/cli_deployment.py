"""The command for the deployment's secrets; docs/operations.md tells of the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploy.secrets import __main__ as deployment_secrets


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--host", "hosts", multiple=True, help="A name or address by which callers reach the broker and store.")
@click.option("--check", is_flag=True, help="Only say what is missing or weak; 78 if anything is.")
@click.option("--certificates", is_flag=True, help="New certificates for broker, databases and store.")
def secrets(folder: Path, hosts: tuple[str, ...], check: bool, certificates: bool) -> None:
    """Makes keys, passwords and certificates of the deployment in FOLDER; what is there already stays."""
    command = "check" if check else "certificates" if certificates else "make"
    sys.exit(deployment_secrets.main([command, str(folder), *(f"--host={host}" for host in hosts)]))


COMMANDS = (secrets,)
