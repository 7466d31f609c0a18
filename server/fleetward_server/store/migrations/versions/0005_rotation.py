"""What the broker is still to be told, and when a device that said its last word is put out. Source: retirement.py."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add both."""
    op.create_table(
        "cuts",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("kick", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], initially="DEFERRED", deferrable=True),
        sa.PrimaryKeyConstraint("device_id"),
        sqlite_with_rowid=False,
    )
    op.add_column("devices", sa.Column("retire_at", sa.BigInteger()))
    op.create_index("devices_retiring", "devices", ["retire_at"], sqlite_where=sa.text("retire_at IS NOT NULL"))
