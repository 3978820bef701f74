"""What attachments stores: one row for each file, from the request for a place until nothing of it is left."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData()

REMOVED = "removed"
"""The state of a file that is there for nobody any more; the row stays until the store is empty of it."""

attachments = Table(
    "attachments",
    metadata,
    Column("attachment", Uuid, primary_key=True),
    Column("owner_kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    # names of files tell things about people: sealed, like the texts of messages
    Column("name", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("refusal", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("upload_expires_at", DateTime(timezone=True), nullable=False),
    # the check: when a checker shall look next (a checker that has it pushes this ahead; if it dies, another takes over
    # then), who has it, how often the store was looked at, how often another checker took over, and under which leases
    # a check ended without a verdict while nothing but the file was there to blame
    Column("look_at", DateTime(timezone=True)),
    Column("lease", Uuid),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("takeovers", Integer, nullable=False, server_default="0"),
    Column("suspects", ARRAY(Uuid), nullable=False, server_default="{}"),
    # where the checked bytes lie; the version is the very one that was checked
    Column("clean_key", Text),
    Column("clean_version", Text),
    Column("checked_at", DateTime(timezone=True)),
    # what the check made of it: size and checksum of the bytes that are kept, and the picture that shows what it is
    Column("kept_size", BigInteger),
    Column("kept_sha256", LargeBinary),
    Column("cleaned", Boolean, nullable=False, server_default="false"),
    Column("preview_key", Text),
    Column("preview_version", Text),
    # the message that it belongs to: claimed first, sent when cases has told so
    Column("case", Uuid),
    Column("message", Uuid),
    Column("claimed_at", DateTime(timezone=True)),
    Column("sent_at", DateTime(timezone=True)),
    # when the store shall be rid of whatever lies there without being the checked file
    Column("sweep_at", DateTime(timezone=True)),
    # which message it is meant for, as its owner says: files of one draft are kept as long as any of them changes
    Column("draft", Uuid),
    CheckConstraint("owner_kind IN ('resident', 'staff')", name="attachments_owner_kind"),
    CheckConstraint("state IN ('waiting', 'checking', 'usable', 'refused', 'removed')", name="attachments_state"),
    CheckConstraint("(state = 'refused') = (refusal IS NOT NULL) OR state = 'removed'", name="attachments_refusal"),
    CheckConstraint("state <> 'usable' OR clean_version IS NOT NULL", name="attachments_usable_is_kept"),
    CheckConstraint("sent_at IS NULL OR (message IS NOT NULL AND state = 'usable')", name="attachments_sent_is_usable"),
    CheckConstraint('message IS NULL OR (claimed_at IS NOT NULL AND "case" IS NOT NULL)', name="attachments_claim"),
    CheckConstraint("(look_at IS NOT NULL) = (state IN ('waiting', 'checking'))", name="attachments_looked_at"),
    comment="One row for each file, from the request for a place until nothing of it is left.",
)

_row = attachments.c
_unsent = _row.sent_at.is_(None) & (_row.state != REMOVED)

Index("attachments_to_look_at", _row.look_at, postgresql_where=_row.look_at.is_not(None))
Index("attachments_to_sweep", _row.sweep_at, postgresql_where=_row.sweep_at.is_not(None))
Index("attachments_not_sent_of_owner", _row.owner_kind, _row.owner, postgresql_where=_row.sent_at.is_(None))
Index("attachments_of_draft", _row.draft, postgresql_where=_unsent & _row.draft.is_not(None))
Index("attachments_unsent", _row.changed_at, postgresql_where=_unsent & _row.message.is_(None))
Index("attachments_claimed", _row.claimed_at, postgresql_where=_row.message.is_not(None) & _row.sent_at.is_(None))
Index("attachments_of_message", _row.message, postgresql_where=_row.message.is_not(None))
