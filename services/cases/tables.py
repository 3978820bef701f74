"""What the cases service stores. Texts, answers and file names are sealed; people are ids (R-SYS-2, R-ID-24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    Sequence,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

Row: TypeAlias = RowMapping | Mapping[str, Any]
"""A row as read, or as it is about to be written."""

MOMENT = DateTime(timezone=True)
UNOPENED = "opened_at IS NULL AND written_by IN ('staff', 'system')"
"""Messages to the resident that the resident has not opened; index and queries say it in the same words."""

WITH_CLINIC = "state IN ('new', 'assigned')"
"""Cases that stand with the clinic; index and queries say it in the same words."""

UNHANDLED_SINCE = """(
CASE
    WHEN unanswered_since > COALESCE(last_reply_at, started_at) THEN unanswered_since
    ELSE latest_message_at
END)"""
"""Since when a case that stands with the clinic is unhandled (R-NOT-2): the resident's first message since the clinic
last wrote; where none is known, the latest message, which then is the start, a partial reply, or what the version
before took in. Index and queries say it in the same words, laid out as PostgreSQL shows them: Alembic compares them."""

case_types = Table(
    "case_types",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("form_version", Integer, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    # Who starts a case from it: a resident, or the clinic, to inform or to ask (R-CASE-14).
    Column("purpose", Text, nullable=False, server_default=text("'resident'")),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("central", ForeignKey("central_case_types.id")),
    Index("case_types_of_clinic", "clinic", "position", "id"),
    Index("case_types_of_central", "central", "clinic", unique=True, postgresql_where=text("central IS NOT NULL")),
)

# A case keeps the version of the form that it was started with; a version is never changed.
case_type_forms = Table(
    "case_type_forms",
    metadata,
    Column("case_type", ForeignKey("case_types.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("components", JSONB, nullable=False),
    Column("information", Text, nullable=False, server_default=text("''")),
    Column("text", Text, nullable=False, server_default=text("''")),
)

# National and regional ones: clinics that have taken one up have a case type of their own that follows it.
central_case_types = Table(
    "central_case_types",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("level", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("information", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("components", JSONB, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
    Column("changed_by", Text, nullable=False),
)

standard_answers = Table(
    "standard_answers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
    Column("changed_by", Text, nullable=False),
    Index("standard_answers_of_clinic", "clinic", "title", "id"),
)

case_numbers = Sequence("case_numbers", metadata=metadata)

cases = Table(
    "cases",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", Text, nullable=False, unique=True),
    Column("clinic", Text, nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("resident", Uuid, nullable=False),
    Column("case_type", ForeignKey("case_types.id"), nullable=False),
    Column("case_type_name", Text, nullable=False),
    Column("form_version", Integer, nullable=False),
    Column("takes_attachments", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("closed_reason", Text),
    Column("version", Integer, nullable=False),
    Column("handler", Text),
    # Where identity was asked about the handler: the number of the latest change of rights that its answer knew of.
    Column("handler_rights_number", BigInteger),
    Column("started_at", MOMENT, nullable=False),
    Column("closed_at", MOMENT),
    Column("message_count", Integer, nullable=False),
    Column("reply_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("latest_message_at", MOMENT, nullable=False),
    Column("latest_written_by", Text, nullable=False),
    Column("resident_wrote_at", MOMENT),
    # The resident's first message since the clinic last wrote. When the clinic writes again it stays: it is older then.
    Column("unanswered_since", MOMENT),
    Column("counter_question_at", MOMENT),
    Column("answer_before", MOMENT),
    # Of messages of other systems: the latest title, sealed, and which of them stand together (R-CASE-21).
    Column("title", LargeBinary),
    Column("thread", Uuid),
    # New to whoever has it: the handler, or while there is none the receivers.
    Column("unread", Boolean, nullable=False, server_default=text("false")),
    # When the resident is to be reminded of the counter-question; empty once that is done, or needed no more.
    Column("remind_at", MOMENT),
    # That it is in the medical record, as it was in which version (R-CASE-16).
    Column("recorded_at", MOMENT),
    Column("recorded_by", Text),
    Column("recorded_version", Integer),
    # When the clinic first and last wrote to the resident (R-CASE-20).
    Column("first_reply_at", MOMENT),
    Column("last_reply_at", MOMENT),
    Index("cases_of_clinic", "clinic", text("started_at DESC"), text("id DESC")),
    Index("cases_of_clinic_in_state", "clinic", "state", text("started_at DESC"), text("id DESC")),
    Index(
        "cases_of_handler",
        "handler",
        text("started_at DESC"),
        text("id DESC"),
        postgresql_where=text("handler IS NOT NULL"),
    ),
    Index("cases_of_resident", "resident", text("latest_message_at DESC"), text("id DESC")),
    Index("cases_unread", "clinic", text("started_at DESC"), text("id DESC"), postgresql_where=text("unread")),
    Index("cases_of_thread", "resident", "thread", unique=True, postgresql_where=text("thread IS NOT NULL")),
    Index("cases_awaiting_resident", "answer_before", "id", postgresql_where=text("state = 'awaiting_resident'")),
    Index("cases_to_remind_of", "remind_at", "id", postgresql_where=text("remind_at IS NOT NULL")),
    Index("cases_unhandled", "clinic", text(UNHANDLED_SINCE), postgresql_where=text(WITH_CLINIC)),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sent_at", MOMENT, nullable=False),
    Column("written_by", Text, nullable=False),
    Column("writer", Text, nullable=False),
    Column("sender_name", Text),
    Column("signature", Text),
    Column("content", LargeBinary, nullable=False),
    Column("opened_at", MOMENT),
    Index("messages_of_case", "case_id", "position", unique=True),
    Index(
        "messages_unopened",
        "case_id",
        postgresql_where=text(UNOPENED),
    ),
)

message_files = Table(
    "message_files",
    metadata,
    Column("attachment", Uuid, primary_key=True),
    Column("message", ForeignKey("messages.id"), nullable=False),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content_type", Text, nullable=False),
    Index("message_files_of_case", "case_id", "message", "position"),
)

activities = Table(
    "activities",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("case_version", Integer, nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("kind", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("person", Text),
    Column("handler", Text),
    Column("reason", Text),
    Column("message", Uuid),
    Index("activities_of_case", "case_id", "case_version", "id"),
)

# Internal: no resident ever sees them.
notes = Table(
    "notes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("person", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("notes_of_case", "case_id", "at", "id"),
)

drafts = Table(
    "drafts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("writer", Text, nullable=False),
    Column("case_version", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("saved_at", MOMENT, nullable=False),
    Index("drafts_of_case", "case_id", "writer", unique=True),
    Index("drafts_by_age", "saved_at"),
)

signatures = Table(
    "signatures",
    metadata,
    Column("person", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

# The same case with many residents (R-CASE-14). Its words are sealed, like those of the messages that come of it.
mailings = Table(
    "mailings",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("case_type", ForeignKey("case_types.id"), nullable=False),
    Column("case_type_name", Text, nullable=False),
    Column("form_version", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("sent_from", MOMENT),
    Column("finished_at", MOMENT),
    Column("changed_at", MOMENT, nullable=False, server_default=text("now()")),
    Index("mailings_sending", "sent_from", "id", postgresql_where=text("state = 'sending'")),
    Index("mailings_unsent", "changed_at", postgresql_where=text("sent_from IS NULL")),
    Index("mailings_of_clinic", "clinic", "created_at", "id"),
)

mailing_recipients = Table(
    "mailing_recipients",
    metadata,
    Column("mailing", ForeignKey("mailings.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("resident", Uuid, nullable=False),
    Column("result", Text, nullable=False),
    Column("case_id", Uuid),
    Index("mailing_recipients_once", "mailing", "resident", unique=True),
    Index("mailing_recipients_by_result", "mailing", "result", "position"),
    Index("mailing_recipients_of_resident", "resident", "mailing", "position"),
)

# Append-only: the database itself refuses to change or remove rows (R-CASE-18).
access_log = Table(
    "access_log",
    metadata,
    Column("entry", BigInteger, Identity(always=True), primary_key=True),
    Column("at", MOMENT, nullable=False),
    Column("person", Text, nullable=False),
    Column("clinic", Text, nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("case_id", Uuid, nullable=False),
    Column("number", Text, nullable=False),
    Column("resident", Uuid, nullable=False),
    Column("what", Text, nullable=False),
    Column("attachment", Uuid),
    Index("access_log_of_clinic", "clinic", text("entry DESC")),
    Index("access_log_of_person", "clinic", "person", text("entry DESC")),
    Index("access_log_of_period", "clinic", "at"),
    Index("access_log_of_case", "case_id", text("entry DESC")),
    Index("access_log_of_resident", "resident", text("entry DESC")),
)

# Entries that no seal covers yet, put here by a trigger on the log itself. Numbers commit out of order, so a seal that
# took "all after the last sealed one" would miss some.
access_log_unsealed = Table(
    "access_log_unsealed",
    metadata,
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
)

# How far each table's values have been sealed anew with a key, by round: the second finds what a process that did not
# have the key yet has sealed during the first.
resealing = Table(
    "resealing",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("rounds_done", Integer, nullable=False),
    Column("place", Text),
    Column("resealed", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("round_ended_at", MOMENT),
    Column("finished_at", MOMENT),
)

access_log_seals = Table(
    "access_log_seals",
    metadata,
    Column("seal", BigInteger, primary_key=True, autoincrement=False),
    Column("sealed_at", MOMENT, nullable=False),
    Column("entries", ARRAY(BigInteger), nullable=False),
    Column("lowest", BigInteger, nullable=False),
    Column("highest", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("proof", LargeBinary, nullable=False),
    Index("access_log_seals_by_entry", text("int8range(lowest, highest, '[]')"), postgresql_using="gist"),
)
