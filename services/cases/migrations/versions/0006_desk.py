"""What those who answer have at hand: what is unread, internal notes, drafts, signatures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0006_desk"
down_revision = "0005_resealing"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    unread = sa.Column("unread", sa.Boolean, nullable=False, server_default=sa.text("false"))
    op.add_column("cases", unread, if_not_exists=True)
    gradual.update(op, "cases", "unread = true", "state = 'new' AND NOT unread")
    newest = [sa.text("started_at DESC"), sa.text("id DESC")]
    gradual.create_index(op, "cases_unread", "cases", ["clinic", *newest], where="unread")
    op.create_table(
        "notes",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("case_id", sa.Uuid, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("care_provider", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("notes_of_case", "notes", ["case_id", "at", "id"])
    # What has been noted stays; only that it is sealed anew, with another key, may be written.
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND current_setting('cases.resealing', true) = 'on'
                AND to_jsonb(NEW) - 'content' = to_jsonb(OLD) - 'content' THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'notes are only ever added to';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER noted_for_good BEFORE UPDATE OR DELETE ON notes"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change_of_note()"
    )
    op.create_table(
        "drafts",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("case_id", sa.Uuid, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("writer", sa.Text, nullable=False),
        sa.Column("case_version", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("saved_at", MOMENT, nullable=False),
    )
    op.create_index("drafts_of_case", "drafts", ["case_id", "writer"], unique=True)
    op.create_index("drafts_by_age", "drafts", ["saved_at"])
    op.create_table(
        "signatures",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
    )


def downgrade() -> None:
    for table in ("signatures", "drafts", "notes"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change_of_note()")
    op.drop_index("cases_unread", "cases")
    op.drop_column("cases", "unread")
