"""The first tables: settings of clinics, deliveries, and the kernel's own."""

import sqlalchemy as sa
from alembic import op

from shared.database import kernel_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    kernel_tables.create(op)

    op.create_table(
        "clinic_settings",
        sa.Column("clinic", sa.Text(), primary_key=True),
        sa.Column("reminder_days", sa.Integer()),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
    )

    op.create_table(
        "clinic_addresses",
        sa.Column("address_id", sa.Uuid(), primary_key=True),
        sa.Column("clinic", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False, comment="new_case or reminder"),
        sa.Column("address", sa.LargeBinary(), nullable=False, comment="sealed"),
        sa.Column("address_hash", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="in the order they were entered"),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.UniqueConstraint("clinic", "purpose", "address_hash", name="clinic_addresses_once"),
    )
    op.create_index("clinic_addresses_hash", "clinic_addresses", ["address_hash"])

    op.create_table(
        "clinic_names",
        sa.Column("clinic", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
    )

    op.create_table(
        "deliveries",
        sa.Column("delivery", sa.Uuid(), primary_key=True),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("clinic", sa.Text(), nullable=False),
        sa.Column("recipient_kind", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False, comment="clinic_addresses.address_id, HSA-id or resident id"),
        sa.Column("channel", sa.Text(), comment="null until it is known how the person wants to be told"),
        sa.Column(
            "address_hash",
            sa.LargeBinary(),
            comment="null as long as the address is not known, and when it is not told",
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claim", sa.Uuid(), comment="whose hands it is in, or was last"),
        sa.Column("lease_until", sa.DateTime(timezone=True), comment="by the database's clock"),
        sa.Column("provider_reference", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("resent", sa.Integer(), nullable=False, server_default="0"),
        sa.UniqueConstraint("event_id", "address_hash", name="deliveries_one_per_address"),
        sa.UniqueConstraint(
            "event_id",
            "kind",
            "recipient",
            "channel",
            name="deliveries_one_per_recipient",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index("deliveries_due", "deliveries", ["due_at"], postgresql_where=sa.text("state = 'waiting'"))
    op.create_index(
        "deliveries_held",
        "deliveries",
        ["lease_until"],
        postgresql_where=sa.text("state in ('claimed', 'sending')"),
    )
    op.create_index("deliveries_newest", "deliveries", ["created_at", "delivery"])
    op.create_index("deliveries_of_clinic", "deliveries", ["clinic", "created_at", "delivery"])
    op.create_index("deliveries_by_state", "deliveries", ["state", "created_at", "delivery"])
    op.create_index("deliveries_of_claim", "deliveries", ["claim"], postgresql_where=sa.text("state = 'claimed'"))
    op.create_index(
        "deliveries_unfinished_of_recipient",
        "deliveries",
        ["recipient"],
        postgresql_where=sa.text("state in ('waiting', 'claimed')"),
    )
    op.execute("ALTER TABLE deliveries SET (fillfactor = 70)")


def downgrade() -> None:
    for table in ("deliveries", "clinic_names", "clinic_addresses", "clinic_settings"):
        op.drop_table(table)
    kernel_tables.drop(op)
