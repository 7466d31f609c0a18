"""Acts on many devices, and what became of each. Source: mass_state.py."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "mass_acts",
        sa.Column("id", sa.Text(), primary_key=True, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("action", "params", "filter", "actor", "reason")),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger()),
    )
    op.create_table(
        "mass_targets",
        sa.Column("act_id", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["act_id"], ["mass_acts.id"]),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], initially="DEFERRED", deferrable=True),
        sa.PrimaryKeyConstraint("act_id", "device_id"),
        sqlite_with_rowid=False,
    )
