"""The tables, as SQLAlchemy Core sees them. ``migrations/`` makes them; a test keeps the two the same.

Moments are integers, microseconds since 1970 in UTC. What changes with every message (``sightings``, ``windows``)
stands apart from wide rows, so that a report never rewrites a device. Source: S5 (repository of approved devices).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

META = MetaData()


def _device(*, key: bool = False) -> Column[str]:
    """A reference to a device, judged at commit: a pair may be kept before its device's row is written."""
    return Column(
        "device_id",
        Text,
        ForeignKey("devices.id", deferrable=True, initially="DEFERRED"),
        primary_key=key,
        nullable=False,
    )


meta = Table("meta", META, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False))

devices = Table(
    "devices",
    META,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("certification", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("listed", Boolean(create_constraint=False), nullable=False),
    Column("ftm_key", Text),
    Column("asking_key", Text),
    Column("approved_key", Text),
    Column("enrolments", Integer, nullable=False),
    Column("reissue", Boolean(create_constraint=False), nullable=False),
    Column("digital_id", Text),
    Column("previous_digital_id", Text),
    Column("hello_digital_id", Text),
    Column("hello_id", Text),
    Column("session", Text),
    Column("presence", Text, nullable=False),
    Column("presence_at", BigInteger),
    Column("agent_version", Text),
    Column("reason", Text),
    Column("checklist", Text, nullable=False),
    Column("device_code", Text),
    Column("device_info", Text),
    Column("retire_at", BigInteger),
    Column("created_at", BigInteger),
    Column("changed_at", BigInteger),
)
Index("devices_by_serial", devices.c.serial)
Index("devices_by_state", devices.c.state, devices.c.id)
Index("devices_retiring", devices.c.retire_at, sqlite_where=text("retire_at IS NOT NULL"))
Index("devices_without_code", devices.c.state, devices.c.id, sqlite_where=text("device_code IS NULL"))
Index("devices_waiting", devices.c.asking_key, sqlite_where=text("asking_key IS NOT NULL"))

tags = Table(
    "tags",
    META,
    Column("tag", Text, nullable=False),
    _device(),
    PrimaryKeyConstraint("tag", "device_id"),
    sqlite_with_rowid=False,
)
Index("tags_by_device", tags.c.device_id)

sightings = Table(
    "sightings", META, _device(key=True), Column("seen_at", BigInteger, nullable=False), sqlite_with_rowid=False
)

windows = Table(
    "windows",
    META,
    Column("signer", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("highest", BigInteger, nullable=False),
    Column("seen", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("signer", "topic"),
    sqlite_with_rowid=False,
)
Index("windows_by_end", windows.c.expires_at)

certificates = Table(
    "certificates",
    META,
    Column("thumbprint", Text, primary_key=True),
    _device(),
    Column("use", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("key_thumbprint", Text, nullable=False),
    Column("pair", Text, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("authority", LargeBinary, nullable=False),
    UniqueConstraint("serial", name="one_certificate_per_serial"),
    UniqueConstraint("key_thumbprint", name="one_certificate_per_key"),
)
# Holds all that is asked of many certificates at once, whose rows are wide.
Index("certificates_by_device", *(certificates.c[name] for name in ("device_id", "use", "state", "not_after")))

cuts = Table(
    "cuts",
    META,
    _device(key=True),
    Column("kick", Boolean(create_constraint=False), nullable=False),
    Column("since", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

challenges = Table(
    "challenges",
    META,
    Column("principal", Text, nullable=False),
    Column("hello_id", Text, nullable=False),
    Column("device_nonce", Text, nullable=False),
    Column("server_nonce", Text, nullable=False),
    Column("signer_key", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_device_key", Text),
    Column("used_transport_key", Text),
    PrimaryKeyConstraint("principal", "hello_id"),
    UniqueConstraint("principal", "server_nonce", name="one_challenge_per_nonce"),
)
Index("challenges_by_end", challenges.c.expires_at)

ftm_bindings = Table(
    "ftm_bindings",
    META,
    Column("key", Text, primary_key=True),
    _device(),
    # For ever one key per device and one device per key.
    UniqueConstraint("device_id", name="one_ftm_per_device"),
)

reports = Table(
    "reports",
    META,
    Column("number", Integer, primary_key=True),
    _device(),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("device_id", "id", name="one_report_per_id"),
)
Index("reports_by_age", reports.c.kind, reports.c.received_at)

commands = Table(
    "commands",
    META,
    Column("id", Text, primary_key=True),
    _device(),
    Column("verb", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("changed_at", BigInteger),
    Column("last_reason", Text),
)
Index("commands_by_device", commands.c.device_id, commands.c.id)
Index("commands_by_step", commands.c.step, commands.c.expires_at)

mass_acts = Table(
    "mass_acts",
    META,
    Column("id", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("filter", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)

mass_targets = Table(
    "mass_targets",
    META,
    Column("act_id", Text, ForeignKey("mass_acts.id"), nullable=False),
    _device(),
    Column("outcome", Text),
    Column("detail", Text, nullable=False),
    PrimaryKeyConstraint("act_id", "device_id"),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    META,
    Column("provider_id", Text, nullable=False),
    Column("make", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("sub_type", Text, nullable=False),
    Column("approved", Boolean(create_constraint=False), nullable=False),
    PrimaryKeyConstraint("provider_id", "make", "model", "type", "sub_type"),
)

ftm_roots = Table(
    "ftm_roots",
    META,
    Column("thumbprint", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("trusted", Boolean(create_constraint=False), nullable=False),
    Column("leniencies", Text, nullable=False, server_default=""),
)

refusals = Table(
    "refusals",
    META,
    Column("principal", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("principal", "code"),
)

audit = Table(
    "audit",
    META,
    Column("seq", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("audit_by_subject", audit.c.subject, audit.c.seq)
