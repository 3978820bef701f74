"""A database of cases as large as it is asked to be, filled by the server itself; what is read has real content.

The ids of what is only there to be in the way grow, so that filling takes a minute and not ten; those of the cases that
are measured are as random as always.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import sqlalchemy
from psycopg import sql

from services.cases.messages import context
from shared.database import migrate
from shared.security.sealing import Sealer

OF_A_CLINIC = 2_000
MESSAGES = 4
_PROVIDER = "SE2321000131-E000000000001"
RESIDENTS = 1_000
"""Of the cases that are measured: with ids 1, 2, 3 …"""
_ALL_RESIDENTS = 100_000

_CASES = """
    INSERT INTO cases (id, number, clinic, care_provider, resident, case_type, case_type_name, form_version,
        takes_attachments, state, closed_reason, closed_at, version, handler, started_at, message_count,
        latest_message_at, latest_written_by, resident_wrote_at, counter_question_at, answer_before)
    SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(c * 100000 + n), 12, '0'))::uuid, 'l-' || c || '-' || n,
        'SE2321000131-EBENCH' || c, %(provider)s,
        ('00000000-0000-4000-9000-' || lpad(to_hex((c * 7919 + n * 104729) %% %(residents)s::int), 12, '0'))::uuid,
        %(case_type)s, 'Kontakta mig', 1, false,
        state, CASE WHEN state = 'closed' THEN 'answered' END, CASE WHEN state = 'closed' THEN at END, %(messages)s,
        CASE WHEN state <> 'new' THEN 'SE2321000131-PBENCH' || c || 'H' || n %% 10 END, at - interval '1 hour',
        %(messages)s, at, 'staff', at, CASE WHEN state = 'awaiting_resident' THEN at END,
        CASE WHEN state = 'awaiting_resident' THEN at + interval '400 days' END
    FROM generate_series(%(first)s::int, %(last)s::int) c, generate_series(1, %(each)s::int) n,
        LATERAL (SELECT (ARRAY['new','assigned','awaiting_resident','closed','closed','closed','closed'])[1 + n %% 7]
                        AS state, %(now)s - n * interval '4 hours' - c * interval '1 second' AS at) s
"""
_MESSAGES = """
    INSERT INTO messages (id, case_id, position, care_provider, kind, sent_at, written_by, writer, content, opened_at)
    SELECT ('00000000-0000-4000-a000-' || lpad(to_hex((c::bigint * 100000 + n) * 10 + p), 12, '0'))::uuid,
        ('00000000-0000-4000-8000-' || lpad(to_hex(c * 100000 + n), 12, '0'))::uuid, p, %(provider)s,
        CASE WHEN p = 1 THEN 'start' ELSE 'partial_reply' END, %(now)s,
        CASE WHEN p = 1 THEN 'resident' ELSE 'staff' END, 'w', %(content)s, %(now)s
    FROM generate_series(%(first)s::int, %(last)s::int) c, generate_series(1, %(each)s::int) n,
        generate_series(1, %(messages)s::int) p
"""
_ACTIVITIES = """
    INSERT INTO activities (case_id, case_version, care_provider, at, kind, by)
    SELECT case_id, position, care_provider, sent_at, kind, written_by FROM messages
"""


@contextmanager
def database(admin_url: str) -> Iterator[str]:
    """A migrated database of cases for the time of the block: its address."""
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = sqlalchemy.make_url(admin_url).set(database=name).render_as_string(hide_password=False)
        try:
            migrate.upgrade("cases", url)
            yield url
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def fill(url: str, clinics: int, case_type: UUID) -> None:
    """So many clinics with `OF_A_CLINIC` cases of `MESSAGES` messages each, and a step for each message."""
    about = {
        "provider": _PROVIDER,
        "residents": _ALL_RESIDENTS,
        "case_type": case_type,
        "messages": MESSAGES,
        "each": OF_A_CLINIC,
        "now": datetime.now(UTC) - timedelta(days=1),
        "content": secrets.token_bytes(100),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        # Keys and triggers are looked at anew for each row otherwise; what is filled in here is right by itself.
        connection.execute("SET session_replication_role = replica")
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('cases', 'messages', 'activities')"
            " AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        for statement in (_CASES, _MESSAGES):
            connection.execute(statement, about | {"first": 1, "last": clinics})
        connection.execute(_ACTIVITIES)
        connection.execute("SET maintenance_work_mem = '256MB'")
        for _, definition in indexes:
            connection.execute(definition.encode())


def add_clinic(
    url: str, clinic: str, case_type: UUID, handler: str, count: int, *, sealer: Sealer | None
) -> list[UUID]:
    """So many cases of one clinic, all with the handler, by COPY; with `sealer` each with messages that can be read."""
    now = datetime.now(UTC) - timedelta(days=1)
    ids = [uuid4() for _ in range(count)]
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(_COPY_CASES) as copy:
            for number, case in enumerate(ids):
                at, resident = now - timedelta(hours=number), UUID(int=number % RESIDENTS + 1)
                about = (case, f"m-{case}", clinic, _PROVIDER, resident, case_type, "Kontakta mig", 1, False)
                copy.write_row((*about, "assigned", MESSAGES, handler, at, MESSAGES, at, "staff", at))
        if sealer is not None:
            with connection.cursor().copy(_COPY_MESSAGES) as copy:
                for case in ids:
                    for row in _of_case(case, sealer, now):
                        copy.write_row(row)
    return ids


_COPY_CASES = """
    COPY cases (id, number, clinic, care_provider, resident, case_type, case_type_name, form_version, takes_attachments,
        state, version, handler, started_at, message_count, latest_message_at, latest_written_by, resident_wrote_at)
    FROM STDIN
"""
_COPY_MESSAGES = """
    COPY messages (id, case_id, position, care_provider, kind, sent_at, written_by, writer, sender_name, signature,
        content) FROM STDIN
"""


def _of_case(case: UUID, sealer: Sealer, now: datetime) -> Iterator[tuple[Any, ...]]:
    for position in range(1, MESSAGES + 1):
        message = uuid4()
        content = {"text": "Jag har fått utslag på armen, och det kliar. " * 6, "answers": [], "files": {}}
        sealed = sealer.seal(json.dumps(content).encode(), context(case, message))
        by = ("start", "resident") if position == 1 else ("partial_reply", "staff")
        writer = str(UUID(int=1)) if position == 1 else "SE2321000131-P000000000001"
        yield message, case, position, _PROVIDER, by[0], now, by[1], writer, "Åsa Ek", "Åsa Ek, läkare", sealed


def settled(url: str) -> None:
    """The planner knows what there is, and nothing is left to be written later."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
