"""Two roles and a database for each service, closed to all others.

    python -m deploy.postgres.roles

`<service>_owner` makes and changes the tables, and is for migrations alone; `<service>` is that of the processes, and
may read and write rows: whoever takes over a process can't take away the triggers that keep what was written. A process
that needs less than all rows has a role of its own (`OF_ONE_PROCESS`).

With POSTGRES_URL (the administrator's address, without a password), POSTGRES_PASSWORD_FILE, and for each role a file
`database-<role>.password` in PASSWORDS_FOLDER (`<service>-owner` for an owner's). Run at every start: it makes
what is missing and sets the passwords, which is also how they are changed.
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

COPIES = "backup"
"""The role that reads what the server writes, whole, and can do nothing else: for backups, the archive, a standby."""
OF_ONE_PROCESS = {"notifications_web": "notifications"}
"""A process that has a role of its own, and whose database it uses. What it may do there the migrations say."""
FEW_CONNECTIONS = 40
"""For a role that one process or a migration uses."""
_SHARED_DATABASES = ("postgres", "template1")
_OF_A_SERVICE = (
    "REASSIGN OWNED BY {service} TO {owner}",  # what was made before there were two roles
    "GRANT USAGE ON SCHEMA public TO {service}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {service}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {service}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
    " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {service}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE ON SEQUENCES TO {service}",
)


def owner_of(service: str) -> str:
    """The role that owns the service's database and tables."""
    return f"{service}_owner"


def make(
    admin_url: str,
    passwords: Mapping[str, str],
    owners: Mapping[str, str] | None = None,
    processes: Mapping[str, str] | None = None,
    copies: str | None = None,
) -> None:
    """Makes what is missing: for each name a role and a database of that name, which nobody else may use.

    `owners`: by the same names, the passwords of the roles that own the tables; without them the service does.
    `processes`: the passwords of `OF_ONE_PROCESS`. `copies`: that of `COPIES`.
    """
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for database in _SHARED_DATABASES:
            admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        for name, password in passwords.items():
            make_role(admin, name, password)
            if owners is not None:
                make_role(admin, owner_of(name), owners[name], FEW_CONNECTIONS)
            make_database(admin, name, owner=name if owners is None else owner_of(name))
        if copies is not None:
            make_role(admin, COPIES, copies)
            admin.execute(sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(COPIES)))
    for name in owners or ():
        with psycopg.connect(admin_url, dbname=name, autocommit=True) as admin:
            let_in(admin, name, service=name, owner=owner_of(name))
    for role, password in (processes or {}).items():
        database = OF_ONE_PROCESS[role]
        with psycopg.connect(admin_url, dbname=database, autocommit=True) as admin:
            make_process_role(admin, database, role, password)


def let_in(admin: psycopg.Connection, database: str, service: str, owner: str) -> None:
    """In this database, to which `admin` is connected: the tables are the owner's, and the service uses their rows."""
    roles = {"service": sql.Identifier(service), "owner": sql.Identifier(owner)}
    for statement in _OF_A_SERVICE:
        admin.execute(sql.SQL(statement).format(**roles))
    named = sql.Identifier(database)
    admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(named, roles["owner"]))
    admin.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(named, roles["service"]))


def make_process_role(admin: psycopg.Connection, database: str, role: str, password: str) -> None:
    """One of `OF_ONE_PROCESS`, let into this database, to which `admin` is connected, so far without any table."""
    make_role(admin, role, password, FEW_CONNECTIONS)
    names = {"role": sql.Identifier(role), "database": sql.Identifier(database)}
    admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {role}").format(**names))
    admin.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {role}").format(**names))


def make_role(admin: psycopg.Connection, name: str, password: str, most: int | None = None) -> None:
    """The role, with this password. It may have so many connections; None: half of the server's, so that the others'
    services go on."""
    known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    verb = sql.SQL("ALTER" if known else "CREATE")
    [half] = admin.execute("SELECT current_setting('max_connections')::int / 2").fetchone() or (-1,)
    admin.execute(
        sql.SQL("{} ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(
            verb, sql.Identifier(name), sql.Literal(half if most is None else most), sql.Literal(password)
        )
    )


def make_database(admin: psycopg.Connection, name: str, owner: str) -> None:
    """The database, if it is missing; closed to all others in any case."""
    if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def main() -> int:
    """The command line. Exit status 0: done; 1: the server refused or does not answer; 78: a secret is missing."""
    folder = Path(os.environ.get("PASSWORDS_FOLDER", "/run/secrets"))
    faults: list[str] = []

    def of(role: str) -> str:
        file = folder / f"database-{role}.password"
        try:
            password = file.read_text().strip()
            require_strong(password)
            return password
        except (OSError, ValueError) as error:
            faults.append(f"  {file.name}: {error if isinstance(error, ValueError) else 'is missing'}")
            return ""

    services = [contract.name for contract in all_contracts()]
    passwords = {service: of(service) for service in services}
    owners = {service: of(f"{service}-owner") for service in services}
    processes = {role: of(role) for role in OF_ONE_PROCESS}
    copies = of(COPIES)
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
        make(url, passwords, owners, processes, copies)
    except psycopg.OperationalError as error:
        print(f"the database server does not answer, or refuses its administrator: {error.sqlstate}", file=sys.stderr)
        return 1
    print(f"roles and databases are there: {', '.join(sorted(passwords))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
