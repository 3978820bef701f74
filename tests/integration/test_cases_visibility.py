"""The condition that lists and readings put to the database lets through what the rule lets, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert, select

from services.cases.rules import Facts, State, Viewer, grounds_for_reading, may_read
from services.cases.tables import case_types, cases
from services.cases.visibility import condition, facts, shape, values, visible
from shared.database.engine import driver_url
from shared.database.prepared import prepared
from tests.integration.cases_support import shared_database
from tests.stack.rooms import Rooms

CLINICS = [f"SE2321000131-E00000000000{n}" for n in range(3)]
PEOPLE = [f"SE2321000131-P00000000000{n}" for n in range(2)]
RESIDENTS = [UUID(int=n) for n in range(1, 3)]
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
MOMENTS = [NOW, NOW - timedelta(days=700), NOW - timedelta(days=800)]

some_clinics = st.frozensets(st.sampled_from(CLINICS))
staff = st.builds(Viewer, person=st.sampled_from(PEOPLE), receiver_at=some_clinics, handler_at=some_clinics)
residents = st.builds(Viewer, resident=st.sampled_from(RESIDENTS), blocked_at=some_clinics)


@pytest.fixture(scope="module")
def connection(rooms: Rooms) -> Iterator[Connection]:
    """One case of each kind."""
    case_type = {
        "id": UUID(int=9),
        "clinic": CLINICS[0],
        "care_provider": "p",
        "name": "Kontakta mig",
        "position": 1,
        "active": True,
        "form_version": 1,
        "created_at": NOW,
        "created_by": "p",
    }
    rows = [
        {
            "id": UUID(int=1 + number),
            "number": str(number),
            "clinic": clinic,
            "care_provider": "p",
            "resident": resident,
            "case_type": UUID(int=9),
            "case_type_name": "Kontakta mig",
            "form_version": 1,
            "takes_attachments": False,
            "state": State.ASSIGNED.value if handler else State.NEW.value,
            "version": 1,
            "handler": handler,
            "started_at": moment,
            "message_count": 1,
            "latest_message_at": moment,
            "latest_written_by": "resident",
        }
        for number, (clinic, resident, handler, moment) in enumerate(
            (clinic, resident, handler, moment)
            for clinic in CLINICS
            for resident in RESIDENTS
            for handler in (None, *PEOPLE)
            for moment in MOMENTS
        )
    ]
    for url in shared_database(rooms):
        engine = create_engine(driver_url(url))
        with engine.connect() as opened:
            opened.execute(insert(case_types).values(case_type))
            opened.execute(insert(cases), rows)
            yield opened
        engine.dispose()


@pytest.fixture(scope="module")
def known(connection: Connection) -> dict[UUID, Facts]:
    return {row["id"]: facts(row) for row in connection.execute(select(cases)).mappings()}


@given(viewer=staff | residents | st.just(Viewer()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_r_case_19_lists_and_readings_let_through_what_the_rule_lets(
    connection: Connection, known: dict[UUID, Facts], viewer: Viewer
) -> None:
    """R-CASE-3, R-CASE-10, R-CASE-19, R-ID-13: each case, for every viewer, in each form of the condition."""
    told = {case for case, its in known.items() if may_read(viewer, its, NOW)}
    listed = connection.execute(select(cases.c.id).where(visible(viewer, NOW))).scalars()
    assert set(listed) == told
    grounds = grounds_for_reading(viewer, NOW)
    found = connection.execute(select(cases.c.id).where(condition(shape(grounds))), values(grounds)).scalars()
    assert set(found) == told
    sent = prepared(select(cases.c.id).where(condition(shape(grounds))))
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    rows = psycopg.ClientCursor(driver).execute(sent.sql, sent.values(values(grounds))).fetchall()
    assert {case for (case,) in rows} == told
