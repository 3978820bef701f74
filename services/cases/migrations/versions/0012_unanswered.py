"""Since when the resident has had no word from the clinic, however often they have written meanwhile.

What stands there already goes on counting from its latest message, as it was reminded of by: an earlier moment may lie
before the clinic's latest reminder and yet have been no part of it, and would then be part of none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database import gradual

revision = "0012_unanswered"
down_revision = "0011_mailings_found"
branch_labels = None
depends_on = None

WITH_CLINIC = "state IN ('new', 'assigned')"
SINCE = """(
CASE
    WHEN unanswered_since > COALESCE(last_reply_at, started_at) THEN unanswered_since
    ELSE latest_message_at
END)"""


def upgrade() -> None:
    op.add_column("cases", sa.Column("unanswered_since", sa.DateTime(timezone=True)), if_not_exists=True)
    gradual.create_index(op, "cases_unhandled", "cases", ["clinic", sa.text(SINCE)], where=WITH_CLINIC)
    with op.get_context().autocommit_block():
        op.drop_index("cases_with_clinic", "cases", if_exists=True, postgresql_concurrently=True)


def downgrade() -> None:
    gradual.create_index(op, "cases_with_clinic", "cases", ["clinic", "latest_message_at"], where=WITH_CLINIC)
    op.drop_index("cases_unhandled", "cases")
    op.drop_column("cases", "unanswered_since")
