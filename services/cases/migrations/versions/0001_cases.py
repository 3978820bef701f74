"""Case types, cases with their messages and activities, the access log and its seals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import kernel_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)

REFUSE_CHANGE = """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME;
    END $$
"""
ONLY_ADDED_TO = """
    CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""


def upgrade() -> None:
    kernel_tables.create(op)
    op.execute("CREATE SEQUENCE case_numbers")
    _case_types()
    _cases()
    _messages()
    _access_log()


def _case_types() -> None:
    op.create_table(
        "case_types",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("clinic", sa.Text, nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("form_version", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_index("case_types_of_clinic", "case_types", ["clinic", "position", "id"])
    op.create_table(
        "case_type_forms",
        sa.Column("case_type", sa.Uuid, sa.ForeignKey("case_types.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("components", JSONB, nullable=False),
    )


def _cases() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.Text, nullable=False, unique=True),
        sa.Column("clinic", sa.Text, nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("resident", sa.Uuid, nullable=False),
        sa.Column("case_type", sa.Uuid, sa.ForeignKey("case_types.id"), nullable=False),
        sa.Column("case_type_name", sa.Text, nullable=False),
        sa.Column("form_version", sa.Integer, nullable=False),
        sa.Column("takes_attachments", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("closed_reason", sa.Text),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("handler", sa.Text),
        sa.Column("handler_rights_number", sa.BigInteger),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT),
        sa.Column("message_count", sa.Integer, nullable=False),
        sa.Column("reply_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("latest_message_at", MOMENT, nullable=False),
        sa.Column("latest_written_by", sa.Text, nullable=False),
        sa.Column("resident_wrote_at", MOMENT),
        sa.Column("counter_question_at", MOMENT),
        sa.Column("answer_before", MOMENT),
        sa.CheckConstraint("state IN ('new', 'assigned', 'awaiting_resident', 'closed')", name="cases_state"),
        sa.CheckConstraint("(state = 'closed') = (closed_reason IS NOT NULL)", name="cases_closed_with_reason"),
        sa.CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="cases_closed_at_a_time"),
        sa.CheckConstraint("state <> 'new' OR handler IS NULL", name="cases_new_without_handler"),
        sa.CheckConstraint("state <> 'assigned' OR handler IS NOT NULL", name="cases_assigned_to_someone"),
        sa.CheckConstraint(
            "state = 'awaiting_resident' OR answer_before IS NULL", name="cases_due_only_while_awaiting"
        ),
    )
    newest = [sa.text("started_at DESC"), sa.text("id DESC")]
    op.create_index("cases_of_clinic", "cases", ["clinic", *newest])
    op.create_index("cases_of_clinic_in_state", "cases", ["clinic", "state", *newest])
    op.create_index("cases_of_handler", "cases", ["handler", *newest], postgresql_where="handler IS NOT NULL")
    op.create_index("cases_of_resident", "cases", ["resident", sa.text("latest_message_at DESC"), sa.text("id DESC")])
    op.create_index(
        "cases_awaiting_resident", "cases", ["answer_before", "id"], postgresql_where="state = 'awaiting_resident'"
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("case_id", sa.Uuid, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("sent_at", MOMENT, nullable=False),
        sa.Column("written_by", sa.Text, nullable=False),
        sa.Column("writer", sa.Text, nullable=False),
        sa.Column("sender_name", sa.Text),
        sa.Column("signature", sa.Text),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("opened_at", MOMENT),
    )
    op.create_index("messages_of_case", "messages", ["case_id", "position"], unique=True)
    op.create_index(
        "messages_unopened",
        "messages",
        ["case_id"],
        postgresql_where="opened_at IS NULL AND written_by IN ('staff', 'system')",
    )
    op.create_table(
        "message_files",
        sa.Column("attachment", sa.Uuid, primary_key=True),
        sa.Column("message", sa.Uuid, sa.ForeignKey("messages.id"), nullable=False),
        sa.Column("case_id", sa.Uuid, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
    )
    op.create_index("message_files_of_case", "message_files", ["case_id", "message", "position"])
    op.execute(REFUSE_CHANGE)
    op.execute(ONLY_ADDED_TO.format(table="message_files"))
    op.create_table(
        "activities",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("case_id", sa.Uuid, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("case_version", sa.Integer, nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("person", sa.Text),
        sa.Column("handler", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("message", sa.Uuid),
    )
    op.create_index("activities_of_case", "activities", ["case_id", "case_version", "id"])
    op.execute(ONLY_ADDED_TO.format(table="activities"))
    # What has been sent can not be recalled or changed (R-CASE-9); that it was opened may be noted, once.
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_message() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.opened_at IS NULL AND to_jsonb(NEW) - 'opened_at' = to_jsonb(OLD) - 'opened_at'
            THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'what has been sent is not changed or removed';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER sent_for_good BEFORE UPDATE OR DELETE ON messages"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change_of_message()"
    )


def _access_log() -> None:
    op.create_table(
        "access_log",
        sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("clinic", sa.Text, nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("case_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("resident", sa.Uuid, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("attachment", sa.Uuid),
    )
    for index, column in (("clinic", "clinic"), ("case", "case_id"), ("resident", "resident")):
        op.create_index(f"access_log_of_{index}", "access_log", [column, sa.text("entry DESC")])
    op.create_table(
        "access_log_unsealed",
        sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_table(
        "access_log_seals",
        sa.Column("seal", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sealed_at", MOMENT, nullable=False),
        sa.Column("entries", sa.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("lowest", sa.BigInteger, nullable=False),
        sa.Column("highest", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("proof", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "access_log_seals_by_entry",
        "access_log_seals",
        [sa.text("int8range(lowest, highest, '[]')")],
        postgresql_using="gist",
    )
    op.execute(
        """
        CREATE FUNCTION await_seal() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO access_log_unsealed (entry) VALUES (NEW.entry);
            RETURN NULL;
        END $$
        """
    )
    op.execute("CREATE TRIGGER awaits_seal AFTER INSERT ON access_log FOR EACH ROW EXECUTE FUNCTION await_seal()")
    for table in ("access_log", "access_log_seals"):
        op.execute(ONLY_ADDED_TO.format(table=table))


def downgrade() -> None:
    for table in (
        "access_log_seals",
        "access_log_unsealed",
        "access_log",
        "activities",
        "message_files",
        "messages",
        "cases",
        "case_type_forms",
        "case_types",
    ):
        op.drop_table(table)
    for function in ("refuse_change", "await_seal", "refuse_change_of_message"):
        op.execute(f"DROP FUNCTION {function}()")
    op.execute("DROP SEQUENCE case_numbers")
    kernel_tables.drop(op)
