"""What MOSIP is still to be told, and was. Source: mosip/queue.py."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_OPEN = sa.text("state IN ('waiting', 'asking')")


def upgrade() -> None:
    """Make the table and its indices."""
    op.create_table(
        "mosip_tasks",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Text()),
        sa.Column("code", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("device_code", sa.Text()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], initially="DEFERRED", deferrable=True),
    )
    op.create_index("one_open_mosip_task", "mosip_tasks", ["device_id"], unique=True, sqlite_where=_OPEN)
    op.create_index("mosip_tasks_by_device", "mosip_tasks", ["device_id", "number"])
    op.create_index("mosip_tasks_due", "mosip_tasks", ["state", "next_at"])
