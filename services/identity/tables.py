"""What identity stores. Whatever tells who a resident is stands sealed; numbers are found by a keyed hash."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    column,
    table,
)
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData()

logins = Table(
    "logins",
    metadata,
    Column("login", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Index("logins_begun_at", "begun_at"),
    CheckConstraint("purpose IN ('session', 'unlock', 'card')", name="logins_purpose"),
    comment="Logins under way at an identity provider; each nonce works once.",
)

sessions = Table(
    "sessions",
    metadata,
    Column("session", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("renewed_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("end_reason", Text),
    Column("acting_for", Uuid),
    Column("begun_from", Uuid),
    Index("sessions_begun_from", "begun_from", postgresql_where="begun_from IS NOT NULL AND ended_at IS NULL"),
    Index("sessions_acting_for", "acting_for", postgresql_where="acting_for IS NOT NULL AND ended_at IS NULL"),
    Index("sessions_subject_live", "subject", postgresql_where="ended_at IS NULL"),
    Index("sessions_ends_at", "ends_at"),
    CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="sessions_end_has_reason"),
    comment="Who is logged in. subject: resident id or staff HSA-id, as tokens say it.",
)

renewal_tokens = Table(
    "renewal_tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("session", Uuid, ForeignKey("sessions.session", ondelete="CASCADE"), nullable=False),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("spent_at", DateTime(timezone=True)),
    Index("renewal_tokens_session", "session"),
    comment="Hashes of renewal tokens. A spent one that comes back was stolen, and ends its session.",
)

accepted_terms = Table(
    "accepted_terms",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    comment="Who accepted which version of which terms, and when.",
)

terms_texts = Table(
    "terms_texts",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("first_accepted_at", DateTime(timezone=True), nullable=False),
    comment="The terms as they were accepted; a version never changes. Nothing here is ever changed or removed.",
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("endorsed", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("signs_until", DateTime(timezone=True), nullable=False),
    Column("trusted_until", DateTime(timezone=True), nullable=False),
    comment="Keys that access tokens are signed with. sealed: the private key; endorsed: the public one, signed.",
)

staff = Table(
    "staff",
    metadata,
    Column("person", Text, primary_key=True),
    Column("added_at", DateTime(timezone=True), nullable=False),
    Column("last_login_at", DateTime(timezone=True)),
    comment="Staff who have logged in or been given a role. What HSA says of them stands in the directory.",
)

roles = Table(
    "roles",
    metadata,
    Column("clinic", Text, primary_key=True),
    Column("person", Text, ForeignKey("staff.person"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("given_at", DateTime(timezone=True), nullable=False),
    Column("given_by", Text, nullable=False),
    Index("roles_person", "person"),
    comment="Who holds which role at which clinic.",
)

regional_admins = Table(
    "regional_admins",
    metadata,
    Column("person", Text, ForeignKey("staff.person"), primary_key=True),
    Column("given_at", DateTime(timezone=True), nullable=False),
    Column("given_by", Text, nullable=False),
    comment="Who administers above the clinics.",
)

role_history = Table(
    "role_history",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("clinic", Text),
    Column("person", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("change", Text, nullable=False),
    Column("by", Text, nullable=False),
    Index("role_history_clinic", "clinic", "seq"),
    Index("role_history_person", "person", "seq"),
    CheckConstraint("change IN ('given', 'taken')", name="role_history_change"),
    comment="Every role that was given or taken, by whom. Nothing here is ever changed or removed.",
)

rights_clock = Table(
    "rights_clock",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="rights_clock_one_row"),
    comment="The latest revocation number. Its row lock puts all changes of rights in one order, without gaps.",
)

residents = Table(
    "residents",
    metadata,
    Column("resident", Uuid, primary_key=True),
    Column("particulars", LargeBinary, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("locked_at", DateTime(timezone=True)),
    Column("version", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("looked_up_at", DateTime(timezone=True), nullable=False),
    Index("residents_looked_up_at", "looked_up_at", "resident"),
    comment="Accounts. particulars: sealed, what the register said at the latest look-up.",
)

identity_numbers = Table(
    "identity_numbers",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("resident", Uuid, ForeignKey("residents.resident"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False),
    Column("current", Boolean, nullable=False),
    Index("identity_numbers_current", "resident", unique=True, postgresql_where="current"),
    Index("identity_numbers_resident", "resident"),
    comment="Numbers of residents, sealed, found by a keyed hash; a resident can have had several (R-ID-24).",
)

linked_accounts = Table(
    "linked_accounts",
    metadata,
    Column("resident", Uuid, ForeignKey("residents.resident"), primary_key=True),
    Column("person", Uuid, nullable=False),
    Column("linked_at", DateTime(timezone=True), nullable=False),
    Index("linked_accounts_person", "person"),
    comment="Accounts by numbers that the register linked later: those of one person have the same value of person "
    "(R-ID-24).",
)

taken_apart = Table(
    "taken_apart",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("resident", Uuid, ForeignKey("residents.resident"), nullable=False),
    Column("other", Uuid, ForeignKey("residents.resident")),
    Column("number", LargeBinary, nullable=False),
    Column("by", Text, nullable=False),
    comment="Taken apart again (R-ID-24): a number (its hash) out of an account; or, with other, the account by that "
    "number.",
)

numbers_of_person = table("numbers_of_person", column("resident", Uuid), column("hash", LargeBinary))
"""A view: all numbers of the person whose account it is, its own and those of accounts that are linked with it."""

contacts = Table(
    "contacts",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("addresses", LargeBinary, nullable=False),
    Column("notify_by", ARRAY(Text), nullable=False),
    Column("tell_me_about", ARRAY(Text), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    comment="How people want to be told. addresses: sealed.",
)

unreachable_addresses = Table(
    "unreachable_addresses",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("contact_version", BigInteger, nullable=False),
    Column("noted_at", DateTime(timezone=True), nullable=False),
    comment="By which channels someone could not be reached, at what they had set.",
)

catchments = Table(
    "catchments",
    metadata,
    Column("clinic", Text, primary_key=True),
    Column("counties", ARRAY(Text), nullable=False),
    Column("municipalities", ARRAY(Text), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("changed_by", Text, nullable=False),
    comment="Clinics that limit themselves to some counties and municipalities (R-ID-22).",
)

approvals = Table(
    "approvals",
    metadata,
    Column("approval", Uuid, primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("number", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("case_types", ARRAY(Uuid)),
    Column("last_day", Date),
    Column("approved_at", DateTime(timezone=True), nullable=False),
    Column("approved_by", Text, nullable=False),
    Column("withdrawn_at", DateTime(timezone=True)),
    Column("withdrawn_by", Text),
    Index("approvals_one_of_each", "number", "clinic", unique=True, postgresql_where="withdrawn_at IS NULL"),
    Index("approvals_of_clinic", "clinic", "approved_at", "approval", postgresql_where="withdrawn_at IS NULL"),
    comment="Residents let in one by one, by number, since they need no account (R-ID-15, R-ID-22).",
)

listings = Table(
    "listings",
    metadata,
    Column("number", LargeBinary, primary_key=True),
    Column("clinic", Text),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("imported_at", DateTime(timezone=True), nullable=False),
    comment="Where residents are listed, by hash of number; of several imports the newest (R-ID-23).",
)

my_clinics = Table(
    "my_clinics",
    metadata,
    Column("resident", Uuid, ForeignKey("residents.resident"), primary_key=True),
    Column("clinic", Text, primary_key=True),
    Column("added_at", DateTime(timezone=True), nullable=False),
    comment="The clinics that residents keep in their own list, beside the one where they are listed.",
)

clinic_places = Table(
    "clinic_places",
    metadata,
    Column("clinic", Text, primary_key=True),
    Column("county_code", Text),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    comment="In which county a clinic lies, as the directory said when it was last asked.",
)

guardianships = Table(
    "guardianships",
    metadata,
    Column("guardian", Uuid, ForeignKey("residents.resident"), primary_key=True),
    Column("child", Uuid, ForeignKey("residents.resident"), primary_key=True),
    Column("ends_on", Date, nullable=False),
    Column("confirmed_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("guardianships_child", "child"),
    comment="Custody of children as the register last said. ends_on: the 13th birthday.",
)

blocked_guardians = Table(
    "blocked_guardians",
    metadata,
    Column("block", Uuid, primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("guardian", LargeBinary, nullable=False),
    Column("child", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("blocked_at", DateTime(timezone=True), nullable=False),
    Column("blocked_by", Text, nullable=False),
    Column("lifted_at", DateTime(timezone=True)),
    Column("lifted_by", Text),
    Index(
        "blocked_guardians_one_of_each",
        "guardian",
        "child",
        "clinic",
        unique=True,
        postgresql_where="lifted_at IS NULL",
    ),
    Index("blocked_guardians_of_clinic", "clinic", postgresql_where="lifted_at IS NULL"),
    comment="Where a guardian may not act for a child (R-ID-13), by hashes of their numbers.",
)

disturbances = Table(
    "disturbances",
    metadata,
    Column("disturbance", Uuid, primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("shown_from", DateTime(timezone=True), nullable=False),
    Column("shown_until", DateTime(timezone=True)),
    Column("published_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("changed_by", Text, nullable=False),
    comment="Told to everyone, without login, while they are shown (R-ID-20).",
)

verified_addresses = Table(
    "verified_addresses",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("address", LargeBinary, primary_key=True),
    Column("verified_at", DateTime(timezone=True), nullable=False),
    comment="Addresses, by their hash, of which people have shown that they are their own (R-NOT-9).",
)

address_codes = Table(
    "address_codes",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("address", LargeBinary, nullable=False),
    Column("code", LargeBinary, nullable=False),
    Column("sent_at", DateTime(timezone=True), nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    Column("sent", SmallInteger, nullable=False),
    Column("counted_from", DateTime(timezone=True), nullable=False),
    Index("address_codes_sent_at", "sent_at"),
    comment="Codes that are to be given back, hashed with their owner; how many were sent within an hour.",
)

codes_a_day = Table(
    "codes_a_day",
    metadata,
    Column("day", Date, primary_key=True),
    Column("address", LargeBinary, primary_key=True),
    Column("sent", SmallInteger, nullable=False),
    comment="How many codes an address, by its hash, has been sent in a day, whoever had them sent (R-NOT-9).",
)

reports = Table(
    "reports",
    metadata,
    Column("report", Uuid, primary_key=True),
    Column("resident", Uuid, ForeignKey("residents.resident"), nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("care_providers_known", Boolean, nullable=False, server_default="false"),
    Index("reports_of_resident", "resident"),
    Index("reports_requested_at", "requested_at"),
    comment="Subject access reports that residents have asked for; kept for 30 days (R-ID-19).",
)

report_parts = Table(
    "report_parts",
    metadata,
    Column("part", Uuid, primary_key=True),
    Column("report", Uuid, ForeignKey("reports.report", ondelete="CASCADE"), nullable=False),
    Column("care_provider", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("missing", ARRAY(Text), nullable=False),
    Column("released_at", DateTime(timezone=True)),
    Column("released_by", Text),
    Column("gathered_at", DateTime(timezone=True)),
    UniqueConstraint("report", "care_provider", name="report_parts_once"),
    Index("report_parts_to_gather", "released_at", postgresql_where="state IN ('gathering', 'incomplete')"),
    Index("report_parts_to_release", "care_provider", postgresql_where="state = 'waiting_for_release'"),
    comment="What one care provider controls of a report; an empty care provider: what the e-services hold themselves.",
)

report_pages = Table(
    "report_pages",
    metadata,
    Column("part", Uuid, ForeignKey("report_parts.part", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    comment="What was gathered for a part, sealed.",
)
