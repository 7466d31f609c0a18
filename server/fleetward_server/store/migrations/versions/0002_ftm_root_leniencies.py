"""What the chains below each FTM root may lack: nothing, for those that are there. Source: schemas/foreign.py."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("ftm_roots", sa.Column("leniencies", sa.Text(), nullable=False, server_default=""))
