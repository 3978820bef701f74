"""A service's role reads and writes the rows of its own database, and can change nothing about it (R-SYS-4)."""

from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from deploy.local.own_processes import SERVICES
from deploy.postgres import roles


def connected(system, service, database=None):
    return psycopg.connect(system.stack.database_url(service, database), autocommit=True)


def tables_of(connection):
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return [name for (name,) in rows]


def test_no_role_comes_into_another_database(system):
    for service in SERVICES:
        for other in {*SERVICES, "postgres", "template1"} - {service}:
            with pytest.raises(psycopg.OperationalError):
                connected(system, service, other)


def test_no_service_takes_all_connections_of_the_server_and_who_needs_few_gets_few(system):
    few = {*(f"{service}_owner" for service in SERVICES), *roles.OF_ONE_PROCESS}
    with connected(system, "cases") as connection:
        [(half,)] = connection.execute("SELECT current_setting('max_connections')::int / 2").fetchall()
        limits = dict(
            connection.execute(
                "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname = ANY(%s)", ([*SERVICES, *few],)
            ).fetchall()
        )
    assert half > roles.FEW_CONNECTIONS
    assert limits == dict.fromkeys(SERVICES, half) | dict.fromkeys(few, roles.FEW_CONNECTIONS)


def test_a_database_that_was_left_open_is_closed_by_the_next_run(system):
    """As by a run that ended when it had made it."""
    admin = system.stack.postgres.admin_url()
    name = f"left_open_{uuid4().hex[:8]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER cases_owner")
        try:
            roles.make_database(connection, name, "cases_owner")
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                connected(system, "identity", name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_service_owns_nothing_and_changes_no_table(system):
    for service in SERVICES:
        with connected(system, service) as connection:
            owners = connection.execute(
                "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public' "
                "UNION SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
            ).fetchall()
            assert owners == [(f"{service}_owner",)]
            for table in tables_of(connection):
                for statement in (
                    f"DROP TABLE {table}", f"TRUNCATE {table}", f"ALTER TABLE {table} DISABLE TRIGGER ALL",
                    f"CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
                ):  # fmt: skip
                    with pytest.raises(errors.InsufficientPrivilege):
                        connection.execute(statement)
            for statement in (
                "CREATE TABLE t (a int)", f"SET ROLE {service}_owner", "SET session_replication_role = replica",
                "CREATE ROLE t", "SELECT pg_read_file('/etc/passwd')", "COPY requests TO PROGRAM 'true'",
            ):  # fmt: skip
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)


def test_the_webhook_reads_and_settles_deliveries_and_nothing_else(system):
    """The internet reaches it: no sealed address, no code, no log, and nothing that is not about a report."""
    with connected(system, "notifications_web") as connection:
        connection.execute("SELECT delivery, recipient, state FROM deliveries")
        connection.execute("UPDATE deliveries SET report = report WHERE false")
        for table in tables_of(connection):
            for statement in (f"SELECT * FROM {table}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)
        for statement in (
            "SELECT address_hash FROM deliveries", "SELECT address FROM clinic_addresses", "SELECT sealed FROM codes",
            "UPDATE deliveries SET recipient = ''", "INSERT INTO deliveries DEFAULT VALUES",
            "INSERT INTO clinic_addresses DEFAULT VALUES", "CREATE TEMPORARY TABLE t (a int)", "SET ROLE notifications",
        ):  # fmt: skip
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)
    for other in {*SERVICES, "postgres", "template1"} - {"notifications"}:
        with pytest.raises(psycopg.OperationalError):
            connected(system, "notifications_web", other)


def test_a_service_uses_every_table_of_its_own(system):
    for service in SERVICES:
        with connected(system, service) as connection:
            for table in tables_of(connection):
                wanted = connection.execute(
                    "SELECT bool_and(has_table_privilege(%s, wanted)) FROM "
                    "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted",
                    (f"public.{table}",),
                ).fetchone()
                assert wanted == (True,), table
