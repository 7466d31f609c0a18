"""What each device shall run, and what it said of it. Source: upgrade_state.py."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def _device() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["device_id"], ["devices.id"], initially="DEFERRED", deferrable=True)


def upgrade() -> None:
    """Make the tables and their indices."""
    _assignments()
    op.create_table(
        "upgrades",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("why", sa.Text()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("assignment", sa.BigInteger(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("committed_counter", sa.BigInteger()),
        sa.Column("committed_label", sa.Text()),
        sa.Column("committed_sha256", sa.Text()),
        sa.Column("committed_at", sa.BigInteger()),
        _device(),
        sa.PrimaryKeyConstraint("device_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("upgrades_by_phase", "upgrades", ["phase", "name"])
    op.create_table(
        "taken_assignments",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("behind_since", sa.BigInteger()),
        _device(),
        sa.PrimaryKeyConstraint("device_id"),
        sqlite_with_rowid=False,
    )
    ahead = sa.text("behind_since IS NOT NULL")
    op.create_index("devices_ahead", "taken_assignments", ["behind_since"], sqlite_where=ahead)


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("window_from", sa.BigInteger()),
        sa.Column("window_to", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("told_at", sa.BigInteger()),
        sa.Column("send_at", sa.BigInteger()),
        sa.Column("seen", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("counts", sa.Boolean(create_constraint=False), nullable=False),
        _device(),
        sa.PrimaryKeyConstraint("device_id", "version"),
    )
    counting = sa.text("counts = 1")
    op.create_index("one_assignment_counts", "assignments", ["device_id"], unique=True, sqlite_where=counting)
    op.create_index("assignments_due", "assignments", ["send_at"], sqlite_where=sa.text("send_at IS NOT NULL"))
    op.create_index("assignments_by_age", "assignments", ["created_at"])
    op.create_table(
        "assignment_releases",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id", "version"], ["assignments.device_id", "assignments.version"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "version", "name"),
        sqlite_with_rowid=False,
    )
