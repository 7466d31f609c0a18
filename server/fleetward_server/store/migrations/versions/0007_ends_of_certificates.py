"""When certificates end is found in the index, past the wide rows. Source: store/endings.py."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Widen the index over a device's certificates."""
    op.drop_index("certificates_by_device", "certificates")
    op.create_index("certificates_by_device", "certificates", ["device_id", "use", "state", "not_after"])
