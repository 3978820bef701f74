"""What notifications stores, besides the kernel's own tables."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

metadata = MetaData()

OTHER_ROLES = {
    "notifications_web": (
        "SELECT (delivery, event_id, recipient_kind, recipient, about, channel, contact_version, merged_into, state,"
        " attempts, provider, report, resent) ON deliveries",
        "UPDATE (report, reported_at, state, reason, ended_at, lease_until) ON deliveries",
        "SELECT (address_id), UPDATE (bounced_at) ON clinic_addresses",
        "INSERT ON outbox",
    )
}
"""What a role beside the service's own may do, in the terms of GRANT; `shared.database.migrate` gives it."""

clinic_settings = Table(
    "clinic_settings",
    metadata,
    Column("clinic", Text, primary_key=True),
    Column("reminder_days", Integer),
    Column("reminded_until", DateTime(timezone=True), comment="cases silent since before this were told of"),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("changed_by", Text, nullable=False),
)

clinic_addresses = Table(
    "clinic_addresses",
    metadata,
    Column("address_id", Uuid, primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("purpose", Text, nullable=False, comment="new_case or reminder"),
    Column("address", LargeBinary, nullable=False, comment="sealed"),
    Column("address_hash", LargeBinary, nullable=False),
    Column("position", Integer, nullable=False, comment="in the order they were entered"),
    Column("added_at", DateTime(timezone=True), nullable=False),
    Column("added_by", Text, nullable=False),
    Column("bounced_at", DateTime(timezone=True)),
    UniqueConstraint("clinic", "purpose", "address_hash", name="clinic_addresses_once"),
    Index("clinic_addresses_hash", "address_hash"),
)

clinic_names = Table(
    "clinic_names",
    metadata,
    Column("clinic", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("clinic", Text, nullable=False),
    Column("recipient_kind", Text, nullable=False),
    Column("recipient", Text, nullable=False, comment="clinic_addresses.address_id, HSA-id or resident id"),
    Column("about", Text, comment="the child, where a guardian is told"),
    Column("channel", Text, comment="null until it is known how the person wants to be told"),
    Column("address_hash", LargeBinary, comment="null as long as the address is not known, and when it is not told"),
    Column("contact_version", Integer, comment="of what the person had set then"),
    Column("merged_into", Uuid, comment="the delivery at the same address, of one that stood back for it"),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("claim", Uuid, comment="whose hands it is in, or was last"),
    Column("lease_until", DateTime(timezone=True), comment="by the database's clock"),
    Column("provider", Text, comment="to whom it was handed last"),
    Column("provider_reference", Text),
    Column("report", Text, comment="what the provider told later"),
    Column("reported_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column(
        "queued_at",
        DateTime(timezone=True),
        comment="null: since it was created; else since it was sent again by hand",
    ),
    Column("unasked_since", DateTime(timezone=True), comment="since when no provider could be asked to take it"),
    Column("ended_at", DateTime(timezone=True)),
    Column("resent", Integer, nullable=False, server_default="0"),
    # One message for one event and address (R-NOT-6), whoever queues or sends at the same time.
    UniqueConstraint("event_id", "address_hash", name="deliveries_one_per_address"),
    UniqueConstraint(
        "event_id",
        "kind",
        "recipient",
        "channel",
        name="deliveries_one_per_recipient",
        postgresql_nulls_not_distinct=True,
    ),
    Index("deliveries_due", "due_at", postgresql_where=text("state = 'waiting'")),
    Index("deliveries_held", "lease_until", postgresql_where=text("state in ('claimed', 'sending')")),
    Index("deliveries_newest", "created_at", "delivery"),
    Index("deliveries_of_clinic", "clinic", "created_at", "delivery"),
    # Each of these is kept at every step of a delivery, so what is on its way, or sent, stands in as few as may be.
    Index(
        "deliveries_listed_by_state",
        "state",
        "created_at",
        "delivery",
        postgresql_where=text("state NOT IN ('sent', 'claimed', 'sending')"),
    ),
    Index("deliveries_in_hands", "claim", postgresql_where=text("state in ('claimed', 'sending')")),
    Index("deliveries_of_recipient", "recipient", "delivery"),
    Index("deliveries_about", "about", "delivery", postgresql_where=text("about IS NOT NULL")),
    Index("deliveries_ended", "ended_at", postgresql_where=text("ended_at is not null")),
)

provider_pace = Table(
    "provider_pace",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("next_at", DateTime(timezone=True), nullable=False, comment="by the database's clock"),
)

clinic_staff = Table(
    "clinic_staff",
    metadata,
    Column("clinic", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column(
        "left_at",
        DateTime(timezone=True),
        comment="since when they were seen to hold no role there; null: they hold one",
    ),
    comment="Everyone who has held a role at a clinic, now or before (R-ID-10).",
)

codes = Table(
    "codes",
    metadata,
    Column("code_id", Uuid, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("address_hash", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False, comment="address and code"),
    Column("worth_until", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("attempts", Integer, nullable=False),
    Index("codes_due", "due_at"),
    Index("codes_address", "address_hash"),
)
