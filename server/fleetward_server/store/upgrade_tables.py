"""The tables of upgrades: what each device shall run, and what it said of it. Source: upgrade_state.py."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from fleetward_server.store.tables import META


def _device(*, key: bool = False) -> Column[str]:
    device = ForeignKey("devices.id", deferrable=True, initially="DEFERRED")
    return Column("device_id", Text, device, primary_key=key, nullable=False)


assignments = Table(
    "assignments",
    META,
    _device(),
    Column("version", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("window_from", BigInteger),
    Column("window_to", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("told_at", BigInteger),
    Column("send_at", BigInteger),
    Column("seen", Boolean(create_constraint=False), nullable=False),
    Column("counts", Boolean(create_constraint=False), nullable=False),
    PrimaryKeyConstraint("device_id", "version"),
)
Index("one_assignment_counts", assignments.c.device_id, unique=True, sqlite_where=text("counts = 1"))
Index("assignments_due", assignments.c.send_at, sqlite_where=text("send_at IS NOT NULL"))
Index("assignments_by_age", assignments.c.created_at)

assignment_releases = Table(
    "assignment_releases",
    META,
    Column("device_id", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("label", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("url", Text, nullable=False),
    ForeignKeyConstraint(
        ["device_id", "version"], ["assignments.device_id", "assignments.version"], ondelete="CASCADE"
    ),
    PrimaryKeyConstraint("device_id", "version", "name"),
    sqlite_with_rowid=False,
)

upgrades = Table(
    "upgrades",
    META,
    _device(),
    Column("name", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("why", Text),
    Column("attempt", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("assignment", BigInteger, nullable=False),
    Column("word", Text, nullable=False),
    Column("committed_counter", BigInteger),
    Column("committed_label", Text),
    Column("committed_sha256", Text),
    Column("committed_at", BigInteger),
    PrimaryKeyConstraint("device_id", "name"),
    sqlite_with_rowid=False,
)
Index("upgrades_by_phase", upgrades.c.phase, upgrades.c.name)

taken_assignments = Table(
    "taken_assignments",
    META,
    _device(key=True),
    Column("version", BigInteger, nullable=False),
    Column("behind_since", BigInteger),
    sqlite_with_rowid=False,
)
"""The highest assignment that each device spoke of; behind_since: it is newer than the one that counts here."""
Index("devices_ahead", taken_assignments.c.behind_since, sqlite_where=text("behind_since IS NOT NULL"))
