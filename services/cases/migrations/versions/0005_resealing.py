"""Values may be sealed anew with another key, and with that alone: what was sent still can not be changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_resealing"
down_revision = "0004_offer"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)

# The setting is no protection against someone who means harm: that is the seal itself, which is bound to the row and
# can't be made without the keys. It keeps everything else from changing a sealed value by mistake.
MESSAGE = """
    CREATE OR REPLACE FUNCTION refuse_change_of_message() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.opened_at IS NULL AND to_jsonb(NEW) - 'opened_at' = to_jsonb(OLD) - 'opened_at'
        THEN
            RETURN NEW;
        END IF;
        {resealed}
        RAISE EXCEPTION 'what has been sent is not changed or removed';
    END $$
"""
RESEALED = """
        IF TG_OP = 'UPDATE' AND current_setting('cases.resealing', true) = 'on'
            AND to_jsonb(NEW) - 'content' = to_jsonb(OLD) - 'content'
        THEN
            RETURN NEW;
        END IF;
"""
SEAL = """
    CREATE FUNCTION refuse_change_of_seal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('cases.resealing', true) = 'on' AND to_jsonb(NEW) - 'proof' = to_jsonb(OLD) - 'proof'
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'a seal is not changed';
    END $$
"""


def upgrade() -> None:
    op.create_table(
        "resealing",
        sa.Column("table_name", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("rounds_done", sa.Integer, nullable=False),
        sa.Column("place", sa.Text),
        sa.Column("resealed", sa.BigInteger, nullable=False),
        sa.Column("lost", sa.BigInteger, nullable=False),
        sa.Column("round_ended_at", MOMENT),
        sa.Column("finished_at", MOMENT),
    )
    op.execute(MESSAGE.format(resealed=RESEALED))
    op.execute("DROP TRIGGER only_added_to ON access_log_seals")
    op.execute(
        "CREATE TRIGGER only_added_to BEFORE DELETE OR TRUNCATE ON access_log_seals"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(SEAL)
    op.execute(
        "CREATE TRIGGER sealed_for_good BEFORE UPDATE ON access_log_seals"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change_of_seal()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER sealed_for_good ON access_log_seals")
    op.execute("DROP FUNCTION refuse_change_of_seal()")
    op.execute("DROP TRIGGER only_added_to ON access_log_seals")
    op.execute(
        "CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON access_log_seals"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(MESSAGE.format(resealed=""))
    op.drop_table("resealing")
