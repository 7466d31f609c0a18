"""Who is registered here and not yet at MOSIP, found without looking at everybody. Source: store/mosip.py."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the index."""
    lacking = sa.text("device_code IS NULL")
    op.create_index("devices_without_code", "devices", ["state", "id"], sqlite_where=lacking)
