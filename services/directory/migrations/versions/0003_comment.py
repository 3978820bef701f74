"""What the columns of clinics mean is told in the database too."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BEFORE = "Units that are or have been clinics in the e-services."
_AFTER = (
    "Units that are or have been clinics in the e-services. replaces: the clinic's former HSA-id. "
    "told_warning is the warning last published."
)


def upgrade() -> None:
    op.create_table_comment("clinics", _AFTER, existing_comment=_BEFORE)


def downgrade() -> None:
    op.create_table_comment("clinics", _BEFORE, existing_comment=_AFTER)
