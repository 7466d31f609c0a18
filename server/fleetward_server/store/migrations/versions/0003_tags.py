"""Tags in a table of their own, so that devices are found by them. Source: store/selecting.py."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_devices = sa.table("devices", sa.column("id"), sa.column("tags"))


def upgrade() -> None:
    """Make the table, take over what the register's rows hold (``;a;b;``), and drop that."""
    table = op.create_table(
        "tags",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], initially="DEFERRED", deferrable=True),
        sa.PrimaryKeyConstraint("tag", "device_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_by_device", "tags", ["device_id"])
    found = op.get_bind().execute(sa.select(_devices).where(_devices.c.tags != "")).all()
    rows = [{"tag": tag, "device_id": row.id} for row in found for tag in row.tags.strip(";").split(";")]
    if rows:
        op.bulk_insert(table, rows)
    op.drop_column("devices", "tags")
