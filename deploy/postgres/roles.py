"""A role and a database for each service, each closed to all others.

    python -m deploy.postgres.roles

with POSTGRES_URL (the administrator's address, without a password), POSTGRES_PASSWORD_FILE, and for each service a file
`database-<service>.password` in PASSWORDS_FOLDER. Run at every start: it makes what is missing and sets the passwords,
which is also how they are changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from shared.messaging.topology import all_contracts
from shared.operations.settings import EXIT_CONFIGURATION, require_strong, with_password

_SHARED_DATABASES = ("postgres", "template1")


def make(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Makes what is missing: for each name a role and a database of that name, which only that role may use."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for database in _SHARED_DATABASES:
            admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        for name, password in passwords.items():
            make_role(admin, name, password)
            make_database(admin, name, owner=name)


def make_role(admin: psycopg.Connection, name: str, password: str) -> None:
    """The role, with this password."""
    known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    verb = sql.SQL("ALTER" if known else "CREATE")
    admin.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(name), sql.Literal(password)))


def make_database(admin: psycopg.Connection, name: str, owner: str) -> None:
    """The database, unless it is there."""
    if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def main() -> int:
    """The command line. Exit status 0: done; 1: the server refused or does not answer; 78: a secret is missing."""
    folder = Path(os.environ.get("PASSWORDS_FOLDER", "/run/secrets"))
    passwords, faults = {}, []
    for service in (contract.name for contract in all_contracts()):
        file = folder / f"database-{service}.password"
        try:
            passwords[service] = file.read_text().strip()
            require_strong(passwords[service])
        except (OSError, ValueError) as error:
            faults.append(f"  {file.name}: {error if isinstance(error, ValueError) else 'is missing'}")
    try:
        url = with_password(os.environ["POSTGRES_URL"], Path(os.environ["POSTGRES_PASSWORD_FILE"]))
    except KeyError as error:
        faults.append(f"  {error.args[0]} is not set")
    except OSError as error:
        faults.append(f"  {error.filename}: is missing")
    if faults:
        print("secrets to mend:\n" + "\n".join(faults), file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        make(url, passwords)
    except psycopg.OperationalError as error:
        print(f"the database server does not answer, or refuses its administrator: {error.sqlstate}", file=sys.stderr)
        return 1
    print(f"roles and databases are there: {', '.join(sorted(passwords))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
